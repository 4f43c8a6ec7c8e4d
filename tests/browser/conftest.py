"""One Chromium for all tests of pages; without one here they are skipped, with a line that says how to get it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.browser.chromium import HOW_TO_GET, Browser, Page, find

Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running Chromium."""
    path = find()
    if path is None:
        pytest.skip(HOW_TO_GET)
    running = Browser(path, tmp_path_factory.mktemp("chromium"))
    yield running
    running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Return a function that opens a URL as a page, as `Browser.open` does; all are closed after the test."""
    opened: list[Page] = []

    def open_one(url: str, width: int = 1280, height: int = 900) -> Page:
        opened.append(browser.open(url, width, height))
        return opened[-1]

    yield open_one
    for page in opened:
        page.close()
