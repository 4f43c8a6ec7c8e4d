from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from converters.formats.all_seeing import Source, read
from dataengine import manifest
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root

BUS, ROAD, CAR = "[[100, 200, 300, 400]]", "[[0, 600, 999, 999]]", "[500, 500, 600, 600]"
ANSWER = (
    f"A <ref>bus</ref><box>{BUS}</box> is <pred>driving on</pred><box>{BUS}</box><box>{ROAD}</box> a\n"
    f"<ref>road</ref><box>{ROAD}</box> with <ref>vehicles</ref><box>[[100, 200, 300, 400], {CAR}]</box>, both "
    f"<pred>on</pred><box>[[100, 200, 300, 400], {CAR}]</box><box>{ROAD}</box> it."
)


def _item(
    answer: str = ANSWER, question: str = f"<image>\nWhat is at <box>{BUS}</box>?", **changes: Any
) -> Any:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": 5, "image": "coco/a.jpg", "conversations": turns, **changes}


def _read(
    folder: Path, *items: Any, size: tuple[int, int] = (999, 333), **options: Any
) -> list[Annotation | Rejected]:
    (folder / "coco").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(folder / "coco/a.jpg")
    (folder / "rec_conversation_22k.json").write_text(json.dumps(list(items)))
    return list(read(Source(annotations="rec_conversation_22k.json", **options), Root(folder)))


def test_markup_becomes_objects_marks_and_relations(tmp_path: Path) -> None:
    (found,) = _read(tmp_path, _item(), square_pad=False)

    assert isinstance(found, Annotation)
    assert (found.key, found.images[0].path) == ("5", "coco/a.jpg")
    assert [(turn.role, turn.text) for turn in found.dialogs[0].turns] == [
        ("user", "What is at <region1>?"),
        (
            "assistant",
            "A <p>bus</p><region1> is driving on a\n<p>road</p><region2> with <p>vehicles</p><region1><region3>, "
            "both on it.",
        ),
    ]
    assert [item.category for item in found.instances] == ["bus", "road", "vehicles"]
    assert found.relations == ((0, "driving on", 1), (0, "on", 1), (2, "on", 1))


def test_numbers_are_999ths_of_the_picture_or_of_the_square_that_it_is_padded_to(tmp_path: Path) -> None:
    (plain,) = _read(tmp_path, _item(), square_pad=False)
    (padded,) = _read(tmp_path, _item("A <ref>bus</ref><box>[[100, 433, 300, 566]]</box>.", "What?"))

    assert isinstance(plain, Annotation) and isinstance(padded, Annotation)
    assert plain.instances[0].box == pytest.approx((100, 200 / 3, 300, 400 / 3))
    assert plain.instances[1].box == pytest.approx((0, 200, 999, 333))
    # 333 rows lie in the middle of 999.
    assert padded.instances[0].box == pytest.approx((100, 100, 300, 233))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "A <ref>bus</ref><box>[[1, 2, 3]]</box>."}, "qa.format"),
        ({"answer": "A <ref>bus</ref><box>[]</box>."}, "qa.format"),
        ({"answer": "A <ref>bus."}, "qa.format"),
        ({"answer": f"It <pred>is</pred><box>{BUS}</box>."}, "qa.format"),
        (
            {"answer": f"It <pred>is</pred><box>[{CAR}, {CAR}]</box><box>[{CAR}, {CAR}, {CAR}]</box>."},
            "qa.format",
        ),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "turn.role"),
        ({"conversations": []}, "turn.structure"),
        ({"image": ""}, "schema"),
        ({"image": "coco/b.jpg"}, "image.missing"),
    ],
)
def test_a_defective_item_costs_no_other(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    bad, good = _read(tmp_path, _item(**change), _item(id=6))

    assert isinstance(bad, Rejected)
    assert bad.reason == reason
    assert isinstance(good, Annotation)


def test_the_spec_routes_every_phrase_and_asks_for_relations(tmp_path: Path) -> None:
    _read(tmp_path / "root", _item(), size=(300, 300))

    samples = {}
    for spec in Catalog().find("as_v2"):
        convert(spec, "conversation", tmp_path / "root", tmp_path / "out")
        (samples[spec.task.id],) = manifest.read_samples(
            tmp_path / "out/as_v2" / spec.task.id / "conversation"
        )

    said = samples["grounded_conversation"].conversation
    assert said[1].text == "A bus[DET] is driving on a\nroad[DET] with vehicles[DET], both on it."
    assert set(samples) == {"grounded_conversation", "relation", "relation_grounding"}
