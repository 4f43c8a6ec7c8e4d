"""Pictures as files: what their bytes are, against what their names and their annotations say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from dataengine.audit.rule import BLANK_SPREAD, Facts, Hit, PictureFacts
from dataengine.errors import Quarantine
from dataengine.images import EXTENSIONS, decode, measured

# One patch of the usual encoders is 14 or 16 pixels wide: less than that is nothing to look at.
TINY_PX = 16
MAX_ASPECT = 20
LONG_PX = 16_384
# Metres: below, the room would be smaller than a hand; above, sensors and renderers say nothing.
DEPTH_RANGE_M = (0.1, 1000.0)
_CMYK = frozenset({"CMYK", "YCCK"})


def format_vs_extension(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture of another format than its name says."""
    suffix = PurePosixPath(facts.path).suffix.lower().removeprefix(".")
    named = EXTENSIONS.get(suffix)
    if named is not None and named != facts.header.format:
        yield Hit(f"{facts.path}: is {facts.header.format}")


def exif_orientation(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture that is stored turned."""
    if facts.header.orientation != 1:
        yield Hit(f"{facts.path}: EXIF orientation {facts.header.orientation}")


def cmyk(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture in the colours of print."""
    if facts.stored.mode in _CMYK:
        yield Hit(f"{facts.path}: is {facts.stored.mode}")


def sixteen_bit(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture of more than 8 bits a number of which nothing says what they measure."""
    if facts.stored.deep and facts.measure is None:
        yield Hit(f"{facts.path}: more than 8 bits a number, mode {facts.stored.mode}")


def palette(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture whose numbers point into a table of colours."""
    if facts.stored.mode in ("P", "PA") and facts.header.format != "gif":
        yield Hit(f"{facts.path}: colours of a palette")


def alpha(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture that one can see through somewhere."""
    if facts.stored.clear:
        yield Hit(f"{facts.path}: has pixels that are not opaque")


def animated(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture that moves."""
    if facts.stored.several and facts.header.format != "tiff":
        yield Hit(f"{facts.path}: {facts.header.format} of several frames")


def multi_page(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a TIFF of several pages."""
    if facts.stored.several and facts.header.format == "tiff":
        yield Hit(f"{facts.path}: several pages")


def tiny(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture with a side of less than TINY_PX."""
    if min(facts.header.width, facts.header.height) < TINY_PX:
        yield Hit(_sized(facts))


def aspect(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture with a side more than MAX_ASPECT times the other."""
    width, height = facts.header.width, facts.header.height
    if max(width, height) > MAX_ASPECT * min(width, height):
        yield Hit(_sized(facts))


def size_extreme(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture with a side of more than LONG_PX."""
    if max(facts.header.width, facts.header.height) > LONG_PX:
        yield Hit(_sized(facts))


def blank(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture of hardly more than one colour; numbers that measure something may be alike.

    A small copy may be so of fine lines or of a few pixels, too: the pixels themselves have the last word.
    """
    if facts.measure is None and facts.spread <= BLANK_SPREAD and _is_even(facts):
        red, green, blue = facts.small[0, 0]
        yield Hit(f"{facts.path}: all of it is about ({red}, {green}, {blue})")


def _is_even(facts: PictureFacts) -> bool:
    """Say whether all pixels of a picture are alike but for noise."""
    return float(decode(facts.data).std(axis=(0, 1)).max()) <= BLANK_SPREAD


def depth_unit(facts: PictureFacts) -> Iterator[Hit]:
    """Yield a picture of depths that cannot be metres at the stated scale, or has no room for them."""
    measure = facts.measure
    if measure is None or measure.quantity not in ("depth", "distance"):
        return
    try:
        values, known = measured(facts.data, measure)
    except Quarantine as error:
        if error.reason != "map.encoding":
            raise
        yield Hit(f"{facts.path}: {error.detail}")
        return
    if not facts.stored.deep:
        yield Hit(f"{facts.path}: {measure.quantity} in 8 bits")
    elif measure.unit == "m" and known.any():
        far = float(np.percentile(values[known], 98))
        if not DEPTH_RANGE_M[0] <= far <= DEPTH_RANGE_M[1]:
            yield Hit(f"{facts.path}: the far end is {far:.3g} m away, stored numbers / {measure.scale:g}")


def misaligned(facts: Facts) -> Iterator[Hit]:
    """Yield pictures that should show the same view and have other sizes; whole multiples are another resolution."""
    of = facts.annotation
    pairs = [(edit.before, edit.after) for edit in of.edits]
    inputs = [number for number, image in enumerate(of.images) if image.role == "input"]
    if len(inputs) == 1:
        pairs += [(inputs[0], number) for number, image in enumerate(of.images) if image.measure is not None]
    for first, second in dict.fromkeys(pairs):
        one, other = (
            facts.sizes[number] if number < len(facts.sizes) else None for number in (first, second)
        )
        if one is not None and other is not None and not _fits(one, other):
            yield Hit(
                f"{of.images[first].path} is {_by(one)}, {of.images[second].path} {_by(other)}", None, second
            )
    if of.maps and len(inputs) == 1 and (size := facts.sizes[inputs[0]]) is not None:
        for name, path in of.maps.items():
            found = facts.size_of_file(path)
            if found is not None and not _fits(size, found):
                yield Hit(
                    f"{of.images[inputs[0]].path} is {_by(size)}, its {name} map {path} {_by(found)}",
                    None,
                    inputs[0],
                )


def _fits(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Say whether one size is a whole multiple of the other; a last row or column may be lost where it is divided."""
    small, large = sorted((one, other))
    if min(small) < 1:
        return False
    times = round(max(large[0] / small[0], large[1] / small[1]))
    return times >= 1 and all(
        math.floor(big / times) <= little <= math.ceil(big / times)
        for little, big in zip(small, large, strict=True)
    )


def _sized(facts: PictureFacts) -> str:
    return f"{facts.path}: {facts.header.width} x {facts.header.height}"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
