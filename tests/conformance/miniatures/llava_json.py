"""LLaVA conversations, by the writer of that name; a placeholder of its own where the spec states one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from converters.formats.llava_json import Source
from dataengine.annotation import Annotation, Dialog, Turn
from dataengine.spec import Resolved
from dataengine.tokens import IMAGE
from tests.conformance.making.scene import Made, annotation, draw, write, written

SAID = (("What is shown?", "a grey wall"), ("Which colour has it?", "none to speak of"), ("How many?", "one"))


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a conversation for each of three pictures."""
    annotations = [
        _talk(f"{number}.jpg", question, answer) for number, (question, answer) in enumerate(SAID, start=1)
    ]
    written("llava_json", annotations, (), root / "written")
    rows = msgspec.json.decode((root / "written" / "conversations.json").read_bytes())
    text = msgspec.json.encode(rows).replace(IMAGE.encode(), source.placeholder.encode())
    if source.annotations.endswith(".jsonl"):
        text = b"".join(msgspec.json.encode(row) + b"\n" for row in msgspec.json.decode(text))
    write(root / source.annotations, text)
    for item in annotations:
        draw(root / source.images / item.images[0].path)
    return Made(len(annotations), frozenset(answer for _, answer in SAID))


def _talk(name: str, question: str, answer: str) -> Annotation:
    turns = (Turn("user", f"{IMAGE}\n{question}"), Turn("assistant", answer))
    return annotation(name, dialogs=(Dialog(id="d0", turns=turns),))
