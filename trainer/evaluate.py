"""What a model is worth on samples that were kept back: free-running, as a user asks it, and teacher-forced.

A call writes every sample's answers to `predictions.jsonl` as they come, and goes on behind them when it is called
again; measures are computed from that file alone. One process does it.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import xxhash
from PIL import Image
from transformers import PreTrainedTokenizerFast

from dataengine.errors import Quarantine, Skip
from dataengine.files import write_atomic
from dataengine.images import Pixels, show
from dataengine.sample import Sample, measure_of
from dataengine.state import Hole, check_budget
from dataengine.store import StoreSettings, Url
from trainer import forced, predictions
from trainer.ask import asks_of, parts_of, questions_of
from trainer.checkpoint import find_checkpoint, load_model, weights_digest
from trainer.config import encode_settings
from trainer.encode import fill, measure
from trainer.free import Asked, answer_all
from trainer.model.visionllm import VisionLLM
from trainer.predictions import PREDICTIONS, Book, Free, Header, Line, Look, Prediction, Unusable, Whole
from trainer.report import evaluation_page
from trainer.samples import IN_ORDER, Loaded, describe, serve_samples
from trainer.score import FORCED, FREE, View, evaluation_of, sample_score, task_of
from trainer.settings import EncodeSettings, family_of, tiles_per_image
from trainer.text import encode_text
from trainer.train import computing_threads

EVALUATION, PAGE = "evaluation.json", "evaluation.html"
# Of what makes predictions beyond the settings below: raised when the same settings give others.
METHOD = 1
LOOK_SIDE, LOOKS = 420, 6  # pixels; right and wrong answers of each task that a page can show


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How samples are evaluated. `free`: the model is also asked to answer by itself; `batch_size` samples at once."""

    free: bool = True
    batch_size: int = 8
    max_new_tokens: int = 512


@dataclass
class _Item:
    """A sample on its way: its decoded pictures, the samples that it is asked as, as they are and as they fit the model
    with the answer, and what was seen of each."""

    number: int
    sample: Sample
    images: list[Pixels]
    asked: list[Sample]
    parts: list[forced.Part]
    shortened: int
    seen: list[forced.Seen] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """A model with all that it takes to ask it."""

    model: VisionLLM
    tokenizer: PreTrainedTokenizerFast
    encoding: EncodeSettings
    settings: Settings

    @property
    def window(self) -> int:
        """How many samples are answered together, and written at a time."""
        return 2 * self.settings.batch_size

    def answer(
        self, samples: Sequence[tuple[int, Loaded | Hole]], looks: Counter[tuple[str, bool]]
    ) -> list[Line]:
        """Return the predictions of some numbered samples, in their order; `looks` counts those with pictures."""
        lines: dict[int, Line] = {}
        items = []
        for number, found in samples:
            one = self._prepare(number, found)
            if isinstance(one, _Item):
                items.append(one)
            else:
                lines[number] = one
        self._force(items)
        answered = self._ask(items) if self.settings.free else [None] * len(items)
        for item, one in zip(items, answered, strict=True):
            lines[item.number] = _line(item, one, looks)
        return [lines[number] for number, _ in samples]

    def _prepare(self, number: int, found: Loaded | Hole) -> _Item | Unusable:
        """Decode and encode a sample; the reason why not where it cannot be."""
        if isinstance(found, Hole):
            return Unusable(
                number=number, id=found.id, reason=found.reason, detail=found.detail, damaged=True
            )
        sample, pictures = found
        try:
            images = [show(data, measure_of(sample, k), None) for k, data in enumerate(pictures)]
            asked = parts_of(sample, self._most_classes(sample), self._fits)
            parts, first, shortened = [], 0, 0
            for part in asked:
                measured = measure(part, self.tokenizer, self.encoding, None)
                parts.append(forced.Part(measured.sample, fill(measured, images, self.encoding), first))
                first += sum(turn.role == "assistant" for turn in part.conversation)
                shortened += measured.shortened.get("rounds", 0)
        except (Skip, Quarantine) as reason:
            return Unusable(number=number, id=sample.id, reason=reason.reason, detail=reason.detail)
        return _Item(number, sample, images, asked, parts, shortened)

    def _most_classes(self, sample: Sample) -> int | None:
        """Return how many groups the decoder that answers a sample takes at once, None where that has no limit."""
        family = family_of(sample)
        if family not in self.model.decoders:
            return None
        return getattr(getattr(self.model.decoders[family], "config", None), "max_groups", None)

    def _fits(self, sample: Sample) -> bool:
        tiles = tiles_per_image(sample, self.encoding)
        text = encode_text(sample.conversation, tiles, self.tokenizer, self.encoding)
        return len(text.input_ids_L) <= self.encoding.max_length

    def _force(self, items: Sequence[_Item]) -> None:
        """Let the model see the parts of all samples, those of one task and one kind of answer together."""
        groups: dict[tuple[Any, ...], list[tuple[_Item, forced.Part]]] = {}
        for item in items:
            for part in item.parts:
                decoding = msgspec.json.encode(forced.decoding_of(item.sample))
                key = (part.encoded.family, item.sample.dataset, item.sample.task, decoding)
                groups.setdefault(key, []).append((item, part))
        for group in groups.values():
            for start in range(0, len(group), self.settings.batch_size):
                some = group[start : start + self.settings.batch_size]
                seen = forced.predict_parts(
                    self.model, [part for _, part in some], self.tokenizer.pad_token_id
                )
                for (item, _), one in zip(some, seen, strict=True):
                    item.seen.append(one)

    def _ask(self, items: Sequence[_Item]) -> list[tuple[Free, Pixels | None]]:
        """Let the model answer the questions of all samples by itself."""
        asked = [
            Asked(
                sample=item.sample,
                questions=questions_of(item.sample, item.asked, item.images),
                in_parts=len(item.parts) > 1,
                wanted=forced.wanted_pixels(item.parts[0].encoded),
            )
            for item in items
        ]
        return answer_all(
            self.model,
            self.tokenizer,
            self.encoding,
            asked,
            batch_size=self.settings.batch_size,
            max_new_tokens=self.settings.max_new_tokens,
        )


def _line(
    item: _Item, answered: tuple[Free, Pixels | None] | None, looks: Counter[tuple[str, bool]]
) -> Prediction:
    """Return a sample's prediction, with pictures where the page still has room for one so right or wrong."""
    line = Prediction(
        number=item.number,
        sample=item.sample,
        asks=tuple(asks_of(item.sample, item.asked)),
        forced=forced.joined(item.seen, item.parts),
        free=None if answered is None else answered[0],
        shortened=item.shortened,
    )
    kind = kind_of(line)
    if looks[kind] >= LOOKS:
        return line
    looks[kind] += 1
    made = None if answered is None else answered[1]
    look = Look(
        images=tuple(map(_small, item.images)),
        forced=None if item.seen[0].made is None else _small(item.seen[0].made),
        free=None if made is None else _small(made),
    )
    return msgspec.structs.replace(line, look=look)


def kind_of(line: Prediction) -> tuple[str, bool]:
    """Return a prediction's task, and whether the model's own answer, if there is one, is rather right than wrong."""
    score = sample_score(View(line, FORCED if line.free is None else FREE))
    return task_of(line), score is not None and score >= 0.5


def _small(pixels: Pixels) -> bytes:
    picture = Image.fromarray(pixels)
    picture.thumbnail((LOOK_SIDE, LOOK_SIDE), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=80)
    return sink.getvalue()


def predict(
    evaluator: Evaluator,
    samples: Iterable[Loaded | Hole],
    path: Path,
    book: Book,
    *,
    limit: int | None = None,
    max_bad_ratio: float = 0.01,
    progress: Callable[[int, str], None] = lambda count, text: None,
) -> list[Line]:
    """Answer the samples that a file has not yet, and return the lines of all.

    `samples` are those behind the ones of `book`. Raises BudgetBroken where more samples are damaged than
    `max_bad_ratio` allows; see `check_budget`.
    """
    lines = list(book.lines)
    holes = [_hole(line) for line in lines if isinstance(line, Unusable) and line.damaged]
    check_budget(holes, len(lines), max_bad_ratio)
    if book.whole is not None:
        return lines
    looks = Counter(kind_of(line) for line in lines if isinstance(line, Prediction) and line.look is not None)
    numbered = enumerate(_within_budget(samples, holes, len(lines), max_bad_ratio), start=len(lines))
    while window := list(itertools.islice(numbered, evaluator.window)):
        new = evaluator.answer(window, looks)
        predictions.append(path, new)
        lines += new
        progress(len(new), new[-1].sample.task if isinstance(new[-1], Prediction) else new[-1].reason)
    predictions.append(path, [Whole(samples=len(lines), limit=limit)])
    return lines


def _within_budget(
    samples: Iterable[Loaded | Hole], holes: list[Hole], start: int, max_bad_ratio: float
) -> Iterator[Loaded | Hole]:
    """Yield the samples behind the first `start`, which had `holes`, as long as damage stays within the budget."""
    for number, found in enumerate(samples, start=start + 1):
        if isinstance(found, Hole):
            holes.append(found)
            check_budget(holes, number, max_bad_ratio)
        yield found


def _hole(line: Unusable) -> Hole:
    return Hole(
        position=line.number,
        reason=line.reason,
        id=line.id,
        source="",
        index=line.number,
        file="",
        offset=0,
        detail=line.detail,
    )


def evaluate(
    model: VisionLLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    samples: Iterable[Loaded | Hole],
    out_dir: Path,
    *,
    max_bad_ratio: float = 0.01,
    progress: Callable[[int, str], None] = lambda count, text: None,
    **how: Any,
) -> dict[str, Any]:
    """Return and write to `out_dir` what a model is worth on some samples; `how` are the fields of `Settings`.

    What a call before has written there is lost; `evaluate_run` goes on behind it. Raises BudgetBroken.
    """
    evaluator = Evaluator(
        model=model.eval(), tokenizer=tokenizer, encoding=settings, settings=Settings(**how)
    )
    path = out_dir / PREDICTIONS
    path.unlink(missing_ok=True)
    book = predictions.resume(path, _header(evaluator, "", "", {}), None)
    lines = predict(evaluator, samples, path, book, max_bad_ratio=max_bad_ratio, progress=progress)
    return publish(book.header, lines, out_dir)


def _header(evaluator: Evaluator, model: str, data: str, metrics: dict[str, str]) -> Header:
    how = {"method": METHOD, **msgspec.structs.asdict(evaluator.settings), "encoding": evaluator.encoding}
    # As a file gives them back: sets have an order there.
    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(how, order="deterministic"))
    digest = xxhash.xxh3_128_hexdigest(msgspec.json.encode([model, data, settings], order="deterministic"))
    return Header(
        version=predictions.VERSION,
        digest=digest,
        model=model,
        data=data,
        settings=settings,
        metrics=metrics,
        window=evaluator.window,
    )


def publish(header: Header, lines: Sequence[Line], out_dir: Path) -> dict[str, Any]:
    """Compute all measures from predictions; return and write them, with a page that shows some of the answers."""
    result = {
        "version": predictions.VERSION,
        "digest": header.digest,
        "model": header.model,
        "data": header.data,
        **evaluation_of(lines, header.metrics),
    }
    write_atomic(out_dir / EVALUATION, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    write_atomic(out_dir / PAGE, evaluation_page(result, lines).encode())
    return result


def evaluate_run(
    run_dir: Path,
    data: Path | Url,
    out_dir: Path,
    *,
    use: str = "eval",
    limit: int | None = None,
    max_bad_ratio: float | None = None,
    store: StoreSettings = IN_ORDER,
    replace: bool = False,
    progress: Callable[[int, str], None] = lambda count, text: None,
    **how: Any,
) -> dict[str, Any]:
    """Evaluate a checkpoint, or a run's newest one, on a shard set or a folder of manifests; at most `limit` samples.

    A call that was stopped goes on where it was. Predictions in `out_dir` of another model, other data or settings are
    an error, unless `replace` gives them up. `max_bad_ratio` is the run's by default; `how` are the fields of
    `Settings`. Raises ModelError where there is no checkpoint, and BudgetBroken.
    """
    checkpoint = find_checkpoint(run_dir)
    model, tokenizer, config = load_model(checkpoint.directory)
    evaluator = Evaluator(
        model=model,
        tokenizer=tokenizer,
        encoding=encode_settings(config, model.config),
        settings=Settings(**how),
    )
    data_digest, metrics = describe(data, store)
    weights = weights_digest(model)
    header = _header(evaluator, f"{checkpoint.directory.name} {weights}", f"{use} {data_digest}", metrics)
    path = out_dir / PREDICTIONS
    book = predictions.resume(path, header, limit, replace=replace)
    samples = itertools.islice(
        serve_samples(data, use, store, start=len(book.lines)),
        None if limit is None else max(limit - len(book.lines), 0),
    )
    with computing_threads(config, next(model.parameters()).device):
        lines = predict(
            evaluator,
            samples,
            path,
            book,
            limit=limit,
            max_bad_ratio=config.max_bad_ratio if max_bad_ratio is None else max_bad_ratio,
            progress=progress,
        )
    return publish(header, lines, out_dir)


def evaluate_predictions(path: Path, out_dir: Path) -> dict[str, Any]:
    """Compute all measures anew from a file of predictions, without a model. Raises ModelError where it is none."""
    book = predictions.read(path)
    return publish(book.header, book.lines, out_dir)
