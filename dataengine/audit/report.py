"""An audit as Parquet, JSON and one self-contained page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.audit.identity import Identity
from dataengine.audit.page import page
from dataengine.audit.run import broken
from dataengine.audit.state import Report
from dataengine.audit.summary import EXAMPLES, Seen, Summary, versions
from dataengine.files import atomic, make_folder, write_atomic

ROWS_A_GROUP = 1 << 14
ISSUES_SCHEMA = pa.schema(
    [
        (name, pa.string())
        for name in ("rule", "severity", "subject", "place", "key", "file", "record", "detail", "image")
    ]
    + [("other_image", pa.string()), ("other_subject", pa.string()), ("box", pa.list_(pa.float64()))]
)


def write(report: Report, directory: Path, identities: Sequence[Identity] = ()) -> None:
    """Write issues.parquet, report.json and index.html; the page compares with the report that stood there before.

    `identities` are the lines of `audit --account`.
    """
    make_folder(directory)
    before, doubt = _before(directory / "report.json")
    seen = write_issues(report, directory / "issues.parquet")
    summary = Summary(
        rules={rule: sum(subjects.values()) for rule, subjects in seen.hits().items()},
        checked=report.checked,
        broken=broken(report),
        accounts=[msgspec.to_builtins(account) for account in report.accounts],
        hits=seen.hits(),
        versions=versions(),
        identities=[*identities],
    )
    html = page(report, seen, before, identities, doubt)
    write_atomic(directory / "index.html", html.encode())
    data = msgspec.json.format(msgspec.json.encode(summary, order="sorted"), indent=1)
    write_atomic(directory / "report.json", data + b"\n")


def write_issues(report: Report, path: Path) -> Seen:
    """Write all findings as Parquet, some thousands at a time, and return what a page shows of them."""
    seen = Seen(counts=Counter(), first={})
    with atomic(path) as file, pq.ParquetWriter(file, ISSUES_SCHEMA, compression="zstd") as table:
        rest = iter(report.findings)
        while some := list(islice(rest, ROWS_A_GROUP)):
            table.write_table(pa.Table.from_pylist([msgspec.to_builtins(one) for one in some], ISSUES_SCHEMA))
            for one in some:
                seen.counts[one.rule, one.subject, one.place] += 1
                first = seen.first.setdefault(one.rule, [])
                if len(first) < EXAMPLES:
                    first.append(one)
    return seen


def _before(path: Path) -> tuple[Summary | None, str]:
    """Return the report that stands there, and why it cannot be read where it cannot."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, msgspec.DecodeError) as error:
        return None, f"The report that stood here cannot be read, so nothing is compared with it: {error}."
