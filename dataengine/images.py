"""Pictures: what a header says, limits before decoding, and decoding to RGB."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from pathlib import Path
from typing import IO, Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from dataengine.annotation import Measure
from dataengine.errors import Quarantine

Format = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff"]
Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.integer | np.floating]

MAX_PIXELS = 178_956_970  # Pillow's own refusal, twice its warning level
MAX_BYTES = 512 * 2**20
# By what a JPEG can be divided as it is decoded, without a detour.
REDUCTIONS = (1, 2, 4, 8)
_FORMATS: dict[str, Format] = {
    "JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff",
}  # fmt: skip
EXTENSIONS: dict[str, Format] = {
    "jpg": "jpeg", "jpeg": "jpeg", "jpe": "jpeg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp",
    "tif": "tiff", "tiff": "tiff",
}  # fmt: skip
_PIXEL_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError)
_TRANSPOSED = frozenset({5, 6, 7, 8})
# Chunks of a PNG that can tell an orientation, as Pillow reads them: one kind always, others under these keywords.
_EXIF_CHUNK, _TEXT_CHUNKS = b"eXIf", frozenset({b"zTXt", b"tEXt", b"iTXt"})
_EXIF_KEYWORDS = (b"Raw profile type exif", b"XML:com.adobe.xmp")
# What the header of a plain JPEG consists of, with the bytes that Pillow wants of each: JFIF, Adobe's colour transform,
# quantisation tables, Huffman tables, restart interval, comment, baseline to progressive frame, scan.
_HEAD_BYTES = 4096
_FRAMES, _TABLES, _SCAN = (0xC0, 0xC1, 0xC2), 0xDB, 0xDA
_FRAME_SIZE = struct.Struct(">HH")
_PLAIN_SEGMENTS = {
    0xE0: 12, 0xEE: 12, _TABLES: 0, 0xC4: 0, 0xDD: 0, 0xFE: 0, **dict.fromkeys(_FRAMES, 0), _SCAN: 0,
}  # fmt: skip


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture's header says: size in pixels after EXIF correction, format, EXIF orientation (1: upright)."""

    width: int
    height: int
    format: Format
    orientation: int


def _open(data: bytes | Path) -> Image.Image:
    try:
        # A pipe would block whoever opens it.
        if isinstance(data, Path) and not stat.S_ISREG(data.stat().st_mode):
            raise Quarantine("image.corrupt", "not a regular file")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # what Pillow warns about is refused below, or is the audit's to report
            return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    except Image.DecompressionBombError as error:
        raise Quarantine("image.too_large", f"more than {MAX_PIXELS} pixels") from error
    except FileNotFoundError as error:
        raise Quarantine("image.missing", "no such file") from error
    except UnidentifiedImageError as error:
        raise Quarantine("image.corrupt", "not a picture in any known format") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Quarantine("image.corrupt", f"header cannot be read: {error}") from error


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none that makes sense."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow decodes a whole PNG to look for EXIF behind the pixels, which is hardly ever there.
            if isinstance(picture, PngImageFile) and not _tells_late(picture.fp):
                value = Image.Image.getexif(picture).get(0x0112, 1)
            else:
                value = picture.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _tells_late(file: IO[bytes] | None) -> bool:
    """Say whether a chunk that can hold an orientation follows the pixels of a PNG; leaves the file where it was."""
    if file is None:
        return True
    place = file.tell()
    try:
        file.seek(8)
        pixels = False
        while len(head := file.read(8)) == 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            pixels = pixels or kind == b"IDAT"
            if pixels and kind == _EXIF_CHUNK:
                return True
            known = file.read(min(size, 21)) if pixels and kind in _TEXT_CHUNKS else b""
            if known.startswith(_EXIF_KEYWORDS):
                return True
            file.seek(size + 4 - len(known), io.SEEK_CUR)
        return False
    finally:
        file.seek(place)


def _head(data: bytes | Path) -> bytes:
    """Return the first bytes of a picture, none where a file cannot be read: Pillow has the last word on it."""
    if isinstance(data, bytes):
        return data[:_HEAD_BYTES]
    try:
        # A pipe would block whoever waits for its writer.
        number = os.open(data, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(number, _HEAD_BYTES) if stat.S_ISREG(os.fstat(number).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(number)


def _plain_jpeg(head: bytes) -> Probe | None:
    """Return what the header of a plain JPEG says, None for everything that could mean more than it says at once.

    Segments as in ITU-T T.81, annex B. EXIF and XMP (they turn pictures), colour profiles, several pictures in one
    file, CMYK, and headers that are long or broken are left to Pillow, which takes ten times as long.
    """
    if head[:2] != b"\xff\xd8":
        return None
    end, last, width, height = 2, len(head) - 4, 0, 0
    # No segment is cut out: so many small objects would take longer than all that is asked of them.
    while end <= last and head[end] == 0xFF:
        kind, start = head[end + 1], end + 4
        length = (head[end + 2] << 8 | head[end + 3]) - 2
        end = start + length
        if length < 0 or end > len(head) or kind not in _PLAIN_SEGMENTS:
            return None
        if kind in _FRAMES:
            if width or length not in (9, 15) or head[start] != 8 or length != 6 + 3 * head[start + 5]:
                return None
            height, width = _FRAME_SIZE.unpack_from(head, start + 1)
        elif kind == _TABLES:
            if length % 65 or max(head[start:end:65], default=0) > 15:
                return None
        elif kind == _SCAN:
            plain = width and height and width * height <= MAX_PIXELS
            return Probe(width=width, height=height, format="jpeg", orientation=1) if plain else None
        elif length < _PLAIN_SEGMENTS[kind]:
            return None
    return None


def probe(data: bytes | Path) -> Probe:
    """Read a picture's header. Raises Quarantine `image.missing`, `.corrupt`, `.too_large` or `.format`."""
    return _plain_jpeg(_head(data)) or _probe(data)


def _probe(data: bytes | Path) -> Probe:
    picture = _open(data)
    try:
        file_format = _FORMATS.get(picture.format or "")
        if file_format is None:
            raise Quarantine("image.format", f"format {picture.format} is not supported")
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise Quarantine("image.too_large", f"{width} x {height} pixels")
        if width < 1 or height < 1:
            raise Quarantine("image.corrupt", f"size is {width} x {height}")
        orientation = _orientation(picture)
    finally:
        picture.close()
    # Pillow states the size of a TIFF as it is to be seen, that of all others as it is stored.
    if orientation in _TRANSPOSED and file_format != "tiff":
        width, height = height, width
    return Probe(width=width, height=height, format=file_format, orientation=orientation)


def decode(data: bytes, at_least: tuple[int, int] | None = None) -> Pixels:
    """Decode a whole picture to RGB uint8 [height, width, 3], EXIF orientation applied, transparency on white.

    Who needs no more than `at_least` (height, width) may get a JPEG at a half, a quarter or an eighth of its size, as
    `reduction` says, in a fraction of the time. Of 16 bits the upper eight are kept; `numbers` loses
    none. Raises Quarantine as `probe` does, and `image.corrupt` where the pixels end early.
    """
    header = probe(data)
    if header.format == "jpeg":
        try:
            return _decode_jpeg(data, header, at_least)
        except ValueError:
            pass  # CMYK and the like: Pillow knows more, and has the last word on what is corrupt
    picture = _open(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(_rgb(ImageOps.exif_transpose(picture)))
    except _PIXEL_ERRORS as error:
        raise Quarantine("image.corrupt", f"pixels cannot be decoded: {error}") from error
    finally:
        picture.close()


def _rgb(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB: transparency on white, of 16 bits the upper eight."""
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, rgba)
    elif picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        values = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if picture.mode != "F" else max(float(values.max()), 1e-9)
        picture = Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def reduction(height: int, width: int, at_least: tuple[int, int] | None) -> int:
    """Return by what a JPEG of this size is divided when it is decoded: 1, 2, 4 or 8; no side falls below `at_least`.

    The inverse DCT of fewer coefficients gives the smaller picture at once. Both sides must be multiples: a last row
    that stands for less than the others would shift what lies on the picture. Eighths such as 5/8 exist, too, but no
    vector code for them: they take longer than the whole.
    """
    if at_least is None:
        return 1
    return max(
        by
        for by in REDUCTIONS
        if by == 1
        or (height % by == width % by == 0 and height >= by * at_least[0] and width >= by * at_least[1])
    )


def _decode_jpeg(data: bytes, header: Probe, at_least: tuple[int, int] | None) -> Pixels:
    """Decode with libjpeg-turbo alone, a third faster than through Pillow. Raises ValueError for what it cannot."""
    by = reduction(header.height, header.width, at_least)
    height, width = header.height, header.width
    if header.orientation in _TRANSPOSED:
        height, width = width, height
    # These bounds leave one size, that of the reduction.
    bounds = {} if by == 1 else {"min_height": height // by, "min_width": width // by}
    stored = cast(Pixels, simplejpeg.decode_jpeg(data, colorspace="RGB", **bounds))
    return stored if header.orientation == 1 else np.ascontiguousarray(_turned(stored, header.orientation))


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return stored pixels as they are to be seen (EXIF 2.3, tag 0x0112)."""
    if orientation in _TRANSPOSED:
        pixels = pixels.transpose(1, 0, 2)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """How a file stores its pixels: `mode` is Pillow's name of its colours, or YCCK.

    `deep`: more than 8 bits a number; `clear`: some pixel is not opaque; `several`: frames or pages.
    """

    mode: str
    deep: bool = False
    clear: bool = False
    several: bool = False


def survey(data: bytes, header: Probe) -> tuple[Stored, Pixels]:
    """Decode a picture to its last row; return how it is stored, and a copy of an eighth of its size.

    `header` is what `probe` says of it. The copy is RGB uint8 [height, width, 3], as stored, transparency on white. All
    of a JPEG's code is read, and so found to be whole, but only its coarse part becomes pixels, in half of Pillow's
    time for all of them. Other formats are decoded whole and averaged. Raises Quarantine as `decode` does.
    """
    by = REDUCTIONS[-1]
    if header.format == "jpeg":
        try:
            space = simplejpeg.decode_jpeg_header(data)[2]
            small = simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=1, min_width=1, min_factor=by)
            return Stored(mode={"Gray": "L", "YCbCr": "RGB"}.get(space, space)), cast(Pixels, small)
        except ValueError:
            pass  # as in `decode`
    picture = _open(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            deep = _is_deep(picture)
            several = header.format != "jpeg" and bool(getattr(picture, "is_animated", False))
            picture.load()
            kept = Stored(mode=picture.mode, deep=deep, clear=_is_clear(picture), several=several)
            return kept, np.asarray(_averaged(picture, by))
    except _PIXEL_ERRORS as error:
        raise Quarantine("image.corrupt", f"pixels cannot be decoded: {error}") from error
    finally:
        picture.close()


def grey(data: bytes, longest: int) -> Pixels:
    """Decode a picture to a grey copy, uint8 [height, width], upright, whose longer side is `longest` pixels or less.

    Of a JPEG no more is decoded than that takes: the grey half of it, at a half, a quarter or an eighth of its size. A
    smaller picture keeps its size. Raises Quarantine as `decode` does.
    """
    header = probe(data)
    small = _grey_jpeg(data, header, longest) if header.format == "jpeg" else None
    if small is None:
        small = np.asarray(Image.fromarray(decode(data)).convert("L"))
    height, width = small.shape
    if max(height, width) <= longest:
        return small
    scale = longest / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.LANCZOS))


def _grey_jpeg(data: bytes, header: Probe, longest: int) -> Pixels | None:
    """Decode the luminance of a JPEG alone; None for what libjpeg-turbo cannot."""
    by = max(one for one in REDUCTIONS if one == 1 or max(header.width, header.height) >= one * longest)
    height, width = header.height, header.width
    if header.orientation in _TRANSPOSED:
        height, width = width, height
    bounds = {} if by == 1 else {"min_height": height // by, "min_width": width // by}
    try:
        stored = simplejpeg.decode_jpeg(data, colorspace="GRAY", **bounds)
    except ValueError:
        return None  # as in `decode`
    return np.ascontiguousarray(_turned(cast(Pixels, stored), header.orientation)[..., 0])


def _averaged(picture: Image.Image, by: int) -> Image.Image:
    """Return a picture in RGB whose pixels are means of `by` x `by`; colours are converted when they are few."""
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.mode not in ("L", "LA", "RGB", "RGBA", "CMYK") or "transparency" in picture.info:
        picture = _rgb(picture)
    return _rgb(picture.reduce((min(by, picture.width), min(by, picture.height))))


def _is_clear(picture: Image.Image) -> bool:
    """Say whether some pixel is not opaque; a palette may name a clear colour that no pixel has."""
    if not picture.has_transparency_data:
        return False
    seen = picture if picture.mode in ("RGBA", "LA", "PA") else picture.convert("RGBA")
    return cast(tuple[int, int], seen.getchannel("A").getextrema())[0] < 255


def _is_deep(picture: Image.Image) -> bool:
    """Say whether a file stores more than 8 bits a number; Pillow opens 16-bit colours as 8-bit ones."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return True
    return any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))


def encode(pixels: Pixels, file_format: Literal["jpeg", "png"]) -> bytes:
    """Return RGB pixels as a file: JPEG of quality 95 without subsampled colour, or PNG.

    The same pixels give the same bytes with the same build of Pillow.
    """
    sink = io.BytesIO()
    picture = Image.fromarray(pixels)
    if file_format == "jpeg":
        picture.save(sink, "JPEG", quality=95, subsampling=0)
    else:
        picture.save(sink, "PNG")
    return sink.getvalue()


def numbers(data: bytes) -> Numbers:
    """Return what a picture stores, EXIF orientation applied: [height, width] grey of 8 to 32 bits, or RGB [.., 3].

    Raises Quarantine as `decode` does.
    """
    probe(data)
    picture = _open(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = ImageOps.exif_transpose(picture)
            grey = picture.mode in ("L", "I", "F") or picture.mode.startswith("I;16")
            return np.asarray(picture if grey else picture.convert("RGB"))
    except _PIXEL_ERRORS as error:
        raise Quarantine("image.corrupt", f"pixels cannot be decoded: {error}") from error
    finally:
        picture.close()


def measured(data: bytes, measure: Measure) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return a picture's values in the unit of its measure, [height, width] or [height, width, 3], and which are valid.

    Raises Quarantine as `decode` does, and `map.encoding` where the picture cannot hold such numbers.
    """
    stored = numbers(data)
    channels = 3 if measure.quantity == "normal" else 1
    if stored.ndim != (3 if channels == 3 else 2):
        raise Quarantine("map.encoding", f"not {channels} channels, as {measure.quantity} needs")
    if measure.rotated:
        if stored.dtype != np.uint16:
            raise Quarantine(
                "map.encoding", f"numbers are {stored.dtype}, but 16 bits are said to be rotated"
            )
        bits = stored.astype(np.uint16)
        stored = (bits >> measure.rotated) | (bits << (16 - measure.rotated))
    known: npt.NDArray[np.bool_] = np.isfinite(stored) & ~np.isin(stored, measure.invalid)
    values = (stored / measure.scale + measure.offset).astype(np.float32)
    return values, np.asarray(known.any(axis=-1)) if channels == 3 else known


def show(data: bytes, measure: Measure | None, at_least: tuple[int, int] | None = None) -> Pixels:
    """Decode a picture to RGB uint8 [height, width, 3]; measured numbers from dark to bright, invalid ones black.

    `at_least` is that of `decode`; measured numbers come whole.

    Their range is that of the valid ones from the 2nd to the 98th percentile, as monocular depth estimators take it
    (Marigold, Ke et al. 2024): a few far points would leave the rest dark. Vectors are shown as stored.
    """
    if measure is None or measure.quantity == "normal":
        return decode(data, at_least)
    values, valid = measured(data, measure)
    low, high = np.percentile(values[valid], (2, 98)) if valid.any() else (0.0, 1.0)
    share = ((values - low) / max(high - low, 1e-9)).clip(0, 1)
    grey = np.where(valid, np.rint(1 + 254 * share), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
