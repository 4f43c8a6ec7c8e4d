from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from converters.formats.mvtec import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

LOCO = "{object}/ground_truth/{defect}/{name}/*.png"


def _picture(folder: Path, name: str, size: tuple[int, int] = (12, 10)) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.new("RGB", size).save(path)


def _mask(folder: Path, name: str, x0: int, y0: int, x1: int, y1: int, value: int = 255) -> None:
    drawn = np.zeros((10, 12), np.uint8)
    drawn[y0:y1, x0:x1] = value
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(drawn).save(path)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_defect_is_what_its_mask_shows(tmp_path: Path) -> None:
    _picture(tmp_path, "cable/test/cut_wire/000.png")
    _mask(tmp_path, "cable/ground_truth/cut_wire/000_mask.png", 2, 3, 6, 8)

    (found,), rejected = _split(Root(tmp_path))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("cable/cut_wire/000", "cable/test/cut_wire/000.png")
    (item,) = found.instances
    assert (item.category, item.box, item.attributes) == ("defect", (2, 3, 6, 8), {"defect": "cut_wire"})
    assert item.mask is not None
    assert (rle_area(item.mask), item.mask.size) == (20, (10, 12))


def test_a_sound_picture_has_no_mask_and_truly_no_defect(tmp_path: Path) -> None:
    _picture(tmp_path, "01/test/ok/0.png")
    _picture(tmp_path, "01/test/good/0.png")
    _picture(tmp_path, "01/test/Normal/0.png")

    found, (rejected,) = _split(Root(tmp_path))

    assert [(item.instances, item.exhaustive) for item in found] == [((), True)] * 2
    assert (rejected.key, rejected.reason) == ("01/Normal/0", "map.missing")


def test_several_masks_of_a_picture_unite(tmp_path: Path) -> None:
    _picture(tmp_path, "bag/test/logical/[7].png")
    _mask(tmp_path, "bag/ground_truth/logical/[7]/000.png", 0, 0, 2, 2)
    _mask(tmp_path, "bag/ground_truth/logical/[7]/001.png", 1, 1, 3, 3)

    (found,), rejected = _split(Root(tmp_path), masks=LOCO)

    assert rejected == []
    assert found.instances[0].mask is not None
    assert rle_area(found.instances[0].mask) == 7


def test_the_numbers_of_defects_count_unless_they_are_below_the_threshold(tmp_path: Path) -> None:
    _picture(tmp_path, "pcb1/test/bent/0.png")
    _mask(tmp_path, "pcb1/ground_truth/bent/0_mask.png", 0, 0, 2, 2, value=3)

    (found,), _ = _split(Root(tmp_path))
    none, (rejected,) = _split(Root(tmp_path), threshold=128)

    assert found.instances[0].box == (0, 0, 2, 2)
    assert (none, rejected.reason) == ([], "mask.empty")


def test_pictures_and_masks_may_have_other_places_and_endings(tmp_path: Path) -> None:
    _picture(tmp_path, "candle/Data/Images/Anomaly/000.JPG")
    _picture(tmp_path, "candle/Data/Images/Normal/0000.JPG")
    _mask(tmp_path, "candle/Data/Masks/Anomaly/000.png", 0, 0, 2, 2, value=1)

    found, rejected = _split(
        Root(tmp_path),
        images="{object}/Data/Images/{defect}/{name}.JPG",
        masks="{object}/Data/Masks/{defect}/{name}.png",
        sound=("Normal",),
        category="flaw",
    )

    assert rejected == []
    assert [[one.category for one in item.instances] for item in found] == [["flaw"], []]


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ([], "map.missing"),
        ([(0, 0, 0, 0)], "mask.empty"),
        ([b"no picture"], "map.corrupt"),
        ([(0, 0, 2, 2), Picture.new("L", (3, 3))], "map.encoding"),
    ],
)
def test_a_picture_without_a_usable_mask_is_rejected_alone(
    tmp_path: Path, masks: list[Any], reason: str
) -> None:
    _picture(tmp_path, "bag/test/good/1.png")
    _picture(tmp_path, "bag/test/logical/0.png")
    folder = tmp_path / "bag/ground_truth/logical/0"
    folder.mkdir(parents=True)
    for number, mask in enumerate(masks):
        if isinstance(mask, bytes):
            (folder / f"{number}.png").write_bytes(mask)
        elif isinstance(mask, Picture.Image):
            mask.save(folder / f"{number}.png")
        else:
            _mask(folder, f"{number}.png", *mask)

    (found,), (rejected,) = _split(Root(tmp_path), masks=LOCO)

    assert found.key == "bag/good/1"
    assert (rejected.key, rejected.reason) == ("bag/logical/0", reason)


def test_a_mask_that_comes_later_is_a_change(tmp_path: Path) -> None:
    _picture(tmp_path, "cable/test/cut/000.png")
    root = Root(tmp_path)
    _split(root)
    before = dict(root.digests)

    _mask(tmp_path, "cable/ground_truth/cut/000_mask.png", 2, 3, 6, 8)
    root.refresh(list(before))

    assert root.digests != before


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.images"):
        _split(Root(tmp_path))


def test_patterns_must_say_which_defect_and_which_picture() -> None:
    with pytest.raises(ValueError, match="defect"):
        Source(images="test/{name}.png", masks="gt/{name}.png")
    with pytest.raises(ValueError, match="object"):
        Source(images="test/{defect}/{name}.png")


def test_the_one_class_is_the_label_space(tmp_path: Path) -> None:
    assert labels(Source(category="flaw"), Root(tmp_path)).names == ("flaw",)


def test_the_real_layout_reads(samples: Callable[[str], Root]) -> None:
    found, rejected = _split(
        samples("fmt_mvtec"), images="{object}/default/{defect}/{name}.png", sound=("label_0",)
    )

    assert rejected == []
    areas = [[rle_area(one.mask) for one in item.instances if one.mask] for item in found]
    assert areas == [[], [16], [16]]
