"""Every builder in Chinese, and sources whose units or splits speak a language of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dataengine.annotation import (
    Annotation,
    Caption,
    Edit,
    Expression,
    Image,
    Instance,
    Label,
    LabelSpace,
    Origin,
    Question,
)
from dataengine.catalog import Catalog
from dataengine.errors import Skip, SpecError
from dataengine.geometry import rle_of_box
from dataengine.sample import Rendering, TextTargets
from dataengine.spec import load_dataset
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]

LABELS = LabelSpace(id="two", labels=(Label(name="人", keypoints=("鼻子", "左眼")), Label(name="小狗")))
SCENE = Annotation(
    key="1",
    images=(Image(path="a.jpg"),),
    origin=Origin(file="f", record="r"),
    instances=(
        Instance(
            id="1",
            category="人",
            box=(0.0, 0.0, 20.0, 40.0),
            mask=rle_of_box((0.0, 0.0, 20.0, 40.0), 100, 80),
            keypoints=((5.0, 5.0, 2), (7.0, 4.0, 1)),
            text="Nike",
        ),
        Instance(
            id="2",
            category="小狗",
            box=(50.0, 40.0, 90.0, 70.0),
            mask=rle_of_box((50.0, 40.0, 90.0, 70.0), 100, 80),
            text="停车",
        ),
    ),
    captions=(Caption(id="1", text="一个穿T恤的男人牵着狗。"),),
    expressions=(Expression(id="1", text="穿T恤的高个子男人。", instances=(0,)),),
    questions=(
        Question(id="1", text="这是什么动物？", answers=("狗",), choices=("猫", "狗"), answer_index=1),
    ),
    labels=("小狗",),
)
DRAWN = msgspec.structs.replace(SCENE, images=(Image(path="a.jpg", role="target"),))
EDITED = msgspec.structs.replace(
    SCENE,
    images=(Image(path="a.jpg"), Image(path="b.jpg", role="target")),
    edits=(Edit(id="1", instruction="把T恤改成红色。", before=0, after=1),),
)
R1, R2 = "<reg>region1<region></reg>", "<reg>region2<region></reg>"
EXPECTED = {
    "detection": (
        "<image>\n请找出图中属于以下类别的所有目标：人、小狗。",
        "检测结果如下：人[DET]、小狗[DET]。",
    ),
    "instance_segmentation": (
        "<image>\n请分割出图中属于以下类别的每一个目标：人、小狗。",
        "分割结果如下：人[DET]、小狗[DET]。",
    ),
    "reasoning_segmentation": ("<image>\n穿T恤的高个子男人。", "好的，就是[GRD]。"),
    "interactive_segmentation": (
        f"<image>\n请分割{R1}、{R2}标出的物体。",
        "标记的物体如下：region1[DET]、region2[DET]。",
    ),
    "semantic_segmentation": (
        "<image>\n请把图片按以下类别划分区域：人、小狗。",
        "各类区域如下：人[SEG]、小狗[SEG]。",
    ),
    "keypoints": (
        "<image>\n请找出图中所有的人，并在每个目标上标出这些关键点：鼻子、左眼。",
        "目标如下：人[DET]。关键点为：鼻子[POSE]、左眼[POSE]。",
    ),
    "grounded_caption": (
        "<image>\n这张图片展示了什么？请用一句话回答，并定位提到的每个物体。",
        "一个穿T恤的男人[DET]牵着狗。",
    ),
    "region_qa": (f"<image>\n关于{R1}、{R2}：他们在做什么？", "散步"),
    "region_caption_multi": (
        f"<image>\n请逐一简要描述这些区域：{R1}、{R2}。",
        "region1: 穿T恤的高个子男人。\nregion2: 一只棕色的小狗。",
    ),
    "grounding": ("<image>\n图中哪里是穿T恤的高个子男人？", "找到了，就是[GRD]。"),
    "region_caption": (f"<image>\n请简要描述{R1}。", "穿T恤的高个子男人。"),
    "region_recognition": (
        f"<image>\n{R1}是什么类别？用一个词或短语回答。",
        "人。",
        f"{R2}是什么类别？用一个词或短语回答。",
        "小狗。",
    ),
    "caption": ("<image>\n这张图片展示了什么？", "一个穿T恤的男人牵着狗。"),
    "vqa": ("<image>\n这是什么动物？\n请用一个词或短语回答。", "狗"),
    "multiple_choice_vqa": (
        "<image>\n这是什么动物？\nA. 猫\nB. 狗\n请直接写出正确选项的字母。",
        "B",
    ),
    "text_to_image": ("请画一张这样的图：一个穿T恤的男人牵着狗。", "好的，图片在这里[GEN]。"),
    "image_edit": ("<image>\n请这样修改图片：把T恤改成红色。", "好的，改好了[EDIT]。"),
    "ocr": ("<image>\n图中写了什么字？", "Nike\n停车"),
    "text_spotting": (
        "<image>\n请找出图中所有文字，并标出它们的位置。",
        "图中的文字如下：“Nike”[DET]、“停车”[DET]。",
    ),
    "classification": ("<image>\n这张图片属于哪一类？只回答类别名称。", "小狗。"),
    "classification_choices": (
        "<image>\n这张图片属于以下哪一类：人、小狗？只回答名称。",
        "小狗。",
    ),
    "counting": (
        "<image>\n图中有多少个属于“人”类别的目标？只回答数字。",
        "1",
        "图中有多少个属于“小狗”类别的目标？只回答数字。",
        "1",
    ),
}
GROUNDED = msgspec.structs.replace(
    SCENE,
    captions=(Caption(id="0", text="一个穿T恤的男人牵着狗"),),
    expressions=(Expression(id="0.0", text="一个穿T恤的男人", instances=(0,), spans=((0, 8),)),),
    questions=(Question(id="1", text="他们在做什么？", answers=("散步",), instances=(0, 1)),),
)
TOLD = msgspec.structs.replace(
    SCENE, expressions=(*SCENE.expressions, Expression(id="2", text="一只棕色的小狗", instances=(1,)))
)
ANNOTATIONS = {
    "text_to_image": DRAWN,
    "image_edit": EDITED,
    "grounded_caption": GROUNDED,
    "region_qa": GROUNDED,
    "region_caption_multi": TOLD,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_chinese_words_of_a_task_are_these(make_task: MakeTask, build: Build, name: str) -> None:
    task = make_task(name, LABELS, train=False, lang="zh")

    rendering = build(ANNOTATIONS.get(name, SCENE), task)

    assert tuple(turn.text for turn in rendering.conversation) == EXPECTED[name]


def test_an_english_template_keeps_its_own_marks_in_a_chinese_dataset(
    make_task: MakeTask, build: Build
) -> None:
    rendering = build(SCENE, make_task("panoptic_segmentation", LABELS, train=False, lang="zh"))

    assert rendering.conversation[0].text.endswith("of these classes: 人, 小狗?")
    assert rendering.conversation[1].text.endswith(": 人[SEG], 小狗[SEG].")


def test_a_short_chinese_caption_of_a_region_has_few_words_and_a_long_one_has_not(
    make_task: MakeTask, build: Build
) -> None:
    task = make_task("region_caption", LABELS, lang="zh")
    short = msgspec.structs.replace(SCENE, expressions=(Expression(id="1", text="男人", instances=(0,)),))

    assert build(SCENE, task).conversation[1].text == "穿T恤的高个子男人。"
    with pytest.raises(Skip, match=r"text\.too_short"):
        build(short, task)


def test_a_caption_that_states_its_language_is_asked_for_in_it(make_task: MakeTask, build: Build) -> None:
    german = Caption(id="2", text="Ein Mann mit Hund.", lang="de")
    both = msgspec.structs.replace(SCENE, captions=(*SCENE.captions, german))
    task = make_task("caption", train=False, lang="zh")

    rendering = build(both, task, unit=german)

    assert rendering.prompt.question == "de01"
    assert isinstance(rendering.targets, TextTargets)
    assert rendering.targets.answers == ("Ein Mann mit Hund.",)
    assert isinstance(build(both, task).targets, TextTargets)
    assert build(both, task).prompt.question == "zh01"


def test_a_picture_is_answered_in_the_language_of_its_caption(make_task: MakeTask, build: Build) -> None:
    chinese = Caption(id="2", text="一只猫。", lang="zh")
    drawn = msgspec.structs.replace(DRAWN, captions=(chinese,))

    rendering = build(drawn, make_task("text_to_image", train=False, lang="en"))

    assert rendering.prompt.question == rendering.prompt.answer == "zh01"


SPEC = """\
id: two
title: Two languages
license: {annotations: CC0-1.0, images: CC0-1.0}
source:
  format: records
  table: {path: rows.json, kind: json}
  key: "{id}"
  fields: {images: "{file}", captions: text}
  splits:
    first: {use: train}
    second: {use: train, lang: ja}
tasks: {caption: {}}
status: layout
lang: zh
"""


def test_a_split_may_have_a_language_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(SPEC)

    (spec,) = Catalog().find(str(tmp_path / "two.yaml"))

    assert [spec.runtime(split, None).lang for split in spec.splits] == ["zh", "ja"]
    assert "lang" not in spec.dataset.source.splits["second"].options


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [("lang: zh", "lang: Chinese", "14: lang"), ("lang: ja", "lang: j1", "11: source.splits.second.lang")],
)
def test_what_is_no_language_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, place: str
) -> None:
    (tmp_path / "two.yaml").write_text(SPEC.replace(old, new))

    with pytest.raises(SpecError, match="is no language, expected two or three letters") as caught:
        load_dataset(tmp_path / "two.yaml")

    assert f"two.yaml:{place}: " in str(caught.value)
