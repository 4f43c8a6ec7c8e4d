"""GeoQA and GeoQA+: a pickle with a list of geometry problems in Chinese, whose diagrams are arrays inside it.

Conventions (the loaders of GeoQA and its successors, which read `id`, `subject`, `choices`, `label` and `image`):
`subject` is the problem, `choices` are four, and `label` counts them from 0; `image` is a grey array [height, width].
A pickle may ask for any function, so it is read by a machine that knows lists, text, numbers and arrays alone. The
diagrams are written out as PNG files before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from converters import array_pickle, array_pictures
from dataengine.annotation import Annotation, Image, Origin, Question, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the pickle; `images` the folder below the root that the diagrams are written to."""

    annotations: str
    images: str = "unpacked"

    def __post_init__(self) -> None:
        if not self.images.strip("/"):
            raise ValueError("images is empty, expected a folder of its own for the diagrams")


def prepare(source: Source, directory: Path) -> None:
    """Write the diagrams that are not there yet. Raises SourceError."""
    root = Root(directory)
    problems = _problems(source, root)
    array_pictures.write(
        root,
        (
            (_picture(source, number), partial(np.asarray, problem["image"]))
            for number, problem in enumerate(problems)
            if isinstance(problem, dict) and isinstance(problem.get("image"), np.ndarray)
        ),
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a problem, in the order of the list; its number there is its key."""
    for number, problem in enumerate(_problems(source, root)):
        origin = Origin(file=source.annotations, record=f"[{number}]")
        try:
            question = _question(problem)
        except Quarantine as error:
            yield Rejected(key=str(number), reason=error.reason, detail=error.detail, origin=origin)
        else:
            yield Annotation(
                key=str(number),
                images=(Image(path=_picture(source, number)),),
                questions=(question,),
                origin=origin,
            )


def _problems(source: Source, root: Root) -> list[Any]:
    content = array_pickle.load(source.annotations, root.read(source.annotations, "annotations"))
    if not isinstance(content, list):
        raise SourceError(f"{source.annotations}: holds no list; expected GeoQA's list of problems")
    return content


def _picture(source: Source, number: int) -> str:
    return f"{source.images.rstrip('/')}/{number}.png"


def _question(problem: Any) -> Question:
    """Return the question of a problem. Raises Quarantine."""
    if not isinstance(problem, dict):
        raise Quarantine("schema", f"a problem is {type(problem).__name__}, expected a mapping")
    text, choices, label = (problem.get(name) for name in ("subject", "choices", "label"))
    if not isinstance(text, str) or not text.strip():
        raise Quarantine("text.empty", "subject is no text")
    if not isinstance(choices, list) or not choices:
        raise Quarantine("qa.format", "choices is no list of answers")
    said = tuple(" ".join(str(choice).split()) for choice in choices)
    if not all(said):
        raise Quarantine("text.empty", "a choice is empty")
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(said):
        raise Quarantine("qa.format", f"label is {label!r:.20} of {len(said)} choices")
    return Question(id="0", text=text.strip(), choices=said, answer_index=label, answers=(said[label],))
