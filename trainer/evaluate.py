"""Teacher-forced evaluation: the answer's routing tokens are given, objects and next tokens are predicted.

What is measured is the decoders and the language model's next token, not whether the model would have routed by itself.
No box, mask or label of a target reaches the model: targets are taken out of every batch first.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from dataengine import manifest
from dataengine.errors import Damage, Quarantine, Skip, SourceError
from dataengine.files import Root, write_atomic
from dataengine.geometry import rle_from_mask
from dataengine.index import SHARDS
from dataengine.mix import Recipe
from dataengine.sample import InstanceTargets, Sample
from dataengine.state import Hole, check_budget
from dataengine.store import StoreSettings, Url
from dataengine.stream import Stream
from trainer.batch import IGNORED, Batch, ObjectTargets
from trainer.checkpoint import load_model
from trainer.collate import collate
from trainer.config import encode_settings
from trainer.encode import Encoded, encode_files
from trainer.metrics.masks import answer_scores
from trainer.metrics.objects import Found, Scene, average_precision, precision_at_50
from trainer.model.decoders.detection import ObjectPredictions
from trainer.model.visionllm import VisionLLM
from trainer.settings import DETECTION, TEXT, EncodeSettings
from trainer.train import computing_threads

EVALUATION = "evaluation.json"
TOP_K = 100
# Samples are read in the order in which they lie: a request brings many.
IN_ORDER = StoreSettings(read_ahead_bytes=8 * 2**20)

Loaded = tuple[Sample, list[bytes]]


@dataclass
class _Account:
    """What is gathered about one task of one dataset: per sample text loss and exact match, scenes by kind of route."""

    text_losses: list[float] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)
    listed: list[Scene] = field(default_factory=list)
    pointed: list[Scene] = field(default_factory=list)


def read_samples(path: Path | Url, use: str = "eval", store: StoreSettings = IN_ORDER) -> Iterator[Loaded]:
    """Yield what `serve_samples` does. Raises Damage where a sample is damaged."""
    for found in serve_samples(path, use, store):
        if isinstance(found, Hole):
            raise Damage(found.detail, found.reason, found.file, found.offset)
        yield found


def serve_samples(
    path: Path | Url, use: str = "eval", store: StoreSettings = IN_ORDER
) -> Iterator[Loaded | Hole]:
    """Yield every sample of a shard set (its sources of that use), or of all manifests in a folder, with its pictures.

    A damaged sample of a shard set is a Hole, whose position is its place among the samples that are read. Raises
    ShardError, PlanError or SourceError where there is nothing to read.
    """
    if isinstance(path, Url) or (path / SHARDS).is_file():
        stream = Stream(path, Recipe(seed=0, global_batch=1, policy="proportional"), use=use, store=store)
        try:
            names = [source.name for source in stream.plan.sources]
            places = [
                (name, *found)
                for name in names
                for found in enumerate(stream.index.rows_by_source[name].tolist())
            ]
            for position, (name, index, row) in enumerate(places):
                try:
                    yield stream.read_row(row)
                except Damage as damage:
                    yield Hole(
                        position=position,
                        reason=damage.reason,
                        id=stream.index.row(row)["id"],
                        source=name,
                        index=index,
                        file=damage.file,
                        offset=damage.offset,
                        detail=str(damage),
                    )
        finally:
            stream.close()
        return
    for directory in manifest.find(path):
        root = Root(Path(manifest.load(directory).root))
        for sample in manifest.read_samples(directory):
            yield sample, [_read_picture(root, image.path) for image in sample.images]


def _read_picture(root: Root, name: str) -> bytes:
    path = root.inside(name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read: {error.strerror}; the manifest was converted from it, put it back"
        ) from error


def evaluate(
    model: VisionLLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    samples: Iterable[Loaded | Hole],
    out_dir: Path,
    *,
    batch_size: int = 8,
    max_bad_ratio: float = 0.01,
    progress: Callable[[int, str], None] = lambda count, text: None,
) -> dict[str, Any]:
    """Return and write to `out_dir/evaluation.json` what the model is worth on some samples.

    `tasks` holds, for each `dataset/task`: `samples`, `text_loss` (mean of the samples' mean cross entropy),
    `exact_match` (share of samples whose every labelled token is the likeliest), and for tasks with objects `box_ap`,
    `box_ap50`, `box_ap75` (class lists), the same as `mask_...` where every object has a mask, or `precision_at_50`
    and `mean_mask_iou` (expressions and regions). `skipped` counts samples that could not be used, by reason. Raises
    BudgetBroken where more samples are damaged than `max_bad_ratio` allows; see `check_budget`.
    """
    accounts: dict[str, _Account] = {}
    skipped: Counter[str] = Counter()
    done = 0
    device = next(model.parameters()).device
    model.eval()
    for group in _batched(_whole(samples, skipped, max_bad_ratio), tokenizer, settings, batch_size, skipped):
        batch = blind(collate([encoded for encoded, _ in group], tokenizer.pad_token_id)).to(device)
        losses, exact = _text(model, batch)
        scenes = (
            _scenes(model, batch, group)
            if batch.family == DETECTION and DETECTION in model.decoders
            else None
        )
        for row, (_, sample) in enumerate(group):
            account = accounts.setdefault(f"{sample.dataset}/{sample.task}", _Account())
            account.text_losses.append(losses[row])
            account.exact.append(exact[row])
            if scenes is not None:
                listed = all(route.kind == "category" for route in sample.routes)
                (account.listed if listed else account.pointed).append(scenes[row])
        done += len(group)
        progress(len(group), batch.family)
    result = {
        "samples": done,
        "skipped": dict(sorted(skipped.items())),
        "tasks": {name: _report(account) for name, account in sorted(accounts.items())},
    }
    write_atomic(out_dir / EVALUATION, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    return result


def blind(batch: Batch) -> Batch:
    """Return the batch without any target: what is left is what a user would give, and the answer's text."""
    nothing = ObjectTargets(
        labels_n=torch.zeros(0, dtype=torch.int64),
        boxes_n4=torch.zeros((0, 4)),
        masks_nHW=torch.zeros((0, 1, 1), dtype=torch.uint8),
        has_mask_n=torch.zeros(0, dtype=torch.bool),
        ignore_m4=torch.zeros((0, 4)),
    )
    return replace(batch, targets=tuple(nothing for _ in batch.targets))


def _whole(samples: Iterable[Loaded | Hole], skipped: Counter[str], max_bad_ratio: float) -> Iterator[Loaded]:
    """Yield the samples that are not damaged; the others are counted."""
    holes: list[Hole] = []
    for number, found in enumerate(samples, 1):
        if isinstance(found, Hole):
            holes.append(found)
            skipped[found.reason] += 1
            check_budget(holes, number, max_bad_ratio)
        else:
            yield found


def _batched(
    samples: Iterable[Loaded],
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    batch_size: int,
    skipped: Counter[str],
) -> Iterator[list[tuple[Encoded, Sample]]]:
    """Yield samples in batches of one family each; those that cannot be used are counted."""
    waiting: dict[str, list[tuple[Encoded, Sample]]] = {}
    for sample, pictures in samples:
        try:
            encoded = encode_files(sample, pictures, tokenizer, settings, None)
        except (Skip, Quarantine) as reason:
            skipped[reason.reason] += 1
            continue
        group = waiting.setdefault(encoded.family, [])
        group.append((encoded, sample))
        if len(group) == batch_size:
            yield waiting.pop(encoded.family)
    yield from waiting.values()


@torch.no_grad()
def _text(model: VisionLLM, batch: Batch) -> tuple[list[float], list[bool]]:
    """Return each sample's mean text loss, and whether every labelled token of it is the likeliest one."""
    with _outputs_of(model.language.head) as outputs:
        output = model(replace(batch, family=TEXT))
    next_BL = batch.labels_BL[:, 1:]
    scored_BL = next_BL != IGNORED
    # The head scores the labelled positions alone, row by row.
    wrong_BL = torch.zeros_like(scored_BL)
    wrong_BL[scored_BL] = outputs[0].argmax(-1) != next_BL[scored_BL]
    return output.text_loss_B.tolist(), (~wrong_BL.any(1)).tolist()


@contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what a module returns while the block runs."""
    outputs: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def _scenes(model: VisionLLM, batch: Batch, group: list[tuple[Encoded, Sample]]) -> list[Scene]:
    """Return truth and predictions of each sample; masks are only asked for where the truth has some."""
    instances = [_instances(sample) for _, sample in group]
    with_masks = any(item.mask is not None for items in instances for item in items)
    predictions = model.predict_objects(batch, top_k=TOP_K, with_masks=with_masks)
    return [
        Scene(encoded.original_size[1], encoded.original_size[0], items, _found(encoded.names, predicted))
        for (encoded, _), items, predicted in zip(group, instances, predictions, strict=True)
    ]


def _instances(sample: Sample) -> tuple[Any, ...]:
    return sample.targets.instances if isinstance(sample.targets, InstanceTargets) else ()


def _found(names: tuple[str, ...], predicted: ObjectPredictions) -> list[Found]:
    masks_KHW = None if predicted.masks_KHW is None else predicted.masks_KHW.cpu().numpy()
    rows = zip(
        predicted.labels_K.tolist(), predicted.boxes_K4.tolist(), predicted.scores_K.tolist(), strict=True
    )
    return [
        Found(names[label], tuple(box), score, None if masks_KHW is None else rle_from_mask(masks_KHW[place]))
        for place, (label, box, score) in enumerate(rows)
    ]


def _report(account: _Account) -> dict[str, Any]:
    report: dict[str, Any] = {
        "samples": len(account.exact),
        "text_loss": sum(account.text_losses) / len(account.text_losses),
        "exact_match": sum(account.exact) / len(account.exact),
    }
    if (boxes := average_precision(account.listed, "bbox")) is not None:
        report |= {f"box_{name}": value for name, value in boxes.items()}
        if all(item.mask is not None for scene in account.listed for item in scene.truth):
            masks = average_precision(account.listed, "segm") or {}
            report |= {f"mask_{name}": value for name, value in masks.items()}
    return report | (precision_at_50(account.pointed) or {}) | (answer_scores(account.pointed) or {})


def evaluate_run(
    run_dir: Path,
    data: Path | Url,
    out_dir: Path,
    *,
    use: str = "eval",
    limit: int | None = None,
    max_bad_ratio: float | None = None,
    store: StoreSettings = IN_ORDER,
    progress: Callable[[int, str], None] = lambda count, text: None,
) -> dict[str, Any]:
    """Evaluate a checkpoint, or a run's newest one, on a shard set or a folder of manifests; at most `limit` samples.

    `max_bad_ratio` is the run's by default. Raises ModelError where there is no checkpoint, and BudgetBroken.
    """
    model, tokenizer, config = load_model(run_dir)
    settings = encode_settings(config, model.config)
    samples = itertools.islice(serve_samples(data, use, store), limit)
    with computing_threads(config, next(model.parameters()).device):
        return evaluate(
            model,
            tokenizer,
            settings,
            samples,
            out_dir,
            max_bad_ratio=config.max_bad_ratio if max_bad_ratio is None else max_bad_ratio,
            progress=progress,
        )
