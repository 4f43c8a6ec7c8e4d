"""The command line: thin verbs. Exit 0 fine, 1 findings, 2 usage or unreadable input, 3 a budget broken."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from dataengine import __version__
from dataengine.errors import BudgetBroken, DataEngineError

# Each verb's module is imported when it is called: `--help` must not wait for pyarrow, ray or torch.
VERBS = {
    "catalog": "List task specs.",
    "show": "Print a resolved task spec.",
    "new": "Look at a folder and write the spec that reads it.",
    "fetch": "Download the files of a dataset, after a yes.",
    "check": "Find every mistake in specs, without data.",
    "convert": "Turn source files into a manifest of samples, with an account.",
    "audit": "Check manifests, shards or foreign annotation files against rules.",
    "curate": "Rate samples, and write down which ones to leave out of shards.",
    "shard": "Write manifests as WebDataset tars with an index; verify or rebuild them.",
    "mix": "Print the plan of a mixture as a table.",
    "stream": "List the samples that a rank is served, by position; or simulate all ranks.",
    "preview": "Draw the first samples of a spec.",
    "trace": "Say where a sample comes from and which steps it served.",
    "export": "Write a converted split as another layout.",
    "train": "Train the model on shards.",
    "evaluate": "Measure a checkpoint on shards.",
    "predict": "Ask a checkpoint about pictures.",
    "run": "Run a whole pipeline, resuming what is done.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported by name from `dataengine.cli.<verb>`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"dataengine.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="dataengine")
def group() -> None:
    """A data engine and trainer for generalist vision-language models."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: what is half written is removed, what is finished stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; our own errors print as one line."""
    try:
        with _terminable():
            code = group.main(args=arguments, prog_name="dataengine", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = 2
    except click.Abort:
        print("stopped; run the same command again to resume", file=sys.stderr)  # noqa: T201
        code = 130
    except DataEngineError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        code = 3 if isinstance(error, BudgetBroken) else 2
    except Exception:
        # A defect of ours keeps its traceback, and a code that is not the one of findings.
        traceback.print_exc()
        code = 70
    sys.exit(code if isinstance(code, int) else 0)
