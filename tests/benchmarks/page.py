"""docs/benchmarks.md from the newest results: ratios, counts, and goals beside them."""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

from typing import Any

import results
from results import OURS, Goal

Lines = dict[str, dict[str, Any]]


def ratio(name: str, key: str = "cpu_ratio") -> Any:
    """Return a function that takes a contestant's ratio from a benchmark's lines."""
    return lambda lines: lines[name][key]


def fact(name: str, of: str = OURS) -> Any:
    """Return a function that takes a fact of a contestant from a benchmark's lines."""
    return lambda lines: lines[of]["facts"][name]


GOALS: dict[str, list[Goal]] = {
    "C1 raw stream": [
        Goal("at least 5 times webdataset (CPU time)", ratio("webdataset"), least=5),
        Goal("at least 8 times Energon (CPU time)", ratio("Energon"), least=8),
        Goal("as fast as litData in order (CPU time)", ratio("litData"), least=1),
    ],
    "C2 small records": [Goal("at least 5 times webdataset (CPU time)", ratio("webdataset"), least=5)],
    "C3 stream to 448": [
        Goal(
            "at least twice webdataset's default path (CPU time)", ratio('webdataset, decode("pil")'), least=2
        )
    ],
    "C4 200 sources": [
        Goal("first batch in less than a second", fact("first_s"), most=1),
        Goal("no prefix of the order is off by a sample", fact("prefix_error"), most=1),
    ],
    "C6 position 10^9": [Goal("the first batch there in 10 ms, once open", fact("batch_s"), most=0.01)],
    "C9 pack, buffer 256": [
        Goal("fill of at least .98", fact("fill"), least=0.98),
        Goal("less than 5 microseconds a sample", fact("us_a_sample"), most=5),
    ],
    "C10 write": [Goal("within 15 % of copying (CPU time)", ratio("copying"), least=1 / 1.15)],
}

INTRODUCTION = """\
# Benchmarks

Made by `make bench` (sizes `small` and `full`; `python tests/benchmarks/run.py NAME...` runs some of it).
A ratio of 2 means twice our time: the higher, the better for us. Repeats are interleaved, numbers are medians, and the
spread is the fastest and slowest repeat relative to the median. CPU time counts a process and its children; it depends
less than time on what else the machine does. Absolute times are not kept: they say more of a machine than of a program.
Every contestant is a process in an environment of its own (`tests/benchmarks/environments.py` pins versions).
`first_s` is seconds from opening to the first sample, `memory_mb` what reading added to the process.
`tests/benchmarks/results.jsonl` has every result with versions, processor, kernel, load and revision.
"""

STREAMING = """\
## Shards and streams

All contestants read the same bytes: tars that our writer made of pictures that the program draws (about 61 KB
each), and what each peer's own tools make of them. Ours reads in the order of training, checks the digest of every
byte and decodes the JSON; the others deliver bytes unchecked, in the order of the files unless a line says otherwise.

C6 stops each one's own loader in the middle of an epoch, saves its state, and goes on with a new one: `missing` and
`twice` count samples of the epoch, and `first_s` is from making the second loader to its first batch. C7 kills a
process that saves a state after each batch, at random moments, and holds what was served last of each step to a run
that nothing stops. In C8 a sample is `served wrong` where its picture or its JSON is not what was written. C12 compares
ways to hand batches over, not contestants.
"""

CONVERSION = """\
## Conversion

`coco to manifests` is 20,000 pictures and 100,000 objects with two workers, every picture's header read and
every mask made; Datumaro's import opens no picture, makes no mask and ends in memory.
"""

MEMORY = """\
Peak memory of a conversion: of 100,000 rows relative to 10,000, and of a COCO file of 20,000 pictures
relative to its size, less what a table of one row takes.

| what | ratio | revision |
| --- | --- | --- |
"""

AUDIT = """\
## Audit

All rules on annotations, with the statistics of the page, by CPU time and record, beside jsonschema's
Draft202012Validator on the same records (`python tests/benchmarks/audit.py speed`). Records are of one picture: seven
objects with outlines of 25 points, or with boxes alone; five captions; three questions with answers; a conversation of
six turns. Of ten records of the mix, two have outlines, two boxes, one captions, two questions, three a conversation.

| records | jsonschema's time relative to ours | spread | revision |
| --- | --- | --- | --- |
"""


def write() -> None:
    """Write the page from the newest result of each contestant."""
    titles: dict[str, Lines] = {}
    for (title, name), line in results.newest().items():
        titles.setdefault(title, {})[name] = line
    streams = sorted((t for t in titles if number_of(t)), key=lambda t: (number_of(t), list(titles).index(t)))
    classic = [t for t in titles if not number_of(t) and t not in ("memory", "stream bytes", results.AUDIT)]
    text = [INTRODUCTION, CONVERSION, conversion_table(titles, classic)]
    if "memory" in titles:
        rows = [
            f"| {name} | {line['ratio']:.2f} | {line['revision']} |"
            for name, line in titles["memory"].items()
        ]
        text.append(MEMORY + "\n".join(rows) + "\n")
    if results.AUDIT in titles:
        text.append(audit_table(titles[results.AUDIT]))
    if streams:
        text.append(STREAMING)
    text += [section(title, titles[title]) for title in streams]
    results.TABLE.write_text("\n".join(text))


def audit_table(lines: Lines) -> str:
    """Return the table of the audit's rules, kind by kind."""
    rows = []
    for name, line in lines.items():
        low, high = line["spread"]
        rows.append(f"| {name} | {line['ratio']:.1f} | {low:.2f} to {high:.2f} | {line['revision']} |")
    goals = [
        Goal(f"{name}: at least 50 times", ratio(name, "ratio"), least=50).verdict(lines) for name in lines
    ]
    return "\n".join([AUDIT + "\n".join(rows), "", "Goals:", *goals]) + "\n"


def number_of(title: str) -> int:
    """Return the number of a benchmark named C1 to C12, 0 for others."""
    head = title.partition(" ")[0]
    return int(head[1:]) if head[0] == "C" and head[1:].isdigit() else 0


def conversion_table(titles: dict[str, Lines], chosen: list[str]) -> str:
    """Return the table of the contests that run inside one process."""
    rows = [
        "| benchmark | contestant | time relative to ours | spread | revision |",
        "| --- | --- | --- | --- | --- |",
    ]
    for title in chosen:
        for name, line in titles[title].items():
            low, high = line["spread"]
            rows.append(
                f"| {title} | {name} | {line['ratio']:.2f} | {low:.2f} to {high:.2f} | {line['revision']} |"
            )
    return "\n".join(rows) + "\n"


def section(title: str, lines: Lines) -> str:
    """Return the table of one benchmark and what became of its goals."""
    ordered = sorted(lines.items(), key=lambda pair: pair[0] != OURS)
    names = list(dict.fromkeys(key for _, line in ordered for key in line.get("facts", {})))
    timed = any("ratio" in line for line in lines.values())
    heads = [
        "contestant",
        *(["time", "CPU", "spread"] if timed else []),
        *[n.replace("_", " ") for n in names],
    ]
    rows = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, line in ordered:
        if line.get("failure"):
            cells = [name, line["failure"].replace("|", "/")[:160], *[""] * (len(heads) - 2)]
        else:
            cells = [name, *(ratios(line) if timed else []), *[cell(line["facts"].get(n)) for n in names]]
        rows.append(f"| {' | '.join(cells)} |")
    any_line = next(iter(lines.values()))
    about = f"Size `{any_line['size']}`, {any_line['cache']}, revision {any_line['revision']}."
    held_to = next(
        (line["reference"] for line in lines.values() if line.get("reference", OURS) != OURS), None
    )
    if held_to is not None:
        about += f" Relative to {held_to}."
    goals = [goal.verdict(lines) for goal in GOALS.get(title, [])]
    return (
        "\n".join([f"### {title}", "", about, "", *rows, *(["", "Goals:", *goals] if goals else [])]) + "\n"
    )


def ratios(line: dict[str, Any]) -> list[str]:
    """Return the cells of a line's time, CPU time and spread; dashes where ours is absent."""
    if "ratio" not in line:
        return ["–", "–", "–"]
    low, high = line["spread"]
    cpu = f"{line['cpu_ratio']:.2f}" if "cpu_ratio" in line else "–"
    return [f"{line['ratio']:.2f}", cpu, f"{low:.2f} to {high:.2f}"]


def cell(value: Any) -> str:
    """Return a fact as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


if __name__ == "__main__":
    write()
