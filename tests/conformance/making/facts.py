"""The facts of a table's items: each path gets the kind of value that is looked for there."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from dataengine.annotation import Box
from dataengine.geometry import rle_from_polygons
from dataengine.records.facts import (
    ROLES,
    BoxFact,
    Coordinates,
    DialogFact,
    ImageFact,
    InstanceFact,
    QuestionFact,
)
from dataengine.records.values import Value, paths
from dataengine.spec import Resolved
from tests.conformance.making.filling import Filler, Scope
from tests.conformance.making.scene import HEIGHT, WIDTH, box_of, classes_of, corners, named, picture

CHOICES = ("first one", "second one", "third one", "fourth one")


class Facts:
    """What the facts of a spec ask of an item, whose classes take turns."""

    def __init__(self, spec: Resolved, fill: Filler) -> None:
        self.spec, self.fill, self.fields = spec, fill, fill.source.fields
        declared = fill.source.labels if isinstance(fill.source.labels, tuple) else ()
        self.classes = classes_of(spec, declared)

    @property
    def place(self) -> int:
        """The position of the item's class: two items of one follow each other."""
        return (self.fill.number // 2) % len(self.classes)

    def ask(self, scope: Scope) -> None:
        """Put what every fact looks for, but what only names a picture."""
        fields = self.fill.source.fields
        for image in fields.image_facts():
            self._image(self.fill.inside(scope, image), image)
        for caption in fields.caption_facts():
            inner = self.fill.inside(scope, caption)
            self.fill.tell(inner, caption.text, lambda place: f"a caption {self.fill.token()}")
        for fact in _all(fields.instances):
            self._instance(self.fill.inside(scope, fact), fact)
        for fact in _all(fields.expressions):
            inner = self.fill.inside(scope, fact)
            self.fill.tell(inner, fact.text, lambda place: f"the thing {self.fill.token()}")
            self._numbers(inner, fact.box)
            self.fill.assign(inner, fact.instances, lambda place: "1")
        for fact in _all(fields.questions):
            self._question(self.fill.inside(scope, fact), fact)
        for fact in _all(fields.dialogs):
            self._dialog(self.fill.inside(scope, fact), fact)
        for fact in _all(fields.edits):
            inner = self.fill.inside(scope, fact)
            self.fill.tell(inner, fact.instruction, lambda place: f"turn it {self.fill.token()}")
        for template in fields.maps.values():
            self.fill.template(scope, template, ".png")
        self._labels(scope)
        for fact in self.fill.source.unpacked():
            inner = self.fill.inside(scope, fact)
            self.fill.assign(inner, fact.picture, self._picture)

    def name(self, scope: Scope) -> None:
        """Fill what is left of the names of pictures and of the key."""
        for image in self.fill.source.fields.image_facts():
            inner = self.fill.inside(scope, image)
            if isinstance(image.path, str):
                # Where cells hold the pictures themselves, what names them is a number or a word.
                self.fill.template(inner, image.path, "" if self.fill.source.unpacked() else ".jpg")
            else:
                self.fill.assign(inner, image.path, lambda place: f"{self.fill.token()}.jpg")
        for fact in self.fill.source.unpacked():
            self.fill.template(self.fill.inside(scope, fact), fact.to)
        self.fill.template(scope, self.fill.source.key)

    def _picture(self, place: int) -> Any:
        data = picture(".jpg", shade=self.fill.token() % 256)
        return data if self.fill.source.table.kind in ("parquet", "tar") else base64.b64encode(data).decode()

    def _image(self, scope: Scope, image: ImageFact) -> None:
        self.fill.assign(scope, image.width, lambda place: WIDTH)
        self.fill.assign(scope, image.height, lambda place: HEIGHT)
        self.fill.assign(scope, image.license, lambda place: "CC-BY-4.0")
        if image.frames is not None:
            self.fill.assign(scope, image.frames.first, lambda place: 1)
            self.fill.assign(scope, image.frames.last, lambda place: 9)
        if image.measure is not None and not isinstance(image.measure.scale, int | float):
            self.fill.assign(scope, image.measure.scale, lambda place: 1000)

    def _class(self, origin: int | None) -> str | int:
        """Return the class, or its position counted from `origin`."""
        return self.classes[self.place] if origin is None else self.place + origin

    def _say(self, given: list[Any], origin: int | None) -> None:
        """Have classes come back under the names that samples have for them."""
        for one in (name for part in given for name in (part if isinstance(part, list) else [part])):
            self.fill.say(named(self.spec, str(one) if origin is None else self.classes[self.place]))

    def _instance(self, scope: Scope, fact: InstanceFact) -> None:
        self._say(self.fill.assign(scope, fact.category, lambda place: self._class(fact.names)), fact.names)
        self.fill.assign(scope, fact.id, lambda place: str(place + 1))
        self._numbers(scope, fact.box)
        for points in (fact.quad, fact.polygon):
            self._numbers(scope, points)
        self.fill.assign(scope, fact.rle, lambda place: _mask(box_of(place % 3)))
        self.fill.tell(scope, fact.text, lambda place: f"text {self.fill.token()}")
        for value in fact.attributes.values():
            self.fill.assign(scope, value, lambda place: self.fill.word())
        for condition in (fact.crowd, fact.ignore, fact.difficult):
            if condition is not None:
                self.fill.satisfy(scope, condition, want=False)

    def _numbers(self, scope: Scope, fact: Coordinates | None) -> None:
        if fact is None:
            return

        def stated(place: int) -> list[float]:
            return _stated(fact, box_of(place % 3))

        if isinstance(fact.from_, tuple) and len(fact.from_) < len(stated(0)):
            pairs = [list(stated(0)[start : start + 2]) for start in range(0, len(stated(0)), 2)]
            self.fill.assign(scope, fact, lambda place: pairs)
        elif isinstance(fact.from_, tuple):
            for number, path in enumerate(fact.from_):
                self.fill.assign(scope, path, partial(lambda number, place: stated(place)[number], number))
        else:
            self.fill.assign(scope, fact, stated)

    def _question(self, scope: Scope, fact: QuestionFact) -> None:
        self.fill.tell(scope, fact.text, lambda place: f"what is {self.fill.token()}?")
        if fact.choices is not None:
            names = paths(fact.choices) if isinstance(fact.choices, Value) else ()
            choices = list(CHOICES[: max(2, min(len(names) or 4, 4))])
            self.fill.tell(scope, fact.choices, lambda place: choices)
            self.fill.assign(scope, fact.answers, lambda place: choices[0])
        else:
            self.fill.tell(scope, fact.answers, lambda place: f"answer {self.fill.token()}")
        self.fill.assign(scope, fact.answer_index, lambda place: fact.index_origin)
        self.fill.assign(scope, fact.answer_letter, lambda place: "A")
        self.fill.assign(scope, fact.rationale, lambda place: f"because {self.fill.token()}")
        self.fill.assign(scope, fact.id, lambda place: str(self.fill.token()))

    def _dialog(self, scope: Scope, fact: DialogFact) -> None:
        self.fill.assign(scope, fact.id, lambda place: str(self.fill.token()))
        if fact.turns is None:
            self.fill.tell(scope, fact.question, lambda place: f"what is {self.fill.token()}?")
            self.fill.tell(scope, fact.answer, lambda place: f"answer {self.fill.token()}")
            return
        inner = scope.named("turn", self.fill.elements(scope, fact.turns))
        roles = {role: word for word, role in reversed([*fact.roles.items(), *ROLES.items()])}
        self.fill.assign(inner, fact.role, lambda place: roles["assistant" if place % 2 else "user"])
        self.fill.tell(inner, fact.text, lambda place: f"said {self.fill.token()}")

    def _labels(self, scope: Scope) -> None:
        fields = self.fill.source.fields
        place = self.place
        if not self.fill.choose(scope, fields.labels, place):
            listed = isinstance(fields.labels, Value) and isinstance(fields.labels.from_, tuple)
            said = self._class(fields.label_names)
            given = self.fill.assign(scope, fields.labels, lambda number: [said] if listed else said)
            self._say(given, fields.label_names)
        if not self.fill.choose(scope, fields.negatives, place + 2):
            self.fill.assign(scope, fields.negatives, lambda number: [self.classes[-1]])


def _all(facts: Any) -> tuple[Any, ...]:
    return facts if isinstance(facts, tuple) else (facts,)


def _mask(box: Box) -> dict[str, Any]:
    rle = rle_from_polygons([corners(box)], WIDTH, HEIGHT)
    return {"size": list(rle.size), "counts": rle.counts}


def _stated(fact: Coordinates, box: Box) -> list[float]:
    """Return a box, or its corners, in the numbers that the spec declares."""
    x0, y0, x1, y1 = box
    if isinstance(fact, BoxFact):
        past = 1 if fact.end == "inclusive" else 0
        x0, y0, x1, y1 = x0 + fact.origin, y0 + fact.origin, x1 + fact.origin - past, y1 + fact.origin - past
        order: dict[str, tuple[float, ...]] = {
            "xyxy": (x0, y0, x1, y1),
            "yxyx": (y0, x0, y1, x1),
            "xxyy": (x0, x1, y0, y1),
            "xywh": (x0, y0, x1 - x0, y1 - y0),
            "cxcywh": ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0),
        }
        values = list(order[fact.format])
        wide: tuple[int, ...] = {"yxyx": (1, 3), "xxyy": (0, 1)}.get(fact.format, (0, 2))
    else:
        values = [value + fact.origin for value in corners(box)]
        wide = (0, 2, 4, 6)
    if fact.unit != "px":
        share = 1000 if fact.unit == "thousandth" else 1
        values = [value * share / (WIDTH if place in wide else HEIGHT) for place, value in enumerate(values)]
    return [value / fact.scale for value in values]
