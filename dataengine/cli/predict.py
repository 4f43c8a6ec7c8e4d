"""`dataengine predict`: a checkpoint answers about pictures, by itself."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click
import msgspec

from dataengine.catalog import Catalog
from dataengine.cli.output import LOCAL, json_option, print_json, progress, specs_option
from dataengine.errors import UsageError
from dataengine.request import Request, Spot, find_pictures, read_box, read_points, show_regions, word_task
from dataengine.tokens import IMAGE

_MOST_LINES = 20


@click.command("predict")
@click.argument("run", type=LOCAL)
@click.argument("images", nargs=-1, type=LOCAL)
@click.option("--prompt", default="", help="What is asked; with --task, what its question leaves open.")
@click.option("--task", help="Ask in the words of a task that the model was trained on (docs/tasks.md).")
@click.option("--classes", help="With --task: the classes to look for, 'cat, dog'.")
@click.option("--keypoints", help="With --task: the keypoints to look for, 'nose, left eye'.")
@click.option(
    "--region",
    "boxes",
    multiple=True,
    help="A region, x0,y0,x1,y1 in pixels or a mask's file; the prompt names them region1, region2, ...",
)
@click.option(
    "--point", "points", multiple=True, help="A region of points on one object: 'x,y' or 'x,y x,y'."
)
@click.option("--together", is_flag=True, help="Ask once about all pictures, instead of about each.")
@click.option(
    "--out", type=LOCAL, help="A folder for NAME.json and pictures; without it, answers are printed alone."
)
@click.option("--lang", default="en", show_default=True, help="The language of --task's question.")
@click.option("--score-threshold", type=click.FloatRange(0, 1), default=0.3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1), default=512, show_default=True)
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0: the likeliest words."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@specs_option
@json_option
def command(
    run: Path,
    images: tuple[Path, ...],
    prompt: str,
    task: str | None,
    classes: str | None,
    keypoints: str | None,
    boxes: tuple[str, ...],
    points: tuple[str, ...],
    together: bool,
    out: Path | None,
    lang: str,
    score_threshold: float,
    batch_size: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    device: str,
    spec_dirs: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Ask RUN (a run or a checkpoint) about IMAGES (files, or folders of them), each by itself.

    Without a picture, the prompt is asked alone. Exit code 1 says that some picture could not be read or asked about.
    With --json, each answer is a line.
    """
    spots = [*map(read_box, boxes), *map(read_points, points)]
    lists = {"classes": _names(classes), "keypoints": _names(keypoints)}
    if task is not None:
        text = word_task(
            Catalog(*spec_dirs),
            task,
            prompt=prompt,
            lists={slot: names for slot, names in lists.items() if names},
            num_regions=len(spots),
            lang=lang,
        )
    elif classes or keypoints:
        raise UsageError(
            "--classes and --keypoints fill the question of a --task; name one, or write --prompt"
        )
    elif not prompt:
        raise UsageError("nothing is asked; give --prompt, or --task")
    else:
        text = show_regions(prompt, len(spots))
    requests = _requests(images, text, spots, together)
    # The trainer is found by name: the engine must not import torch.
    predictor, answering = (importlib.import_module(f"trainer.{name}") for name in ("predict", "answer"))
    choices = answering.Choices(
        batch_size=batch_size, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    refused = 0
    with progress("predict", "answers") as update:
        for found in predictor.predict(
            run, requests, out, choices=choices, min_score=score_threshold, device=device, progress=update
        ):
            if isinstance(found, answering.Refused):
                refused += 1
                click.echo(f"{found.id}: {found.reason}: {found.detail}", err=True)
            elif as_json:
                print_json(msgspec.to_builtins(found))
            else:
                _show(found, out)
    return 1 if refused else 0


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (listed or "").split(",") if name.strip())


def _requests(paths: tuple[Path, ...], text: str, spots: list[Spot], together: bool) -> list[Request]:
    """Return a request for each picture, or one for all of them. Raises UsageError where they do not fit the text."""
    found = find_pictures(paths)
    groups = [found] if together or not found else [[one] for one in found]
    if spots and not found:
        raise UsageError("--region and --point mark something on a picture, and none is given; name one")
    requests = []
    for group in groups:
        shown = text if IMAGE in text else f"{IMAGE}\n" * len(group) + text
        if shown.count(IMAGE) != len(group):
            raise UsageError(
                f"prompt: shows {shown.count(IMAGE)} {IMAGE}, and is asked about {len(group)}; give one for each, or"
                " none: then all pictures stand before the text"
            )
        requests.append(
            Request(
                name=group[0][0] if group else "answer",
                text=shown,
                pictures=tuple(path for _, path in group),
                # On the picture that objects are found on: the last one.
                spots=tuple((spot, len(group) - 1) for spot in spots),
            )
        )
    return requests


def _show(found: Any, out: Path | None) -> None:
    """Print an answer for people: its text, its objects, and what was written."""
    click.echo(f"{found.name}: {found.text}" + ("" if found.ended == "end" else f" ({found.ended})"))
    for one in found.objects[:_MOST_LINES]:
        box = ", ".join(f"{value:.0f}" for value in one.box)
        click.echo(f"  {one.label} {one.score:.2f} ({box})")
    if len(found.objects) > _MOST_LINES:
        click.echo(f"  and {len(found.objects) - _MOST_LINES} more")
    for token, reason in found.unanswered:
        click.echo(f"  {token}: {reason}")
    if out is not None:
        click.echo(f"  {', '.join(str(out / name) for name in (f'{found.name}.json', *found.written))}")
