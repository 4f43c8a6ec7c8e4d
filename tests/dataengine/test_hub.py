from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.hub import Snapshot, fetch_repo, there
from dataengine.remote import HubRepo

if TYPE_CHECKING:
    from tests.dataengine.conftest import Web

LARGE = random.Random(3).randbytes(300_000)
FILES = {
    "README.md": b"# words",
    "data/train-00000.parquet": LARGE,
    "data/val-00000.parquet": LARGE[:2000],
    "meta/a.json": b"{}",
}
REPO = HubRepo(repo="owner/name", include=("data/*.parquet", "meta/*"), into="hub")


class Run:
    """Fetches of one repository, with what was waited for and shown."""

    def __init__(self, folder: Path) -> None:
        self.root = Root(folder)
        self.record = folder / ".fetch" / "hub" / "x.fetched"
        self.waits: list[float] = []
        self.shown: list[tuple[int, int | None]] = []

    def __call__(self, hub: str, repo: HubRepo = REPO) -> Snapshot:
        return fetch_repo(
            repo,
            self.root,
            self.record,
            hub,
            lambda done, total: self.shown.append((done, total)),
            self.waits.append,
        )

    def files(self) -> dict[str, bytes]:
        top = self.root.directory
        return {
            path.relative_to(top).as_posix(): path.read_bytes()
            for path in sorted(top.rglob("*"))
            if path.is_file() and ".fetch" not in path.parts
        }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "root").mkdir()
    return Run(tmp_path / "root")


EXPECTED = {f"hub/{name}": data for name, data in FILES.items() if name != "README.md"}


def test_a_repository_comes_with_the_files_that_the_spec_asks_for(web: Web, run: Run) -> None:
    web.put_repo("owner/name", FILES)

    found = run(web.address)

    assert run.files() == EXPECTED
    assert found.commit.startswith("c0ffee")
    assert {file.name for file in found.files} == {name.removeprefix("hub/") for name in EXPECTED}
    assert there(REPO, run.root, run.record) == found
    assert run.shown[-1][1] == sum(map(len, EXPECTED.values()))


def test_what_changed_or_is_gone_is_missed_and_brought_back(web: Web, run: Run) -> None:
    web.put_repo("owner/name", FILES)
    run(web.address)
    (run.root.directory / "hub/data/val-00000.parquet").unlink()

    assert there(REPO, run.root, run.record) is None
    web.asked.clear()
    run(web.address)

    assert run.files() == EXPECTED
    assert there(HubRepo(repo="owner/name"), run.root, run.record) is None


def test_a_cut_connection_goes_on(web: Web, run: Run) -> None:
    web.put_repo("owner/name", FILES)
    path = next(name for name in web.files if name.endswith("train-00000.parquet"))
    web.tricks[path] = [web.trick(cut=100_000)]

    run(web.address)

    assert run.files() == EXPECTED
    assert len(web.ranges(path)) >= 2


@pytest.mark.parametrize("name", ["data/train-00000.parquet", "meta/a.json"])
def test_wrong_bytes_are_taken_away(web: Web, run: Run, name: str) -> None:
    web.put_repo("owner/name", FILES)
    path = next(one for one in web.files if one.endswith(name))
    web.files[path] = bytes(len(FILES[name]))

    with pytest.raises(SourceError, match=f"{name}: came with {len(FILES[name])} bytes and digest"):
        run(web.address)

    assert f"hub/{name}" not in run.files()
    assert not run.record.exists()
    web.files[path] = FILES[name]
    run(web.address)
    assert run.files() == EXPECTED


def test_a_hub_that_is_busy_is_asked_again(web: Web, run: Run) -> None:
    web.put_repo("owner/name", FILES)
    web.tricks["/api/datasets/owner/name/revision/main"] = [web.trick(status=503)] * 2

    run(web.address)

    assert run.files() == EXPECTED
    assert run.waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", "no such repository"),
        (404, "RevisionNotFound", "has no revision 'main'"),
        (
            403,
            "GatedRepo",
            "asks for consent; accept its terms at https://huggingface.co/datasets/owner/name",
        ),
    ],
)
def test_a_refusal_is_one_line(web: Web, run: Run, status: int, code: str, says: str) -> None:
    web.put_repo("owner/name", FILES)
    web.tricks["/api/datasets/owner/name/revision/main"] = [
        web.trick(status=status, headers={"X-Error-Code": code})
    ]

    with pytest.raises(SourceError, match=says) as caught:
        run(web.address)

    assert "\n" not in str(caught.value)
    assert run.waits == []


def test_a_hub_that_nobody_answers_at_is_one_line(run: Run) -> None:
    with pytest.raises(SourceError, match="the hub does not answer"):
        run("http://127.0.0.1:9")


def test_a_name_that_leaves_the_root_stops_the_repository(web: Web, run: Run) -> None:
    web.put_repo("owner/name", {**FILES, "../../evil": b"evil"})

    with pytest.raises(SourceError, match="leaves the root; nothing of it was fetched"):
        run(web.address, HubRepo(repo="owner/name"))

    assert run.files() == {}


def test_a_file_of_somebody_else_is_not_replaced(web: Web, run: Run) -> None:
    web.put_repo("owner/name", FILES)
    mine = run.root.directory / "hub" / "data" / "train-00000.parquet"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"own")

    with pytest.raises(
        SourceError, match=r"is there already and is not the file of owner/name; move it away"
    ):
        run(web.address)

    assert mine.read_bytes() == b"own"


def test_a_pattern_that_nothing_matches_is_told(web: Web, run: Run) -> None:
    web.put_repo("owner/name", FILES)

    with pytest.raises(SourceError, match=r"no file matches test-\*; mend the spec's include"):
        run(web.address, HubRepo(repo="owner/name", include=("test-*",)))


def test_a_folder_of_repositories_serves_as_a_hub(run: Run, tmp_path: Path) -> None:
    for name, data in {**FILES, ".cache/huggingface/meta/b.json": b"x"}.items():
        path = tmp_path / "mirror" / "owner" / "name" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    found = run(str(tmp_path / "mirror"))

    assert run.files() == EXPECTED
    assert there(REPO, run.root, run.record) == found
    run(str(tmp_path / "mirror"), HubRepo(repo="owner/name", into="all"))
    assert {name for name in run.files() if name.startswith("all/")} == {f"all/{name}" for name in FILES}
    with pytest.raises(SourceError, match=r"no such folder; a folder of repositories holds <owner>/<name>"):
        run(str(tmp_path / "other"))
