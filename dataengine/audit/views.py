"""Pictures of findings: where to look, the place close up where it is small, and the other picture beside it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow.compute as pc
from PIL import Image

from dataengine import sample as samples
from dataengine.annotation import Box
from dataengine.audit.findings import Finding
from dataengine.audit.state import Account
from dataengine.errors import Quarantine, ShardError
from dataengine.files import Root
from dataengine.images import Pixels, decode, probe
from dataengine.images import read as read_picture
from dataengine.index import SHARDS, Index
from dataengine.report.draw import color_of, mark_box

SIDE = 360  # longest side of a thumbnail, in pixels
PICTURED = 8  # findings of a rule that are drawn
PICTURES_BYTES = 12 * 2**20  # of all pictures of a page
_SMALL = 28  # a box that would be smaller on the thumbnail, in pixels, is shown close up too
_MARGIN = 0.4  # what may be shown beyond a picture's edges for a box that leaves it, in sides of the picture
_AROUND = (58, 62, 68)
FileBytes = Callable[[str, str], bytes]


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures of one finding as data URIs, with what each shows."""

    finding: Finding
    pictures: list[str]
    captions: list[str]


def draw_findings(
    found: Mapping[str, Sequence[Finding]], accounts: Iterable[Account], most_bytes: int = PICTURES_BYTES
) -> dict[str, list[Drawn]]:
    """Return the pictures of the first findings of each rule, a finding of each in turn until `most_bytes` are reached.

    What cannot be read or decoded is left out: that is a finding of its own, where the audit looked at pictures.
    """
    readers = {account.subject: _reader(account) for account in accounts}
    shown = {rule: [one for one in some if one.image][:PICTURED] for rule, some in found.items()}
    drawn: dict[str, list[Drawn]] = {rule: [] for rule in shown}
    room = most_bytes
    for place in range(PICTURED):
        for rule, some in shown.items():
            if place < len(some) and room > 0 and (one := _draw(some[place], readers)) is not None:
                drawn[rule].append(one)
                room -= sum(map(len, one.pictures))
    return drawn


def _draw(finding: Finding, readers: Mapping[str, FileBytes | None]) -> Drawn | None:
    pictures, captions = [], []
    places = [(finding.subject, finding.image, finding.box)]
    if finding.other_image:
        places.append((finding.other_subject or finding.subject, finding.other_image, None))
    for subject, path, box in places:
        if (read := readers.get(subject)) is None:
            continue
        try:
            data = read(path, finding.key)
            views = _views(data, box, finding.rule)
        except (Quarantine, ShardError, OSError):
            continue
        for view, caption in views:
            pictures.append(_uri(view))
            captions.append(caption or (path if finding.other_image else ""))
    return Drawn(finding=finding, pictures=pictures, captions=captions) if pictures else None


def _reader(account: Account) -> FileBytes | None:
    """Return what gives the bytes of a picture of a subject by its path and its sample's id; None without a place."""
    if account.root and Path(account.root).is_dir():
        root = Root(Path(account.root))
        return lambda path, _: read_picture(root.inside(path))
    folder = Path(account.subject)
    return _from_shards(folder) if "://" not in account.subject and (folder / SHARDS).is_file() else None


def _from_shards(folder: Path) -> FileBytes:
    index = Index(folder)

    def read(path: str, sample_id: str) -> bytes:
        number = pc.index(index.table.column("id"), sample_id).as_py()
        if number < 0:
            raise FileNotFoundError(sample_id)
        row = index.row(number)
        pool = index.open()
        try:
            sample = samples.decode(pool.read(f"{row['shard']}.tar", row["json_offset"], row["json_size"]))
            (place, *_) = [i for i, image in enumerate(sample.images) if image.path == path] or [0]
            return pool.read(f"{row['shard']}.tar", row["image_offsets"][place], row["image_sizes"][place])
        finally:
            pool.close()

    return read


def _views(data: bytes, box: Box | None, rule: str) -> list[tuple[Image.Image, str]]:
    """Return a picture with its box, and the box close up where it would hardly be seen, each with a caption.

    Raises Quarantine where it cannot be decoded.
    """
    header = probe(data)
    width, height = header.width, header.height
    if box is not None and not all(map(math.isfinite, box)):
        box = None
    scale = min(SIDE / max(width, height), 4.0)
    ordered = None if box is None else _ordered(box)
    near = None if ordered is None else _near(ordered, width, height, scale)
    enough = (math.ceil(height * scale), math.ceil(width * scale))
    pixels = decode(data, None if near is not None else enough)
    whole = _marked(pixels, (0.0, 0.0, float(width), float(height)), (width, height), ordered, rule)
    views = [(whole, "")]
    if near is not None:
        views = [(whole, "the picture"), (_marked(pixels, near, (width, height), ordered, ""), "close up")]
    return views


def _ordered(box: Box) -> Box:
    x0, y0, x1, y1 = box
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _near(box: Box, width: int, height: int, scale: float) -> Box | None:
    """Return the square of pixels around a small box, None where it is large enough or not in the picture."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    longest = max(box[2] - box[0], box[3] - box[1])
    if longest * scale >= _SMALL or scale >= 1 or not (0 <= x <= width and 0 <= y <= height):
        return None
    side = min(max(4 * longest, 48.0), float(min(width, height)))
    left, top = min(max(x - side / 2, 0.0), width - side), min(max(y - side / 2, 0.0), height - side)
    return (math.floor(left), math.floor(top), math.ceil(left + side), math.ceil(top + side))


def _marked(pixels: Pixels, window: Box, size: tuple[int, int], box: Box | None, text: str) -> Image.Image:
    """Return what a window onto a picture of (width, height) shows, in source pixels, with a box marked on it.

    A window onto the whole grows by a margin for a box that leaves the picture; `pixels` may be fewer than it has.
    """
    x0, y0, x1, y1 = window
    if box is not None and window == (0, 0, *size):
        x0, y0 = max(min(x0, box[0]), -_MARGIN * size[0]), max(min(y0, box[1]), -_MARGIN * size[1])
        x1, y1 = min(max(x1, box[2]), (1 + _MARGIN) * size[0]), min(max(y1, box[3]), (1 + _MARGIN) * size[1])
    scale = min(SIDE / max(x1 - x0, y1 - y0), 8.0)
    wide, high = max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1)
    picture = Image.new("RGB", (wide, high), _AROUND)
    # What of the picture the window shows, in source pixels, then in those that were decoded.
    inner = (max(x0, 0), max(y0, 0), min(x1, size[0]), min(y1, size[1]))
    of = (pixels.shape[1] / size[0], pixels.shape[0] / size[1])
    part = Image.fromarray(pixels).resize(
        (max(round((inner[2] - inner[0]) * scale), 1), max(round((inner[3] - inner[1]) * scale), 1)),
        Image.Resampling.LANCZOS,
        box=(inner[0] * of[0], inner[1] * of[1], inner[2] * of[0], inner[3] * of[1]),
    )
    picture.paste(part, (round((inner[0] - x0) * scale), round((inner[1] - y0) * scale)))
    if box is not None:
        far = 4 * max(size)
        limited = [min(max(value, -far), far) for value in box]
        moved = (limited[0] - x0, limited[1] - y0, limited[2] - x0, limited[3] - y0)
        mark_box(picture, moved, scale, color_of(text or "close up"), text, dashed=False)
    return picture


def _uri(picture: Image.Image) -> str:
    sink = io.BytesIO()
    picture.save(sink, "WEBP", quality=74)
    return f"data:image/webp;base64,{base64.b64encode(sink.getvalue()).decode()}"
