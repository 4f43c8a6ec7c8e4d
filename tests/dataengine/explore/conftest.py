"""Sessions and servers that end with their test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataengine.explore.server import Server
from dataengine.explore.session import Session


@pytest.fixture
def open_session(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Return a function that opens folders; all sessions are closed after the test."""
    opened: list[Session] = []

    def open_one(*folders: Path, report: Path | None = None, selection: Path | None = None) -> Session:
        session = Session([*folders], tmp_path / "cache", selection or tmp_path / "selection.parquet", report)
        opened.append(session)
        return session

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Session], Server]]:
    """Return a function that serves a session on a free port until the test is over."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(session: Session) -> Server:
        server = Server(session, 0)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join(5)
