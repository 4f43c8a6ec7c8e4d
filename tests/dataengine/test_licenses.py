"""Licenses: every string that a spec uses is known, and what is not stated never passes."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine import licenses, yaml12
from dataengine.catalog import Catalog, shipped_specs
from dataengine.convert import convert
from dataengine.errors import SpecError, UsageError

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _in_specs() -> set[str]:
    found = set()
    for path in sorted((shipped_specs() / "datasets").glob("*.yaml")):
        raw = yaml12.load(path)
        found |= {raw["license"]["annotations"], raw["license"]["images"]}
        splits = [raw["source"], *(split or {} for split in raw["source"]["splits"].values())]
        found |= {split["license"] for split in splits if isinstance(split.get("license"), str)}
    return found


def test_the_table_knows_every_license_of_the_specs() -> None:
    names = _in_specs()

    assert len(names) > 50
    assert licenses.unknown_names(licenses.load(), names) == []
    assert licenses.unknown_names(licenses.load(), [*names, "Licence of nobody"]) == ["Licence of nobody"]


# What COCO and LVIS files state for each picture, and a few spellings of others.
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Attribution-NonCommercial-ShareAlike License", "CC-BY-NC-SA"),
        ("Attribution-NonCommercial License", "CC-BY-NC"),
        ("Attribution-NonCommercial-NoDerivs License", "CC-BY-NC-ND"),
        ("Attribution License", "CC-BY"),
        ("Attribution-ShareAlike License", "CC-BY-SA"),
        ("Attribution-NoDerivs License", "CC-BY-ND"),
        ("No known copyright restrictions", "No known copyright restrictions"),
        ("United States Government Work", "United States Government Work"),
        ("http://creativecommons.org/licenses/by-nc-sa/2.0/", "CC-BY-NC-SA"),
        ("https://creativecommons.org/licenses/by/4.0", "CC-BY"),
        ("https://creativecommons.org/licenses/by-sa/3.0/deed.en", "CC-BY-SA"),
        ("http://flickr.com/commons/usage/", "No known copyright restrictions"),
        ("http://www.usa.gov/copyright.shtml", "United States Government Work"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("cc by nc 4.0", "CC-BY-NC"),
        ("CC BY 3.0", "CC-BY"),
        ("CC-BY-NC-ND", "CC-BY-NC-ND"),
        ("CC_BY 4.0", "CC-BY"),
        ("CC BY-SA 4.0 variant", "CC BY-SA 4.0 variant"),
        ("META research licence (gated)", "META research license (gated)"),
    ],
)
def test_a_license_is_found_however_it_is_spelled(name: str, known: str) -> None:
    found = licenses.load().find(name)

    assert found is not None
    assert found.id == known


@pytest.mark.parametrize(
    "name", ["", None, "unknown", "Unspecified", " per_record ", "none", "per source", "mine"]
)
@pytest.mark.parametrize("profile", ["commercial_ok", "research_only"])
def test_what_is_not_stated_never_passes(name: str | None, profile: str) -> None:
    terms = licenses.load()

    assert licenses.fault(terms, terms.profile(profile), name)


@pytest.mark.parametrize(
    ("name", "commercial", "research"),
    [
        ("CC-BY-4.0", "", ""),
        ("CC0-1.0", "", ""),
        ("CC-BY-SA-4.0", "", ""),
        ("CC-BY-ND-2.0", "CC-BY-ND-2.0: derivatives is no", ""),
        ("CC-BY-NC-4.0", "CC-BY-NC-4.0: commercial is no", ""),
        ("CC-BY-4.0 AND CC-BY-NC-4.0", "CC-BY-NC-4.0: commercial is no", ""),
        ("CC-BY-4.0 AND unknown", "unknown: no license is stated", "unknown: no license is stated"),
        ("Flickr terms", "Flickr terms: commercial is unknown", "Flickr terms: research is unknown"),
        ("non-commercial research", "non-commercial research: commercial is no", ""),
        ("mine", "mine: an unknown license", "mine: an unknown license"),
        ("MS-PL", "", ""),
        # Of these nobody of ours has read the text, whatever is said of them.
        *(
            (name, f"{name}: commercial is unknown", f"{name}: research is unknown")
            for name in (
                "CC-3M licence",
                "custom (Google terms)",
                "NIH terms (CC0-like)",
                "SUN database agreement",
            )
        ),
    ],
)
def test_the_profiles_that_ship(name: str, commercial: str, research: str) -> None:
    terms = licenses.load()

    assert licenses.fault(terms, terms.profile("commercial_ok"), name) == commercial
    assert licenses.fault(terms, terms.profile("research_only"), name) == research


def test_a_file_of_ones_own_stands_above_what_ships(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "licenses:\n  - {id: Kaggle, commercial: yes, derivatives: yes}\n"
        "profiles:\n  ours: {title: Ours, commercial: [yes], share_alike: [no], allow: [Flickr terms], deny: [MIT]}\n"
    )
    terms = licenses.load(own)
    ours = terms.profile("ours")

    assert licenses.fault(terms, terms.profile("commercial_ok"), "Kaggle") == ""
    assert licenses.fault(terms, ours, "flickr terms") == ""
    assert licenses.fault(terms, ours, "MIT") == "MIT: denied"
    assert licenses.fault(terms, ours, "CC-BY-SA-4.0") == "CC-BY-SA-4.0: share_alike is yes"
    assert licenses.fault(terms, ours, "CC-BY-4.0") == ""
    assert licenses.fault(terms, ours, "Kaggle") == "Kaggle: share_alike is unknown"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("profiles: {a: {title: A, allow: [Per_record]}}", "'Per_record' says that no license is stated"),
        ("profiles: {a: {title: A, comercial: [yes]}}", "did you mean 'commercial'"),
        ("licenses: [{id: MIT}, {id: x, names: [mit]}]", "'mit' stands twice, in 'MIT' and 'x'"),
        ("licenses: [{id: unknown, commercial: yes}]", "'unknown' says that none is stated"),
        ("licenses: [{id: MIT, commercial: maybe}]", "maybe"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.yaml").write_text(text + "\n")

    with pytest.raises(SpecError, match=says):
        licenses.load(tmp_path / "own.yaml")


def test_an_unknown_profile_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'commercial_ok'"):
        licenses.load().profile("comercial_ok")


def _licensed(tiny: Tiny, names: list[str | None]) -> Path:
    """Convert pictures that state these licenses, None: no license at all."""
    stated = [name for name in names if name is not None]
    document: dict[str, Any] = tiny.document()
    document["licenses"] = [{"id": number, "name": name} for number, name in enumerate(stated)]
    for image, name in zip(document["images"], names, strict=True):
        if name is not None:
            image["license"] = stated.index(name)
    tiny.write(document)
    tiny.spec.write_text(tiny.spec.read_text().replace("images: CC-BY-4.0}", "images: per_record}"))
    return tiny.convert()[0]


def test_annotations_and_every_picture_must_pass(tiny: Tiny) -> None:
    names = ["Attribution License", "Attribution-NonCommercial License", None, "mine", "unknown", "CC0-1.0"]
    folder = _licensed(tiny, names)

    found = list(licenses.left_out(folder, "commercial_ok", licenses.load()))

    assert [(one.id.split("/")[2], one.reason, one.note) for one in found] == [
        ("2#detection", "license.commercial_ok",
         "pictures: Attribution-NonCommercial License: commercial is no"),
        ("3#detection", "license.commercial_ok", "pictures: per_record: no license is stated"),
        ("4#detection", "license.commercial_ok", "pictures: mine: an unknown license"),
        ("5#detection", "license.commercial_ok", "pictures: unknown: no license is stated"),
    ]  # fmt: skip


def test_a_picture_without_a_license_does_not_hide_behind_another() -> None:
    assert licenses.of_pictures(["CC0-1.0", None], "CC0-1.0", "per_record") == ("CC0-1.0", "per_record")
    assert licenses.of_pictures([None, None], "MIT", "per_record") == ("MIT",)


def test_the_table_knows_what_the_pictures_of_the_demo_state() -> None:
    folder = Path(str(importlib.resources.files("dataengine.demo"))) / "annotations/coco"
    files = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]

    names = {one["name"] for content in files for one in content.get("licenses", ())}

    assert len(names) > 4
    assert licenses.unknown_names(licenses.load(), names) == []


def test_real_pictures_of_coco_state_what_the_table_knows(
    samples_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = samples_dir("lvis_v05_val100")
    stated = json.loads((folder / "lvis_val_100.json").read_bytes())["licenses"]

    assert licenses.unknown_names(licenses.load(), [one["name"] for one in stated]) == []
    assert licenses.unknown_names(licenses.load(), [one["url"] for one in stated]) == []


def test_real_pictures_of_coco_are_judged_one_by_one(
    samples_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of two pictures one is for no commercial use; the record of the other states no license."""
    (spec,) = (one for one in Catalog().find("coco2017") if one.task.id == "detection")
    convert(spec, "val", samples_dir("coco_instances"), tmp_path)
    folder = tmp_path / "coco2017/detection/val"

    found = {
        name: [*licenses.left_out(folder, name, licenses.load())]
        for name in ("commercial_ok", "research_only")
    }

    notes = {name: {one.id.split("/")[2]: one.note for one in choices} for name, choices in found.items()}
    missing = {"39769#detection": "pictures: per_record: no license is stated"}
    assert notes == {
        "commercial_ok": {
            "139#detection": "pictures: Attribution-NonCommercial License: commercial is no", **missing
        },
        "research_only": missing,
    }  # fmt: skip
