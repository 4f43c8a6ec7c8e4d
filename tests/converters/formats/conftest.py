"""Real samples of public datasets, where the environment has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dataengine.files import Root


@pytest.fixture
def samples() -> Callable[[str], Root]:
    """Return a function that opens a folder of DATAENGINE_SAMPLES, or skips the test."""

    def find(folder: str) -> Root:
        value = os.environ.get("DATAENGINE_SAMPLES")
        if not value:
            pytest.skip("DATAENGINE_SAMPLES is not set")
        if not (Path(value) / folder).is_dir():
            pytest.skip(f"DATAENGINE_SAMPLES has no folder {folder!r}")
        return Root(Path(value) / folder)

    return find
