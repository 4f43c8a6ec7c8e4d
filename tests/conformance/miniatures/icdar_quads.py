"""Text files of the ICDAR competitions, with the columns that the spec names; one word that nobody can read."""

from __future__ import annotations

from pathlib import Path

from converters.formats.icdar_quads import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, corners, draw, write

WORDS = ("exit", "Bahnhof, left", "42")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a picture with three words in each folder of pictures, in each of the endings."""
    folders = (source.images,) if isinstance(source.images, str) else source.images
    made = 0
    for folder in folders:
        for ending in source.extensions:
            made += 1
            draw(root / folder / f"img_{made}.{ending}")
            lines = [
                _line(source, place, word) for place, word in enumerate((*WORDS[:2], source.unreadable[0]))
            ]
            name = f"{source.prefix}img_{made}{source.suffix}"
            write(
                root / source.annotations / name, "\ufeff" * (source.encoding == "utf-8") + "\r\n".join(lines)
            )
    return Made(made, frozenset(WORDS[:2]))


def _line(source: Source, place: int, word: str) -> str:
    box = box_of(place)
    facts = {
        "quad": source.delimiter.join(f"{value:.0f}" for value in corners(box)),
        "rect": source.delimiter.join(f"{value:.0f}" for value in box),
        "script": "Latin",
        "difficult": "0",
        "text": f'"{word}"' if source.quoted else word,
    }
    return source.delimiter.join(facts[column] for column in source.columns)
