"""Pictures of findings: where to look, the place close up where it is small, and the other picture beside it."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from PIL import Image

from dataengine.annotation import Box
from dataengine.audit.findings import Finding
from dataengine.audit.originals import FileBytes, reader_of, says
from dataengine.audit.shapes import PICTURED, Name, Shape, name_of
from dataengine.audit.state import Account
from dataengine.audit.windows import SIDE, close_up, show, whole
from dataengine.errors import Quarantine, ShardError
from dataengine.images import decode, probe

PICTURES_BYTES = 6 * 2**20  # of all pictures of a page


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures of one finding as data URIs, with what each shows; `lacks` says why one is not shown, or none."""

    finding: Finding
    pictures: list[str] = []
    captions: list[str] = []
    lacks: str = ""


def draw_findings(
    found: Mapping[str, Sequence[Finding]],
    accounts: Iterable[Account],
    shapes: Mapping[Name, Shape],
    most_bytes: int = PICTURES_BYTES,
) -> dict[str, list[Drawn]]:
    """Return the pictures of the first findings of each rule, a finding of each in turn until `most_bytes` are reached.

    What cannot be read or decoded has no picture, and says why.
    """
    readers = {account.subject: reader_of(account) for account in accounts}
    shown = {rule: _worth_seeing(some)[:PICTURED] for rule, some in found.items()}
    drawn: dict[str, list[Drawn]] = {rule: [] for rule in shown}
    room = most_bytes
    for place in range(PICTURED):
        for rule, some in shown.items():
            if place < len(some):
                one = some[place]
                made = Drawn(finding=one, lacks="no room on the page")
                if room > 0:
                    made = _draw(one, readers, shapes.get(name_of(one)))
                room -= sum(map(len, made.pictures))
                drawn[rule].append(made)
    return drawn


def _worth_seeing(some: Sequence[Finding]) -> list[Finding]:
    """Return the findings that lie on a picture; of those on a whole one, as many samples may show it, the first."""
    first: dict[object, Finding] = {}
    for place, one in enumerate(some):
        if one.image:
            first.setdefault(place if one.box else (one.subject, one.image, one.other_image), one)
    return [*first.values()]


def lacking(drawn: Iterable[Drawn]) -> str:
    """Return how many findings have no picture and why, "" where all have one."""
    counts = Counter(one.lacks for one in drawn if not one.pictures)
    return ", ".join(f"{count} ({why})" for why, count in counts.most_common())


def _draw(finding: Finding, readers: Mapping[str, FileBytes | None], shape: Shape | None) -> Drawn:
    pictures: list[str] = []
    captions: list[str] = []
    lacks = ""
    beside = finding.other_image
    places = [(finding.subject, finding.image, finding.key, finding.box, shape)]
    if beside:
        places.append((finding.other_subject or finding.subject, beside, "", None, None))
    for subject, path, key, box, of in places:
        try:
            views = _views(_bytes(readers.get(subject), path, key), box, of, finding.rule)
        except (Quarantine, ShardError, OSError) as error:
            lacks = f"{path}: {says(error)}" if beside else says(error)
            continue
        pictures += [_uri(view) for view, _ in views]
        captions += [caption or (path if beside else "") for _, caption in views]
    return Drawn(finding=finding, pictures=pictures, captions=captions, lacks=lacks)


def _bytes(reader: FileBytes | None, path: str, key: str) -> bytes:
    if reader is None:
        raise FileNotFoundError("its pictures are not at hand")
    return reader(path, key)


def _views(data: bytes, box: Box | None, shape: Shape | None, rule: str) -> list[tuple[Image.Image, str]]:
    """Return a picture with its box and shape, and the box close up where it would hardly be seen, with captions.

    Raises Quarantine where it cannot be decoded.
    """
    header = probe(data)
    size = (header.width, header.height)
    ordered = _ordered(box) if box is not None and all(map(math.isfinite, box)) else None
    around = shape.box if shape is not None else None
    near = close_up(size, ordered or around)
    scale = min(SIDE / max(size), 4.0)
    enough = (math.ceil(size[1] * scale), math.ceil(size[0] * scale))
    pixels = decode(data, None if near is not None else enough)
    window = whole(size, [one for one in (ordered, around) if one is not None])
    views = [(show(pixels, size, window, ordered, shape, rule), "the picture" if near is not None else "")]
    if near is not None:
        views.append((show(pixels, size, near, ordered, shape, ""), "close up"))
    return views


def _ordered(box: Box) -> Box:
    x0, y0, x1, y1 = box
    return (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _uri(picture: Image.Image) -> str:
    sink = io.BytesIO()
    picture.save(sink, "WEBP", quality=74)
    return f"data:image/webp;base64,{base64.b64encode(sink.getvalue()).decode()}"
