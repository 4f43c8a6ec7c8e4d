"""VQA v2: a file of questions, and a file of annotations with ten answers each, joined by `question_id`.

Source: visualqa.org, data format; OK-VQA, TextVQA and VizWiz come in the same pair. The pictures are named by a rule,
not by a file. `multiple_choice_answer` is the consensus in the original and merely the first answer in some
conversions, so the answers themselves decide.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from converters.json_files import decode, load
from dataengine.annotation import Annotation, Image, Origin, Question, Rejected
from dataengine.errors import Quarantine, SpecError
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits, several, split_name

VERSION = "1"

Id = int | str


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`questions` and `annotations` are the JSON files; without `annotations` no question has an answer (a test).

    `media` names a picture in the folder `images` by its id: `COCO_val2014_{image_id:012d}.jpg`.
    """

    questions: str
    media: str
    annotations: str | None = None
    images: str = ""


class RawQuestion(msgspec.Struct):
    question_id: Id
    image_id: Id
    question: str


class RawAnswer(msgspec.Struct):
    answer: str


class RawAnnotation(msgspec.Struct):
    question_id: Id
    answers: list[RawAnswer | str]
    multiple_choice_answer: str | None = None


class Answers(msgspec.Struct, frozen=True, gc=False):
    """Different answers, how many gave each, and the one that the file names as the most common."""

    texts: tuple[str, ...]
    votes: tuple[int, ...]
    stated: str | None = None


class RawQuestions(msgspec.Struct):
    questions: list[msgspec.Raw]


class RawAnnotations(msgspec.Struct):
    annotations: list[msgspec.Raw]


_question = msgspec.json.Decoder(RawQuestion)
_annotation = msgspec.json.Decoder(RawAnnotation)
_FORMAT = re.compile(r"(0?[1-9]\d?)?d?")


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds VQA v2's pair: `questions` in one file, `annotations` of the same ids in another."""
    files = listing.ending(".json")
    questions = [
        file for file in files if {"question_id", "image_id"} <= set(listing.first(file, "questions"))
    ]
    if not questions:
        return "no JSON file has questions with question_id and image_id"
    answers = {
        split_name(file): file for file in files if "question_id" in listing.first(file, "annotations")
    }
    found = []
    for file in questions:
        media = _media(listing, listing.first(file, "questions")["image_id"])
        if media is None:
            return f"{file}: no picture is called after its image_id"
        folder, pattern = media
        keys = {"questions": file, "media": pattern, **({"images": folder} if folder else {})}
        if split_name(file) in answers:
            keys["annotations"] = answers[split_name(file)]
        found.append((file, keys))
    return Fit(splits=name_splits(found), tasks=("vqa",), why=f"{several(questions)}: questions by image_id")


def _media(listing: Listing, image_id: object) -> tuple[str, str] | None:
    """Return the folder and the pattern of the pictures' names, by one whose name ends in an id."""
    for file in listing.pictures:
        path = PurePosixPath(file)
        digits = path.stem[len(path.stem.rstrip("0123456789")) :]
        if str(image_id).isdigit() and digits.lstrip("0") == str(image_id).lstrip("0") and digits:
            width = f":0{len(digits)}d" if digits.startswith("0") else ""
            pattern = f"{path.stem.removesuffix(digits)}{{image_id{width}}}{path.suffix}"
            return ("" if str(path.parent) == "." else str(path.parent)), pattern
    return None


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a question, in file order, then a rejection for every annotation without one.

    Answers stand the most frequent first, in the order of the file where as many gave them. Raises SpecError for a
    rule of names that is none, SourceError for a file that cannot be read.
    """
    check_media(source.media)
    raw = load(source.questions, root, "questions", RawQuestions, "a VQA file with a list 'questions'")
    answers: dict[str, Answers] | None = None
    places: dict[str, Origin] = {}
    if source.annotations is not None:
        answers = {}
        for item in _answers(source.annotations, root):
            if isinstance(item, Rejected):
                yield item
            else:
                key, places[key], answers[key] = item
    seen = set[str]()
    for number, data in enumerate(raw.questions):
        origin = Origin(file=source.questions, record=f"questions[{number}]")
        key = origin.record
        try:
            question = decode(data, _question)
            key = str(question.question_id)
            if key in seen:
                raise Quarantine("id.duplicate", f"a question with id {key} came before")
            seen.add(key)
            yield _annotate(source, question, answers, origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
    for key, origin in places.items():
        if key not in seen:
            yield Rejected(key=key, reason="id.orphan", detail=f"no question has id {key}", origin=origin)


def _answers(file: str, root: Root) -> Iterator[tuple[str, Origin, Answers] | Rejected]:
    """Yield question id, place and answers of each annotation record, or its rejection."""
    raw = load(file, root, "annotations", RawAnnotations, "a VQA file with a list 'annotations'")
    seen = set[str]()
    for number, data in enumerate(raw.annotations):
        origin = Origin(file=file, record=f"annotations[{number}]")
        try:
            record = decode(data, _annotation)
            key = str(record.question_id)
            if key in seen:
                raise Quarantine("id.duplicate", f"an annotation of question {key} came before")
            seen.add(key)
            counts = counted(record.answers)
            stated = record.multiple_choice_answer
            yield (
                key,
                origin,
                Answers(
                    tuple(counts), tuple(counts.values()), stated.strip() if stated is not None else None
                ),
            )
        except Quarantine as error:
            yield Rejected(
                key=f"{file}: {origin.record}", reason=error.reason, detail=error.detail, origin=origin
            )


def counted(answers: list[RawAnswer | str]) -> dict[str, int]:
    """Return how many gave each answer, the most frequent first, ties in their order; blanks are no answers."""
    texts = (item.strip() if isinstance(item, str) else item.answer.strip() for item in answers)
    return dict(Counter(text for text in texts if text).most_common())


def _annotate(
    source: Source, question: RawQuestion, answers: dict[str, Answers] | None, origin: Origin
) -> Annotation:
    key = str(question.question_id)
    if answers is not None and key not in answers:
        raise Quarantine("id.orphan", f"no annotation has question_id {key}")
    text = " ".join(question.question.split())
    if not text:
        raise Quarantine("text.empty", "the question is empty")
    name = media(source.media, question.image_id)
    given = answers[key] if answers is not None else Answers((), ())
    return Annotation(
        key=key,
        images=(Image(path=f"{source.images}/{name}" if source.images else name),),
        questions=(Question(id="", text=text, answers=given.texts, votes=given.votes, stated=given.stated),),
        exhaustive=False,
        origin=origin,
    )


def check_media(rule: str) -> None:
    """Raise SpecError unless a rule of names takes `image_id` alone, as it is or as a number of some width."""
    try:
        fields = [(field, spec, conversion) for _, field, spec, conversion in string.Formatter().parse(rule)]
    except ValueError as error:
        raise SpecError(f"source.media: {rule!r}: {error}") from error
    used = [field for field in fields if field[0] is not None]
    for field, spec, conversion in used:
        if field != "image_id" or conversion or not _FORMAT.fullmatch(spec or ""):
            raise SpecError(
                f"source.media: {rule!r}: '{{{field}{':' + spec if spec else ''}}}' is not allowed; "
                "expected {image_id} or {image_id:012d}"
            )
    if not used:
        raise SpecError(f"source.media: {rule!r} names one picture for all; expected {{image_id}} in it")


def media(rule: str, image_id: Id) -> str:
    """Return the name of a picture. Raises Quarantine `schema` where the rule wants a number and the id is none."""
    number = isinstance(image_id, str) and image_id.isascii() and image_id.isdigit()
    try:
        # A number in quotes is padded like a number.
        return rule.format(image_id=int(image_id) if number and ":" in rule else image_id)
    except ValueError as error:
        raise Quarantine("schema", f"image_id {image_id!r} does not fit {rule!r}: {error}") from error
