"""Requests answered and written: words and objects as JSON, and pictures with what was found drawn on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
import xxhash
from torch import nn

from dataengine import images
from dataengine.annotation import Box, Keypoint, Rle, Turn
from dataengine.catalog import Catalog
from dataengine.errors import Quarantine
from dataengine.files import make_folder, write_atomic
from dataengine.geometry import box_area, rle_from_mask
from dataengine.report.draw import draw_objects, find_skeleton
from dataengine.request import Masked, Request, region_on
from dataengine.sample import TargetInstance
from dataengine.tokens import DET, POSE
from trainer.answer import Answer, Choices, Question, Refused, Result, answers
from trainer.checkpoint import load_model
from trainer.config import encode_settings
from trainer.distributed import find_device
from trainer.settings import DETECTION, EDITING, GENERATION
from trainer.settings import POSE as POSES
from trainer.train import computing_threads

_MADE = {GENERATION: "gen", EDITING: "edit"}


class FoundPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A keypoint of an object: x and y in pixels of the picture."""

    name: str
    x: float
    y: float
    score: float


class FoundObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object that a decoder found: xyxy pixels of the picture, the mask as a COCO run-length code."""

    label: str
    token: str
    score: float
    box: Box
    mask: Rle | None = None
    keypoints: tuple[FoundPoint, ...] | None = None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a request, as it stands in `NAME.json`.

    `pictures` are the files that were asked about, `written` the names of those that were written beside the JSON.
    `ended` says why the text ended; `unanswered` has (routing token, reason) of each that nothing was made of. `key`
    stands for request, model and settings: an answer with the same key need not be given again.
    """

    name: str
    question: str
    pictures: tuple[str, ...]
    text: str
    ended: str
    objects: tuple[FoundObject, ...]
    unanswered: tuple[tuple[str, str], ...]
    written: tuple[str, ...]
    key: str


def predict(
    run_dir: Path,
    requests: Iterable[Request],
    out_dir: Path | None,
    *,
    choices: Choices,
    min_score: float = 0.3,
    device: str = "auto",
    progress: Callable[[int, str], None] = lambda count, text: None,
) -> Iterator[Prediction | Refused]:
    """Yield the answer of a checkpoint, or of a run's newest one, to each request, in order.

    Objects below `min_score` are left out, but for the best one of a [GRD] token. With `out_dir` an answer is written
    as it is given: `NAME-found.png` where objects were found, `NAME-gen.png` and `NAME-edit.png` for pictures that were
    made (`NAME-gen-2.png` for a second one), and last `NAME.json`; one that is already there is not given again. What
    cannot be read or asked is Refused and costs no other. Raises ModelError where there is no checkpoint.
    """
    model, tokenizer, config = load_model(run_dir)
    settings = encode_settings(config, model.config)
    place = find_device(device, None)
    choices = replace(choices, decoding={DETECTION: {"min_score": min_score}, **choices.decoding})
    common = _digest_of(model) + repr((replace(choices, batch_size=0), min_score))
    model.to(place)
    if out_dir is not None:
        make_folder(out_dir)
    waiting = iter(requests)
    with computing_threads(config, place):
        while part := list(itertools.islice(waiting, choices.batch_size)):
            asked = [_read(request, common) for request in part]
            old = [_written(out_dir, one) for one in asked]
            new = answers(
                model,
                tokenizer,
                settings,
                [one.question for one, before in zip(asked, old, strict=True) if before is None],
                choices,
            )
            for request, one, before in zip(part, asked, old, strict=True):
                found = next(new) if before is None else before
                if isinstance(found, Answer):
                    found = write(out_dir, request, one, found, min_score)
                progress(1, request.name)
                yield found


@dataclass(frozen=True)
class Asked:
    """A request that was read: its question, or why there is none, and its key."""

    question: Question | Refused
    key: str


def _read(request: Request, common: str) -> Asked:
    """Read the files of a request."""
    digest = xxhash.xxh3_128((common + repr((request.name, request.text, request.spots))).encode())
    try:
        pictures = []
        for path in request.pictures:
            data = _bytes(path)
            digest.update(data)
            pictures.append(images.decode(data))
        regions = []
        for spot, number in request.spots:
            if isinstance(spot, Masked):
                digest.update(_bytes(spot.path))
            height, width = pictures[number].shape[:2]
            regions.append(region_on(spot, number, width, height))
    except Quarantine as error:
        return Asked(Refused(id=request.name, reason=error.reason, detail=error.detail), "")
    return Asked(
        Question(
            id=request.name,
            turns=(Turn("user", request.text),),
            pictures=tuple(pictures),
            regions=tuple(regions),
        ),
        digest.hexdigest(),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Quarantine("image.missing", f"{path}: no such file") from error
    except OSError as error:
        raise Quarantine("image.unreadable", f"{path}: {error.strerror}") from error


def _digest_of(model: nn.Module) -> str:
    """Return the digest of a model's weights."""
    digest = xxhash.xxh3_128()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _written(out_dir: Path | None, asked: Asked) -> Prediction | None:
    """Return the answer to a question where it was written before, whole."""
    if out_dir is None or isinstance(asked.question, Refused):
        return None
    old = _old(out_dir, asked.question.id)
    whole = old is not None and old.key == asked.key
    return (
        old if old is not None and whole and all((out_dir / name).is_file() for name in old.written) else None
    )


def _old(out_dir: Path, name: str) -> Prediction | None:
    try:
        return msgspec.json.decode((out_dir / f"{name}.json").read_bytes(), type=Prediction)
    except (FileNotFoundError, msgspec.DecodeError):
        return None  # nothing of ours; it is written anew


def write(
    out_dir: Path | None, request: Request, asked: Asked, answer: Answer, min_score: float
) -> Prediction:
    """Return an answer as it is written, after that."""
    assert isinstance(asked.question, Question)
    objects = [one for result in answer.results for one in _objects(answer, result, min_score)]
    files: dict[str, bytes] = {}
    if objects:
        files[f"{request.name}-found.png"] = images.encode(_drawn(asked.question, objects), "png")
    for family, suffix in _MADE.items():
        for number, result in enumerate(answer.of(family), start=1):
            times = "" if number == 1 else f"-{number}"
            pixels_HW3 = result.found.permute(1, 2, 0).cpu().numpy()
            files[f"{request.name}-{suffix}{times}.png"] = images.encode(pixels_HW3, "png")
    prediction = Prediction(
        name=request.name,
        question=request.text,
        pictures=tuple(map(str, request.pictures)),
        text=answer.text,
        ended=answer.ended,
        objects=tuple(objects),
        unanswered=tuple((answer.groups[k].token, reason) for k, reason in answer.unanswered),
        written=() if out_dir is None else tuple(files),
        key=asked.key,
    )
    if out_dir is not None:
        old = _old(out_dir, request.name)
        for name in set(old.written if old is not None else ()) - set(files):
            (out_dir / name).unlink(missing_ok=True)
        for name, data in files.items():
            write_atomic(out_dir / name, data)
        text = msgspec.json.format(msgspec.json.encode(prediction), indent=2)
        write_atomic(out_dir / f"{request.name}.json", text + b"\n")
    return prediction


def _objects(answer: Answer, result: Result, min_score: float) -> Iterator[FoundObject]:
    """Yield the objects of a result, best first; pictures have none."""
    found = result.found
    groups = [answer.groups[place] for place in result.groups]
    if result.family == DETECTION:
        points = itertools.repeat(None)
        masks = itertools.repeat(None) if found.masks_KHW is None else map(_rle, found.masks_KHW)
    elif result.family == POSES:
        named = [group.name for group in groups if group.token == POSE]
        groups = [group for group in groups if group.token == DET]
        points, masks = (
            (_points(named, points_J3.tolist()) for points_J3 in found.keypoints_KJ3),
            itertools.repeat(None),
        )
    else:
        return
    rows = zip(
        found.labels_K.tolist(), found.scores_K.tolist(), found.boxes_K4.tolist(), masks, points, strict=False
    )
    for label, score, box, mask, keypoints in rows:
        if result.family == DETECTION or score >= min_score:
            yield FoundObject(
                label=groups[label].name,
                token=groups[label].token,
                score=round(score, 4),
                box=tuple(round(value, 2) for value in box),
                mask=mask,
                keypoints=keypoints,
            )


def _rle(mask_HW: torch.Tensor) -> Rle:
    return rle_from_mask(mask_HW.cpu().numpy())


def _points(names: Sequence[str], points_J3: Sequence[Sequence[float]]) -> tuple[FoundPoint, ...]:
    return tuple(
        FoundPoint(name=name, x=round(x, 2), y=round(y, 2), score=round(score, 4))
        for name, (x, y, score) in zip(names, points_J3, strict=True)
    )


def _drawn(question: Question, objects: Sequence[FoundObject]) -> images.Pixels:
    """Return the last picture of a question with objects drawn on it, the best on top."""
    picture = len(question.pictures) - 1
    named = next((one.keypoints for one in objects if one.keypoints), ())
    skeleton = find_skeleton(Catalog().labels.values(), [point.name for point in named]) if named else []
    return np.asarray(
        draw_objects(
            question.pictures[picture],
            [_target(one) for one in reversed(objects)],
            [f"{one.label} {one.score:.2f}" for one in reversed(objects)],
            question.regions,
            picture,
            skeleton,
        )
    )


def _target(found: FoundObject) -> TargetInstance:
    keypoints: tuple[Keypoint, ...] | None = None
    if found.keypoints is not None:
        keypoints = tuple((point.x, point.y, 2) for point in found.keypoints)
    return TargetInstance(
        label=found.label, box=found.box, area=box_area(found.box), mask=found.mask, keypoints=keypoints
    )
