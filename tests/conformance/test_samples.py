"""Real samples of public datasets, converted by their specs alone and audited, against pinned counts.

`DATAENGINE_SAMPLES=DIR python tests/conformance/test_samples.py` measures all of them anew and writes
`expected.json` beside this file and `docs/conformance.md`. The samples themselves are no part of this project.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from dataengine import yaml12
from dataengine.annotation import Annotation
from dataengine.audit.run import audit
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.modules import load_reader
from dataengine.spec import Resolved

SAMPLES = "DATAENGINE_SAMPLES"
SHIPPED = "task_specs/"
HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
TABLE = HERE / "expected.json"
PAGE = PROJECT / "docs" / "conformance.md"
# Their layout was run by a spec of this folder; the excerpt lacks the list files that the original spec names.
RUN_ELSEWHERE = {"bccd", "instructpix2pix"}
INTRO = """\
# Conformance

<!-- Made by tests/conformance/test_samples.py; do not edit. -->

What the specs make of small excerpts of real datasets, which are no part of this project; folders that start with
`fmt_` are layouts with made-up pictures of a few pixels. Records are items that the reader found; a unit is what
becomes one sample, and units = samples + skipped + quarantined. Findings are those of `dataengine audit` on the
manifest; where it says something else, `file` gives those of the annotation file as it is.

{specs} specs on {folders} folders; {alive} folders give samples. In the others the pictures are not in the excerpt, or
the file is broken as the table says, and every unit ends as skipped or quarantined with its reason.
"""
COLUMNS = (
    "folder", "spec", "task / split", "format", "records", "units", "samples", "skipped", "quarantined",
    "objects dropped", "findings by rule",
)  # fmt: skip


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one split of one task spec becomes: its account, and the findings of an audit of the manifest by rule."""

    records: int
    units: int
    samples: int
    skipped: dict[str, int]
    quarantined: dict[str, int]
    dropped: dict[str, int]
    findings: dict[str, int]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One dataset spec on one folder of samples; `foreign` are the findings in the annotation file itself.

    `boxes` is how many boxes the reader found, and their mean corners: a shifted origin or a swapped order shows there.
    """

    folder: str
    format: str
    boxes: tuple[int, tuple[float, ...]]
    splits: dict[str, Split]
    foreign: dict[str, int]


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A spec (a file, or a name of the catalog), a folder of samples, and the splits that are in it (or all).

    `place` copies parts of the folder to where the spec looks for them: source by target.
    """

    folder: str
    spec: str = ""
    splits: tuple[str, ...] = ()
    place: dict[str, str] = {}


def runs() -> dict[str, Run]:
    """Return all runs by name: a spec here goes by its folder, one of the catalog (`shipped.yaml`) by its id."""
    here = {
        path.stem: Run(folder=path.stem.partition("__")[0], spec=str(path))
        for path in (HERE / "specs").glob("*.yaml")
    }
    shipped = {
        f"{SHIPPED}{name}": msgspec.structs.replace(run, spec=name)
        for name, run in msgspec.convert(yaml12.load(HERE / "shipped.yaml"), dict[str, Run]).items()
    }
    return dict(sorted((here | shipped).items()))


def measure(run: Run, samples: Path, scratch: Path) -> Case:
    """Convert every split of every task of a spec and audit the manifests and the annotation file."""
    root = samples / run.folder
    resolved = Catalog().find(run.spec)
    for target, source in (run.place or _whole_if_written_to(resolved[0])).items():
        place, part = scratch / "root" / target, root / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if part.is_dir():
            shutil.copytree(part, place, dirs_exist_ok=True)
        else:
            shutil.copy(part, place)
    if (scratch / "root").exists():
        root = scratch / "root"
    wanted = [
        (spec, split) for spec in resolved for split in spec.splits if split in run.splits or not run.splits
    ]
    first = resolved[0]
    here = [split for split in first.dataset.source.splits if split in {name for _, name in wanted}]
    return Case(
        folder=run.folder,
        format=first.dataset.source.format,
        boxes=boxes(first, here, root),
        splits={
            f"{spec.task.id}/{split}": measure_split(spec, split, root, scratch / "out")
            for spec, split in wanted
        },
        foreign=foreign(first, here, root),
    )


def _whole_if_written_to(spec: Resolved) -> dict[str, str]:
    """Return what to copy for a reader that writes pictures below the root; nobody writes to the samples."""
    writes = hasattr(load_reader(spec.dataset.source.format, spec.path), "prepare")
    source = spec.source(next(iter(spec.splits)))
    return {".": "."} if writes and getattr(source, "unpack", True) else {}


def measure_split(spec: Resolved, split: str, root: Path, out: Path) -> Split:
    """Convert one split and audit what became of it."""
    # Samples of some sources are a few files, of which a split may lack all.
    ledger = convert(spec, split, root, out, allow_empty=True)
    report = audit([out / spec.dataset.id / spec.task.id / split])
    return Split(
        records=ledger.records,
        units=ledger.units,
        samples=ledger.samples,
        skipped=_sorted(ledger.skipped),
        quarantined=_sorted(ledger.quarantined),
        dropped=_sorted(ledger.objects_dropped),
        findings=_sorted(Counter(finding.rule for finding in report.findings)),
    )


def boxes(spec: Resolved, splits: list[str], root: Path) -> tuple[int, tuple[float, ...]]:
    """Return the number of boxes that the reader finds in some splits, and their mean corners to a hundredth pixel."""
    reader = load_reader(spec.dataset.source.format, spec.path)
    items = (item for split in splits for item in reader.read(spec.source(split), Root(root)))
    found = [
        one.box
        for item in items
        if isinstance(item, Annotation)
        for one in item.instances
        if one.box is not None
    ]
    return len(found), tuple(round(sum(side) / len(found), 2) for side in zip(*found, strict=True))


def foreign(spec: Resolved, splits: list[str], root: Path) -> dict[str, int]:
    """Return the findings by rule in the annotation files as they are, for formats that name a file."""
    found: Counter[str] = Counter()
    required = [
        field.encode_name
        for field in msgspec.structs.fields(load_reader(spec.dataset.source.format, spec.path).Source)
        if field.required
    ]
    for split in splits:
        given = spec.dataset.source.splits[split].options
        if not required or not isinstance(given.get(required[0]), str):
            continue
        if not (root / given[required[0]]).exists():
            continue  # a pattern of files
        options = {
            key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for key, value in given.items()
            if key != required[0]
        }
        file, format_name = root / given[required[0]], spec.dataset.source.format
        report = audit([file], format_name=format_name, root=root, options=options)
        found.update(finding.rule for finding in report.findings)
    return _sorted(found)


def _sorted(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted((reason, count) for reason, count in counts.items() if count))


def pinned() -> dict[str, Case]:
    """Return the pinned counts by spec."""
    return msgspec.json.decode(TABLE.read_bytes(), type=dict[str, Case])


def page(cases: dict[str, Case]) -> str:
    """Return the table as a page."""
    seen: dict[str, Any] = yaml12.load(HERE / "seen.yaml")
    folders = {case.folder for case in cases.values()}
    alive = {case.folder for case in cases.values() if any(split.samples for split in case.splits.values())}
    intro = INTRO.format(specs=len(cases), folders=len(folders), alive=len(alive))
    lines = [intro, f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    for name, case in cases.items():
        lines += _rows(name, case)
    lines += ["", "## What the previews showed", ""]
    lines += [f"* `{name}`: {' '.join(text.split())}" for name, text in sorted(seen.items())]
    lines += ["", "## Folders that give no instruction sample", ""]
    lines += [f"* `{name}`: {text}" for name, text in sorted(yaml12.load(HERE / "left_out.yaml").items())]
    return "\n".join(lines) + "\n"


def _rows(name: str, case: Case) -> Iterator[str]:
    for number, (split, counts) in enumerate(case.splits.items()):
        findings = _text(counts.findings)
        if not number and case.foreign and case.foreign != counts.findings:
            findings += f"; file: {_text(case.foreign)}"
        cells = (
            case.folder, f"`{name}`", split, case.format, counts.records, counts.units, counts.samples,
            _text(counts.skipped), _text(counts.quarantined), _text(counts.dropped), findings,
        )  # fmt: skip
        yield f"| {' | '.join(map(str, cells))} |"


def _text(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "–"


def test_every_conformance_spec_has_pinned_counts_and_every_count_a_spec() -> None:
    assert list(pinned()) == list(runs())


def test_real_samples_of_at_least_25_folders_are_pinned() -> None:
    cases = pinned().values()

    folders = {case.folder for case in cases if any(split.samples for split in case.splits.values())}

    # Folders that start so are layouts with made-up pictures.
    assert len([folder for folder in folders if not folder.startswith("fmt_")]) >= 25


def test_every_folder_is_converted_or_left_out_for_a_reason() -> None:
    if not os.environ.get(SAMPLES):
        pytest.skip(f"{SAMPLES} is not set, so there are no samples here")
    folders = {path.name for path in Path(os.environ[SAMPLES]).iterdir() if path.is_dir()}
    read, left_out = {case.folder for case in pinned().values()}, set(yaml12.load(HERE / "left_out.yaml"))

    assert folders - read == left_out


def test_what_was_seen_is_told_of_specs_that_give_samples() -> None:
    alive = {name for name, case in pinned().items() if any(split.samples for split in case.splits.values())}

    assert set(yaml12.load(HERE / "seen.yaml")) <= alive


def test_a_shipped_spec_that_says_real_was_run_on_a_real_excerpt() -> None:
    pinned_ids = {name.removeprefix(SHIPPED) for name in pinned() if name.startswith(SHIPPED)}
    claimed = {
        spec.dataset.id
        for spec in Catalog()
        if spec.dataset.status == "real" and not spec.dataset.id.startswith(("demo_", "scenes"))
    }

    assert claimed - pinned_ids == RUN_ELSEWHERE


def test_the_page_is_made_from_the_pinned_counts() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(pinned())


@pytest.mark.parametrize("name", list(runs()))
def test_a_spec_converts_real_samples_as_pinned(name: str, tmp_path: Path) -> None:
    run = runs()[name]
    if not os.environ.get(SAMPLES):
        pytest.skip(f"{SAMPLES} is not set, so there is no real sample {run.folder!r} here")
    samples = Path(os.environ[SAMPLES])
    if not (samples / run.folder).is_dir():
        pytest.skip(f"{SAMPLES} has no folder {run.folder!r}")

    found = measure(run, samples, tmp_path)

    assert msgspec.to_builtins(found) == msgspec.to_builtins(pinned()[name])
    for split in found.splits.values():
        assert split.units == split.samples + sum(split.skipped.values()) + sum(split.quarantined.values())


@click.command()
@click.argument("names", nargs=-1)
@click.option("--samples", envvar=SAMPLES, required=True, type=click.Path(exists=True, path_type=Path))
def main(names: tuple[str, ...], samples: Path) -> None:
    """Measure the specs (all, or those of NAMES) and write the table and the page."""
    known = pinned() if names and TABLE.is_file() else {}
    for name, run in runs().items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            known[name] = measure(run, samples, Path(scratch))
        click.echo(f"{name}: {msgspec.json.encode(known[name]).decode()}")
    ordered = {name: known[name] for name in runs() if name in known}
    TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
    PAGE.write_text(page(ordered), encoding="utf-8")


if __name__ == "__main__":
    main()
