from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dataengine import manifest as manifests
from dataengine.annotation import Caption, Dialog, Edit, Expression, Instance, Measure, Question, Turn
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.errors import SourceError, SpecError, UsageError
from dataengine.export import export, facts
from dataengine.sample import (
    ImageTargets,
    InstanceTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
    TextTargets,
)

if TYPE_CHECKING:
    from tests.conftest import Tiny


def sample(task: str, picture: str = "a.jpg", **fields: Any) -> Sample:
    chosen: dict[str, Any] = {
        "conversation": (Turn("user", "<image>\nsay it"), Turn("assistant", "said")),
        "targets": TextTargets(),
        "images": (SampleImage(path=picture, width=8, height=6, format="jpeg"),),
        **fields,
    }
    return Sample(
        id=f"d/train/{picture}#{task}", task=task, dataset="d", split="train",
        origin=SampleOrigin(dataset="d", file="f", record="r", spec="d", spec_hash="", reader="x"),
        license=SampleLicense(annotations="CC0-1.0", images="CC0-1.0"), **chosen,
    )  # fmt: skip


def pointed(text: str, *ids: str) -> Sample:
    targets = tuple(TargetInstance(id=one, label=text, box=(1.0, 1.0, 4.0, 4.0), area=9.0) for one in ids)
    return sample(
        "grounding",
        routes=(Route(token="[GRD]", kind="expression", name=text),),
        targets=InstanceTargets(instances=targets),
    )


def test_a_split_goes_out_and_comes_back_with_the_same_targets(tiny: Tiny, tmp_path: Path) -> None:
    directory, ledger = tiny.convert()
    out = tmp_path / "coco"

    done = export(directory, "coco_instances", out)

    assert done.spec is not None
    (spec,) = Catalog().find(done.spec)
    again = convert(spec, "train", out, tmp_path / "again")
    assert (done.samples, done.annotations, done.pictures) == (ledger.samples, ledger.samples, 6)
    assert again.samples == ledger.samples

    def targets(path: Path) -> list[Any]:
        return [
            sorted((item.label, item.box) for item in one.targets.instances)
            for one in manifests.read_samples(path)
            if isinstance(one.targets, InstanceTargets)
        ]

    assert targets(tmp_path / "again" / spec.dataset.id / "detection" / "train") == targets(directory)
    assert (out / "images/images/001.jpg").read_bytes() == (tiny.root / "images/001.jpg").read_bytes()


def test_the_spec_names_the_reader_that_the_writer_does(tiny: Tiny, tmp_path: Path) -> None:
    directory, ledger = tiny.convert()

    done = export(directory, "records_parquet", tmp_path / "rows")

    assert done.spec is not None
    (spec,) = Catalog().find(done.spec)
    again = convert(spec, "train", tmp_path / "rows", tmp_path / "again")
    assert spec.dataset.source.format == "records"
    assert (done.format, again.samples) == ("records_parquet", ledger.samples)


def test_a_layout_that_no_reader_reads_gets_no_spec(tiny: Tiny, tmp_path: Path) -> None:
    directory, _ = tiny.convert()

    done = export(directory, "webdataset", tmp_path / "x")

    assert (done.spec, done.left_out) == (None, {})
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["annotations.tar", "images"]


def test_an_export_again_replaces_what_was_there(tiny: Tiny, tmp_path: Path) -> None:
    directory, _ = tiny.convert()
    export(directory, "voc_xml", tmp_path / "voc")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "voc").rglob("*")) if path.is_file()}

    export(directory, "voc_xml", tmp_path / "voc")

    assert {path: path.read_bytes() for path in before} == before


def test_expressions_of_one_picture_share_their_objects() -> None:
    (found,) = facts([pointed("the left one", "7"), pointed("both", "7", "8"), pointed("the unicorn")])

    assert [instance.id for instance in found.instances] == ["7", "8"]
    assert found.expressions == (
        Expression(id="0", text="the left one", instances=(0,)),
        Expression(id="1", text="both", instances=(0, 1)),
        Expression(id="2", text="the unicorn", instances=()),
    )


def test_classes_are_facts_and_prompts_are_not() -> None:
    route = Route(token="[DET]", kind="category", name="cat")
    targets = InstanceTargets(
        instances=(TargetInstance(label="cat", box=(0.0, 0.0, 2.0, 2.0), area=4.0, ignore=True),),
        negatives=("dog",),
        exhaustive=False,
    )

    (found,) = facts([sample("detection", routes=(route,), targets=targets)])

    assert found.instances == (
        Instance(id="d/train/a.jpg#detection/0", category="cat", box=(0.0, 0.0, 2.0, 2.0), ignore=True),
    )
    assert (found.negatives, found.exhaustive, found.dialogs) == (("dog",), False, ())


def test_texts_go_where_their_kind_belongs() -> None:
    answered = TextTargets(answers=("red",), choices=("red", "blue"), answer_index=0)
    (said,) = facts([sample("caption"), sample("vqa", targets=answered), sample("conversation")])

    assert said.captions == (Caption(id="0", text="said"),)
    assert said.questions == (
        Question(id="0", text="say it", answers=("red",), choices=("red", "blue"), answer_index=0),
    )
    assert said.dialogs == (
        Dialog(id="0", turns=(Turn("user", "<image>\nsay it"), Turn("assistant", "said"))),
    )


def test_pictures_to_make_are_captions_or_edits() -> None:
    target = SampleImage(path="b.jpg", width=8, height=6, format="jpeg", role="target")
    source = SampleImage(path="a.jpg", width=8, height=6, format="jpeg")

    made, edited = facts(
        [
            sample("text_to_image", images=(target,), targets=ImageTargets(image=0, caption="a hill")),
            sample(
                "image_edit", images=(source, target), targets=ImageTargets(image=1, caption="make it snow")
            ),
        ]
    )

    assert made.captions == (Caption(id="0", text="a hill"),)
    assert edited.edits == (Edit(id="0", instruction="make it snow", before=0, after=1),)


def test_of_several_pictures_the_objects_lie_on_the_last_and_a_map_keeps_its_measure() -> None:
    images = tuple(SampleImage(path=f"{name}.png", width=8, height=6, format="png") for name in "ab")
    route = Route(token="[SEG]", kind="category", name="cat")
    found = TargetInstance(id="1", label="cat", box=(0.0, 0.0, 2.0, 2.0), area=4.0)
    depth = Measure(quantity="depth", unit="m", scale=256, invalid=(0,))
    target = SampleImage(path="d.png", width=8, height=6, format="png", role="target")

    changed, measured = facts(
        [
            sample("change", images=images, routes=(route,), targets=InstanceTargets(instances=(found,))),
            sample(
                "depth",
                images=(images[0], target),
                targets=ImageTargets(image=1, caption="depth map", measure=depth),
            ),
        ]
    )

    assert [item.image for item in changed.instances] == [1]
    assert [image.measure for image in measured.images] == [None, depth]


def test_a_picture_that_comes_again_later_has_another_key() -> None:
    found = list(
        facts([sample("caption", "x/a.jpg"), sample("caption", "b.jpg"), sample("caption", "x/a.jpg")])
    )

    assert [item.key for item in found] == ["x/a", "b", "x/a~2"]


def test_what_cannot_be_exported_is_one_line(tiny: Tiny, tmp_path: Path) -> None:
    directory, _ = tiny.convert()
    tiny.convert("val")

    with pytest.raises(
        SpecError, match="unknown format to write 'coco_instance'; did you mean 'coco_instances'"
    ):
        export(directory, "coco_instance", tmp_path / "x")
    with pytest.raises(UsageError, match="2 splits, expected one; export each for itself"):
        export(tiny.out, "coco_instances", tmp_path / "x")
    (tiny.root / "images/001.jpg").unlink()
    with pytest.raises(SourceError, match=r"images/001.jpg: no such picture any more; bring it back"):
        export(directory, "coco_instances", tmp_path / "x")


def test_an_export_says_what_it_left_out(tiny: Tiny, tmp_path: Path) -> None:
    directory, _ = tiny.convert()

    done = export(directory, "llava_json", tmp_path / "x")

    assert done.left_out == {"instance": 12}
    assert msgspec.json.decode((tmp_path / "x/conversations.json").read_bytes()) == []


def test_the_spec_of_an_export_states_the_language_of_the_split(tiny: Tiny, tmp_path: Path) -> None:
    text = tiny.spec.read_text()
    tiny.spec.write_text(
        text.replace("train.json, use: train", "train.json, use: train, lang: ja") + "lang: zh\n"
    )
    for split, lang in (("train", "ja"), ("val", "zh")):
        directory, _ = tiny.convert(split)

        done = export(directory, "coco_instances", tmp_path / split)

        assert done.spec is not None
        (found,) = Catalog().find(done.spec)
        assert found.lang(split) == lang


def test_a_sample_with_drawn_marks_is_left_out_and_counted(tiny: Tiny, tmp_path: Path) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "mark_recognition: {}"))
    directory, _ = tiny.convert(task="mark_recognition")

    done = export(directory, "llava_json", tmp_path / "x")

    assert done.left_out == {"sample with drawn marks": 6}
    assert (done.samples, done.annotations, done.pictures) == (6, 0, 0)


def test_objects_lie_on_the_last_of_several_pictures() -> None:
    pictures = tuple(SampleImage(path=f"{n}.jpg", width=8, height=6, format="jpeg") for n in range(3))
    asked = msgspec.structs.replace(pointed("it", "1"), images=pictures)

    (found,) = facts([asked])

    assert [(one.id, one.image) for one in found.instances] == [("1", 2)]


def test_words_between_pictures_keep_their_places() -> None:
    pictures = tuple(SampleImage(path=f"{n}.jpg", width=8, height=6, format="jpeg") for n in range(2))
    turns = (Turn("user", "Look:\n<image>\nnewt\nAnd this:\n<image>"), Turn("assistant", "frog"))
    asked = sample(
        "in_context_text", images=pictures, conversation=turns, targets=TextTargets(answers=("frog",))
    )

    (found,) = facts([asked])

    assert found.questions == ()
    assert [dialog.turns for dialog in found.dialogs] == [turns]
