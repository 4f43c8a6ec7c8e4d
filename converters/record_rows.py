"""Annotations as rows of a table, and what a spec has to say so that the `records` reader makes them of it again.

A row has a column for each kind of fact, a list each. The columns are the same whatever file they end in.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from converters.export_tables import Categories, LeftOut
from converters.json_files import unique
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.modules import Written

LISTS = (
    "images", "instances", "captions", "expressions", "questions", "dialogs", "edits", "labels", "negatives",
)  # fmt: skip
# Where each kind of fact stands in a row; `images`, `captions` and `edits` depend on what occurs (`_fields`).
_FACTS: dict[str, Any] = {
    "instances": {
        "each": "instances", "id": "it.id", "category": "it.category", "text": "it.text", "image": "it.image",
        "box": {"from": "it.box", "format": "xyxy"}, "quad": {"from": "it.quad"},
        "crowd": "it.crowd", "ignore": "it.ignore", "difficult": "it.difficult",
    },
    "expressions": {"each": "expressions", "id": "it.id", "text": "it.text", "instances": "it.instances"},
    "questions": {
        "each": "questions", "id": "it.id", "text": "it.text", "answers": "it.answers", "choices": "it.choices",
        "answer_index": "it.answer_index", "rationale": "it.rationale",
    },
    "dialogs": {"each": "dialogs", "id": "it.id", "turns": "it.turns", "role": "turn.role", "text": "turn.text"},
    "labels": "labels",
    "negatives": "negatives",
}  # fmt: skip


class Rows:
    """Makes rows of annotations, and remembers what occurs in them."""

    def __init__(self, labels: LabelSpace) -> None:
        self._categories = Categories(labels)
        self._left_out = LeftOut()
        self._exhaustive = Counter[bool]()
        self._seen: dict[str, int] = {}
        self._kinds = set[str]()
        self._roles = set[str]()
        self._languages = set[str | None]()
        self._edits = set[tuple[int, int]]()

    def row(self, item: Annotation) -> dict[str, Any]:
        """Return one row: `key`, and a list for each of LISTS. Pictures to make stand behind those to look at."""
        self._take(item)
        # The grammar states roles one after the other, so positions follow the roles.
        order = sorted(range(len(item.images)), key=lambda place: item.images[place].role == "target")
        places = {old: new for new, old in enumerate(order)}
        names = [one.id for one in item.instances]
        if len({*names} - {""}) < len(names):
            names = [str(number) for number in range(len(names))]
        row: dict[str, Any] = {
            "key": unique(item.key, self._seen),
            "images": [
                {
                    "path": image.path,
                    "width": image.width,
                    "height": image.height,
                    "role": image.role,
                    "license": image.license,
                }
                for image in (item.images[place] for place in order)
            ],
            "instances": [
                _instance(one, name, places[one.image])
                for one, name in zip(item.instances, names, strict=True)
            ],
            "captions": [{"text": one.text, "lang": one.lang} for one in item.captions],
            "expressions": [
                {"id": one.id, "text": one.text, "instances": [names[place] for place in one.instances]}
                for one in item.expressions
            ],
            "questions": [
                {
                    "id": one.id,
                    "text": one.text,
                    "answers": [*one.answers],
                    "choices": [*one.choices],
                    "answer_index": one.answer_index,
                    "rationale": one.rationale,
                }
                for one in item.questions
            ],
            "dialogs": [
                {"id": one.id, "turns": [{"role": turn.role, "text": turn.text} for turn in one.turns]}
                for one in item.dialogs
            ],
            "edits": [
                {
                    "id": one.id,
                    "instruction": one.instruction,
                    "before": places[one.before],
                    "after": places[one.after],
                }
                for one in item.edits
            ],
            "labels": [*item.labels],
            "negatives": [*item.negatives],
        }
        self._kinds.update(name for name in LISTS if row[name])
        self._edits.update((edit["before"], edit["after"]) for edit in row["edits"])
        return row

    def written(self, table: dict[str, Any], let: dict[str, Any] | None = None) -> Written:
        """Return the `source` keys that read all rows back from a table; `let` makes its columns, if they need it."""
        columns = {name: value for name, value in (let or {}).items() if name in self._kinds}
        source = {
            "table": table,
            **({"let": columns} if columns else {}),
            "key": "{key}",
            **({"labels": names} if (names := self._categories.names()) else {}),
            "fields": {**self._fields(), **self._left_out.exhaustive(self._exhaustive)},
        }
        return Written(source, self._left_out.counts, "records")

    def _take(self, item: Annotation) -> None:
        self._left_out.unplaced(
            item, instances=True, captions=True, expressions=True, questions=True, dialogs=True, edits=True,
            labels=True, negatives=True,
        )  # fmt: skip
        self._exhaustive[item.exhaustive] += 1
        for one in item.instances:
            self._left_out.details(one, "quad", "text", "crowd", "ignore", "difficult")
        for expression in item.expressions:
            self._left_out.add("spans of an expression", bool(expression.spans))
            self._left_out.add("answer of an expression", expression.answer is not None)
        self._left_out.add("regions of a question", sum(bool(one.instances) for one in item.questions))
        for name in (*(one.category for one in item.instances), *item.labels):
            if name is not None:
                self._categories.number(name)
        self._roles.update(image.role for image in item.images)
        self._languages.update(caption.lang for caption in item.captions)

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "images": [
                {
                    "each": "images",
                    "when": f"it.role == {role!r}",
                    "role": role,
                    "path": {"from": "it.path"},
                    **{name: f"it.{name}" for name in ("width", "height", "license")},
                }
                for role in sorted(self._roles)
            ],
            "captions": [
                {
                    "each": "captions",
                    "when": f"it.lang == {lang!r}" if lang else "it.lang == null",
                    **({"lang": lang} if lang else {}),
                    "text": "it.text",
                }
                for lang in sorted(self._languages, key=lambda lang: lang or "")
            ],
            "edits": [
                {
                    "each": "edits",
                    "when": f"it.before == {before} and it.after == {after}",
                    "before": before,
                    "after": after,
                    "id": "it.id",
                    "instruction": "it.instruction",
                }
                for before, after in sorted(self._edits)
            ],
            **_FACTS,
        }
        return {name: value for name, value in fields.items() if name in self._kinds}


def _instance(one: Instance, name: str, image: int) -> dict[str, Any]:
    return {
        "id": name,
        "category": one.category,
        "box": list(one.box) if one.box else None,
        "quad": list(one.quad) if one.quad else None,
        "text": one.text,
        "image": image,
        "crowd": one.crowd,
        "ignore": one.ignore,
        "difficult": one.difficult,
    }
