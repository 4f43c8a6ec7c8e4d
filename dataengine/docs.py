"""The parts of the documentation that are made from code and specs: `python -m dataengine.docs [--check]`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from dataengine import schema
from dataengine.audit.rules import RULES
from dataengine.catalog import Catalog
from dataengine.cli import VERBS, group
from dataengine.cli.catalog import entry
from dataengine.modules import FORMATS_PACKAGE, load_reader, names

DOCS = Path("docs")
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
        (f"`{rule.id}`", rule.severity, rule.action, rule.says) for rule in sorted(RULES, key=lambda r: r.id)
    ]
    return f"# Audit rules\n\n{_NOTE}{table(('rule', 'severity', 'default action', 'a hit means'), rows)}"


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
    """Return the catalog as a page."""
    rows = []
    for one in map(entry, Catalog()):
        license_text = " / ".join(dict.fromkeys(one["license"].values()))
        ways = ", ".join(one["fetch"])
        rows.append(
            (f"`{one['id']}`", one["title"], one["format"], license_text, one["use"], one["status"], ways)
        )
    columns = ("task spec", "dataset", "format", "license (annotations / images)", "use", "status", "fetch")
    intro = f"{len(rows)} task specs. [fetch.md](fetch.md) says what fetching does."
    return f"# Datasets\n\n{_NOTE}{intro}\n\n{table(columns, rows)}"


def tasks() -> str:
    """Return the task types as a page."""
    catalog = Catalog()
    rows = [
        (f"`{task.id}`", task.title, " ".join(f"`{token}`" for token in task.routing), task.unit, task.decoder,
         f"`{task.builder}`",
         f"{len(catalog.banks[task.prompts].questions)} / {len(catalog.banks[task.prompts].answers)}"
         if task.prompts else "", task.note)
        for task in sorted(catalog.tasks.values(), key=lambda task: task.id)
    ]  # fmt: skip
    columns = (
        "task",
        "title",
        "routes",
        "unit",
        "decoder",
        "builder",
        "templates (question / answer)",
        "note",
    )
    return f"# Task types\n\n{_NOTE}{table(columns, rows)}"


def command_line() -> str:
    """Return the help of every verb."""
    intro = "Exit codes: 0 fine, 1 findings, 2 usage or unreadable input, 3 a budget broken.\n"
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
