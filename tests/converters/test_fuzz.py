"""Every reader, fed with damaged files: it yields, rejects, or raises an error of ours, and nothing else ever.

The damage is that of `mutations.py`, done to what `seeds.py` finds; all of it follows from the number of the round. A
round fails on an exception that is none of ours, on hanging, on more than twice the memory of the whole file (and
a constant), and on anything that could not be converted or written later: builders, audit and the manifest's rows see
what the reader made of it.

Few rounds run by default. `DATAENGINE_FUZZ=N pytest tests/converters/test_fuzz.py -k psg` runs N for each seed, of
more seeds; real samples are used where DATAENGINE_SAMPLES names them. A failure names its seed and round.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from dataengine import manifest as manifests
from dataengine.annotation import Annotation, Rejected
from dataengine.audit.state import Audit
from dataengine.catalog import Catalog
from dataengine.errors import DataEngineError
from dataengine.files import Root
from dataengine.listing import Fit, Listing
from dataengine.modules import FORMATS_PACKAGE, load_reader, names
from dataengine.source import items_of, open_root
from dataengine.spec import DatasetSpec, License, Resolved, Split, TaskUse
from dataengine.spec import Source as SpecSource
from dataengine.units import Chunk, Item, context_of, convert_items
from tests.converters.mutations import damage
from tests.converters.seeds import Seed, made, real

LONG = int(os.environ.get("DATAENGINE_FUZZ", "0"))
ROUNDS = LONG or 9
REAL_ROUNDS = LONG or 3
SEEDS = 12 if LONG else 2
REAL = 8 if LONG else 1
MOST_BYTES = 3_000_000 if LONG else 100_000
# So many items of a seed say which tasks it serves.
FEW = 5
LIMIT_S = 60.0
# Pictures are decoded whole up to a limit of their own.
SPARE_BYTES = 64 * 2**20
CATALOG = Catalog()
FORMATS = names(FORMATS_PACKAGE)


class Hanging(BaseException):
    """No `except Exception` may swallow it."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Stop what takes longer."""

    def stop(signum: int, frame: object) -> None:
        raise Hanging(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resolved(seed: Seed, task: str) -> Resolved:
    """Return a task spec on a seed."""
    options = msgspec.to_builtins(seed.source)
    dataset = DatasetSpec(
        id="fuzz",
        title="Damaged files",
        license=License(annotations="CC0-1.0", images="CC0-1.0"),
        source=SpecSource(format=seed.format, splits={"train": Split(use="train", options=options)}),
        tasks={task: TaskUse()},
        status="layout",
        labels="source",
    )
    return CATALOG.resolve(dataset, task, Path("fuzz.yaml"))


def read_all(seed: Seed, folder: Path) -> list[Annotation | Rejected]:
    """Return everything that the reader makes of a folder."""
    spec = resolved(seed, "conversation")
    found = list(items_of(spec, "train", open_root(spec, "train", folder)))
    for one in found:
        if isinstance(one, Rejected):
            assert one.origin.file and one.origin.record and one.key and one.detail, (
                f"rejected, but where? {one}"
            )
    return found


def recognised(seed: Seed, folder: Path) -> None:
    """Ask the reader whether the folder has its layout: the answer may be no, and never an error."""
    ask = getattr(load_reader(seed.format, "fuzz"), "recognise", None)
    if ask is not None:
        answer = ask(Listing(Root(folder)))
        assert isinstance(answer, Fit | str)


_items = msgspec.msgpack.Decoder(list[Item])


def wrapped(found: list[Annotation | Rejected]) -> list[Item]:
    """Return items as they reach a worker: written and read again."""
    items = [Item(annotation=one) if isinstance(one, Annotation) else Item(rejected=one) for one in found]
    return _items.decode(msgspec.msgpack.encode(items))


def convert_all(seed: Seed, folder: Path, task: str, found: list[Annotation | Rejected]) -> Chunk:
    """Take items all the way that conversion and audit take them, but for files."""
    items = wrapped(found)
    context = context_of(resolved(seed, task), "train", Root(folder), 0)
    chunk = convert_items(context, items)
    chunk.ledger.check("fuzz")
    manifests.table(chunk.samples, manifests.SAMPLE_SCHEMA)
    manifests.table(chunk.lost, manifests.QUARANTINE_SCHEMA)
    audit = Audit("fuzz")
    for item in found:
        if isinstance(item, Annotation):
            sized = [(one.width, one.height) if one.width and one.height else None for one in item.images]
            audit.annotation(item, sized)
    audit.whole()
    return chunk


def plain(text: str, seed: Seed, folder: Path) -> None:
    """Fail where an error does not say in a line what is wrong with which file or folder."""
    assert "\n" not in text, f"more than a line: {text!r}"
    assert len(text) < 2000, f"an error of {len(text)} characters: {text[:300]!r}"
    places = (folder, *seed.folder.rglob("*"))
    assert any(place.name in text for place in places), f"no file is named: {text!r}"


def attempt(seed: Seed, folder: Path, task: str) -> int:
    """Read and convert a folder; return the most memory that it took, in bytes. Raises what nobody may raise."""
    tracemalloc.start()
    try:
        with at_most(LIMIT_S):
            recognised(seed, folder)
            found = read_all(seed, folder)
            convert_all(seed, folder, task, found)
    except DataEngineError as error:
        plain(str(error), seed, folder)
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


def tasks_of(seed: Seed) -> list[str]:
    """Return the tasks that make samples of a seed; conversation where none does."""
    items = wrapped(read_all(seed, seed.folder)[:FEW])
    root = Root(seed.folder)
    made = {
        task: convert_items(context_of(resolved(seed, task), "train", root, 0), items).samples
        for task in CATALOG.tasks
    }
    return [task for task, found in made.items() if found] or ["conversation"]


def rounds(seed: Seed, number: int, count: int, scratch: Path) -> None:
    """Damage a seed again and again."""
    tasks = tasks_of(seed)
    usual = max(attempt(seed, seed.folder, task) for task in tasks[:3])
    for round_ in range(count):
        folder = scratch / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(seed.folder, folder, symlinks=True)
        chance = random.Random(f"{seed.format}/{number}/{round_}")
        done = damage(folder, chance)
        while chance.random() < 0.1:
            done += f", {damage(folder, chance)}"
        task = chance.choice(tasks)
        try:
            most = attempt(seed, folder, task)
        except (Exception, Hanging) as error:
            error.add_note(f"{seed.format}: seed {number}, round {round_}, {task}: {done}; {seed.source}")
            raise
        assert most <= 2 * usual + SPARE_BYTES, (
            f"seed {number}, round {round_}: {most} bytes, {usual} before: {done}"
        )


@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_survives_damage(name: str, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()

    seeds = made(name, tmp_path / "made", 4 * SEEDS)

    assert seeds, f"no test of {name} reads a file, so nothing can be damaged"
    for number, seed in enumerate(seeds[:SEEDS]):
        rounds(seed, number, ROUNDS, tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_survives_damage_to_real_files(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("DATAENGINE_SAMPLES")
    if not folder:
        pytest.skip("DATAENGINE_SAMPLES is not set, so no real sample is damaged")
    makers = [make for one, make in real(Path(folder), tmp_path, MOST_BYTES) if one == name]
    seeds = [seed for make in makers[:REAL] if (seed := make()).weight]
    if not seeds:
        pytest.skip(f"DATAENGINE_SAMPLES has no folder that is read as {name!r}")
    for number, seed in enumerate(seeds):
        rounds(seed, number, REAL_ROUNDS, tmp_path)
