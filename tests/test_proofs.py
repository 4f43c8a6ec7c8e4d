"""The page that says which test shows what names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_the_page_names_is_there() -> None:
    named = NAMED.findall((ROOT / "docs/proofs.md").read_text())

    missing = [
        f"{file}::{name}" for file, name in named if f"def test_{name}(" not in (ROOT / file).read_text()
    ]

    assert len(named) > 50 and missing == []
