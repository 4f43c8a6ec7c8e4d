"""COCO instances: one JSON with images, annotations (bbox xywh, segmentation, iscrowd) and categories.

Conventions (COCO data format, cocodataset.org/#format-data): pixels from 0; polygons, or run-length codes in
column-major order whose `size` is [height, width]; category ids have gaps; a crowd is a region of many objects.
Images without annotations are real negatives. LVIS (lvisdataset.org, data format) states for each image which
categories are verified absent (`neg_category_ids`) and which are annotated in part (`not_exhaustive_category_ids`): no
prompt can truly ask for all of the latter, so their objects are ignored ones. So are PoseTrack18's `ignore_regions_x`
and `ignore_regions_y`, polygons around people whom nobody annotated.

An annotation that cannot be used is rejected, and its object stays in the picture as an ignored one: an answer must
neither count it as background nor say that its category is absent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from converters.json_files import UNREADABLE
from converters.json_files import load as load_json
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected, Rle
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import (
    MAX_OUTLINE_PIXELS,
    check_polygons,
    from_xywh,
    rle_area,
    rle_from_counts,
    rle_from_polygons,
)
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "2"

Id = int | str
Pixels = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Media = Literal["file_name", "coco_url"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the pictures.

    A picture is named by `file_name`, or by the last two parts of its address (`media: coco_url`; LVIS names it in no
    other way). `strip` is a start of these names that the folder lacks. `exhaustive: false` says that a category
    without annotation may still be in the picture. `parents: skip` leaves out categories that only name a group of
    others, as number 0 does in Roboflow's exports: of no category themselves, and the `supercategory` of another.
    """

    annotations: str
    images: str = ""
    strip: str = ""
    media: Media = "file_name"
    exhaustive: bool = True
    parents: Literal["keep", "skip"] = "keep"


class RawRle(msgspec.Struct):
    size: tuple[int, int]
    counts: list[int] | str


class RawImage(msgspec.Struct):
    id: Id
    file_name: str | None = None
    width: Pixels | None = None
    height: Pixels | None = None
    license: Id | None = None
    coco_url: str | None = None
    is_labeled: bool = True
    neg_category_ids: tuple[int, ...] = ()
    not_exhaustive_category_ids: tuple[int, ...] = ()
    ignore_regions_x: tuple[tuple[float, ...], ...] = ()
    ignore_regions_y: tuple[tuple[float, ...], ...] = ()


class RawLink(msgspec.Struct, gc=False):
    """What every annotation record has: its image."""

    image_id: Id


class RawObject(RawLink):
    id: Id | None = None
    category_id: int | None = None
    bbox: list[float] | None = None
    iscrowd: int | bool | None = None
    ignore: int | bool | None = None


class RawAnnotation(RawObject):
    segmentation: msgspec.Raw = msgspec.Raw(b"")


# Nearly all outlines are like this and need no further look: numbers this near, and so few that none is too long.
_NEAR = 16384.0
_Near = Annotated[float, msgspec.Meta(ge=-_NEAR, le=_NEAR)]
_Outline = Annotated[
    tuple[_Near, ...], msgspec.Meta(min_length=6, max_length=int(MAX_OUTLINE_PIXELS / _NEAR))
]


class RawOutlined(RawObject):
    """What most records are: decoded at once, where the segmentation of a RawAnnotation is decoded by itself."""

    segmentation: tuple[_Outline, ...] | None = None


class RawCategory(msgspec.Struct):
    id: int
    name: str
    keypoints: list[str] | None = None
    skeleton: list[list[int]] | None = None
    supercategory: Any = None


class RawLicense(msgspec.Struct):
    id: Id | None = None
    name: str | None = None
    url: str | None = None


class RawFile(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[RawCategory] = []
    licenses: msgspec.Raw = msgspec.Raw(b"")


class Naming(NamedTuple):
    """How the file of a picture is named: see Source."""

    folder: str = ""
    strip: str = ""
    media: Media = "file_name"

    def path(self, image: RawImage) -> str:
        """Return the path of a picture inside the root, or nothing where the record names none."""
        stated = image.file_name if self.media == "file_name" else None
        name = (stated or "/".join((image.coco_url or "").split("/")[-2:])).removeprefix(self.strip)
        return f"{self.folder}/{name}" if self.folder and name else name


R = TypeVar("R", bound=RawLink)
A = TypeVar("A", bound=RawObject)


class Joined(msgspec.Struct, Generic[R], frozen=True):
    """An image with its annotation records, each with its place; `whole` if it has them all.

    It has not where a record could not be read, or where PoseTrack18 says that the frame is not labelled.
    """

    place: str
    key: str
    image: Image
    records: list[tuple[str, R]]
    whole: bool
    raw: RawImage


_image = msgspec.json.Decoder(RawImage)
_link = msgspec.json.Decoder(RawLink)
_annotation = msgspec.json.Decoder(RawAnnotation)
_outlined = msgspec.json.Decoder(RawOutlined)
_licenses_decoder = msgspec.json.Decoder(list[RawLicense])
_segmentation = msgspec.json.Decoder(tuple[tuple[float, ...], ...] | RawRle | None)


def load(source_file: str, root: Root) -> RawFile:
    """Parse a COCO file, records left raw so that one bad record costs no other. Raises SourceError."""
    return load_json(
        source_file, root, "annotations", RawFile, "a COCO file: images, annotations, categories"
    )


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories in the order of their ids; a name that two ids share stands once."""
    ordered = category_names(load(source.annotations, root), source.parents).values()
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(ordered)))


def category_names(raw: RawFile, parents: Literal["keep", "skip"] = "keep") -> dict[int, str]:
    """Return the category names by id, in the order of the ids."""
    ordered = sorted(raw.categories, key=lambda category: category.id)
    if parents == "skip":
        above = {one.supercategory for one in ordered if isinstance(one.supercategory, str)}
        ordered = [one for one in ordered if one.supercategory != "none" or one.name not in above]
    return {category.id: category.name.strip() for category in ordered}


NEEDED = frozenset({"images", "annotations", "categories"})


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds COCO instances: JSON files with images, annotations and categories."""
    files = coco_files(listing, lambda record: not record.keys() & {"keypoints", "caption", "segments_info"})
    if isinstance(files, str):
        return files
    masked = any(listing.first(file, "annotations").get("segmentation") for file, _ in files)
    tasks = ("detection", "instance_segmentation") if masked else ("detection",)
    return Fit(
        splits=name_splits(files),
        tasks=tasks,
        why=f"{named(files)}: images, boxes and categories",
    )


def named(files: Sequence[tuple[str, object]]) -> str:
    """Return the names of the files that `coco_files` found, as a few words."""
    return several([file for file, _ in files])


def coco_files(
    listing: Listing, wanted: Callable[[dict[str, object]], bool], needed: frozenset[str] = NEEDED
) -> list[tuple[str, dict[str, object]]] | str:
    """Return the COCO files whose first annotation is a wanted one, with the keys that read them, or why none is."""
    candidates = [file for file in listing.ending(".json") if needed <= listing.keys(file)]
    if not candidates:
        return f"no JSON file has the keys {', '.join(sorted(needed))}"
    chosen = [file for file in candidates if wanted(listing.first(file, "annotations"))]
    if not chosen:
        return f"{candidates[0]}: its annotations are of another kind"
    found: list[tuple[str, dict[str, object]]] = []
    for file in chosen:
        name = str(listing.first(file, "images").get("file_name") or "")
        folder = listing.picture_folder(name)
        if folder is not None:
            found.append((file, {"annotations": file, **({"images": folder} if folder else {})}))
    return found or f"{chosen[0]}: names pictures such as {name!r}, which are not in the folder"


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image, in file order, and a rejection for every record that fits nowhere."""
    raw = load(source.annotations, root)
    names = category_names(raw, source.parents)

    def make(record: RawAnnotation | RawOutlined, place: str, image: Image) -> Instance:
        return instance(record, place, names, image.width, image.height)

    naming = Naming(source.images, source.strip, source.media)
    for item in _join(raw, source.annotations, naming, _annotation, _whole):
        if isinstance(item, Rejected):
            yield item
        else:
            yield from annotate(item, source.annotations, names, source.exhaustive, make)


def _whole(data: msgspec.Raw) -> RawAnnotation | RawOutlined:
    try:
        found = _outlined.decode(data)
    except UNREADABLE:
        return _annotation.decode(data)
    for outline in found.segmentation or ():
        if len(outline) % 2:
            return _annotation.decode(data)
    return found


def join(
    raw: RawFile, file: str, naming: Naming, decoder: msgspec.json.Decoder[R]
) -> Iterator[Joined[R] | Rejected]:
    """Yield each image with its records in file order, and a rejection for each that is broken, double or an orphan.

    Ids are compared as text: files mix 5 and "5".
    """
    return _join(raw, file, naming, decoder, decoder.decode)


def _join(
    raw: RawFile,
    file: str,
    naming: Naming,
    decoder: msgspec.json.Decoder[Any],
    whole: Callable[[msgspec.Raw], R],
) -> Iterator[Joined[R] | Rejected]:
    """Join as `join` does: `decoder` says which records are broken, `whole` makes what they are of the others."""
    licenses = _licenses(raw)
    by_image: dict[str, list[int]] = defaultdict(list)
    torn = set[str]()
    decode = decoder.decode
    # Records are read twice, and the first time only for their image: held all at once, they are larger than the file.
    for number, data in enumerate(raw.annotations):
        try:
            by_image[str(decode(data).image_id)].append(number)
        except UNREADABLE as error:
            torn.update(_image_of(data))
            yield reject(file, f"annotations[{number}]", "schema", str(error))
    seen = set[str]()
    for number, data in enumerate(raw.images):
        place = f"images[{number}]"
        try:
            image = _image.decode(data)
        except UNREADABLE as error:
            yield reject(file, place, "schema", str(error))
            continue
        key = str(image.id)
        path = naming.path(image)
        if key in seen:
            yield reject(file, place, "id.duplicate", f"an image with id {key} came before")
        elif not path:
            yield reject(file, place, "schema", "no file_name and no coco_url, expected one of them")
        else:
            seen.add(key)
            yield Joined(
                place=place,
                key=key,
                image=Image(
                    path=path,
                    width=image.width or None,
                    height=image.height or None,
                    license=licenses.get(image.license),
                ),
                records=[
                    (f"annotations[{one}]", whole(raw.annotations[one])) for one in by_image.pop(key, ())
                ],
                whole=image.is_labeled and key not in torn,
                raw=image,
            )
    for image_id, numbers in by_image.items():
        for one in numbers:
            yield reject(file, f"annotations[{one}]", "id.orphan", f"no image has id {image_id}")


def annotate(
    item: Joined[A],
    file: str,
    names: dict[int, str],
    exhaustive: bool,
    make: Callable[[A, str, Image], Instance],
) -> Iterator[Annotation | Rejected]:
    """Yield the image's annotation, its objects made by `make`, and a rejection for each record that is no object."""
    instances, rejected, known = [], [], item.whole
    partial, absent = item.raw.not_exhaustive_category_ids, item.raw.neg_category_ids
    for place, record in item.records:
        try:
            made = make(record, place, item.image)
            instances.append(
                msgspec.structs.replace(made, ignore=True) if record.category_id in partial else made
            )
        except Quarantine as error:
            rejected.append(reject(file, place, error.reason, error.detail))
            instances.append(_unusable(record, place, names))
            known = known and record.category_id in names
    try:
        instances += _ignored_regions(item, names)
    except Quarantine as error:
        rejected.append(reject(file, f"{item.place}.ignore_regions_x", error.reason, error.detail))
        known = False
    yield Annotation(
        key=item.key,
        images=(item.image,),
        instances=tuple(instances),
        negatives=tuple(sorted({names[one] for one in absent if one in names})) if absent else (),
        exhaustive=exhaustive and known and not partial,
        origin=Origin(file=file, record=item.place),
    )
    yield from rejected


def instance(
    record: RawAnnotation | RawOutlined,
    place: str,
    names: dict[int, str],
    width: int | None,
    height: int | None,
) -> Instance:
    """Return one object. Raises Quarantine with the reason why it is none."""
    category, bbox, crowd = record.category_id, record.bbox, bool(record.iscrowd)
    if category is not None and category not in names:
        raise Quarantine("category.unknown", f"category_id {category} is not among the categories")
    if bbox is not None and len(bbox) != 4:
        raise Quarantine("schema", f"bbox has {len(bbox)} numbers, expected 4 (x, y, width, height)")
    mask, polygons = (
        (None, record.segmentation or ())
        if isinstance(record, RawOutlined)
        else _shape(record.segmentation, width, height)
    )
    return Instance(
        id=str(record.id) if record.id is not None else place,
        category=names[category] if category is not None else None,
        box=from_xywh(bbox) if bbox is not None else None,
        mask=mask,
        polygons=polygons,
        crowd=crowd,
        ignore=bool(record.ignore) and not crowd,
    )


def _shape(
    segmentation: msgspec.Raw, width: int | None, height: int | None
) -> tuple[Rle | None, tuple[tuple[float, ...], ...]]:
    """Return the run-length code or the outlines of an object. Raises Quarantine."""
    raw = bytes(segmentation)
    if raw in (b"", b"null", b"[]", b"{}", b"[[]]"):
        return None, ()
    try:
        value = _segmentation.decode(raw)
    except UNREADABLE as error:
        raise Quarantine("polygon.invalid", f"segmentation: {error}") from error
    if isinstance(value, RawRle):
        if width and height and value.size != (height, width):
            raise Quarantine(
                "rle.size_mismatch", f"size is {list(value.size)}, but the image is [{height}, {width}]"
            )
        try:
            return rle_from_counts(value.counts, value.size), ()
        except (ValueError, OverflowError) as error:
            raise Quarantine("rle.size_mismatch", str(error)) from error
    if not value:
        return None, ()
    try:
        check_polygons(value)
    except ValueError as error:
        raise Quarantine("polygon.invalid", str(error)) from error
    return None, value


def _ignored_regions(item: Joined[A], names: dict[int, str]) -> list[Instance]:
    """Return the image's regions that are neither object nor background. Raises Quarantine `polygon.invalid`."""
    found: list[Instance] = []
    if not (item.raw.ignore_regions_x or item.raw.ignore_regions_y):
        return found
    pairs = zip_longest(item.raw.ignore_regions_x, item.raw.ignore_regions_y, fillvalue=())
    # A file of one category can only mean that one.
    category = next(iter(names.values())) if len(names) == 1 else None
    for number, (xs, ys) in enumerate(pairs):
        if len(xs) != len(ys):
            raise Quarantine("polygon.invalid", f"region {number} has {len(xs)} x and {len(ys)} y")
        width, height = item.image.width, item.image.height
        points = [value for point in zip(xs, ys, strict=True) for value in point]
        try:
            mask = rle_from_polygons([points], width, height) if width and height else None
        except ValueError as error:
            raise Quarantine("polygon.invalid", f"region {number}: {error}") from error
        if mask is not None and rle_area(mask):
            found.append(Instance(id=f"ignore_region {number}", category=category, mask=mask, ignore=True))
    return found


def _unusable(record: RawObject, place: str, names: dict[int, str]) -> Instance:
    """Return what is still known of a rejected object."""
    return Instance(
        id=str(record.id) if record.id is not None else place,
        category=names.get(record.category_id) if record.category_id is not None else None,
        box=from_xywh(record.bbox) if record.bbox is not None and len(record.bbox) == 4 else None,
        ignore=True,
    )


def _licenses(raw: RawFile) -> dict[Id | None, str | None]:
    """Return the names by id; a file that fills the key with something else states no license."""
    try:
        return {item.id: item.name or item.url for item in _licenses_decoder.decode(raw.licenses)}
    except UNREADABLE:
        return {}


def _image_of(data: msgspec.Raw) -> list[str]:
    try:
        return [str(_link.decode(data).image_id)]
    except UNREADABLE:
        return []


def reject(file: str, place: str, reason: str, detail: str) -> Rejected:
    """Return the rejection of the record at a place of a file."""
    return Rejected(key=place, reason=reason, detail=detail, origin=Origin(file=file, record=place))
