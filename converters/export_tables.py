"""What writers of tables share: numbers of pictures and categories, and the account of what a layout cannot hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dataengine.annotation import Annotation, Image, Instance, LabelSpace


class Pictures:
    """The pictures of an export, numbered from 1 in the order in which they come."""

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        self._numbers: dict[str, int] = {}

    def number(self, image: Image) -> int:
        """Return the number of a picture, the same each time that it comes."""
        self._images.setdefault(image.path, image)
        return self._numbers.setdefault(image.path, len(self._numbers) + 1)

    def records(self) -> list[dict[str, Any]]:
        """Return the `images` of a COCO file."""
        return [
            {
                "id": self._numbers[path],
                "file_name": path,
                **({"width": image.width, "height": image.height} if image.width and image.height else {}),
            }
            for path, image in self._images.items()
        ]


class Categories:
    """The categories of an export: those of the label space, numbered from 1, and behind them others that occur."""

    def __init__(self, labels: LabelSpace) -> None:
        self._labels = {label.name: label for label in labels.labels}
        self._numbers = {name: number for number, name in enumerate(self._labels, 1)}

    def number(self, name: str) -> int:
        """Return the number of a category."""
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def names(self) -> list[str]:
        """Return all names, in the order of their numbers."""
        return [*self._numbers]

    def records(self) -> list[dict[str, Any]]:
        """Return the `categories` of a COCO file, with their keypoints where they have some."""
        records = []
        for name, number in self._numbers.items():
            record: dict[str, Any] = {"id": number, "name": name}
            label = self._labels.get(name)
            if label is not None and label.keypoints:
                record["keypoints"] = list(label.keypoints)
                record["skeleton"] = [[a + 1, b + 1] for a, b in label.skeleton]
            records.append(record)
        return records


class LeftOut:
    """How many facts of each kind found no place in the layout that is written."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """The numbers by kind."""
        return dict(self._counts)

    def add(self, kind: str, count: int = 1) -> None:
        """Count facts that are left out."""
        if count:
            self._counts[kind] += count

    def unplaced(
        self,
        item: Annotation,
        *,
        instances: bool = False,
        captions: bool = False,
        expressions: bool = False,
        questions: bool = False,
        dialogs: bool = False,
        edits: bool = False,
        labels: bool = False,
        negatives: bool = False,
    ) -> None:
        """Count the facts of all kinds that the layout has no place for: those that are not named as True."""
        placed = {
            "instances": instances, "captions": captions, "expressions": expressions, "questions": questions,
            "dialogs": dialogs, "edits": edits, "labels": labels, "relations": False, "negatives": negatives,
            "maps": False,
        }  # fmt: skip
        # What the numbers of a picture mean: no layout states it a picture.
        self.add("measure", sum(image.measure is not None for image in item.images))
        for kind, has_place in placed.items():
            if not has_place:
                self.add(kind.removesuffix("s"), len(getattr(item, kind)))

    def details(self, one: Instance, *placed: str) -> None:
        """Count what is said of an object beyond its category and box, but for the fields that are `placed`."""
        for name in ("mask", "keypoints", "quad", "text", "attributes", "crowd", "ignore", "difficult"):
            if name not in placed and getattr(one, name):
                self.add(name)

    def exhaustive(self, pictures: Counter[bool]) -> dict[str, bool]:
        """Return the `source` key that says whether all objects are annotated, from numbers of pictures that say so.

        It is one for all pictures: if some are annotated in part, the others cannot say that they are not, and count.
        """
        if not pictures[False]:
            return {}
        self.add("exhaustive", pictures[True])
        return {"exhaustive": False}


class OneWord:
    """Names of categories for layouts with blanks between columns: a name of several words is joined by `_`."""

    def __init__(self, labels: LabelSpace, left_out: LeftOut, taken: str = "") -> None:
        self._words: dict[str, str] = {}
        self._taken = {taken}
        self._left_out = left_out
        # The names that are one word keep it, whatever the others become.
        for name in sorted(labels.names, key=lambda name: len(name.split()) != 1):
            self.word(name)
        self._words = {name: self._words[name] for name in labels.names}

    def word(self, name: str) -> str:
        """Return the word for a category, which is no other's."""
        if name not in self._words:
            word = "_".join(name.split())
            while word in self._taken:
                word += "_"
            self._left_out.add("blanks in the name of a category", word != name)
            self._taken.add(word)
            self._words[name] = word
        return self._words[name]

    def words(self) -> list[str]:
        """Return all words, in the order of the label space, and behind them others that occur."""
        return [*self._words.values()]
