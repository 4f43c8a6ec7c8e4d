from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.formats.mmic_jsonl import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.geometry import mask_from_rle
from dataengine.ledger import Ledger
from dataengine.manifest import read_samples
from dataengine.recognise import recognise
from dataengine.sample import InstanceTargets, Sample

SIZE = (40, 30)  # width, height
TEXT = [
    {"from": "human", "value": "<image>\nThis <mask> is a cup.\n<image>\nWhat is <mask>?"},
    {"from": "gpt", "value": "A plate."},
]
FIND = [
    {"from": "human", "value": "<image>\n<mask>\n<image>\n<mask>\nNow here:\n<image>"},
    {"from": "gpt", "value": "<mask>"},
]


def pictures(folder: Path) -> Path:
    """Write three pictures and their masks, in the layout that the official readers expect; return the folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(3):
        Image.new("RGB", SIZE, (60 * number, 90, 120)).save(folder / f"images/{number}.jpg")
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[5:15, 4 * number : 4 * number + 10] = 255
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
    return folder


def row(
    count: int, conversations: list[dict[str, str]], masks: int | None = None, **fields: Any
) -> dict[str, Any]:
    number = count if masks is None else masks
    return {
        "image": [f"{n}.jpg" for n in range(count)],
        "mask": [f"{n}.png" for n in range(number)],
        "conversations": conversations,
        **fields,
    }


def write(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


def found(folder: Path, *rows: dict[str, Any]) -> list[Annotation | Rejected]:
    write(folder, *rows)
    return list(read(Source(annotations="train.jsonl", images="images", masks="masks"), Root(folder)))


def made(folder: Path, task: str) -> tuple[list[Sample], Ledger]:
    keys = "annotations: train.jsonl, images: images, masks: masks, use: train"
    (folder / "own.yaml").write_text(
        "id: own\ntitle: own\nlicense: {annotations: CC0-1.0, images: CC0-1.0}\nstatus: layout\n"
        f"source: {{format: mmic_jsonl, splits: {{train: {{{keys}}}}}}}\n"
        "tasks: {in_context_text: {}, in_context_mask: {}}\n"
    )
    (spec,) = (one for one in Catalog().find(str(folder / "own.yaml")) if one.task.id == task)
    ledger = convert(spec, "train", folder, folder / "out", allow_empty=True)
    return list(read_samples(folder / "out/own" / task / "train")), ledger


def test_the_kth_mask_lies_on_the_kth_picture(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    (item,) = found(folder, row(2, TEXT))

    assert isinstance(item, Annotation)
    assert [image.path for image in item.images] == ["images/0.jpg", "images/1.jpg"]
    assert [(one.id, one.image, one.box) for one in item.instances] == [
        ("0", 0, (0, 5, 10, 15)),
        ("1", 1, (4, 5, 14, 15)),
    ]
    assert [turn.text.count("<region>") for turn in item.dialogs[0].turns] == [2, 0]
    assert (item.key, item.origin.record) == ("line 1", "line 1")


def test_grey_is_white_from_half_of_it_on(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[0, :4] = (127, 128, 200, 255)
    Image.fromarray(mask).save(folder / "masks/0.png")

    item, *_ = found(folder, row(2, TEXT))

    assert isinstance(item, Annotation) and item.instances[0].mask is not None
    assert mask_from_rle(item.instances[0].mask)[0, :4].tolist() == [0, 1, 1, 1]


def test_a_text_answer_has_a_region_for_every_mask(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    write(folder, row(2, TEXT), row(3, FIND))

    (sample,), ledger = made(folder, "in_context_text")

    region = "<reg>region<region></reg>"
    assert [turn.text for turn in sample.conversation] == [
        f"<image>\nThis {region} is a cup.\n<image>\nWhat is {region}?",
        "A plate.",
    ]
    assert [(one.kind, one.image, one.box) for one in sample.regions] == [
        ("mask", 0, (0, 5, 10, 15)),
        ("mask", 1, (4, 5, 14, 15)),
    ]
    assert ledger.skipped == {"answer.mask": 1}


def test_a_mask_answer_routes_to_the_last_mask_on_the_last_picture(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    write(folder, row(2, TEXT), row(3, FIND))

    (sample,), ledger = made(folder, "in_context_mask")

    assert sample.conversation[1].text == "[DET]"
    assert [one.image for one in sample.regions] == [0, 1]
    assert isinstance(sample.targets, InstanceTargets)
    (target,) = sample.targets.instances
    assert (target.box, target.area) == ((8, 5, 18, 15), 100)
    assert [(route.token, route.name) for route in sample.routes] == [("[DET]", target.label)]
    assert sample.object_image == 2
    assert ledger.skipped == {"answer.text": 1}


def test_a_row_without_masks_shows_whole_pictures(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    plain = [{"from": "human", "value": "<image>\ncat\n<image>"}, {"from": "gpt", "value": "dog"}]
    write(folder, {"image": ["0.jpg", "1.jpg"], "conversations": plain})

    (sample,), _ = made(folder, "in_context_text")

    assert (len(sample.images), sample.regions) == (2, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": ["0.jpg"]}, "token.region_mismatch"),  # more masks than pictures
        ({"mask": ["0.png"]}, "token.region_mismatch"),
        ({"image": ["0.jpg", "1.jpg", "2.jpg"]}, "media.placeholder"),
        ({"mask": ["0.png", "9.png"]}, "map.missing"),
        ({"mask": ["0.png", "../9.png"]}, "path.outside"),
        ({"conversations": [{"from": "robot", "value": "<image><mask><image><mask>"}]}, "turn.structure"),
        (
            {"conversations": [{"from": "human", "value": "<region><image><mask><image><mask>"}]},
            "text.special_token",
        ),
        ({"conversations": "none"}, "schema"),
        ({"image": ["0.jpg", " "]}, "image.missing"),
    ],
)
def test_a_bad_row_is_rejected_alone(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = pictures(tmp_path)
    bad, good = found(folder, {**row(2, TEXT), **change}, row(2, TEXT))

    assert isinstance(bad, Rejected) and bad.reason == reason
    assert isinstance(good, Annotation)


def test_a_black_mask_shows_nothing(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    Image.new("L", SIZE).save(folder / "masks/1.png")

    (item,) = found(folder, row(2, TEXT))

    assert isinstance(item, Rejected) and item.reason == "mask.empty"


def test_a_mask_of_another_size_than_its_picture_is_no_region(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    Image.new("L", (9, 9), 255).save(folder / "masks/1.png")
    write(folder, row(2, TEXT))

    samples, ledger = made(folder, "in_context_text")

    assert samples == []
    assert ledger.quarantined == {"region.lost": 1}
    assert ledger.objects_dropped == {"rle.size_mismatch": 1}


def test_a_mask_to_find_on_another_picture_is_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    early = [{"from": "human", "value": "<image>\n<image>"}, {"from": "gpt", "value": "<mask>"}]
    write(folder, row(2, early, masks=1))

    _, ledger = made(folder, "in_context_mask")

    assert ledger.quarantined == {"target.picture": 1}


@pytest.mark.parametrize("lines", [True, False])
def test_the_layout_is_recognised(tmp_path: Path, lines: bool) -> None:
    folder = pictures(tmp_path)
    rows = [row(2, TEXT), row(3, FIND)]
    if lines:
        write(folder, *rows)
    else:
        (folder / "train.json").write_text(json.dumps(rows))

    (name, fit), *_ = recognise(folder).fits

    assert name == "mmic_jsonl"
    assert fit.tasks == ("in_context_text", "in_context_mask")
    ((split, keys),) = fit.splits.items()
    assert (split, keys["images"], keys["masks"]) == ("train", "images", "masks")


def test_a_conversation_without_masks_is_another_layout(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    (folder / "train.json").write_text(json.dumps([{"image": ["images/0.jpg"], "conversations": TEXT}]))

    assert "mmic_jsonl" in recognise(folder, "mmic_jsonl").others
