"""The exact words of every shipped task, as evaluation asks them: a change of one is a change of what models learn."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Image,
    Instance,
    Label,
    LabelSpace,
    Measure,
    Origin,
    Question,
    Turn,
)
from dataengine.catalog import Catalog
from dataengine.geometry import rle_of_box
from dataengine.sample import Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]

LABELS = LabelSpace(
    id="two",
    labels=(
        Label(name="person", keypoints=("nose", "left_eye")),
        Label(name="dog", description="a tame animal that barks"),
    ),
)
SCENE = Annotation(
    key="1",
    images=(Image(path="a.jpg"),),
    origin=Origin(file="f", record="r"),
    instances=(
        Instance(
            id="1",
            category="person",
            box=(0.0, 0.0, 20.0, 40.0),
            mask=rle_of_box((0.0, 0.0, 20.0, 40.0), 100, 80),
            keypoints=((5.0, 5.0, 2), (7.0, 4.0, 1)),
        ),
        Instance(
            id="2",
            category="dog",
            box=(50.0, 40.0, 90.0, 70.0),
            mask=rle_of_box((50.0, 40.0, 90.0, 70.0), 100, 80),
        ),
    ),
    captions=(Caption(id="1", text="A man and his dog."),),
    expressions=(Expression(id="1", text="The tall man.", instances=(0,)),),
    questions=(
        Question(id="1", text="What is it?", answers=("dog",), choices=("cat", "dog"), answer_index=1),
    ),
    dialogs=(Dialog(id="1", turns=(Turn("user", "<image>\nHello."), Turn("assistant", "Hello!"))),),
)
DRAWN = Annotation(
    key="2",
    images=(Image(path="a.jpg", role="target"),),
    origin=Origin(file="f", record="r"),
    captions=(Caption(id="1", text="A man and his dog."),),
)
EDITED = Annotation(
    key="3",
    images=(Image(path="a.jpg"), Image(path="b.jpg", role="target")),
    origin=Origin(file="f", record="r"),
    edits=(Edit(id="1", instruction="Remove the dog", before=0, after=1),),
)
GROUNDED = Annotation(
    key="4",
    images=(Image(path="a.jpg"),),
    origin=Origin(file="f", record="r"),
    instances=SCENE.instances,
    captions=(Caption(id="0", text="A man and his dog."),),
    expressions=(Expression(id="0.0", text="A man", instances=(0,), spans=((0, 5),)),),
    questions=(Question(id="1", text="Who is <region1>?", answers=("<region1> is Tom.",), instances=(0,)),),
    dialogs=(
        Dialog(
            id="1",
            turns=(Turn("user", "Who is near <region2>?"), Turn("assistant", "<p>A man</p><region1>.")),
        ),
    ),
    labels=("dog",),
    relations=((0, "walks", 1),),
)
SHOWN = Annotation(
    key="5",
    images=(Image(path="a.jpg"),),
    origin=Origin(file="f", record="r"),
    instances=SCENE.instances,
    dialogs=(
        Dialog(id="1", turns=(Turn("user", "Who is <region2>?"), Turn("assistant", "<region2> is Rex."))),
    ),
)
READ = Annotation(
    key="6",
    images=(Image(path="a.jpg"),),
    origin=Origin(file="f", record="r"),
    instances=(Instance(id="1", box=(10.0, 10.0, 40.0, 20.0), text="STOP"),),
)
SAID = Annotation(
    key="7",
    images=(Image(path="a.jpg"),),
    origin=Origin(file="f", record="r"),
    instances=SCENE.instances,
    expressions=(*SCENE.expressions, Expression(id="2", text="a dog that runs", instances=(1,))),
)
SIZED = (Image(path="a.jpg", width=100, height=80),)
MARKED = Annotation(key="7", images=SIZED, origin=SCENE.origin, instances=SCENE.instances[1:])
MARKED_TEXT = Annotation(key="8", images=SIZED, origin=SCENE.origin, instances=READ.instances)
# The official form: as many pictures as masks, and the words say where both stand.
TOLD = Annotation(
    key="9",
    images=(Image(path="a.jpg"), Image(path="b.jpg")),
    origin=SCENE.origin,
    instances=SCENE.instances[:1],
    dialogs=(
        Dialog(
            id="",
            turns=(Turn("user", "<image>\n<region> is Tom.\n<image>\nWho is it?"), Turn("assistant", "Rex.")),
        ),
    ),
)
FOUND = Annotation(
    key="10", images=(Image(path="b.jpg"),), origin=SCENE.origin, instances=SCENE.instances, shared="dog",
    examples=(MARKED,),
)  # fmt: skip
FRAMES = Annotation(
    key="7",
    images=(Image(path="0.jpg"), Image(path="1.jpg")),
    origin=Origin(file="f", record="r"),
    captions=SCENE.captions,
    questions=SCENE.questions,
    labels=("dog",),
)
CHANGED = Annotation(
    key="8",
    images=FRAMES.images,
    origin=FRAMES.origin,
    instances=tuple(msgspec.structs.replace(one, image=1) for one in SCENE.instances),
    captions=SCENE.captions,
)


def _mapped(measure: Measure) -> Annotation:
    images = (Image(path="a.jpg"), Image(path="d.png", role="target", measure=measure))
    return Annotation(key="9", images=images, origin=FRAMES.origin)


ANNOTATIONS = {
    "region_caption_multi": SAID,
    "mark_recognition": MARKED,
    "mark_ocr": MARKED_TEXT,
    "in_context_text": TOLD,
    "in_context_mask": FOUND,
    "depth": _mapped(Measure(quantity="inverse_depth", unit="1/m")),
    "normals": _mapped(Measure(quantity="normal", unit="none")),
    "image_restoration": EDITED,
    "change_segmentation": CHANGED,
    "change_caption": CHANGED,
    "image_quality": GROUNDED,
    "image_aesthetics": GROUNDED,
    **dict.fromkeys(
        ("video_qa", "video_qa_open", "video_choices", "video_caption", "video_classification"), FRAMES
    ),
    "text_spotting": READ,
    "ocr": READ,
    "region_ocr": READ,
    "text_to_image": DRAWN,
    "image_edit": EDITED,
    "region_conversation": SHOWN,
    **dict.fromkeys(
        (
            "grounded_caption",
            "grounded_caption_mask",
            "grounded_conversation",
            "region_qa",
            "relation",
            "relation_grounding",
            "classification",
            "classification_choices",
            "classification_described",
        ),
        GROUNDED,
    ),
}

R1, R2 = "<reg>region1<region></reg>", "<reg>region2<region></reg>"
EXPECTED = {
    "detection": (
        "<image>\nCan you find every object of these classes in the picture: person, dog?",
        "Here is what I found: person[DET], dog[DET].",
    ),
    "instance_segmentation": (
        "<image>\nCan you outline every single object of these classes: person, dog?",
        "Here are the masks for each class: person[DET], dog[DET].",
    ),
    "grounding": ("<image>\nWhere in the picture is this: the tall man?", "Yes, it is [GRD]."),
    "grounding_mask": ("<image>\nWhere in the picture is this: the tall man?", "Yes, it is [GRD]."),
    "reasoning_segmentation": ("<image>\nThe tall man.", "Sure, it is [GRD]."),
    "keypoints": (
        "<image>\nCan you find every object of these classes: person? "
        "For each one, where are these keypoints: nose, left eye?",
        "Here is what I found: person[DET]. The keypoints are nose[POSE], left eye[POSE].",
    ),
    "interactive_segmentation": (
        f"<image>\nCan you segment the objects that are marked by {R1}, {R2}?",
        "Here are the masks of the marked objects: region1[DET], region2[DET].",
    ),
    "region_caption": (f"<image>\nCan you describe {R1} briefly?", "The tall man."),
    "region_recognition": (
        f"<image>\nWhat is the category of {R1}? Reply with a single word or phrase.",
        "Person.",
        f"What is the category of {R2}? Reply with a single word or phrase.",
        "Dog.",
    ),
    "caption": ("<image>\nWhat does this picture show?", "A man and his dog."),
    "vqa": ("<image>\nWhat is it?\nAnswer with a single word or a short phrase.", "dog"),
    "multiple_choice_vqa": (
        "<image>\nWhat is it?\nA. cat\nB. dog\nAnswer with the letter of the right option.",
        "B",
    ),
    "conversation": ("<image>\nHello.", "Hello!"),
    "text_to_image": ("Please make a picture of this: a man and his dog.", "Here it is [GEN]."),
    "image_edit": (
        "<image>\nPlease change the picture as follows: remove the dog.",
        "Sure, here you go [EDIT].",
    ),
    "text_spotting": (
        "<image>\nCan you read every word in this picture and show where it stands?",
        'Here is the text that I can read: "STOP"[DET].',
    ),
    "ocr": ("<image>\nWhat does the text in the picture say?", "STOP"),
    "region_ocr": (f"<image>\nWhat does the text in {R1} say?", "STOP"),
    "oriented_detection": (
        "<image>\nCan you find every object of these classes and draw a turned box that fits it: person, dog?",
        "Here are the turned boxes for each class: person[DET], dog[DET].",
    ),
    "semantic_segmentation": (
        "<image>\nCan you divide the picture into regions of these classes: person, dog?",
        "Here is the map of the scene: person[SEG], dog[SEG].",
    ),
    "panoptic_segmentation": (
        "<image>\nCan you split the whole picture into objects and background areas of these classes: person, dog?",
        "The scene splits into these segments: person[SEG], dog[SEG].",
    ),
    "salient_segmentation": (
        "<image>\nCan you segment the person of this picture?",
        "Here is the mask: person[DET].",
    ),
    "camouflaged_segmentation": (
        "<image>\nCan you find and segment the person in this picture?",
        "Here is the mask: person[DET].",
    ),
    "grounded_caption": (
        "<image>\nWhat does this picture show? Answer in a sentence and localize each object that you name.",
        "A man[DET] and his dog.",
    ),
    "grounded_caption_mask": (
        "<image>\nWhat does this picture show? Answer in a sentence and localize each object that you name.",
        "A man[DET] and his dog.",
    ),
    "grounded_conversation": (f"<image>\nWho is near {R1}?", "A man[DET]."),
    "region_qa": (f"<image>\nWho is {R1}?", "region1 is Tom."),
    "region_conversation": (f"<image>\nWho is {R1}?", "region1 is Rex."),
    "region_caption_multi": (
        f"<image>\nCan you describe each of these regions briefly: {R1}, {R2}?",
        "region1: The tall man.\nregion2: A dog that runs.",
    ),
    "region_caption_detailed": (f"<image>\nCan you describe {R1} in detail?", "The tall man."),
    "relation": (f"<image>\nHow does {R1} relate to {R2}? Answer with a short phrase.", "Walks."),
    "relation_grounding": (
        "<image>\nWhere in the picture do you see this: person walks dog?",
        "The first is person[GRD], the second is dog[GRD].",
    ),
    "counting": (
        "<image>\nHow many objects of the class person are in the picture? Answer with a number.",
        "1",
        "How many objects of the class dog are in the picture? Answer with a number.",
        "1",
    ),
    "mark_recognition": (
        "<image>\nWhat does the magenta box show? Reply with a single word or phrase.",
        "Dog.",
    ),
    "mark_ocr": ("<image>\nWhat text is marked by the magenta box? Reply with the text only.", "STOP"),
    "in_context_text": ("<image>\n<reg>region<region></reg> is Tom.\n<image>\nWho is it?", "Rex."),
    "in_context_mask": (
        "In these pictures a region is marked:\n<image>\n<reg>region<region></reg>\n"
        "Mark the same kind of thing in the last picture:\n<image>",
        "[DET]",
    ),
    "depth": (
        "<image>\nEstimate the inverse depth at every pixel of this picture.",
        "Here is the map [EDIT].",
    ),
    "normals": ("<image>\nEstimate the surface normals in this picture.", "Here is the normal map [EDIT]."),
    "image_restoration": (
        "<image>\nPlease restore this picture: remove the dog.",
        "Here is the restored picture [EDIT].",
    ),
    "change_segmentation": (
        "<image>\n<image>\nThese two pictures show one place at two times. Segment in the second one: person, dog.",
        "These are the changes: person[SEG], dog[SEG].",
    ),
    "change_caption": (
        "<image>\n<image>\nThese two pictures show one place at two times. Describe in a sentence what changed.",
        "A man and his dog.",
    ),
    "video_qa": (
        "<image>\n<image>\nThese pictures are frames of one video, in order. What is it?\n"
        "Answer with a single word or a short phrase.",
        "dog",
    ),
    "video_qa_open": ("<image>\n<image>\nWhat is it?", "dog"),
    "video_choices": (
        "<image>\n<image>\nThese pictures are frames of one video, in order. What is it?\nA. cat\nB. dog\n"
        "Answer with the letter of the right option.",
        "B",
    ),
    "video_caption": (
        "<image>\n<image>\nThese pictures are frames of one video, in order. Describe in a sentence what happens.",
        "A man and his dog.",
    ),
    "video_classification": (
        "<image>\n<image>\nThese pictures are frames of one video. What action does it show? Give its name only.",
        "Dog.",
    ),
    "image_quality": (
        "<image>\nHow good is the quality of this picture? Choose one of these words: person, dog.",
        "Dog.",
    ),
    "image_aesthetics": (
        "<image>\nHow beautiful is this picture? Choose one of these words: person, dog.",
        "Dog.",
    ),
    "interleaved": ("<image>\nHello.", "Hello!"),
    "classification": (
        "<image>\nWhich class does this picture belong to? Answer with its name only.",
        "Dog.",
    ),
    "classification_described": (
        "<image>\nWhat does this picture show, and what does that mean?",
        "Dog: a tame animal that barks.",
    ),
    "region_description": (
        f"<image>\nWhat is {R1}, and what does that mean?",
        "Dog: a tame animal that barks.",
    ),
    "classification_choices": (
        "<image>\nWhich of these classes fits the picture: person, dog? Answer with the name only.",
        "Dog.",
    ),
}


def test_every_shipped_task_has_its_words_here() -> None:
    assert set(EXPECTED) == set(Catalog().tasks)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_words_of_a_task_are_these(make_task: MakeTask, build: Build, name: str) -> None:
    annotation = ANNOTATIONS.get(name, SCENE)

    rendering = build(annotation, make_task(name, LABELS, train=False))

    assert tuple(turn.text for turn in rendering.conversation) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_task_uses_its_own_routing_tokens_alone(make_task: MakeTask, build: Build, name: str) -> None:
    annotation = ANNOTATIONS.get(name, SCENE)
    task = make_task(name, LABELS)

    tokens = {route.token for seed in range(5) for route in build(annotation, task, seed).routes}

    assert tokens == set(task.spec.routing)
