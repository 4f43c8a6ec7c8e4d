"""What readers of one JSON record an item share: the loop over the records, and boxes and masks inside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import decode, records, unique
from dataengine.annotation import Annotation, Instance, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.spill import Counts

T = TypeVar("T")


def read_rows(
    file: str,
    root: Root,
    decoder: msgspec.json.Decoder[T],
    make: Callable[[T, Origin], Annotation],
) -> Iterator[Annotation | Rejected]:
    """Yield what `make` makes of each record of a JSON list or of JSON Lines, or the rejection that it raises.

    A key that came before gets a number: `name~2`. Raises SourceError for a file that is cut off or no list.
    """
    seen = Counts()
    for place, data in records(file, root, "annotations"):
        origin = Origin(file=file, record=place)
        try:
            made = make(decode(data, decoder), origin)
        except Quarantine as error:
            yield Rejected(key=unique(place, seen), reason=error.reason, detail=error.detail, origin=origin)
        else:
            yield msgspec.structs.replace(made, key=unique(made.key, seen))


def shape(
    number: int | str,
    bbox: list[float] | None,
    segmentation: msgspec.Raw,
    size: tuple[int | None, int | None],
    category: str | None = None,
) -> Instance:
    """Return an object of a COCO `bbox` (xywh) and `segmentation` in a picture of (width, height).

    Raises Quarantine `schema`, `polygon.invalid` or `rle.size_mismatch`.
    """
    record = coco.RawAnnotation(image_id="", id=number, bbox=bbox, segmentation=segmentation)
    made = coco.instance(record, str(number), {}, *size)
    return msgspec.structs.replace(made, category=category)


def corners(values: list[float], what: str = "box") -> tuple[float, float, float, float]:
    """Return four numbers as a box. Raises Quarantine `schema` where they are not four."""
    if len(values) != 4:
        raise Quarantine("schema", f"{what} has {len(values)} numbers, expected 4")
    return (values[0], values[1], values[2], values[3])


def pick(total: int, indices: list[int], what: str) -> list[int]:
    """Return positions among `total` objects. Raises Quarantine `id.orphan` for one beyond them."""
    for index in indices:
        if not 0 <= index < total:
            raise Quarantine("id.orphan", f"{what} points to object {index} of {total}")
    return indices
