"""Lists of pictures with their classes: two pictures of each of three classes."""

from __future__ import annotations

from pathlib import Path

from converters.formats.class_list import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import CLASSES, Made, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a list with one picture a line, and the file of names where the spec has one."""
    names = source.labels or CLASSES
    ids = [f"n{number:08d}" for number in range(len(names))]
    if source.names is not None:
        text = [
            f"{one} {name}{f'{source.cut} other' if source.cut else ''}"
            for one, name in zip(ids, names, strict=True)
        ]
        write(root / source.names, "".join(f"{line}\n" for line in text))
    lines = ["ImageId,PredictionString"] if source.header else []
    for number in range(1, 7):
        place = number % 3
        label = str(place + source.numbers) if source.numbers is not None else ids[place]
        path = source.numbered.format(line=number) if source.numbered else f"{number}.{source.extension}"
        draw(root / source.images / path)
        listed = path if source.extension == "jpg" else path.rpartition(".")[0]
        if source.numbered is not None:
            lines.append(label)
        elif source.delimiter is None:
            lines.append(f"{label} {listed}" if source.label == 0 else f"{listed} {label}")
        else:
            # Kaggle's list states boxes behind the class.
            lines.append(f"{listed}{source.delimiter}{label}{' 1 2 3 4' if source.pattern else ''}")
    write(root / source.image_set, "".join(f"{line}\n" for line in lines))
    return Made(6, frozenset(names[:3]))
