"""MOTChallenge: a folder a video, with `gt/gt.txt` (one object of one frame a line) and the frames in `img1/`.

Conventions (MOT16: A Benchmark for Multi-Object Tracking, arXiv:1603.00831): frame, track, left, top, width, height, a
flag (0: does not count), class, share of the object that can be seen; frames and pixels count from 1. The files of 2015
have ten columns: no class (it is "-1" here), and a place in the world instead. Where `seqinfo.ini` stands beside `gt`,
it tells the folder, the ending and the size of the frames.

Only frames that have a row are read: nobody says of the others that they were looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from converters import box_lines, text_files, text_layouts
from converters.box_lines import Picture, expect, floats, pixels, whole
from dataengine.annotation import Annotation, Image, Instance, LabelSpace, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import from_xywh
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"
NO_CLASS = "-1"
_COLUMNS = "frame, id, left, top, width, height, flag, class, visibility"
_LEFT_OUT = ""


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` names the files, with `*` for the videos; frames have `digits` digits, in the folder `images`.

    `classes` says which category a class is, by number. Those under `ignored` are ignored objects of a category (what
    looks like a pedestrian and is none); those under `left_out` are nothing. An object of which less than
    `min_visibility` can be seen is ignored.
    """

    classes: dict[str, str]
    annotations: str = "train/*/gt/gt.txt"
    images: str = "img1"
    extension: str = "jpg"
    digits: int = 6
    ignored: dict[str, str] = {}
    left_out: tuple[int, ...] = ()
    min_visibility: float = 0.0


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories in the order in which `classes` names them."""
    return box_lines.space(source.classes.values())


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds MOTChallenge's videos: `gt/gt.txt` beside the frames in `img1/`."""
    files = [file for file in listing.files if PurePosixPath(file).parts[-2:] == ("gt", "gt.txt")]
    if not files:
        return "no gt/gt.txt"
    patterns: dict[str, list[str]] = {}
    for file in files:
        video = PurePosixPath(file).parent.parent
        pattern = str(video.parent / "*" / "gt" / "gt.txt") if video.parts else file
        patterns.setdefault(pattern, []).append(file)
    splits = []
    for pattern, several_files in patterns.items():
        folders = {f"{PurePosixPath(file).parent.parent / 'img1'}": file for file in several_files}
        frame = next((one for one in listing.pictures if text_layouts.parent(one) in folders), None)
        if frame is None:
            continue
        rows = [cells for file in several_files for cells in text_layouts.rows(listing, file, ",")]
        if not rows or any(
            len(cells) not in (9, 10) or not all(map(text_layouts.is_number, cells)) for cells in rows
        ):
            continue
        numbers = sorted({NO_CLASS if len(cells) == 10 else cells[7] for cells in rows})
        path = PurePosixPath(frame)
        keys = {
            "annotations": pattern,
            "extension": path.suffix.removeprefix("."),
            "digits": len(path.stem),
            "classes": {number: _CLASSES.get(number, f"class {number}") for number in numbers},
        }
        splits.append((pattern.removesuffix("gt/gt.txt").removesuffix("*/") or "train", keys))
    if not splits:
        return f"{files[0]}: no frames in img1, or lines that have not nine or ten numbers"
    return Fit(
        splits=name_splits(splits), tasks=("detection",), why=f"{several(files)}: beside frames", certainty=3
    )


# arXiv:1603.00831, table 3; files of 2015 are of pedestrians alone.
_CLASSES = {
    NO_CLASS: "pedestrian", "1": "pedestrian", "2": "person on vehicle", "3": "car", "4": "bicycle", "5": "motorbike",
    "6": "non-motorised vehicle", "7": "static person", "8": "distractor", "9": "occluder",
    "10": "occluder on the ground", "11": "full occluder", "12": "reflection",
}  # fmt: skip


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a frame that has rows, video by video, and a rejection a defective row."""
    files = root.glob(source.annotations)
    if not files:
        raise SourceError(
            f"{root.directory / source.annotations}: no file matches; the spec needs it as source.annotations"
        )
    categories = tuple(dict.fromkeys(source.classes.values()))
    for file in files:
        if box_lines.shown(file) != file:
            raise SourceError(f"{file!a}: no name in UTF-8; rename the folder of the video")
        folder = PurePosixPath(file).parent.parent
        info = _seqinfo(str(folder / "seqinfo.ini"), root)
        try:
            found = box_lines.rows(file, root, "annotations", ",")
        except Quarantine as error:
            raise SourceError(
                f"{file}: {error.detail}; expected a file that source.annotations names"
            ) from error
        frames, rejected = box_lines.by_frame(
            found, file, str(folder), lambda cells: whole(cells[0], "frame")
        )
        ending = info.get("imext") or f".{source.extension}"
        for frame, rows in frames.items():
            image = Image(
                path=str(
                    folder / (info.get("imdir") or source.images) / f"{frame:0{source.digits}d}{ending}"
                ),
                width=pixels(info.get("imwidth")),
                height=pixels(info.get("imheight")),
            )
            picture = Picture(str(folder / f"{frame:06d}"), image, file, f"frame {frame}")
            yield from box_lines.annotate(
                picture,
                rows,
                categories,
                lambda cells: _category(source, cells),
                lambda cells, identity, category: _instances(source, cells, identity, category),
            )
        yield from rejected


def _seqinfo(file: str, root: Root) -> dict[str, str]:
    """Return what a video's own description says, by key in lower case; nothing where there is none."""
    if not root.glob(file):
        return {}
    pairs = (text.partition("=") for _, text in text_files.lines(file, root, "annotations"))
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}


def _class(cells: list[str]) -> str:
    expect(cells, (9, 10), _COLUMNS)
    return NO_CLASS if len(cells) == 10 else str(whole(cells[7], "class"))


def _category(source: Source, cells: list[str]) -> str:
    """Return the category that a row is about, or nothing for a class that is left out."""
    stated = _class(cells)
    found = source.classes.get(stated) or source.ignored.get(stated)
    if found is None and int(stated) not in source.left_out:
        raise Quarantine("category.unknown", f"class {stated[:40]} is not in classes, ignored or left_out")
    return found or _LEFT_OUT


def _instances(source: Source, cells: list[str], identity: str, category: str) -> list[Instance]:
    if category == _LEFT_OUT:
        return []
    x, y, width, height = floats(cells[2:6], _COLUMNS)
    flag, visibility = floats([cells[6], cells[8] if len(cells) == 9 else "1"], _COLUMNS)
    hidden = visibility < source.min_visibility
    return [
        Instance(
            id=identity,
            category=category,
            box=from_xywh((x - 1, y - 1, width, height)),
            attributes={"track": cells[1]},
            ignore=flag == 0 or hidden or _class(cells) in source.ignored,
        )
    ]
