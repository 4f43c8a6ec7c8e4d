"""Files that say what the classes are called: lines of `id name`, or a JSON mapping."""

from __future__ import annotations

import re
from typing import Any

from converters import json_files, text_files
from dataengine.errors import SourceError
from dataengine.files import Root

_LETTER = re.compile("^/[a-z]/(?=.)")


def load(file: str, root: Root, cut: str | None = None) -> list[tuple[str, str]]:
    """Return (id, name) of each class, in the order of the file; a name ends before `cut`.

    A line is `id name`, or a name alone, which is its own id; a JSON file maps ids to names, to positions, or positions
    to [id, name]. A number is no name but a position, which the order says as well; nor is the letter that `/a/airport`
    is filed under. Raises SourceError.
    """
    if file.endswith(".json"):
        pairs = _json(file, root)
    else:
        lines = [line.split(maxsplit=1) for _, line in text_files.lines(file, root, "names")]
        pairs = [(words[0], words[0] if words[-1].isdecimal() else words[-1]) for words in lines]
    stripped = [(key.strip("/"), _LETTER.sub("", name).strip("/")) for key, name in pairs]
    return [(key, ((name.split(cut)[0] if cut else name).strip()) or key) for key, name in stripped]


def _json(file: str, root: Root) -> list[tuple[str, str]]:
    content = json_files.load(file, root, "names", dict[str, Any], "a mapping from ids to names")
    pairs = []
    for key, value in content.items():
        if isinstance(value, str):
            pairs.append((key, value))
        elif type(value) is int:
            pairs.append((key, key))  # a position says nothing but the order, which the file has
        elif isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value):
            pairs.append((value[0], value[1]))
        else:
            raise SourceError(f"{file}: {key!r}: {value!r:.60}; expected a name, a number or [id, name]")
    return pairs
