"""The unified instruction record: one conversation, what its tokens point to, and what the decoders must answer."""

from __future__ import annotations

from typing import Literal

import msgspec

from dataengine import tokens
from dataengine.annotation import Box, Keypoint, Measure, Rle, Turn
from dataengine.errors import Quarantine


class SampleImage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A picture of a sample: `path` relative to the source root; size in pixels after EXIF correction.

    `digest` (xxh3-128 of the file's bytes) is set when the bytes are sharded.
    """

    path: str
    width: int
    height: int
    format: Literal["jpeg", "png", "webp", "gif", "bmp", "tiff"]
    role: Literal["input", "target"] = "input"
    digest: str | None = None
    license: str | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What one routing token of the conversation points to; `name` equals the `label` of its targets."""

    token: str
    kind: Literal["category", "expression", "keypoint", "region", "image"]
    name: str


class Region(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A visual prompt on an image: which kind, and the pixels that it marks."""

    kind: Literal["point", "scribble", "circle", "polygon", "box", "mask"]
    box: Box
    mask: Rle | None = None
    image: int = 0


MarkKind = Literal["circle", "hand_circle", "arrow", "box", "mask"]
MarkColor = Literal["red", "green", "blue", "yellow", "orange", "purple", "cyan", "magenta"]


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A mark on the pixels of a picture; `box` and `mask` are those of the object that it marks.

    The source's picture has none: whoever shows one of a sample draws its marks (`dataengine.marks`), as the shards do.
    `points` are (x, y) pixels: the line of a hand-drawn circle, or an arrow's tail and tip.
    """

    kind: MarkKind
    color: MarkColor
    solid: bool
    box: Box
    mask: Rle | None = None
    points: tuple[tuple[float, float], ...] = ()
    image: int = 0


class TargetInstance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One object to find: `label` is the name of the route that asks for it; boxes as in `annotation`.

    `area` is in square pixels; `ignore` marks an object that is neither to be found nor background (a crowd).
    """

    label: str
    box: Box
    area: float
    mask: Rle | None = None
    keypoints: tuple[Keypoint, ...] | None = None
    ignore: bool = False
    id: str = ""


class TextTargets(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False, tag="text"
):
    """The answer is the assistant's text alone.

    `votes` is how many people gave each of the answers, where the source says so; `given` has each as often.
    """

    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    answer_index: int | None = None
    votes: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def given(self) -> tuple[str, ...]:
        """The accepted answers, each as often as it was given, the best first."""
        if not self.votes:
            return self.answers
        return tuple(text for text, count in zip(self.answers, self.votes, strict=True) for _ in range(count))


class InstanceTargets(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False, tag="instances"
):
    """Boxes, and masks where there are any, for the labels of the routes.

    `negatives` are labels known to be absent; `exhaustive` says whether every label without an instance is absent.
    `void` are pixels of which the source says nothing: no mask is right or wrong there.
    """

    instances: tuple[TargetInstance, ...]
    negatives: tuple[str, ...] = ()
    exhaustive: bool = True
    void: Rle | None = None


class KeypointTargets(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False, tag="keypoints"
):
    """Boxes and keypoints; `names` are all keypoints in dataset order, and each instance has one entry per name.

    The prompt may ask for a subset: keypoints that have no route are to be left out by whoever reads the targets.
    """

    names: tuple[str, ...]
    instances: tuple[TargetInstance, ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()


class ImageTargets(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    gc=False,
    omit_defaults=True,
    tag="image",
):
    """A picture to make: `image` is its position in the sample's images, `caption` the text that describes it.

    `measure` says what its numbers mean (depth in metres, say); without it they are colours.
    """

    image: int
    caption: str
    measure: Measure | None = None


Targets = TextTargets | InstanceTargets | KeypointTargets | ImageTargets


class Prompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Which templates worded the conversation (`""` where the source's own words stand)."""

    bank: str = ""
    question: str = ""
    answer: str = ""


class Rendering(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a builder makes of a unit; convert adds identity, pictures and origin to make a sample of it.

    `unsure` are the classes that a conversation does not name and that may be there all the same; all others of the
    label space are absent. None: nobody knows. By it, another wording can name others (`dataengine.render`).
    """

    conversation: tuple[Turn, ...]
    targets: Targets
    routes: tuple[Route, ...] = ()
    regions: tuple[Region, ...] = ()
    marks: tuple[Mark, ...] = ()
    prompt: Prompt = Prompt()
    unsure: tuple[str, ...] | None = None


class SampleOrigin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Where a sample comes from: source file and record, and the spec and reader that made it."""

    dataset: str
    file: str
    record: str
    spec: str
    spec_hash: str
    reader: str


class SampleLicense(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """License identifiers as the source states them (`unspecified` where it does not)."""

    annotations: str
    images: str


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One instruction sample. Its id is `dataset/split/key#task`.

    `marks` is not written where there are none: the bytes of such a sample are those it had before there were marks.
    """

    id: str
    task: str
    dataset: str
    split: str
    images: tuple[SampleImage, ...]
    conversation: tuple[Turn, ...]
    targets: Targets
    origin: SampleOrigin
    license: SampleLicense
    routes: tuple[Route, ...] = ()
    regions: tuple[Region, ...] = ()
    prompt: Prompt = Prompt()
    ratings: dict[str, float] = {}
    marks: tuple[Mark, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def object_image(self) -> int:
        """The position of the picture that the targets lie on: the last input, with which in-context samples end."""
        inputs = [number for number, image in enumerate(self.images) if image.role == "input"]
        return max(inputs, default=0)

    def marks_on(self, image: int) -> tuple[Mark, ...]:
        """Return the marks of one picture, by its position."""
        return tuple(mark for mark in self.marks or () if mark.image == image)


def measure_of(sample: Sample, number: int) -> Measure | None:
    """Return what the numbers of a sample's picture mean, None for one of colours."""
    targets = sample.targets
    return targets.measure if isinstance(targets, ImageTargets) and targets.image == number else None


# The special tokens that a conversation is made with; any other came from a source's text.
_STRUCTURE = frozenset(
    {*tokens.ROUTING_TOKENS, tokens.IMAGE, tokens.REGION, tokens.REGION_START, tokens.REGION_END}
)
encode = msgspec.json.Encoder(order="deterministic").encode
decode = msgspec.json.Decoder(Sample).decode


def check(sample: Sample) -> None:
    """Raise Quarantine if the sample's parts contradict each other.

    Every routing token has one route, in order; every `<image>` an image; every `<region>` a region; every region and
    mark a picture; every label of a target a route; turns alternate from user to assistant and none is empty.
    """
    text = "\n".join(turn.text for turn in sample.conversation)
    found = tokens.placeholders(text)
    routing = [token for token in found if token in tokens.ROUTING_TOKENS]
    if routing != [route.token for route in sample.routes]:
        raise Quarantine(
            "token.route_mismatch", f"{len(routing)} routing tokens, {len(sample.routes)} routes"
        )
    num_inputs = sum(image.role == "input" for image in sample.images)
    if found.count(tokens.IMAGE) != num_inputs:
        raise Quarantine(
            "media.placeholder", f"{found.count(tokens.IMAGE)} <image> for {num_inputs} input images"
        )
    # No special token goes over the end of a line: what is left of the text and all names are one text to look at.
    for token in _STRUCTURE:
        text = text.replace(token, "\n")
    strange = tokens.special_tokens("\n".join([text, *[route.name for route in sample.routes]]))
    if strange:
        raise Quarantine("text.special_token", f"{strange[0]!r} stands in the conversation")
    if found.count(tokens.REGION) != len(sample.regions):
        raise Quarantine(
            "token.region_mismatch",
            f"{found.count(tokens.REGION)} <region> for {len(sample.regions)} regions",
        )
    pointed = {region.image for region in sample.regions} | {mark.image for mark in sample.marks or ()}
    if lost_images := pointed - set(range(len(sample.images))):
        raise Quarantine(
            "media.missing", f"a region or mark lies on picture {min(lost_images)}, which is none"
        )
    roles = [turn.role for turn in sample.conversation if turn.role != "system"]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise Quarantine("turn.structure", f"roles are {', '.join(roles) or 'none'}")
    if not all(turn.text.strip() for turn in sample.conversation):
        raise Quarantine("text.empty", "a turn has no text")
    if isinstance(sample.targets, TextTargets) and len(sample.targets.votes or ()) not in (
        0,
        len(sample.targets.answers),
    ):
        raise Quarantine("qa.format", "the targets have another number of votes than of answers")
    if isinstance(sample.targets, InstanceTargets | KeypointTargets):
        names = {route.name for route in sample.routes}
        lost = sorted({instance.label for instance in sample.targets.instances} - names)
        if lost:
            raise Quarantine("target.unasked", f"no routing token asks for {lost[0]!r}")
