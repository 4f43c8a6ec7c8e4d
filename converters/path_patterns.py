"""Patterns of file names with words in braces, which stand for the same text in every pattern of a source.

`gtFine/train/{city}/{name}_gtFine_labelIds.png` matches files, gives `city` and `name`, and these fill
`leftImg8bit/train/{city}/{name}_leftImg8bit.png`. `{{` and `}}` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import escape

from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.images import EXTENSIONS

Parts = dict[str, str]

_FIELD = re.compile(r"\{\{|\}\}|\{[a-z_]+\}")


def fields(pattern: str) -> list[str]:
    """Return the words in braces, each once, in order."""
    return list(dict.fromkeys(name for _, name in _tokens(pattern) if name))


def check(derived: dict[str, str], given: str, source: str) -> None:
    """Raise ValueError where a derived pattern has no word, or one that the pattern under the key `source` lacks."""
    known = set(fields(given))
    for key, pattern in derived.items():
        lost = sorted(set(fields(pattern)) - known)
        if lost:
            raise ValueError(f"{key} needs {{{lost[0]}}}, which {source} does not have")
        if not fields(pattern):
            raise ValueError(f"{key} has no word in braces, so all items would be one")


def compiled(pattern: str, part: str) -> re.Pattern[str]:
    """Return the pattern as a regular expression; a word matches `part`, and the same text where it stands again."""
    seen, made = set[str](), ""
    for text, name in _tokens(pattern):
        made += re.escape(text)
        if name:
            made += f"(?P={name})" if name in seen else f"(?P<{name}>{part})"
            seen.add(name)
    return re.compile(made)


def find(pattern: str, root: Root, needed_as: str) -> Iterator[tuple[str, Parts]]:
    """Yield the files that match, in order of their names, and what the words stand for; none has a slash in it.

    Raises SourceError where no file matches.
    """
    any_file = "".join("*" if name else escape(text) for text, name in _tokens(pattern))
    files = root.glob(any_file)
    if not files:
        place = root.directory / any_file
        raise SourceError(f"{place}: no such file; the spec needs it as source.{needed_as}")
    expression = compiled(pattern, "[^/]+?")
    for file in files:
        if match := expression.fullmatch(file):
            yield file, match.groupdict()


def fill(pattern: str, parts: Parts) -> str:
    """Return the pattern with the words filled in."""
    return "".join(parts[name] if name else text for text, name in _tokens(pattern))


def key(pattern: str, parts: Parts) -> str:
    """Return what the words of a pattern stand for, joined by slashes, without the ending of a picture's name."""
    text = "/".join(parts[name] for name in fields(pattern))
    stem, _, ending = text.rpartition(".")
    return stem if stem and ending.lower() in EXTENSIONS else text


def _tokens(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield (text, word) in turn; one of them is empty."""
    place = 0
    for match in _FIELD.finditer(pattern):
        yield pattern[place : match.start()], ""
        place = match.end()
        yield (match[0][0], "") if match[0] in ("{{", "}}") else ("", match[0][1:-1])
    yield pattern[place:], ""
