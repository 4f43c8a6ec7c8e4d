"""Pictures of findings: from files, shards and tars, with what they show or why there is none."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from PIL import Image

from dataengine.annotation import Box
from dataengine.audit.findings import Finding
from dataengine.audit.report import write
from dataengine.audit.run import audit
from dataengine.audit.shapes import PICTURED, Shape, name_of
from dataengine.audit.state import Account, Kind
from dataengine.audit.views import Drawn, draw_findings, lacking
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny

YELLOW = (255, 222, 0)


def finding(
    image: str, *, box: Box | None = None, rule: str = "box.outside", key: str = "", **given: str
) -> Finding:
    return Finding(
        rule=rule, severity="warn", subject="s", place="box", key=key, file="a.json", record="", detail="d",
        image=image, box=box, **given,
    )  # fmt: skip


def account(root: Path, kind: Kind = "annotations", subject: str = "s") -> Account:
    return Account(subject=subject, records=1, root=str(root), kind=kind)


def picture(root: Path, name: str, size: tuple[int, int] = (200, 100)) -> None:
    Image.new("RGB", size, (90, 90, 90)).save(root / name)


def pixels(drawn: Drawn, number: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    data = base64.b64decode(drawn.pictures[number].removeprefix("data:image/webp;base64,"))
    with Image.open(io.BytesIO(data)) as shown:
        return np.asarray(shown.convert("RGB"))


def is_near(colour: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], to: tuple[int, int, int]) -> bool:
    return bool(np.abs(colour.astype(int) - to).max() < 60)


def test_a_finding_is_drawn_with_the_shape_of_its_object(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    one = finding("a.png", box=(10, 10, 190, 90))
    shape = Shape(polygons=((50, 30, 150, 30, 150, 70, 50, 70),))

    (plain,) = draw_findings({"r": [one]}, [account(tmp_path)], {})["r"]
    (drawn,) = draw_findings({"r": [one]}, [account(tmp_path)], {name_of(one): shape})["r"]

    scale = 360 / 200
    assert pixels(drawn).shape == (180, 360, 3)
    assert is_near(pixels(drawn)[int(30 * scale), int(100 * scale)], YELLOW)
    assert is_near(pixels(plain)[int(30 * scale), int(100 * scale)], (90, 90, 90))
    assert (drawn.captions, drawn.lacks) == ([""], "")


def test_a_small_box_is_shown_close_up_beside_the_picture(tmp_path: Path) -> None:
    picture(tmp_path, "a.png", (2000, 1000))

    (drawn,) = draw_findings({"r": [finding("a.png", box=(50, 50, 60, 60))]}, [account(tmp_path)], {})["r"]

    assert drawn.captions == ["the picture", "close up"]
    assert pixels(drawn, 1).shape == (360, 360, 3)


def test_two_pictures_stand_side_by_side_with_their_names(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    picture(tmp_path, "b.png")
    twins = [finding("a.png", other_image="b.png"), finding("a.png", other_image="gone.png")]

    both, one = draw_findings({"r": twins}, [account(tmp_path)], {})["r"]

    assert (both.captions, both.lacks) == (["a.png", "b.png"], "")
    assert (one.captions, one.lacks) == (["a.png"], "gone.png: No such file or directory")


def test_what_has_no_picture_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    picture(tmp_path, "a.png")
    wrong = [finding("gone.png"), finding("broken.png"), finding("../a.png"), finding("a.png")]

    drawn = draw_findings({"r": wrong}, [account(tmp_path)], {})["r"]

    assert [one.lacks for one in drawn] == ["No such file or directory", "image.corrupt", "path.outside", ""]
    assert lacking(drawn) == "1 (No such file or directory), 1 (image.corrupt), 1 (path.outside)"
    (homeless,) = draw_findings({"r": [finding("a.png")]}, [Account(subject="s", records=1)], {})["r"]
    assert homeless.lacks == "its pictures are not at hand"


def test_where_room_is_short_each_rule_has_its_first_pictures_first_and_the_rest_is_said(
    tmp_path: Path,
) -> None:
    picture(tmp_path, "a.png")
    found = {
        rule: [finding("a.png", box=(10, 10, 190, 90))] * (PICTURED + 5)
        for rule in ("box.outside", "box.inverted")
    }
    (first, *_) = draw_findings(found, [account(tmp_path)], {})["box.outside"]

    drawn = draw_findings(found, [account(tmp_path)], {}, most_bytes=5 * len(first.pictures[0]))

    has = {rule: [bool(one.pictures) for one in some] for rule, some in drawn.items()}
    assert has == {
        "box.outside": [True] * 3 + [False] * (PICTURED - 3),
        "box.inverted": [True] * 2 + [False] * (PICTURED - 2),
    }
    assert lacking(drawn["box.outside"]) == f"{PICTURED - 3} (no room on the page)"


def test_a_whole_picture_is_shown_once_but_each_box_on_it(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    picture(tmp_path, "b.png")
    whole = [finding("a.png", key=str(number)) for number in range(3)]
    boxes = [finding("a.png", box=(10.0 + number, 10, 190, 90)) for number in range(3)]

    drawn = draw_findings({"r": [*whole, *boxes, finding(""), finding("b.png")]}, [account(tmp_path)], {})[
        "r"
    ]

    assert [one.finding for one in drawn] == [whole[0], *boxes, finding("b.png")]


def test_pictures_of_tars_are_drawn(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/x.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "b/one.png")

    for path in (tmp_path / "in", tmp_path / "in/x.tar"):
        one = msgspec.structs.replace(finding("x.tar/b/one.png"), subject=str(path))
        other = msgspec.structs.replace(finding("x.tar/b/two.png"), subject=str(path))
        here, gone = draw_findings({"r": [one, other]}, [account(tmp_path, "tars", str(path))], {})["r"]

        assert pixels(here).shape == (180, 360, 3)
        assert gone.lacks == "no such member"


@pytest.fixture
def shards(tiny: Tiny, tmp_path: Path) -> Path:
    """A shard set in which the third picture has the pixels of the first."""
    (tiny.root / "images/003.jpg").write_bytes((tiny.root / "images/001.jpg").read_bytes())
    tiny.convert()
    shard([tiny.out], tmp_path / "shards")
    return tmp_path / "shards"


def test_findings_on_pictures_of_shards_name_their_sample_and_are_drawn(shards: Path, tmp_path: Path) -> None:
    report = audit([shards])

    (one,) = report.findings
    assert (one.rule, one.key) == ("image.duplicate_exact", "tiny/train/3#detection")
    (drawn,) = draw_findings({"r": [one]}, report.accounts, report.shapes)["r"]
    assert (drawn.captions, drawn.lacks) == (["images/003.jpg", "images/001.jpg"], "")
    lost = msgspec.structs.replace(one, key="tiny/train/77#detection", other_image="")
    (drawn,) = draw_findings({"r": [lost]}, report.accounts, {})["r"]
    assert drawn.lacks == "no such sample"


def test_a_shard_set_says_by_which_specs_it_was_made(shards: Path, tiny: Tiny, tmp_path: Path) -> None:
    (of_manifest,), (of_shards,) = audit([tiny.out]).accounts, audit([shards]).accounts

    digest = of_manifest.versions["spec"].rpartition(" ")[2]
    assert of_shards.versions == {"spec of tiny/detection/train": f"tiny/detection {digest}"}
    assert (of_manifest.kind, of_shards.kind) == ("manifest", "shard set")


def test_outlines_of_a_real_audit_reach_the_page(tiny: Tiny, tmp_path: Path) -> None:
    document = tiny.document()
    bow_tie = [2, 3, 10, 9, 10, 3, 2, 9]
    document["annotations"][0]["segmentation"] = [bow_tie]
    document["annotations"][1]["segmentation"] = [[0, 0, 3, 0, 3, 3]]  # far from its box
    tiny.write(document)

    report = audit(
        [tiny.root / "train.json"], format_name="coco_instances", root=tiny.root, options={"images": "images"}
    )

    shapes = {name[0]: shape for name, shape in report.shapes.items()}
    assert shapes["polygon.self_intersect"] == Shape(polygons=(tuple(map(float, bow_tie)),))
    assert set(shapes) == {"polygon.self_intersect", "mask.box_mismatch"}
    write(report, tmp_path / "r")
    assert (tmp_path / "r/index.html").read_text().count("<img ") == 2
