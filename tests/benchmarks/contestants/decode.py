"""Ways to decode a JPEG and resize it to 448 x 448 RGB uint8."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import meter
import numpy as np

SIDE = 448


def _each(folder: str, decode: Callable[[bytes], Any]) -> dict[str, Any]:
    pictures = [path.read_bytes() for path in sorted(Path(folder).glob("*.jpg"))]

    def start() -> Iterator[tuple[int, int]]:
        for data in pictures:
            yield 1, decode(data).nbytes

    return meter.consume(start, passes=2)


def pillow(folder: str) -> dict[str, Any]:
    """Pillow, resized by its bicubic filter."""
    import io

    from PIL import Image

    def decode(data: bytes) -> Any:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    return _each(folder, decode)


def simplejpeg(folder: str) -> dict[str, Any]:
    """simplejpeg at full size, resized by OpenCV."""
    import cv2
    import simplejpeg as jpeg

    cv2.setNumThreads(1)
    return _each(
        folder, lambda data: cv2.resize(jpeg.decode_jpeg(data), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    )


def scaled(folder: str) -> dict[str, Any]:
    """simplejpeg at the least eighth of the size that is large enough, resized by OpenCV."""
    import cv2
    import simplejpeg as jpeg

    cv2.setNumThreads(1)

    def decode(data: bytes) -> Any:
        small = jpeg.decode_jpeg(data, min_height=SIDE, min_width=SIDE, min_factor=1)
        return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)

    return _each(folder, decode)


def our_way() -> Callable[[bytes], Any]:
    """Return what the trainer does with a picture, before it becomes a float: decoded, resized by torch."""
    import torch

    from dataengine.images import decode
    from trainer import views

    torch.set_num_threads(1)

    def made(data: bytes) -> Any:
        return views._resize(views._planes(decode(data, (SIDE, SIDE))), SIDE, SIDE, "bicubic").numpy()

    return made


def ours(folder: str) -> dict[str, Any]:
    """Ours, pictures alone."""
    return _each(folder, our_way())


def stream(shards: str, most: int) -> dict[str, Any]:
    """Ours, from shards."""
    from dataengine.stream import Stream, recipe

    decode = our_way()

    def start() -> Iterator[tuple[int, int]]:
        stream = Stream(Path(shards), recipe(seed=1, global_batch=32, policy="proportional"))
        for position in range(most):
            yield 1, decode(stream.read(position)[1][0]).nbytes

    return meter.consume(start, most=most)


TASKS = {"pillow": pillow, "simplejpeg": simplejpeg, "scaled": scaled, "ours": ours, "stream": stream}

if __name__ == "__main__":
    meter.main(TASKS, "numpy", "pillow", "simplejpeg")
