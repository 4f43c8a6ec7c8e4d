from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from dataengine.errors import SpecError
from dataengine.modules import BUILDERS_PACKAGE, FORMATS_PACKAGE, load_builder, load_reader, names


@pytest.mark.parametrize("name", names(FORMATS_PACKAGE))
def test_every_format_has_the_shape_of_a_reader(name: str) -> None:
    reader = load_reader(name, "here")

    assert reader.VERSION
    assert issubclass(reader.Source, msgspec.Struct)
    assert reader.Source.__struct_config__.forbid_unknown_fields
    assert callable(reader.read)
    assert reader.__doc__


@pytest.mark.parametrize("name", names(BUILDERS_PACKAGE))
def test_every_task_module_has_the_shape_of_a_builder(name: str) -> None:
    builder = load_builder(name, "here")

    assert issubclass(builder.Options, msgspec.Struct)
    assert builder.Options.__struct_config__.forbid_unknown_fields
    assert callable(builder.build)


def test_a_name_that_no_module_has_is_met_with_the_nearest_one() -> None:
    with pytest.raises(SpecError, match=r"^here: unknown format 'voc_xlm'; did you mean 'voc_xml'\?$"):
        load_reader("voc_xlm", "here")
    with pytest.raises(SpecError, match=r"^here: unknown builder 'instanzes'; did you mean 'instances'\?$"):
        load_builder("instanzes", "here")


def test_a_reader_of_ones_own_is_found_by_its_dotted_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_formats_4711").mkdir()
    (tmp_path / "my_formats_4711/mine.py").write_text('VERSION = "7"\n')
    monkeypatch.syspath_prepend(tmp_path)

    assert load_reader("my_formats_4711.mine", "here").VERSION == "7"
    sys.modules.pop("my_formats_4711.mine")


def test_a_module_that_is_not_there_is_one_line() -> None:
    with pytest.raises(
        SpecError, match=r"^here: format 'nowhere_4711\.x': no module 'nowhere_4711\.x' can be imported$"
    ):
        load_reader("nowhere_4711.x", "here")


def test_a_module_that_lacks_its_own_import_is_a_bug_and_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_4711.py").write_text("import absent_4711\n")
    (tmp_path / "holder_4711").mkdir()
    (tmp_path / "holder_4711/broken.py").write_text("import absent_4711\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="absent_4711"):
        load_reader("holder_4711.broken", "here")
