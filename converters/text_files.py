"""Text source files: one record a line, in UTF-8."""

from __future__ import annotations

from collections.abc import Iterator

from dataengine.errors import SourceError
from dataengine.files import Root


def lines(file: str, root: Root, needed_as: str) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without white space around it) of each line that is not blank. Raises SourceError."""
    for number, data in root.lines(file, needed_as):
        try:
            text = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise SourceError(f"{file}: line {number}: {error}; expected text in UTF-8") from error
        if text:
            yield number, text
