"""A whole pipeline, stage by stage; what is done and unchanged is not done again."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from dataengine import licenses, selection
from dataengine import manifest as manifests
from dataengine.audit import report as audit_report
from dataengine.audit.run import audit
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.curate import curate, parse
from dataengine.errors import Quarantine, UsageError, nearest
from dataengine.files import Root, digest_file, make_folder, write_atomic
from dataengine.index import SHARDS, Index, load_set
from dataengine.ledger import Ledger, add
from dataengine.mix import plan
from dataengine.pipeline import Pipeline
from dataengine.preview import pictures_of
from dataengine.ratings import table as ratings
from dataengine.report.page import Card, Section, Table, card, render
from dataengine.report.plots import bars, line_plot
from dataengine.shard import has_size, shard, strays
from dataengine.shares import Recipe
from dataengine.stream import recipe, sources

# What `prepare` may name: data that comes with the project or its packages. Found by name, imported when asked for.
PREPARERS = {"demo": "dataengine.demo.prepare"}
CARDS_A_SOURCE = 3
# A single step is noise: the first and last loss of a task are means over so many steps that served it.
EDGE_STEPS = 5
Bar = Callable[[str, str], AbstractContextManager[Callable[[int, str], None]]]


class Step(msgspec.Struct, frozen=True):
    """One line of a run's metrics.jsonl."""

    step: int
    loss: float | None
    tasks: dict[str, float | None]
    terms: dict[str, float | None]


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One source of the mixture: its share as planned and as served, and its task's loss."""

    source: str
    task: str
    planned: float
    served: float
    loss_first: float | None
    loss_last: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline did."""

    ledger: Ledger
    splits: dict[str, Ledger]
    shards: int
    dropped: int
    audit: dict[str, int]
    tasks: list[TaskSummary]
    evaluation: dict[str, Any]
    report: str


def run_pipeline(
    name: str, pipeline: Pipeline, bar: Bar, *, out: Path | None = None, roots: dict[str, Path] | None = None
) -> Summary:
    """Run every stage of a pipeline and return its summary. Raises what the stages raise."""
    out = out or Path(pipeline.out)
    make_folder(out)
    folders = _roots(pipeline, out, roots or {})
    _prepare(pipeline, out, bar)
    splits = _convert(pipeline, out, folders, bar)
    findings = _audit(pipeline, out, bar)
    selections = [*map(Path, pipeline.shard.selections), *_curate(pipeline, out, bar)]
    _shard(pipeline, out, selections, bar)
    index = Index(out / "shards")
    planned, served, steps = [], Counter[str](), list[Step]()
    made = _recipe(pipeline)
    if pipeline.train is not None:
        steps, served = _train(name, pipeline, out, bar)
        rows = plan(sources(index), made).table(len(steps) or 1)
        planned = [(row.source, row.task, row.share) for row in rows]
    evaluation = _evaluate(pipeline, out, bar)
    summary = Summary(
        ledger=add(list(splits.values())),
        splits=splits,
        shards=len(index.set.shards),
        dropped=len(index.set.dropped),
        audit=findings,
        tasks=_task_summaries(planned, served, steps),
        evaluation=evaluation,
        report=str(out / "report.html"),
    )
    write_atomic(out / "report.html", _page(name, pipeline, summary, steps, out).encode())
    return summary


def _roots(pipeline: Pipeline, out: Path, given: dict[str, Path]) -> dict[str, Path]:
    for name in given:
        if name not in pipeline.roots:
            raise UsageError(f"--root {name}: the pipeline has no such root{nearest(name, pipeline.roots)}")
    # A root of the file is relative to the run's folder: that is where `prepare` and generators write.
    return {name: given.get(name, out / path) for name, path in pipeline.roots.items()}


def _prepare(pipeline: Pipeline, out: Path, bar: Bar) -> None:
    for name in pipeline.prepare:
        if name not in PREPARERS:
            raise UsageError(f"prepare: nothing is called {name!r}{nearest(name, PREPARERS)}")
        with bar(f"prepare {name}", "sets") as update:
            importlib.import_module(PREPARERS[name]).prepare(out / "data" / name)
            update(1, "")


def _convert(pipeline: Pipeline, out: Path, roots: dict[str, Path], bar: Bar) -> dict[str, Ledger]:
    catalog = Catalog()
    done: dict[str, Ledger] = {}
    for stage in pipeline.convert:
        if stage.root not in roots:
            raise UsageError(f"convert {stage.spec}: no root {stage.root!r}{nearest(stage.root, roots)}")
        specs = catalog.find(stage.spec)
        known = {split for spec in specs for split in spec.splits}
        for split in stage.splits:
            if split not in known:
                raise UsageError(f"convert {stage.spec}: no split {split!r}{nearest(split, known)}")
        for spec in specs:
            for split in (one for one in spec.splits if not stage.splits or one in stage.splits):
                with bar(f"convert {spec.id}/{split}", "units") as update:
                    done[f"{spec.id}/{split}"] = convert(
                        spec,
                        split,
                        roots[stage.root],
                        out / "manifests",
                        limit=stage.limit,
                        allow_empty=stage.allow_empty,
                        seed=pipeline.seed,
                        workers=pipeline.workers,
                        progress=update,
                    )
    return done


def _stamped(path: Path, digest: str) -> bool:
    return path.is_file() and path.read_text() == digest


def _inputs(out: Path) -> str:
    """Return a digest of all manifests: what audit and shard start from."""
    fingerprints = sorted(manifests.load(path).fingerprint for path in manifests.find(out / "manifests"))
    return xxhash.xxh3_128_hexdigest(" ".join(fingerprints).encode())


def _audit(pipeline: Pipeline, out: Path, bar: Bar) -> dict[str, int]:
    if not pipeline.audit:
        return {}
    stamp, digest, folder = out / "audit" / ".done", _inputs(out), out / "audit"
    with bar("audit", "places") as update:
        if not _stamped(stamp, digest):
            audit_report.write(audit([out / "manifests"], workers=pipeline.workers, progress=update), folder)
            write_atomic(stamp, digest.encode())
        else:
            update(0, "unchanged")
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=audit_report.Summary).rules


def _curate(pipeline: Pipeline, out: Path, bar: Bar) -> list[Path]:
    """Write what the pipeline's profile and filters leave out, and return where."""
    stage = pipeline.curate
    if stage is None:
        return []
    folders, where = manifests.find(out / "manifests"), [parse(text) for text in stage.where]
    terms = licenses.load(Path(stage.profiles) if stage.profiles is not None else None)
    if where:
        with bar("rate", "pictures and samples") as update:
            ratings.rate(folders, workers=pipeline.workers, progress=update)
    with bar("curate", "samples") as update:
        choices, _ = curate(folders, profile=stage.profile, terms=terms, where=where, progress=update)
        selection.write(choices, out / "selection.parquet")
    return [out / "selection.parquet"]


def _shard(pipeline: Pipeline, out: Path, selections: list[Path], bar: Bar) -> None:
    stamp = out / "shards" / ".done"
    settings = msgspec.json.encode((pipeline.shard.layout, pipeline.shard.samples_per_shard)).decode()
    digest = " ".join([_inputs(out), settings, *map(digest_file, selections)])
    with bar(f"shard ({pipeline.shard.runner})", "samples") as update:
        if _stamped(stamp, digest) and _whole(out / "shards"):
            update(0, "unchanged")
            return
        made = shard(
            [out / "manifests"],
            out / "shards",
            layout=pipeline.shard.layout,
            samples_per_shard=pipeline.shard.samples_per_shard,
            selections=selections,
            runner=pipeline.shard.runner,
            workers=pipeline.workers,
            progress=update,
        )
        if unknown := strays(made, selections):
            update(0, f"({unknown} samples of the selections are in none of the manifests)")
        write_atomic(stamp, digest.encode())


def _whole(directory: Path) -> bool:
    """Say whether a shard set's account is there, and every tar of it as long as it should be."""
    if not (directory / SHARDS).is_file():
        return False
    return all(has_size(directory, file) for file in load_set(directory).shards)


def _recipe(pipeline: Pipeline) -> Recipe:
    batch = (pipeline.train or {}).get("global_batch", 8)
    return recipe(seed=pipeline.seed, global_batch=batch, **msgspec.to_builtins(pipeline.mix))


def _train(name: str, pipeline: Pipeline, out: Path, bar: Bar) -> tuple[list[Step], Counter[str]]:
    """Train, and return the steps with the samples that each source really served."""
    # The trainer is found by name: the engine must not import torch.
    trainer, settings = (importlib.import_module(f"trainer.{name}") for name in ("train", "config"))
    mixture = {key: value for key, value in msgspec.to_builtins(pipeline.mix).items() if value is not None}
    fields = {
        **(pipeline.train or {}),
        "shards": str(out / "shards"),
        "mixture": mixture,
        "seed": pipeline.seed,
    }
    with bar("train", "steps") as update:
        result = trainer.train(
            settings.make_config(fields, f"pipeline {name}: train"), out / "train", progress=update
        )
    if result.stopped:
        raise KeyboardInterrupt  # SIGTERM ended training with a checkpoint: it ends the pipeline as well
    decode_step = msgspec.json.Decoder(Step).decode
    with (out / "train" / "metrics.jsonl").open("rb") as file:
        steps = [decode_step(line) for line in file]
    index = Index(out / "shards")
    by_id = dict(
        zip(index.table.column("id").to_pylist(), index.table.column("source").to_pylist(), strict=True)
    )
    served: Counter[str] = Counter()
    for ids in _served(out / "train" / "served.jsonl"):
        served.update(by_id[one] for one in ids)
    return steps, served


class _Served(msgspec.Struct):
    ids: list[str]


def _served(path: Path) -> Iterator[list[str]]:
    decode_line = msgspec.json.Decoder(_Served).decode
    with path.open("rb") as file:
        for line in file:
            yield decode_line(line).ids


def _evaluate(pipeline: Pipeline, out: Path, bar: Bar) -> dict[str, Any]:
    if pipeline.train is None or not pipeline.evaluate:
        return {}
    stamp = out / "train" / ".evaluated"
    result = out / "train" / "evaluation.json"
    digest = digest_file(out / "train" / "metrics.jsonl")
    with bar("evaluate", "samples") as update:
        if not sources(Index(out / "shards"), "eval"):
            update(0, "no split with use: eval")
            return {}
        if not _stamped(stamp, digest) or not result.is_file():
            evaluator = importlib.import_module("trainer.evaluate")
            evaluator.evaluate_run(
                out / "train", out / "shards", out / "train", replace=True, progress=update
            )
            write_atomic(stamp, digest.encode())
        else:
            update(0, "unchanged")
    found: dict[str, Any] = msgspec.json.decode(result.read_bytes())
    return found


def _task_summaries(
    planned: list[tuple[str, str, float]], served: Counter[str], steps: list[Step]
) -> list[TaskSummary]:
    total = max(sum(served.values()), 1)
    curves = task_losses(steps)
    return [
        TaskSummary(
            source=source,
            task=task,
            planned=share,
            served=served[source] / total,
            loss_first=_mean(curves.get(task, [])[:EDGE_STEPS]),
            loss_last=_mean(curves.get(task, [])[-EDGE_STEPS:]),
        )
        for source, task, share in planned
    ]


def task_losses(steps: list[Step]) -> dict[str, list[tuple[float, float]]]:
    """Return (step, loss) of each task: its mean text loss, and its batch's decoder loss where a decoder was asked."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for step in steps:
        decoder = sum(value for name, value in step.terms.items() if name != "text" and value is not None)
        for task, loss in step.tasks.items():
            if loss is not None:
                curves.setdefault(task, []).append((step.step, loss + decoder))
    return curves


def _mean(points: list[tuple[float, float]]) -> float | None:
    return sum(value for _, value in points) / len(points) if points else None


def _page(name: str, pipeline: Pipeline, summary: Summary, steps: list[Step], out: Path) -> str:
    by_task = task_losses(steps)
    by_term: dict[str, list[tuple[float, float]]] = {}
    for step in steps:
        for term, value in step.terms.items():
            if value is not None:
                by_term.setdefault(term, []).append((step.step, value))
    account = Table(
        columns=["split", "records", "units", "samples", "skipped", "quarantined", "objects dropped"],
        rows=[
            [place, one.records, one.units, one.samples, _reasons(one.skipped), _reasons(one.quarantined),
             _reasons(one.objects_dropped)]
            for place, one in summary.splits.items()
        ],
    )  # fmt: skip
    tasks = Table(
        columns=["source", "share planned", "share served", "task's loss, first", "last"],
        rows=[
            [one.source, one.planned, one.served, _number(one.loss_first), _number(one.loss_last)]
            for one in summary.tasks
        ],
    )
    findings = Table(columns=["rule", "hits"], rows=Counter(summary.audit).most_common())
    sections = [
        Section(title="Account", tables=[account], note=_sentence(summary)),
        Section(
            title="Training",
            tables=[tasks] if summary.tasks else [],
            plots=[
                *(
                    line_plot(f"Loss of {task}", {task: _smooth(by_task[task])}, "steps")
                    for task in sorted(by_task)
                ),
                line_plot(
                    "Loss by term",
                    {term: _smooth(points) for term, points in sorted(by_term.items())},
                    "steps",
                ),
                bars("Share served", {one.source: one.served for one in summary.tasks}),
            ],
        ),
        Section(title="Evaluation", tables=_evaluation_tables(summary.evaluation)),
        Section(
            title="Audit", tables=[findings], note="Pictures and places: audit/index.html beside this page."
        ),
        *_galleries(out),
    ]
    return render(f"{pipeline.title}", sections, subtitle=f"pipeline {name}")


def _sentence(summary: Summary) -> str:
    one = summary.ledger
    return (
        f"{one.records} records became {one.units} units: {one.samples} samples, {sum(one.skipped.values())} skipped, "
        f"{sum(one.quarantined.values())} quarantined; {summary.shards} shards, {summary.dropped} dropped there."
    )


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items())) or "0"


def _number(value: float | None) -> object:
    return "" if value is None else value


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return means over at most 60 equal runs of points, so that a curve shows its course."""
    width = max(1, len(points) // 60)
    runs = [points[i : i + width] for i in range(0, len(points), width)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def _evaluation_tables(evaluation: dict[str, Any]) -> list[Table]:
    rows: list[list[object]] = []
    for task, report in evaluation.get("tasks", {}).items():
        free, forced = report.get("free", {}), report.get("forced", {})
        rows += [[task, key, free.get(key, ""), forced.get(key, "")] for key in {**free, **forced}]
    columns = ["task", "measure", "own answer", "answer given"]
    return [Table(columns=columns, rows=rows)] if rows else []


def _galleries(out: Path) -> list[Section]:
    """Return some samples of every split, drawn."""
    sections = []
    for path in manifests.find(out / "manifests"):
        manifest = manifests.load(path)
        root = Root(Path(manifest.root))
        cards: list[Card] = []
        undrawn: list[str] = []
        count = manifests.num_samples(path)
        # Spread over the split: the first samples often show one picture.
        rows = sorted({count * i // CARDS_A_SOURCE for i in range(CARDS_A_SOURCE)}) if count else []
        for sample in (one for row in rows for one in manifests.read_samples(path, row, row + 1)):
            try:
                pictures = pictures_of(sample, root)
            except Quarantine as error:
                undrawn.append(f"{sample.id} cannot be drawn: {error.reason}: {error.detail}.")
            else:
                cards.append(card(sample, pictures, manifest.labels))
        if cards or undrawn:
            sections.append(Section(title=manifest.name, note=" ".join(undrawn), cards=cards))
    return sections
