"""What a spec may say about a record: the facts of an annotation, and where each stands.

A fact may be made once a record, or once an element of a list: `each` names the list, `as` what an element is called in
the paths beside it (`it` unless said otherwise; its position or key is `$it`). Several lists are walked in step: then
an element is a list itself, `it[0]` from the first of them, `it[1]` from the second.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from dataengine.annotation import Measure, PixelUnit, Quantity
from dataengine.records.conditions import parse_condition
from dataengine.records.paths import parse_path, parse_template
from dataengine.records.values import Source, Value, check_sources

Unit = Literal["px", "norm", "thousandth"]
Role = Literal["system", "user", "assistant"]
ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "bot": "assistant",
    "system": "system",
}  # fmt: skip


def check_lists(lists: str | tuple[str, ...], name: str) -> None:
    """Raise ValueError for a path that is none, or for a list of no paths."""
    if not lists:
        raise ValueError(f"{name}: expected a path, or several")
    for path in (lists,) if isinstance(lists, str) else lists:
        parse_path(path)


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every fact can say: the list whose elements it is made of, and when it is made at all."""

    each: str | tuple[str, ...] | None = None
    as_: str = msgspec.field(name="as", default="it")
    when: str | None = None

    def __post_init__(self) -> None:
        if self.each is not None:
            check_lists(self.each, "each")
        if self.when is not None:
            parse_condition(self.when)


class Frames(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` numbers from `first` to `last` (both of them frames), evenly spaced; all where there are fewer.

    Without `last` there are just as many frames as are asked for.
    """

    count: int
    first: Source | int = 0
    last: Source | int | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count {self.count}, expected at least one frame")
        check_sources(self.first, self.last)


class MeasureFact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the numbers of a picture mean, as `annotation.Measure` has it; `scale` may stand in the row."""

    quantity: Quantity
    unit: PixelUnit
    scale: float | Source = 1.0
    offset: float = 0.0
    invalid: tuple[int, ...] = ()
    axes: str = ""
    rotated: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.scale, int | float):
            self.made(self.scale)
        else:
            check_sources(self.scale)

    def made(self, scale: float) -> Measure:
        """Return the measure with its scale. Raises ValueError for one that is none."""
        return Measure(**{**msgspec.structs.asdict(self), "scale": scale})


class ImageFact(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path` is a template, relative to the root (a leading `./` falls away), or a value with operations.

    `most` takes that many of the elements of `each`, evenly spaced; `frames` makes a picture of each number `$frame`.
    `measure` is for pictures whose numbers are no brightness.
    """

    path: Source
    width: Source | None = None
    height: Source | None = None
    license: Source | None = None
    role: Literal["input", "target"] = "input"
    most: int | None = None
    frames: Frames | None = None
    measure: MeasureFact | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.path, str):
            parse_template(self.path)
        check_sources(self.width, self.height, self.license)
        if self.most is not None and (self.each is None or self.most < 1):
            raise ValueError(f"most: {self.most} of what 'each' names, expected at least one of a list")


class CaptionFact(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`text` is one sentence, or a list of them; `lang` their language where it is not the dataset's."""

    text: Source
    lang: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sources(self.text)


class Coordinates(Value, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value of numbers in a picture; `origin` is the number of the first pixel.

    `unit` is pixels, the share of the side (`norm`), or a thousandth of it; numbers are multiplied by `scale` first.
    """

    origin: Literal[0, 1] = 0
    unit: Unit = "px"
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.origin and self.unit != "px":
            raise ValueError(f"origin: 1 counts pixels, but unit is {self.unit!r}")


class BoxFact(Coordinates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A box; `end: inclusive` says that the second corner is its last pixel (else it is the first one past it)."""

    format: Literal["xywh", "xyxy", "cxcywh", "yxyx", "xxyy"]
    end: Literal["exclusive", "inclusive"] = "exclusive"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end == "inclusive" and (self.format in ("xywh", "cxcywh") or self.unit != "px"):
            raise ValueError(f"end: inclusive is for corners in pixels, not for {self.format} in {self.unit}")


class KeypointsFact(Coordinates, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The points of a skeleton, in the order of the label space: x and y, or x, y and how well it can be seen.

    `visible` says what the source's third number means, where it is not COCO's: 0 not labelled, 1 hidden, 2 seen. A
    point is not labelled where it is null, or where both of its numbers are among `absent`.
    """

    format: Literal["xy", "xyv"]
    visible: dict[str, Literal[0, 1, 2]] = msgspec.field(default_factory=dict)
    absent: tuple[float, ...] = ()


class InstanceFact(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object. `names: 0` or `1` says that `category` is a position in `labels`, counted from there.

    `rle` is a COCO run-length code, `{size: [height, width], counts: text or runs}`; null or an empty one: no object.
    `quad` has eight numbers or four points; `polygon` is one list of numbers or points, or a list of such. `crowd`,
    `ignore` and `difficult` are conditions; `image` is the picture's position.
    """

    id: Source | None = None
    category: Source | None = None
    names: Literal[0, 1] | None = None
    box: BoxFact | None = None
    quad: Coordinates | None = None
    polygon: Coordinates | None = None
    rle: Source | None = None
    keypoints: KeypointsFact | None = None
    text: Source | None = None
    attributes: dict[str, Source] = {}
    crowd: str | None = None
    ignore: str | None = None
    difficult: str | None = None
    image: Source | int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.names is not None and self.category is None:
            raise ValueError("names: needs a category")
        if self.rle is not None and self.polygon is not None:
            raise ValueError("rle: stands beside polygon, expected one of them")
        check_sources(self.id, self.category, self.text, self.image, self.rle, *self.attributes.values())
        for condition in (self.crowd, self.ignore, self.difficult):
            if condition is not None:
                parse_condition(condition)


class ExpressionFact(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A phrase and what it names: a `box` of its own, or `instances`, the ids of objects (null or none: nothing)."""

    text: Source
    id: Source | None = None
    box: BoxFact | None = None
    instances: Source | None = None
    image: Source | int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.box is None) == (self.instances is None):
            raise ValueError("an expression needs either 'box' or 'instances'")
        check_sources(self.text, self.id, self.instances, self.image)


class QuestionFact(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`answers` is text or a list, the best first; `answer_index` (from `index_origin`) or `answer_letter` a choice.

    `shuffle_choices` is for sources that always state the right choice first: the order follows from the key alone.
    """

    text: Source
    id: Source | None = None
    answers: Source | None = None
    choices: Source | None = None
    answer_index: Source | None = None
    index_origin: Literal[0, 1] = 0
    answer_letter: Source | None = None
    rationale: Source | None = None
    shuffle_choices: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer_index is not None and self.answer_letter is not None:
            raise ValueError("answer_letter: stands beside answer_index, expected one of them")
        if self.choices is None and (self.answer_index is not None or self.answer_letter is not None):
            raise ValueError("choices: missing; an answer's position points to them")
        check_sources(self.text, self.id, self.answers, self.choices)
        check_sources(self.answer_index, self.answer_letter, self.rationale)


class DialogFact(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A conversation: the list `turns`, each element called `turn`, with its `role` and `text`; or question and answer.

    A role is looked up in `roles`. Text may be a list of parts (`{type: text, text: …}`, `{type: image}`). The words of
    `image_tokens` are the source's own for `<image>`.
    """

    turns: str | None = None
    role: Source | None = None
    text: Source | None = None
    roles: dict[str, Role] = {}
    question: Source | None = None
    answer: Source | None = None
    image_tokens: tuple[str, ...] = ()
    id: Source | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = tuple(
            name
            for name in ("turns", "role", "text", "question", "answer")
            if getattr(self, name) is not None
        )
        if given not in (("turns", "role", "text"), ("question", "answer")):
            raise ValueError("a dialog needs either 'turns', 'role' and 'text', or 'question' and 'answer'")
        if self.turns is not None:
            parse_path(self.turns)
        check_sources(self.role, self.text, self.question, self.answer, self.id)


class EditFact(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instruction; `before` and `after` are positions in the images."""

    instruction: Source
    id: Source | None = None
    before: int = 0
    after: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sources(self.instruction, self.id)


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts of an annotation. Text alone is a picture's template, or the path of a caption.

    `label_names` is for `labels` what `names` is for an object's category.
    """

    images: str | ImageFact | tuple[str | ImageFact, ...] = ()
    captions: str | CaptionFact | tuple[str | CaptionFact, ...] = ()
    instances: InstanceFact | tuple[InstanceFact, ...] = ()
    expressions: ExpressionFact | tuple[ExpressionFact, ...] = ()
    questions: QuestionFact | tuple[QuestionFact, ...] = ()
    dialogs: DialogFact | tuple[DialogFact, ...] = ()
    edits: EditFact | tuple[EditFact, ...] = ()
    labels: Source | None = None
    label_names: Literal[0, 1] | None = None
    negatives: Source | None = None
    maps: dict[str, str] = {}
    exhaustive: bool = True

    def __post_init__(self) -> None:
        self.image_facts()
        self.caption_facts()
        check_sources(self.labels, self.negatives)
        for path in self.maps.values():
            parse_template(path)

    def image_facts(self) -> tuple[ImageFact, ...]:
        """Return `images` written out."""
        items = self.images if isinstance(self.images, tuple) else (self.images,)
        return tuple(ImageFact(path=item) if isinstance(item, str) else item for item in items)

    def caption_facts(self) -> tuple[CaptionFact, ...]:
        """Return `captions` written out."""
        items = self.captions if isinstance(self.captions, tuple) else (self.captions,)
        return tuple(CaptionFact(text=item) if isinstance(item, str) else item for item in items)
