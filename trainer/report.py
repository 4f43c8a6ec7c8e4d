"""The page of an evaluation: all numbers, and right and wrong answers of each task with their pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dataengine.geometry import mask_from_rle
from dataengine.report.draw import color_of, mark_box, tint
from dataengine.report.page import Card, Section, Table, data_uri, render
from dataengine.report.plots import bars
from dataengine.sample import ImageTargets, KeypointTargets
from trainer.metrics.objects import Found
from trainer.predictions import Line, Prediction
from trainer.score import FORCED, FREE, SIDES, View, instances, sample_score, task_of

MAX_TEXT = 600
MAX_SHOWN, FEW, LEAST = 20, 3, 0.3  # found objects that are drawn, and the score of a sure one
TITLES = {FREE: "own answer", FORCED: "answer given"}


def evaluation_page(result: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Return the page as HTML; all that it shows lies in it."""
    by_task: dict[str, list[Prediction]] = {}
    for line in lines:
        if isinstance(line, Prediction) and line.look is not None:
            by_task.setdefault(task_of(line), []).append(line)
    sections = [_summary(result)]
    for name, report in result["tasks"].items():
        # The worst stand first: they tell what to do.
        shown = sorted(by_task.get(name, []), key=lambda line: _score(line, _own(line)) or 0.0)
        sections.append(
            Section(
                title=name,
                note=_note(report),
                tables=[_numbers(report)],
                cards=[_card(line) for line in shown],
            )
        )
    return render(
        "Evaluation", sections, f"{result['samples']} samples · model {result['model'] or 'in memory'}"
    )


def _own(line: Prediction) -> str:
    return FORCED if line.free is None else FREE


def rows_of(result: Mapping[str, Any]) -> list[tuple[str, int, str, float | str, float | str]]:
    """Return the numbers of an evaluation as rows: task, samples, measure, own answer, answer given."""
    rows = []
    for name, report in result["tasks"].items():
        sides = [report.get(side, {}) for side in SIDES]
        keys = list(dict.fromkeys([report["headline"], *sides[0], *sides[1]]))
        rows += [(name, report["samples"], key, *(side.get(key, "") for side in sides)) for key in keys]
    return rows


def _summary(result: Mapping[str, Any]) -> Section:
    rows = []
    for name, report in result["tasks"].items():
        key = report["headline"]
        values = [report.get(side, {}).get(key, "") for side in SIDES]
        routing = report.get(FREE, {}).get("routing_f1", "")
        rows.append((name, report["samples"], key, *values, routing))
    columns = ("task", "samples", "measure", TITLES[FREE], TITLES[FORCED], "routing F1")
    tables = [Table(columns=columns, rows=rows, title="One number a task")]
    if result["skipped"]:
        tables.append(
            Table(columns=("reason", "samples"), rows=list(result["skipped"].items()), title="Not evaluated")
        )
    plots = [
        bars("routing F1 of own answers", {row[0]: row[5] for row in rows if isinstance(row[5], float)}),
    ]
    note = (
        "Own answer: the model is asked as a user asks it, and calls its decoders by itself. Answer given: the true"
        " answer with its routing tokens stands in the prompt, and decoders and next tokens are measured."
    )
    return Section(title="Summary", note=note, tables=tables, plots=[plot for plot in plots if plot])


def _note(report: Mapping[str, Any]) -> str:
    lost = report.get("not_measured", [])
    return f"Not measured here: {', '.join(lost)}." if lost else ""


def _numbers(report: Mapping[str, Any]) -> Table:
    rows = [row[2:] for row in rows_of({"tasks": {"": report}})]
    return Table(columns=("measure", TITLES[FREE], TITLES[FORCED]), rows=rows)


def _score(line: Prediction, side: str) -> float | None:
    return sample_score(View(line, side)) if side == FORCED or line.free is not None else None


def _card(line: Prediction) -> Card:
    turns = []
    for turn in line.sample.conversation:
        if turn.role == "assistant":
            turns.append(("wanted", _cut(turn.text)))
        else:
            turns.append((turn.role, _cut(turn.text)))
    if line.free is not None:
        turns += [(TITLES[FREE], _cut(text) or "(nothing)") for text in line.free.texts]
    turns.append(("scores", ", ".join(_scores(line))))
    return Card(
        id=line.sample.id,
        pictures=[data_uri(picture) for picture in _pictures(line)],
        turns=turns,
        alt=f"{line.sample.task} on {line.sample.dataset}: wanted and found",
    )


def _scores(line: Prediction) -> Iterable[str]:
    for side in SIDES:
        score = _score(line, side)
        if score is not None:
            yield f"{TITLES[side]} {score:.2f}"
    yield f"text loss {line.forced.text_loss:.3f}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} … ({len(text)} characters)"


def _pictures(line: Prediction) -> list[Image.Image]:
    """Return the sample's pictures, and where it has objects or wants a picture, one for each side beside the truth."""
    assert line.look is not None
    shown = [Image.open(io.BytesIO(data)).convert("RGB") for data in line.look.images]
    sample = line.sample
    if isinstance(sample.targets, ImageTargets):
        made = [(TITLES[FREE], line.look.free), (TITLES[FORCED], line.look.forced)]
        titles = ["wanted" if image.role == "target" else "given" for image in sample.images]
        return [_titled(one, title) for one, title in zip(shown, titles, strict=True)] + [
            _titled(Image.open(io.BytesIO(data)).convert("RGB"), title)
            for title, data in made
            if data is not None
        ]
    if not shown or line.forced.found is None:
        return shown
    number = sample.object_image
    picture = shown[number]
    scale = picture.width / sample.images[number].width
    drawn = [_titled(_truth(line, picture.copy(), scale), "wanted")]
    drawn += [
        _titled(_answer(View(line, side), picture.copy(), scale), TITLES[side])
        for side in (SIDES if line.free is not None else (FORCED,))
    ]
    return shown[:number] + drawn


def _truth(line: Prediction, picture: Image.Image, scale: float) -> Image.Image:
    names = line.sample.targets.names if isinstance(line.sample.targets, KeypointTargets) else ()
    some = [
        Found(
            item.label,
            item.box,
            1.0,
            item.mask,
            {name: (x, y) for name, (x, y, v) in zip(names, item.keypoints or (), strict=False) if v} or None,
        )
        for item in instances(line.sample)
        if not item.ignore
    ]
    return _objects(picture, some, scale, scored=False)


def _answer(view: View, picture: Image.Image, scale: float) -> Image.Image:
    if view.segments:
        for name, mask in view.segments.items():
            picture = tint(picture, mask, color_of(name))
        return picture
    return _objects(picture, best_shown(view.found), scale, scored=True)


def best_shown(found: Sequence[Found]) -> list[Found]:
    """Return the objects to draw, best first: the sure ones, or the best few where none is sure."""
    return [item for item in found if item.score >= LEAST][:MAX_SHOWN] or list(found[:FEW])


def _objects(picture: Image.Image, some: Sequence[Found], scale: float, *, scored: bool) -> Image.Image:
    for item in some:
        if item.mask is not None and np.any(mask_from_rle(item.mask)):
            picture = tint(picture, item.mask, color_of(item.label))
    for item in some:
        text = f"{item.label} {item.score:.2f}" if scored else item.label
        mark_box(picture, item.box, scale, color_of(item.label), text, dashed=scored and item.score < LEAST)
        pen = ImageDraw.Draw(picture)
        for name, (x, y) in (item.keypoints or {}).items():
            spot = [x * scale - 3, y * scale - 3, x * scale + 3, y * scale + 3]
            pen.ellipse(spot, fill=color_of(name), outline=(255, 255, 255))
    return picture


def _titled(picture: Image.Image, title: str) -> Image.Image:
    """Return a picture with a title below it."""
    font = ImageFont.load_default(size=12)
    whole = Image.new("RGB", (max(picture.width, 60), picture.height + 18), (32, 32, 36))
    whole.paste(picture, (0, 0))
    ImageDraw.Draw(whole).text((4, picture.height + 2), title, fill=(240, 240, 240), font=font)
    return whole
