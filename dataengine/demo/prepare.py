"""Lay out the demo's data root: pictures copied from the installed scikit-image, annotations made for this project."""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from dataengine.demo.edits import EditRow, Mask, Pixels, apply_edit
from dataengine.errors import SourceError, UsageError
from dataengine.files import write_atomic
from dataengine.geometry import mask_from_rle, rle_from_counts, rle_from_polygons

ANNOTATIONS = Path(__file__).parent / "annotations"
# The annotations are true of exactly these bytes: file name -> SHA-256.
_PICTURES = Path(__file__).parent / "pictures.json"


class _Runs(msgspec.Struct):
    size: tuple[int, int]
    counts: list[int]


class _Picture(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int


class _Object(msgspec.Struct):
    id: int
    image_id: int
    segmentation: list[list[float]] | _Runs


class _Objects(msgspec.Struct):
    images: list[_Picture]
    annotations: list[_Object]


def prepare(out: Path) -> None:
    """Write the demo's data root; what lies there already with the same bytes is left alone.

    `out` gets `images/` (the bytes of scikit-image's files), `coco/`, `voc/`, `refcoco/`, `vqa/`,
    `llava/` and `t2i/` (annotations in their original layouts), `vqa/images/` (the same pictures as JPEG under VQA's
    names, `COCO_demo_<image id, 12 digits>.jpg`) and `ip2p/` (InstructPix2Pix folders, computed from `images/`).
    Raises UsageError without scikit-image and SourceError where its pictures are not the ones annotated.
    """
    objects = msgspec.json.decode((ANNOTATIONS / "coco/instances.json").read_bytes(), type=_Objects)
    pictures = packaged_pictures()
    for name, data in pictures.items():
        _write(out / "images" / name, data)
    for path in sorted(ANNOTATIONS.rglob("*")):
        relative = path.relative_to(ANNOTATIONS)
        if path.is_file() and relative.parts[0] != "ip2p":
            _write(out / relative, path.read_bytes())
    for picture in objects.images:
        data = pictures[picture.file_name]
        name = f"COCO_demo_{picture.id:012d}.jpg"
        _write(out / "vqa/images" / name, data if picture.file_name.endswith(".jpg") else _jpeg(pixels(data)))
    _write_edits(out / "ip2p", objects, pictures)


def packaged_pictures() -> dict[str, bytes]:
    """Return the demo's pictures as scikit-image packages them: file name -> bytes. Downloads nothing.

    Raises UsageError without scikit-image, SourceError for a picture that is missing or has other bytes.
    """
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise UsageError(
            "demo: scikit-image is not installed, expected for the demo's photographs; "
            "run pip install 'dataengine[demo]'"
        )
    folder = Path(package.origin).parent / "data"
    found = {}
    for name, digest in msgspec.json.decode(_PICTURES.read_bytes(), type=dict[str, str]).items():
        path = folder / name
        if not path.is_file():
            raise SourceError(f"{path}: no such file; the demo needs a scikit-image wheel that holds it")
        found[name] = path.read_bytes()
        actual = hashlib.sha256(found[name]).hexdigest()
        if actual != digest:
            raise SourceError(
                f"{path}: sha256 is {actual[:12]}, expected {digest[:12]}; "
                "the demo's annotations were made for another version of this picture"
            )
    return found


def read_edits() -> list[EditRow]:
    """Return the table of edits, in the order of their folders."""
    return msgspec.json.decode((ANNOTATIONS / "ip2p/edits.json").read_bytes(), type=list[EditRow])


def pixels(data: bytes) -> Pixels:
    """Decode a picture to RGB (H, W, 3); what is transparent becomes white."""
    with Image.open(io.BytesIO(data)) as opened:
        if opened.mode != "RGBA":
            return np.asarray(opened.convert("RGB"))
        white = Image.new("RGBA", opened.size, "white")
        return np.asarray(Image.alpha_composite(white, opened).convert("RGB"))


def _write_edits(folder: Path, objects: _Objects, pictures: dict[str, bytes]) -> None:
    listing = []
    for row in read_edits():
        prompt = {"input": row.input, "edit": row.instruction, "output": row.output}
        _write(folder / row.dir / "prompt.json", msgspec.json.encode(prompt) + b"\n")
        for pair in row.pairs:
            before = pixels(pictures[pair.picture])
            thing = None if pair.ann_id is None else _mask_of(pair.ann_id, objects)
            after = apply_edit(before, row.operation, row.parameters, thing)
            _write(folder / row.dir / f"{pair.seed}_0.jpg", _jpeg(before))
            _write(folder / row.dir / f"{pair.seed}_1.jpg", _jpeg(after))
        listing.append([row.dir, [pair.seed for pair in row.pairs]])
    _write(folder / "seeds.json", msgspec.json.encode(listing) + b"\n")


def _mask_of(ann_id: int, objects: _Objects) -> Mask:
    thing = next(item for item in objects.annotations if item.id == ann_id)
    picture = next(item for item in objects.images if item.id == thing.image_id)
    if isinstance(thing.segmentation, _Runs):
        rle = rle_from_counts(thing.segmentation.counts, thing.segmentation.size)
    else:
        rle = rle_from_polygons(thing.segmentation, picture.width, picture.height)
    return mask_from_rle(rle).astype(np.bool_)


def _jpeg(picture: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    if not (path.is_file() and path.read_bytes() == data):
        write_atomic(path, data)
