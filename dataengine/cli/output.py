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

specs_option = click.option(
    "--specs",
    "spec_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
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
    live = sys.stderr.isatty()

    def line() -> str:
        seconds = max(time.monotonic() - started, 1e-9)
        return f"{title}: {done} {unit}, {done / seconds:.0f}/s"

    def update(count: int, text: str) -> None:
        nonlocal done, shown
        done += count
        now = time.monotonic()
        if now - shown >= (0.1 if live else 10.0):
            shown = now
            click.echo(f"\r\033[K{line()} {text}" if live else f"{line()} {text}", err=True, nl=not live)

    yield update
    click.echo(("\r\033[K" if live else "") + line(), err=True)
