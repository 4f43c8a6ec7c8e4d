"""Pickles of plain values: lists, dictionaries, text and numbers.

A pickle can ask for any function to be called, so it is read by an own small machine that knows plain values alone, and
nothing that could import or call.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any, cast

from dataengine.errors import SourceError


def load(file: str, data: bytes) -> object:
    """Return the value of a pickle. Raises SourceError where it is cut off, hostile, or of something else."""
    # Python 2 wrote text as bytes: UTF-8 where somebody cared, else Latin-1, which takes anything.
    try:
        return _unpickle(data, file, "utf-8")
    except UnicodeDecodeError:
        return _unpickle(data, file, "latin-1")


_PLAIN = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_DICT DICT SETITEM SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GET BINGET LONG_BINGET PUT BINPUT "
    "LONG_BINPUT MEMOIZE"
)
_NAMING = "GLOBAL INST STACK_GLOBAL"


def _opcodes(names: str) -> dict[int, Callable[..., None]]:
    table = cast("dict[int, Callable[..., None]]", pickle._Unpickler.dispatch)
    return {code: table[code] for code in (getattr(pickle, name)[0] for name in names.split())}


class PlainUnpickler(pickle._Unpickler):
    """Knows the codes of plain values alone; one that names a class or function ends in `find_class`.

    It is Python's own slow unpickler: the fast one sets aside as much memory as a pickle cares to name.
    """

    dispatch = _opcodes(f"{_PLAIN} {_NAMING}")

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the pickle asks for {module:.40}.{name:.40}; refused")


def _unpickle(data: bytes, file: str, encoding: str) -> object:
    try:
        return PlainUnpickler(io.BytesIO(data), encoding=encoding).load()
    except UnicodeDecodeError:
        if encoding == "latin-1":
            raise SourceError(f"{file}: a text is no text; expected a pickle of plain values") from None
        raise
    except pickle.UnpicklingError as error:
        raise SourceError(f"{file}: {error}; expected lists, dictionaries, text and numbers alone") from error
    except KeyError as error:
        code = error.args[0] if error.args else None
        raise SourceError(
            f"{file}: the pickle asks for code {code!r}; expected plain values alone"
        ) from error
    except (
        EOFError,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        struct.error,
    ) as error:
        raise SourceError(
            f"{file}: no whole pickle ({len(data)} bytes): {error or 'ends early'}; expected a pickle of plain values"
        ) from error
