"""Pickles of plain values and NumPy's arrays: what `plain_pickle` reads, and arrays of numbers or of such arrays.

An array stands in a pickle as calls: one that makes an empty array, one that makes a type of numbers, and states that
fill both; a NumPy number is one call. Only these calls are known, by their names, and they are acted out here: nothing
is imported or called.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from converters.plain_pickle import PlainUnpickler
from dataengine.errors import SourceError

_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_SCALAR = ("numpy.core.multiarray scalar", "numpy._core.multiarray scalar")
_ARRAY, _DTYPE = "numpy ndarray", "numpy dtype"
# How Python 3 writes bytes for Python 2: as text, and nothing as a call of the type.
_ENCODE, _BYTES = "_codecs encode", "__builtin__ bytes"
_KNOWN = frozenset({*_RECONSTRUCT, *_SCALAR, _ARRAY, _DTYPE, _ENCODE, _BYTES})
_NUMBERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "b1")
_OBJECTS = ("O4", "O8")


def load(file: str, data: bytes) -> object:
    """Return the value of a pickle, its arrays as NumPy's. Raises SourceError where it asks for anything else."""
    # Python 2 wrote text and the bytes of arrays alike: UTF-8 where somebody cared, else Latin-1, which takes anything.
    try:
        return _read(file, data, "utf-8")
    except UnicodeDecodeError:
        return _read(file, data, "latin-1")


def _read(file: str, data: bytes, encoding: str) -> object:
    try:
        return _plain(_ArrayUnpickler(io.BytesIO(data), encoding=encoding).load())
    except UnicodeDecodeError as error:
        if encoding != "latin-1":
            raise
        raise SourceError(f"{file}: {error}; expected a pickle of plain values and arrays") from error
    # A broken pickle can go wrong in as many ways as its codes; none of them runs anything.
    except (pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
            RecursionError, TypeError, UnicodeError, ValueError, struct.error) as error:  # fmt: skip
        raise SourceError(
            f"{file}: {error or 'ends early'}; expected a pickle of plain values and arrays"
        ) from error


class _Named(msgspec.Struct, frozen=True):
    """A name that the pickle asks for; nothing is ever imported."""

    name: str


class _Stored(msgspec.Struct):
    """An array or a type of numbers on its way from the pickle's parts."""

    kind: str = ""
    values: Any = None


class _ArrayUnpickler(PlainUnpickler):
    stack: list[Any]
    encoding: str

    def find_class(self, module: str, name: str) -> Any:
        named = f"{module} {name}"
        if named not in _KNOWN:
            raise pickle.UnpicklingError(f"the pickle asks for {module:.40}.{name:.40}; refused")
        return _Named(named)

    def reduce(self) -> None:
        """Stand for the call that makes an array, a type, or bytes."""
        arguments, called = self.stack.pop(), self.stack[-1]
        name = called.name if isinstance(called, _Named) else ""
        if name in _RECONSTRUCT:
            self.stack[-1] = _Stored()
        elif name == _DTYPE and arguments and arguments[0] in _NUMBERS + _OBJECTS:
            self.stack[-1] = _Stored(kind=arguments[0])
        elif name == _ENCODE and len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
            self.stack[-1] = arguments[0].encode("latin-1")
        elif name == _BYTES and not arguments:
            self.stack[-1] = b""
        elif name in _SCALAR and len(arguments) == 2 and isinstance(arguments[0], _Stored):
            self.stack[-1] = self._numbers(*arguments)[0].item()
        else:
            raise pickle.UnpicklingError(f"the pickle calls {called!r}; refused")

    def build(self) -> None:
        """Fill an array: (version, shape, type, column order, content); a type: (version, byte order, …)."""
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, _Stored) or not isinstance(state, tuple):
            raise pickle.UnpicklingError("the pickle builds something else than an array; refused")
        if made.kind:
            made.kind = (">" if state[1] == ">" else "<") + made.kind[-2:]
            return
        _, shape, kind, by_column, content = state
        if not isinstance(kind, _Stored):
            raise pickle.UnpicklingError("an array has no type")
        order: Literal["C", "F"] = "F" if by_column else "C"
        if kind.kind[-2:] in _OBJECTS:
            values = np.empty(len(content), dtype=object)
            if len(content) != math.prod(shape):
                raise pickle.UnpicklingError(f"an array of {shape} has {len(content)} elements")
            values[:] = [_plain(item) for item in content]
        else:
            values = self._numbers(kind, content)
        made.values = values.reshape(shape, order=order)

    def _numbers(self, kind: _Stored, content: bytes | str) -> npt.NDArray[Any]:
        stored = content.encode(self.encoding) if isinstance(content, str) else content
        return np.frombuffer(stored, kind.kind)

    dispatch = {  # noqa: RUF012
        **PlainUnpickler.dispatch,
        pickle.REDUCE[0]: reduce,
        pickle.BUILD[0]: build,
        **{
            code[0]: pickle._Unpickler.dispatch[code[0]]
            for code in (pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8)
        },
    }


def _plain(value: object, made: dict[int, object] | None = None) -> object:
    """Return a value with its arrays in their places. Raises UnpicklingError for a half made one.

    What stands in several places is made once: a small pickle can name one list a billion times over.
    """
    made = {} if made is None else made
    if id(value) in made:
        return made[id(value)]
    match value:
        case _Stored(values=np.ndarray() as values):
            return values
        case _Stored() | _Named():
            raise pickle.UnpicklingError("an array was begun and never filled")
        case dict():
            found: object = {key: _plain(item, made) for key, item in value.items()}
        case list():
            found = [_plain(item, made) for item in value]
        case tuple():
            found = tuple(_plain(item, made) for item in value)
        case _:
            return value
    made[id(value)] = found
    return found
