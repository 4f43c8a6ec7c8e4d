"""What a reader yields: the facts about one source item, free of any task.

Conventions, stated once: boxes are absolute `xyxy` float pixels of the EXIF-corrected image, origin 0, end exclusive;
masks are COCO run-length codes (column-major) of the whole image; keypoints are `(x, y, v)` with v 0 (not labelled),
1 (labelled, hidden) or 2 (visible). A reader converts at the edge; nothing past a reader knows another convention.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Box = tuple[float, float, float, float]
Keypoint = tuple[float, float, int]


class Rle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A COCO run-length code: `size` is (height, width), `counts` the compressed string."""

    size: tuple[int, int]
    counts: str


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Where a fact stands: `file` relative to the root, `record` a path inside it (`images[3]`, `line 7`)."""

    file: str
    record: str


Quantity = Literal["depth", "distance", "disparity", "inverse_depth", "normal"]
PixelUnit = Literal["m", "px", "1/m", "none"]


class Measure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What the numbers of a picture mean: a stored n states `n / scale + offset` in `unit`, if it is not `invalid`.

    `depth` is measured along the optical axis, `distance` from the centre of the camera, `disparity` between the
    pictures of two cameras; `normal` is a unit vector with one axis a channel, and `axes` says where they point. `unit`
    is `none` for vectors, and for depth that is right up to a factor. `invalid` are stored numbers that state nothing
    (of a vector: in all its channels). `rotated` is by how many bits the source turned its 16-bit numbers to the left.
    """

    quantity: Quantity
    unit: PixelUnit
    scale: float = 1.0
    offset: float = 0.0
    invalid: tuple[int, ...] = ()
    axes: str = ""
    rotated: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.offset)):
            raise ValueError(f"scale {self.scale}, offset {self.offset}: expected a scale above 0")
        if not 0 <= self.rotated < 16:
            raise ValueError(f"rotated {self.rotated}, expected 0 to 15 bits")


class Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One picture: `path` relative to the root; width and height in pixels as the source states them, if it does.

    `measure` says what its numbers mean, where they are no brightness.
    """

    path: str
    width: int | None = None
    height: int | None = None
    role: Literal["input", "target"] = "input"
    license: str | None = None
    measure: Measure | None = None


class Instance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One thing in an image: what it is and where.

    `category` is a name of the label space, or None for an object that has none (a referred object, a free region).
    `keypoints` follow the names that the label space gives for the category. `crowd` marks a region of many objects,
    `ignore` one that is neither object nor background, `difficult` Pascal VOC's flag. `text` is what the object says
    (OCR) or what is said of it (a region description). `polygons` are outlines as flat x, y lists: a reader need not
    rasterise them, because the mask is made from them where the picture's size is checked. `prompts` are the marks that
    the source itself has stored for the object, by kind (point, scribble, circle, polygon, box, mask).
    """

    id: str
    category: str | None = None
    box: Box | None = None
    mask: Rle | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    keypoints: tuple[Keypoint, ...] | None = None
    quad: tuple[float, float, float, float, float, float, float, float] | None = None
    text: str | None = None
    attributes: dict[str, str] = {}
    prompts: dict[str, Rle] = {}
    image: int = 0
    crowd: bool = False
    ignore: bool = False
    difficult: bool = False


class Caption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A sentence about the whole picture; `lang` is its language where it is not the dataset's."""

    id: str
    text: str
    lang: str | None = None


class Expression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A phrase that refers to objects: `instances` are positions in the annotation's instances (empty: none is meant).

    `spans` are [start, end) character positions of the phrase inside a caption, where the source gives them.
    """

    id: str
    text: str
    instances: tuple[int, ...]
    spans: tuple[tuple[int, int], ...] = ()
    answer: str | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A question with its accepted answers, the best first; `answer_index` points into `choices`, if there are any.

    `votes` is how many people gave each of the answers, and `stated` the one that the source itself names as the most
    common, where it says so.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    answer_index: int | None = None
    rationale: str | None = None
    instances: tuple[int, ...] = ()
    votes: tuple[int, ...] = ()
    stated: str | None = None


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One turn of a conversation; `<image>` stands for a picture, `<region>` for a region, in order."""

    role: Literal["system", "user", "assistant"]
    text: str


class Dialog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A ready-made conversation about the pictures."""

    id: str
    turns: tuple[Turn, ...]


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An editing instruction between two of the pictures (positions in `images`)."""

    id: str
    instruction: str
    before: int
    after: int


class Annotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """All facts about one source item.

    `negatives` are categories verified absent; `exhaustive` says whether a category of the label space that has no
    instance is absent (True), or merely not annotated (False). `examples` are other items that are shown before this
    one, where a task asks for some, and `shared` is the class that they were chosen by; readers leave both alone.
    """

    key: str
    images: tuple[Image, ...]
    origin: Origin
    instances: tuple[Instance, ...] = ()
    captions: tuple[Caption, ...] = ()
    expressions: tuple[Expression, ...] = ()
    questions: tuple[Question, ...] = ()
    dialogs: tuple[Dialog, ...] = ()
    labels: tuple[str, ...] = ()
    maps: dict[str, str] = {}
    edits: tuple[Edit, ...] = ()
    relations: tuple[tuple[int, str, int], ...] = ()
    negatives: tuple[str, ...] = ()
    exhaustive: bool = True
    examples: tuple[Annotation, ...] = ()
    shared: str = ""


class Rejected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A source record that a reader could not turn into an annotation: it is quarantined under `reason`."""

    key: str
    reason: str
    detail: str
    origin: Origin


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A category: its name, and, where it has keypoints, their names, skeleton (0-based pairs) and mirror partners.

    `codes` are what sources call it instead of its name (`mel`, `0_N`, a number); `description` says in a sentence or
    two what the name means, for whoever does not know it.
    """

    name: str
    codes: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    description: str = ""


class LabelSpace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The categories that a dataset can name, in its order."""

    id: str
    labels: tuple[Label, ...]
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The category names, in order."""
        return tuple([label.name for label in self.labels])

    @property
    def codes(self) -> dict[str, str]:
        """The name of each category by what sources call it instead."""
        return {code: label.name for label in self.labels for code in label.codes}

    def find(self, name: str) -> Label | None:
        """Return the category of that name, or None."""
        return next((label for label in self.labels if label.name == name), None)
