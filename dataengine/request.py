"""What a user asks about pictures: which files, which marks on them, and the words that models were trained on."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np

from dataengine import tokens
from dataengine.annotation import Box
from dataengine.catalog import Catalog
from dataengine.errors import Quarantine, UsageError, nearest
from dataengine.geometry import rle_from_mask
from dataengine.images import EXTENSIONS, numbers
from dataengine.prompts import Choice, choose
from dataengine.regions import box_region, mask_region
from dataengine.sample import Region
from dataengine.wording import joined, one_line, phrase

# Slots whose values builders put into a sentence: without capital and full stop.
_PHRASES = frozenset({"expression", "caption", "instruction", "category", "relation"})
_NAMED = re.compile(r"\bregion(\d{1,3})\b")


class Boxed(msgspec.Struct, frozen=True):
    """A region given as a box, in pixels."""

    box: Box


class Masked(msgspec.Struct, frozen=True):
    """A region given as a picture of the same size: its pixels that are not black."""

    path: Path


class Pointed(msgspec.Struct, frozen=True):
    """A region given as points (x, y) on one object, in pixels."""

    points: tuple[tuple[float, float], ...]


Spot = Boxed | Masked | Pointed


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A question about the pictures of some files: `text` shows each as `<image>`, each spot as `<region>`.

    `name` is what files written about it are called after; each spot lies on the picture of its number.
    """

    name: str
    text: str
    pictures: tuple[Path, ...] = ()
    spots: tuple[tuple[Spot, int], ...] = ()


def find_pictures(paths: Iterable[Path]) -> list[tuple[str, Path]]:
    """Return the pictures that paths name, each with a name of its own for what is written about it.

    A folder stands for all files in it, at any depth, that have a picture's extension, in order. Names are stems, with
    the folders inside a folder; one that comes again gets a number.
    """
    found: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = [one for one in sorted(path.rglob("*")) if one.suffix[1:].lower() in EXTENSIONS]
            if not inside:
                raise UsageError(
                    f"{path}: holds no picture ({', '.join(sorted(EXTENSIONS))}); name another folder"
                )
            found += [
                ("-".join(one.relative_to(path).with_suffix("").parts), one)
                for one in inside
                if one.is_file()
            ]
        else:
            found.append((path.stem, path))
    taken: set[str] = set()
    named = []
    for name, path in found:
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken.add(free)
        named.append((free, path))
    return named


def read_box(text: str) -> Spot:
    """Return the region of `x0,y0,x1,y1`, or of the path of a mask. Raises UsageError."""
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        if not Path(text).is_file():
            raise UsageError(
                f"--region {text!r}: is neither x0,y0,x1,y1 in pixels nor a file, expected a box or a mask"
            ) from None
        return Masked(Path(text))
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise UsageError(f"--region {text!r}: expected x0 < x1 and y0 < y1, in pixels from the upper left")
    return Boxed((x0, y0, x1, y1))


def read_points(text: str) -> Spot:
    """Return the region of `x,y` or, for several points of one object, of `x,y x,y ...`. Raises UsageError."""
    points = []
    for pair in text.split():
        try:
            x, y = (float(part) for part in pair.split(","))
        except ValueError:
            raise UsageError(
                f"--point {text!r}: {pair!r} is no point, expected x,y in pixels; several are set apart by blanks"
            ) from None
        points.append((x, y))
    if not points:
        raise UsageError("--point: holds no point, expected x,y in pixels")
    return Pointed(tuple(points))


def region_on(spot: Spot, image: int, width: int, height: int) -> Region:
    """Return a region on a picture. Raises Quarantine `region.outside`, `region.size` or `image.*`."""
    match spot:
        case Boxed(box=(x0, y0, x1, y1)):
            if x0 >= width or y0 >= height:
                raise Quarantine(
                    "region.outside", f"box {spot.box} lies outside of {width} x {height} pixels"
                )
            return box_region((x0, y0, min(x1, width), min(y1, height)), image)
        case Masked(path=path):
            mask = numbers(path.read_bytes())
            marked = (mask if mask.ndim == 2 else mask.any(2)) != 0
            if marked.shape != (height, width):
                size = f"{marked.shape[1]} x {marked.shape[0]}"
                raise Quarantine(
                    "region.size", f"mask {path} is {size}, the picture {width} x {height} pixels"
                )
            if not marked.any():
                raise Quarantine("region.empty", f"mask {path} marks no pixel")
            return mask_region(rle_from_mask(marked.astype(np.uint8)), image)
        case Pointed(points=points):
            drawn = np.zeros((height, width), np.uint8)
            for x, y in points:
                if not (0 <= x < width and 0 <= y < height):
                    raise Quarantine(
                        "region.outside", f"point {x:g},{y:g} lies outside of {width} x {height}"
                    )
                drawn[int(y), int(x)] = 1
            return mask_region(rle_from_mask(drawn), image, "point")


def show_regions(text: str, count: int) -> str:
    """Return a question in which each region is marked where it is first named: `region1`, `region2`, ...

    A question that has its own `<region>` marks stays as it is. Raises UsageError where it does not name them all.
    """
    if tokens.REGION in text:
        return text
    shown: set[int] = set()

    def write(match: re.Match[str]) -> str:
        number = int(match[1])
        if number in shown or not 1 <= number <= count:
            return match[0]
        shown.add(number)
        return tokens.region_text(number)

    marked = _NAMED.sub(write, text)
    lost = sorted(set(range(1, count + 1)) - shown)
    if lost:
        raise UsageError(
            f"prompt {text!r}: does not name region{lost[0]}, expected each of {count} regions in it, in this way"
        )
    return marked


def word_task(
    catalog: Catalog,
    task: str,
    *,
    prompt: str = "",
    lists: Mapping[str, tuple[str, ...]] = {},
    num_regions: int = 0,
    lang: str = "en",
) -> str:
    """Return the question of a task as evaluation words it: by the first template of its bank, without pictures.

    `lists` fills the slots `classes` and `keypoints`; regions have theirs; `prompt` is whatever else the template asks
    for: the expression, the caption, the instruction, the question. Raises UsageError, with what is missing.
    """
    if task not in catalog.tasks:
        raise UsageError(f"task: unknown {task!r}{nearest(task, catalog.tasks)}")
    bank = catalog.tasks[task].prompts
    if bank is None:
        if not prompt:
            raise UsageError(f"task {task!r}: is asked in the user's own words; give a prompt")
        return one_line(prompt)
    template = choose(catalog.banks[bank].questions, random.Random(0), train=False, lang=lang)
    values: dict[str, str] = {}
    free = [slot for slot in template.slots if slot not in ("classes", "keypoints", "region", "regions")]
    if len(free) > 1:
        raise UsageError(
            f"task {task!r}: its question {template.text!r} has several gaps, expected at most one beside classes,"
            " keypoints and regions; give the whole question as prompt, without a task"
        )
    for slot in template.slots:
        values[slot] = _value(slot, task, template, prompt, lists, num_regions)
    if prompt and not free:
        raise UsageError(
            f"task {task!r}: asks {template.text!r}, which has no place for a prompt; leave it out"
        )
    unused = sorted(set(lists) - set(template.slots))
    if unused:
        raise UsageError(f"task {task!r}: asks {template.text!r}, which has no {unused[0]}; leave them out")
    return template.fill(**values)


def _value(
    slot: str,
    task: str,
    template: Choice,
    prompt: str,
    lists: Mapping[str, tuple[str, ...]],
    num_regions: int,
) -> str:
    """Return what stands in a slot. Raises UsageError where nobody says what."""
    missing = f"task {task!r}: asks {template.text!r}, and nothing says which {slot}; give"
    if slot in ("region", "regions"):
        if num_regions != 1 and (slot == "region" or not num_regions):
            raise UsageError(f"{missing} {'one region' if slot == 'region' else 'at least one region'}")
        return joined((tokens.region_text(number) for number in range(1, num_regions + 1)), template.lang)
    if slot in ("classes", "keypoints"):
        if not lists.get(slot):
            raise UsageError(f"{missing} --{slot}")
        return joined(lists[slot], template.lang)
    text = phrase(prompt, template.lang) if slot in _PHRASES else one_line(prompt)
    if not text:
        raise UsageError(f"{missing} it as prompt")
    return text
