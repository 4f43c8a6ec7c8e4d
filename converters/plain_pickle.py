"""Pickles of plain values: lists, dictionaries, text and numbers, and NumPy arrays of numbers where they are asked for.

A pickle can ask for any function to be called, so it is read by an own small machine that knows plain values alone, and
nothing that could import or call. An array is a call too; here its words lead to functions of this module, and NumPy's
own are never reached.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dataengine.errors import SourceError


def load(file: str, data: bytes, *, arrays: bool = False) -> object:
    """Return the value of a pickle; with `arrays`, NumPy arrays of numbers in it are plain values too.

    Raises SourceError where it is cut off, hostile, or of something else.
    """
    machine = ArrayUnpickler if arrays else PlainUnpickler
    # Python 2 wrote text as bytes: UTF-8 where somebody cared, else Latin-1, which takes anything.
    try:
        return _unpickle(machine, data, file, "utf-8")
    except UnicodeDecodeError:
        return _unpickle(machine, data, file, "latin-1")


_PLAIN = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_DICT DICT SETITEM SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 GET BINGET LONG_BINGET PUT BINPUT "
    "LONG_BINPUT MEMOIZE"
)
_NAMING = "GLOBAL INST STACK_GLOBAL"
_BYTES = "BINBYTES SHORT_BINBYTES BINBYTES8"
_NUMBERS = re.compile(r"[biuf][1248]")


def _opcodes(names: str) -> dict[int, Callable[..., None]]:
    table = cast("dict[int, Callable[..., None]]", pickle._Unpickler.dispatch)
    return {code: table[code] for code in (getattr(pickle, name)[0] for name in names.split())}


class PlainUnpickler(pickle._Unpickler):
    """Knows the codes of plain values alone; one that names a class or function ends in `find_class`.

    It is Python's own slow unpickler: the fast one sets aside as much memory as a pickle cares to name.
    """

    dispatch = _opcodes(f"{_PLAIN} {_NAMING}")

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}; refused")


class _Kind:
    """The type of an array's numbers, such as `u1`, and their order of bytes, which a second step states."""

    def __init__(self, name: object = None, *_: object) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
            raise pickle.UnpicklingError(f"the pickle has an array of {name!r:.40}, expected numbers")
        self.name = name

    def build(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|"):
            raise pickle.UnpicklingError(f"the pickle has numbers in the order {state[1]!r:.40}")
        self.name = state[1] + self.name


class Array:
    """An array of a pickle: empty, until a second step states its shape and its bytes."""

    def __init__(self, *_: object) -> None:
        self.values: npt.NDArray[Any] = np.zeros(0)

    def build(self, state: Any) -> None:
        _, shape, kind, by_columns, data = state
        if not isinstance(kind, _Kind) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("the pickle has an array of other things than numbers")
        flat = np.frombuffer(data, kind.name)
        self.values = flat.reshape(tuple(map(int, shape)), order="F" if by_columns else "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that an old pickle wrote as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"the pickle has bytes as {encoding!r:.40}, expected latin1")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """Return no bytes, which old pickles ask the type for."""
    return b""


def _scalar(kind: _Kind, data: bytes) -> object:
    return np.frombuffer(data, kind.name)[0].item()


def _ndarray() -> None:
    raise pickle.UnpicklingError("the pickle makes an array without its numbers")


_CALLS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


def _reduce(machine: Any) -> None:
    arguments, call = machine.stack.pop(), machine.stack[-1]
    if not any(call is known for known in _CALLS.values()):
        raise pickle.UnpicklingError("the pickle calls what is no array")
    machine.stack[-1] = call(*arguments)


def _build(machine: Any) -> None:
    state, made = machine.stack.pop(), machine.stack[-1]
    if not isinstance(made, Array | _Kind):
        raise pickle.UnpicklingError("the pickle changes what is no array")
    made.build(state)


class ArrayUnpickler(PlainUnpickler):
    """Knows arrays of numbers as well: their words call functions of this module, and nothing else can be called."""

    dispatch = (
        PlainUnpickler.dispatch | _opcodes(_BYTES) | {pickle.REDUCE[0]: _reduce, pickle.BUILD[0]: _build}
    )

    def find_class(self, module: str, name: str) -> Any:
        return _CALLS.get((module, name)) or super().find_class(module, name)


def _unpickle(machine: type[PlainUnpickler], data: bytes, file: str, encoding: str) -> object:
    try:
        return machine(io.BytesIO(data), encoding=encoding).load()
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
