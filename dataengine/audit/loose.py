"""Samples that no spec describes: what is in them by the names that people use, and the rules on all of it."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import xxhash

from dataengine.annotation import (
    Annotation,
    Box,
    Caption,
    Dialog,
    Image,
    Instance,
    Origin,
    Question,
    Rejected,
    Turn,
)
from dataengine.audit.gallery import Gallery
from dataengine.audit.pictures import Looked, check_file, check_picture
from dataengine.audit.state import Audit, Progress, Report, close, side
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import probe
from dataengine.perceptual import Print
from dataengine.runners import run
from dataengine.spill import Kept, Named

# The names of columns, of the keys of JSON and of endings in tars, in small letters.
CAPTIONS = (
    "caption", "captions", "text", "texts", "txt", "sentence", "sentences", "sentences_raw", "description",
    "descriptions", "alt_text", "transcript",
)  # fmt: skip
QUESTIONS, ANSWERS = ("question", "query"), ("answer", "answers", "label_text")
CHOICES = ("choices", "options")
DIALOGS = ("conversations", "conversation", "messages")
BOXES = ("bbox", "boxes", "bboxes")
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
# Of a text that is longer than this nobody says that it is one caption.
MOST_TEXTS = 1000


class Picture(NamedTuple):
    """A picture of a sample: its name, and its bytes, or the file below the root that holds them.

    `own_name` is what the source calls it, "" where it does not: several samples may show one picture.
    """

    path: str
    data: bytes | None = None
    own_name: str = ""


class Loose(NamedTuple):
    """A sample: its key, where it stands, its cells by name, its pictures, and the classes that it is of."""

    key: str
    file: str
    record: str
    cells: dict[str, Any]
    pictures: tuple[Picture, ...] = ()
    labels: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()  # the names of the classes of boxes, where these are numbers


def annotation(one: Loose) -> Annotation:
    """Return what a sample says, by the usual names; what has another name is left alone.

    Boxes are x, y, width, height in pixels, as Hugging Face's and COCO's are.
    """
    cells = {name.lower().rpartition(".")[2]: value for name, value in one.cells.items()}
    return Annotation(
        key=one.key,
        images=tuple([Image(path=picture.path) for picture in one.pictures]),
        origin=Origin(file=one.file, record=one.record),
        captions=tuple(_captions(cells)),
        questions=tuple(_questions(cells)),
        dialogs=tuple(_dialogs(cells)),
        instances=tuple(_instances(cells, one.classes)),
        labels=one.labels,
        exhaustive=False,
    )


def _texts(value: Any) -> list[str]:
    """Return a text, or a list of them, as a list."""
    if isinstance(value, str):
        return [value]
    return [text for text in value[:MOST_TEXTS] if isinstance(text, str)] if isinstance(value, list) else []


def _captions(cells: dict[str, Any]) -> Iterator[Caption]:
    for name in CAPTIONS:
        for number, text in enumerate(_texts(cells.get(name))):
            yield Caption(id=f"{name} {number}" if number else name, text=text)


def _questions(cells: dict[str, Any]) -> Iterator[Question]:
    answers = next((_texts(cells[name]) for name in ANSWERS if name in cells), [])
    choices = next((_texts(cells[name]) for name in CHOICES if name in cells), [])
    for name in QUESTIONS:
        for number, text in enumerate(_texts(cells.get(name))):
            yield Question(
                id=f"{name} {number}" if number else name,
                text=text,
                answers=tuple(answers),
                choices=tuple(choices),
            )


def _dialogs(cells: dict[str, Any]) -> Iterator[Dialog]:
    for name in DIALOGS:
        value = cells.get(name)
        turns = [_turn(turn) for turn in value] if isinstance(value, list) else []
        if turns and None not in turns:
            yield Dialog(id=name, turns=tuple([turn for turn in turns if turn is not None]))


def _turn(value: Any) -> Turn | None:
    """Return a turn as LLaVA (`from`, `value`) or chat templates (`role`, `content`) write it, None for no turn."""
    if not isinstance(value, dict):
        return None
    role = _ROLES.get(str(value.get("from", value.get("role"))).lower())
    text = value.get("value", value.get("content"))
    if isinstance(text, list):  # parts of text and pictures
        text = "".join(
            str(part.get("text") or "") if part.get("type") == "text" else "<image>"
            for part in text
            if isinstance(part, dict)
        )
    return Turn(role, text) if role is not None and isinstance(text, str) else None  # type: ignore[arg-type]


def _instances(cells: dict[str, Any], classes: tuple[str, ...]) -> Iterator[Instance]:
    objects = cells.get("objects", cells)
    if isinstance(objects, list):
        rows = [one for one in objects if isinstance(one, dict)]
        objects = {name: [row.get(name) for row in rows] for name in {key for row in rows for key in row}}
    if not isinstance(objects, dict):
        return
    boxes: list[Any] = next((objects[name] for name in BOXES if isinstance(objects.get(name), list)), [])
    found: list[Any] = next((objects[name] for name in ("category", "categories", "label", "labels", "category_id")
                  if isinstance(objects.get(name), list)), [])  # fmt: skip
    for number, value in enumerate(boxes):
        box = _box(value)
        if box is not None:
            name = found[number] if len(found) == len(boxes) else None
            yield Instance(id=str(number), box=box, category=_class_name(name, classes))


def _box(value: Any) -> Box | None:
    if not (
        isinstance(value, list) and len(value) == 4 and all(isinstance(one, int | float) for one in value)
    ):
        return None
    try:
        x, y, width, height = map(float, value)
    except OverflowError:
        return (math.inf,) * 4
    return x, y, x + width, y + height


def _class_name(value: Any, classes: tuple[str, ...]) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return classes[value] if 0 <= value < len(classes) else str(value)
    return value if isinstance(value, str) else None


class _Look(NamedTuple):
    """What the bytes of a picture show: also its size, where it has one, and a digest of 128 bits, "" without bytes."""

    looked: Looked
    size: tuple[int, int] | None
    digest: str


def _look(root: str, one: Loose | Rejected) -> list[_Look]:
    return [_look_at(root, picture) for picture in one.pictures] if isinstance(one, Loose) else []


def _look_at(root: str, picture: Picture) -> _Look:
    data = picture.data
    if data is None:
        try:
            data = Root(Path(root)).inside(picture.path).read_bytes()
        except (OSError, Quarantine):
            return _Look(check_file(root, (picture.path, None))[1], None, "")
    try:
        header = probe(data)
        size = header.width, header.height
    except Quarantine:
        size = None  # said of the picture itself
    return _Look(check_picture(data, picture.path), size, xxhash.xxh3_128_hexdigest(data))


class Seen(NamedTuple):
    """A picture that was looked at: its split, its name here, and what the source calls it."""

    split: str
    path: str
    own_name: str


class Shown:
    """The pictures of several splits by a digest of their bytes: which are shown twice."""

    def __init__(self) -> None:
        self._named = Named()
        self._files: Kept[str, bool] = Kept(str, bool)

    def is_new(self, picture: Picture) -> bool:
        """Say whether a picture was not told of before: a file may be shown by many samples."""
        if picture.data is not None:
            return True
        new = self._files.get(picture.path) is None
        if new:
            self._files[picture.path] = True
        return new

    def add(self, digest: str, split: str, picture: Picture) -> None:
        """Note a picture of a split."""
        if digest:
            self._named.add(digest, split, f"{picture.path}\n{picture.own_name}")

    def again(self) -> Iterator[tuple[Seen, Seen]]:
        """Yield each picture whose bytes came before, and where they came first."""
        for (_, split, names), (_, other_split, other) in self._named.again():
            yield Seen(split, *names.rsplit("\n", 1)), Seen(other_split, *other.rsplit("\n", 1))


def audit_loose(
    state: Audit,
    items: Iterable[Loose | Rejected],
    root: str,
    workers: int,
    progress: Progress,
    shown: Shown,
    gallery: Gallery,
) -> Report:
    """Run the rules over samples and their pictures, which are noted in `shown`; return what was found.

    All go into the gallery, too, under the source that was opened last.
    """
    quarantined: Counter[str] = Counter()
    pictures = 0
    waiting: deque[Loose | Rejected] = deque()

    def noted() -> Iterator[Loose | Rejected]:
        for item in items:
            waiting.append(item)
            yield item

    for looks in run(
        partial(_look, root), noted(), runner="local", workers=workers, name=lambda one: one.key
    ):
        one = waiting.popleft()
        state.counts["records"] += 1
        progress(1, "")
        if isinstance(one, Rejected):
            quarantined[one.reason] += 1
            state.rejected(one)
            continue
        for picture, look in zip(one.pictures, looks, strict=True):
            shown.add(look.digest, state.subject, picture)
            if shown.is_new(picture):
                pictures += 1
                state.picture(picture.path, look.looked.found)
                print_ = Print(look.looked.low, look.looked.high)
                gallery.add(root, picture.path, look.looked.digest or 0, print_)
                if look.size is not None:
                    state.sides[side(*look.size)] += 1
        if len(one.pictures) > 1:
            gallery.together(root, [picture.path for picture in one.pictures])
        state.annotation(annotation(one), [look.size for look in looks])
    state.whole()
    report = close(state, None)
    account = msgspec.structs.replace(
        report.accounts[0],
        records=state.counts["records"],
        quarantined=dict(quarantined),
        images=pictures,
    )
    return msgspec.structs.replace(report, accounts=[account])
