"""What verbs share: options, tables for people, JSON for machines, progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from dataengine.errors import UsageError


class LocalPath(click.Path):
    """A file or folder of this machine. A URL would be taken for a relative path, and end up in a folder `s3:`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if "://" in str(value):
            from dataengine.store import Url

            name = (
                param.get_error_hint(ctx).replace("'", "")
                if param is not None and ctx is not None
                else "path"
            )
            # A login or a signature in it is not shown.
            raise UsageError(
                f"{name}: {Url(str(value))} is a URL, expected a path of this machine; copy it here first, or what is"
                " written here into the store afterwards (docs/remote.md)"
            )
        return super().convert(value, param, ctx)


LOCAL = LocalPath()
specs_option = click.option(
    "--specs",
    "spec_dirs",
    multiple=True,
    type=LOCAL,
    help="A folder of your own specs, searched before those that ship; may be given several times.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
runner_option = click.option(
    "--runner",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where tasks run.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Tasks at a time."
)
address_option = click.option(
    "--address",
    help="A Ray cluster that this machine belongs to: HOST:PORT, or auto. With --runner ray.",
)

cache_dir_option = click.option(
    "--cache-dir", help="Keep whole shards of a URL in this folder, instead of reading each sample by itself."
)
cache_bytes_option = click.option(
    "--cache-bytes", type=click.IntRange(1), help="How many bytes --cache-dir may hold; goes with it."
)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def on_command_line(context: click.Context) -> list[str]:
    """Return the names of the parameters that were given, whether as their defaults or not."""
    return [
        name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]


def flags(context: click.Context, names: Iterable[str]) -> str:
    """Return parameters as they are written on the command line."""
    written = {one.name: one.opts[0] for one in context.command.params}
    return ", ".join(sorted(written[name] for name in names))


def print_json(value: Any) -> None:
    """Print one JSON value."""
    click.echo(msgspec.json.encode(value, order="sorted").decode())


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table; numbers stand right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    cells = [list(row) for row in rows]
    for position, column in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[position], int | float) for row in cells)
        table.add_column(
            column, justify="right" if numeric else "left", overflow="fold", no_wrap=position == 0
        )
    for row in cells:
        table.add_row(*[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row])
    # A pipe has no width: rich would take 80 and cut what a log should hold.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@contextmanager
def progress(title: str, unit: str) -> Iterator[Callable[[int, str], None]]:
    """Show how much is done and how fast on stderr: a live line on a terminal, else a line every ten seconds."""
    started = shown = time.monotonic()
    done = 0
    said = ""
    live = sys.stderr.isatty()

    def line() -> str:
        seconds = max(time.monotonic() - started, 1e-9)
        return f"{title}: {done} {unit}, {done / seconds:.0f}/s {said}".rstrip()

    def update(count: int, text: str) -> None:
        nonlocal done, shown, said
        done += count
        said = text
        now = time.monotonic()
        if now - shown >= (0.1 if live else 10.0):
            shown = now
            click.echo(f"\r\033[K{line()}" if live else line(), err=True, nl=not live)

    yield update
    click.echo(("\r\033[K" if live else "") + line(), err=True)


@contextmanager
def transfers() -> Iterator[Callable[[str], Callable[[int, int | None], None]]]:
    """Show on stderr how many bytes of a file came, how fast, and how long the rest takes, one file after the other.

    Gives a function from a title to one that is told bytes and their number, None where nobody knows it.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    live = sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not live, transient=True) as bars:

        def show(title: str) -> Callable[[int, int | None], None]:
            bar = bars.add_task(title, total=None, visible=False)
            started = shown = time.monotonic()
            first: int | None = None

            def update(done: int, total: int | None) -> None:
                nonlocal shown, first
                first = done if first is None else first
                bars.update(bar, completed=done, total=total, visible=done != total)
                now = time.monotonic()
                if not live and now - shown >= 10.0:
                    shown = now
                    click.echo(_transfer_line(title, done, total, (done - first) / (now - started)), err=True)

            return update

        yield show


def _transfer_line(title: str, done: int, total: int | None, rate: float) -> str:
    line = f"{title}: {size_text(done)}"
    if total is not None:
        line += f" of {size_text(total)}"
    line += f", {size_text(int(rate))}/s"
    if total is not None and rate > 0:
        minutes, seconds = divmod(int((total - done) / rate), 60)
        line += f", {minutes}:{seconds:02d} left"
    return line


def size_text(count: int) -> str:
    """Return a number of bytes as people read it: three digits and a decimal unit."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{count} bytes" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
