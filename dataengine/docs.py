"""The parts of the documentation that are made from code and specs: `python -m dataengine.docs [--check]`."""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from dataengine import schema
from dataengine.audit.table import RULES
from dataengine.catalog import Catalog
from dataengine.cli import VERBS, group
from dataengine.modules import FORMATS_PACKAGE, load_reader, names
from dataengine.prompts import PromptBank
from dataengine.spec import DatasetSpec

DOCS = Path("docs")
MAX_SPLITS = 5  # a dataset with more has its sum in the table
_NOTE = "<!-- Made by `make docs`; do not edit. -->\n\n"


def generate() -> dict[Path, bytes]:
    """Return every generated file with its content, paths relative to the project's folder."""
    files = {
        DOCS / "rules.md": rules(),
        DOCS / "formats.md": formats(),
        DOCS / "datasets.md": datasets(),
        DOCS / "tasks.md": tasks(),
        DOCS / "command_line.md": command_line(),
    }
    made = {path: text.encode() for path, text in files.items()}
    for name, kind in schema.PUBLISHED.items():
        made[Path("dataengine/schemas") / f"{name}.json"] = schema.encode(kind)
    return made


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    for row in rows:
        cells = [str(cell).replace("|", r"\|").replace("\n", " ") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rules() -> str:
    """Return the audit rules as a page."""
    rows = [
        (
            f"`{rule.id}`",
            rule.severity,
            rule.action,
            "" if rule.budget is None else f"{rule.budget:.2%}",
            rule.says,
            ", ".join(rule.known),
        )
        for rule in sorted(RULES, key=lambda r: r.id)
    ]
    columns = ("rule", "severity", "default action", "budget", "a hit means", "known to break it")
    return f"# Audit rules\n\n{_NOTE}{table(columns, rows)}"


def formats() -> str:
    """Return the readers with their docstrings and the keys that a spec gives them."""
    intro = "A spec names a format as `source.format`; the keys below stand beside it, for all splits or in one.\n"
    parts = [f"# Formats\n\n{_NOTE}{intro}"]
    for name in names(FORMATS_PACKAGE):
        reader = load_reader(name, "docs")
        keys = [
            (f"`{field.encode_name}`", "yes" if field.required else "no",
             "" if field.required or field.default is msgspec.NODEFAULT else f"`{field.default!r}`")
            for field in msgspec.structs.fields(reader.Source)
        ]  # fmt: skip
        parts.append(
            f"\n## `{name}`\n\n{inspect.getdoc(reader) or ''}\n\n{inspect.getdoc(reader.Source) or ''}\n\n"
            + table(("key", "required", "default"), keys)
        )
    return "".join(parts)


def datasets() -> str:
    """Return the catalog as a page: what there is in all, then a row a dataset."""
    catalog = Catalog()
    found = [catalog.dataset(catalog.dataset_files[name]) for name in sorted(catalog.dataset_files)]
    columns = (
        "dataset", "title", "tasks", "license (annotations / images)", "size", "use", "language", "status", "fetch",
        "unverified",
    )  # fmt: skip
    return "".join(
        (
            f"# Datasets\n\n{_NOTE}",
            f"{len(found)} datasets, {sum(len(one.tasks) for one in found)} task specs. A size is what a split should "
            "hold: pictures, or records where that is stated. `real` are those whose conversion has run on real "
            "records; what nobody has checked is `unverified`. [fetch.md](fetch.md) says what fetching does.\n\n",
            table(("status", "datasets"), _tally(one.status for one in found)) + "\n",
            table(("language", "datasets"), _tally(lang for one in found for lang in languages(one))) + "\n",
            table(
                ("task", "datasets", "of them real"),
                [
                    (f"`{task}`", count, sum(task in one.tasks for one in found if one.status == "real"))
                    for task, count in _tally(task for one in found for task in one.tasks)
                ],
            )
            + "\n",
            table(columns, map(_dataset_row, found)),
        )
    )


def _dataset_row(one: DatasetSpec) -> tuple[str, ...]:
    uses = {split.use for split in one.source.splits.values()}
    return (
        f"`{one.id}`",
        f"[{one.title}]({one.homepage})" if one.homepage else one.title,
        ", ".join(one.tasks),
        " / ".join(dict.fromkeys((one.license.annotations, one.license.images))),
        size(one),
        ", ".join(use for use in ("train", "eval") if use in uses),
        ", ".join(languages(one)),
        one.status,
        ", ".join(one.fetch.kinds() if one.fetch else ()),
        ", ".join(one.unverified),
    )


def size(one: DatasetSpec) -> str:
    """Return how much each split should hold, of many splits the sum; a split that states nothing is named alone."""
    stated = [
        (name, split.images_expected, "")
        if split.images_expected is not None
        else (name, split.records_expected, " records")
        for name, split in one.source.splits.items()
    ]
    if len(stated) <= MAX_SPLITS:
        return ", ".join(name if count is None else f"{name} {count}{unit}" for name, count, unit in stated)
    known = [(count, unit) for _, count, unit in stated if count is not None]
    text = f"{len(stated)} splits"
    for kind in ("", " records"):
        if total := sum(count for count, unit in known if unit == kind):
            text += f", {total}{kind}"
    return text


def languages(one: DatasetSpec) -> tuple[str, ...]:
    """Return the languages of a dataset's splits, each once."""
    return tuple(dict.fromkeys(split.lang or one.lang for split in one.source.splits.values()))


def _tally(names: Iterable[str]) -> list[tuple[str, int]]:
    """Return how often each name comes, the most frequent first."""
    return sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))


def tasks() -> str:
    """Return the task types as a page."""
    catalog = Catalog()
    rows = [
        (f"`{task.id}`", task.title, " ".join(f"`{token}`" for token in task.routing), task.unit, task.decoder,
         f"`{task.builder}`",
         templates(catalog.banks[task.prompts]) if task.prompts else "", task.note)
        for task in sorted(catalog.tasks.values(), key=lambda task: task.id)
    ]  # fmt: skip
    columns = (
        "task",
        "title",
        "routes",
        "unit",
        "decoder",
        "builder",
        "templates (questions / answers)",
        "note",
    )
    return f"# Task types\n\n{_NOTE}{table(columns, rows)}"


def templates(bank: PromptBank) -> str:
    """Return how many templates a bank has in each language: `30 / 10, zh 15 / 10`."""
    counts = [
        (lang, [sum(name[:2] == lang for name in part) for part in (bank.questions, bank.answers) if part])
        for lang in dict.fromkeys(name[:2] for name in bank.questions)
    ]
    return ", ".join(
        (f"{lang} " if lang != "en" else "") + " / ".join(map(str, numbers)) for lang, numbers in counts
    )


def command_line() -> str:
    """Return the help of every verb."""
    codes = (
        "0 fine, 1 findings, 2 usage or unreadable input, 3 a budget broken, or a split without any sample"
    )
    intro = f"Exit codes: {codes}.\n"
    parts = [f"# Command line\n\n{_NOTE}{intro}"]
    for verb in VERBS:
        command = group.get_command(click.Context(group), verb)
        assert command is not None
        context = click.Context(
            command, info_name=f"dataengine {verb}", max_content_width=110, terminal_width=110
        )
        parts.append(f"\n## {verb}\n\n```\n{command.get_help(context)}\n```\n")
    return "".join(parts)


def broken_links() -> list[str]:
    """Return one line for every relative link of the documentation that leads nowhere."""
    pages = (Path("README.md"), *sorted(DOCS.glob("*.md")))
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    ]
    return [
        f"{page}: links to {target!r}, which is not there"
        for page, target in links
        if not (page.parent / target).exists()
    ]


def main() -> int:
    """Write the generated files, or with --check say which ones lag."""
    made = generate()
    lagging = [path for path, data in made.items() if not path.is_file() or path.read_bytes() != data]
    if "--check" in sys.argv:
        broken = broken_links()
        for line in [*(f"{path}: lags behind the code; run 'make docs'" for path in lagging), *broken]:
            click.echo(line, err=True)
        return 1 if lagging or broken else 0
    for path in lagging:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made[path])
        click.echo(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
