from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.catalog import Catalog
from dataengine.errors import SpecError
from dataengine.pipeline import find, load

SHIPPED = Path(__file__).parents[2] / "pipelines.yaml"
GOOD = """\
small:
  title: A run
  out: out/small
  roots: {here: data}
  convert: [{spec: tiny, root: here}]
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "pipelines.yaml"
    path.write_text(text)
    return path


def test_the_shipped_pipelines_name_specs_and_roots_that_are_there() -> None:
    catalog = Catalog()
    pipelines = load(SHIPPED)

    assert "demo" in pipelines
    for pipeline in pipelines.values():
        for stage in pipeline.convert:
            assert stage.root in pipeline.roots
            splits = {split for spec in catalog.find(stage.spec) for split in spec.splits}
            assert set(stage.splits) <= splits


def test_a_pipeline_has_defaults(tmp_path: Path) -> None:
    pipeline = find(_file(tmp_path, GOOD), "small")

    assert (pipeline.seed, pipeline.workers, pipeline.audit, pipeline.train) == (0, 2, True, None)
    assert (pipeline.shard.samples_per_shard, pipeline.mix.mode) == (1000, "unmixed")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("title: A run", "titel: A run", ":2: small: unknown key 'titel'; did you mean 'title'?"),
        ("root: here", "rot: here", "unknown key 'rot'; did you mean 'root'?"),
        ("  out: out/small\n", "", "missing key 'out'"),
        ("roots: {here: data}", "shard: {layout: by_size}", "shard.layout: invalid enum value 'by_size'"),
        ("roots: {here: data}", "workers: many", "workers"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = _file(tmp_path, GOOD.replace(old, new))

    with pytest.raises(SpecError) as caught:
        load(path)

    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_an_unknown_pipeline_is_met_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no pipeline 'smal'; did you mean 'small'\?"):
        find(_file(tmp_path, GOOD), "smal")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file; run from the project's folder, or pass --file"):
        load(tmp_path / "pipelines.yaml")
