"""Files of a dataset repository of the Hugging Face hub, or of a folder that holds copies of repositories.

The repository is listed before a byte of it comes: a name that would leave the root stops it. What came is compared
with the digests of that list (sha256 of large files, git's blob id of small ones). The record, written last, names
the commit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from dataengine import __version__
from dataengine.download import Again, Progress, Wait, pause
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root, atomic, write_atomic
from dataengine.remote import HubRepo

LOADERS = 4
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class HubFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of a repository: its name there, its size, and the digest that the hub states."""

    name: str
    size_bytes: int
    sha256: str = ""
    blob: str = ""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a repository: which commit, and the files that came from it."""

    repo: str
    revision: str
    commit: str
    include: tuple[str, ...]
    files: tuple[HubFile, ...]


def there(repo: HubRepo, root: Root, record: Path) -> Snapshot | None:
    """Return what came of a repository; None where it did not, or where one of its files is gone or was changed."""
    try:
        found = msgspec.json.decode(record.read_bytes(), type=Snapshot)
    except (OSError, msgspec.MsgspecError):
        return None
    if (found.repo, found.revision, found.include) != (repo.repo, repo.revision, repo.include):
        return None
    whole = all(_size(root, repo, file.name) == file.size_bytes for file in found.files)
    return found if whole else None


def fetch_repo(
    repo: HubRepo, root: Root, record: Path, hub: str | None, progress: Progress, wait: Wait
) -> Snapshot:
    """Bring the files of a repository below the root and return their record.

    `hub` is another address of the hub, or a folder with its repositories (FOLDER/<owner>/<name>). What a stopped run
    left is continued. Raises SourceError where the repository cannot be had or is not what it says.
    """
    if hub is not None and not hub.startswith(("http://", "https://")):
        found = _copy(repo, root, Path(hub), progress)
    else:
        failures = 0
        while True:
            try:
                found = _snapshot(repo, root, hub, progress)
                break
            except Again as error:
                failures += 1
                pause(failures, error, repo.repo, wait)
    write_atomic(record, msgspec.json.encode(found))
    return found


def _snapshot(repo: HubRepo, root: Root, endpoint: str | None, progress: Progress) -> Snapshot:
    """List a repository at one commit, bring its files, compare them with the list."""
    # Read when the library is imported: no command of ours counts its users.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi, RepoFile, snapshot_download

    with _in_our_words(repo):
        api = HfApi(endpoint=endpoint, library_name="dataengine", library_version=__version__)
        commit = api.dataset_info(repo.repo, revision=repo.revision).sha or ""
        tree = api.list_repo_tree(repo.repo, recursive=True, revision=commit, repo_type="dataset")
        listed = [
            HubFile(
                name=one.path,
                size_bytes=one.lfs.size if one.lfs else one.size,
                sha256=one.lfs.sha256 if one.lfs else "",
                blob="" if one.lfs else one.blob_id,
            )
            for one in tree
            if isinstance(one, RepoFile)
        ]
        files = _wanted(repo, listed, root)
        _check_room(repo, files, root)
        folder = root.inside(repo.into) if repo.into else root.directory
        snapshot_download(
            repo.repo,
            repo_type="dataset",
            revision=commit,
            local_dir=folder,
            allow_patterns=list(repo.include) or None,
            endpoint=endpoint,
            max_workers=LOADERS,
            tqdm_class=_quiet_bar(progress, sum(file.size_bytes for file in files)),
            library_name="dataengine",
            library_version=__version__,
        )
    for file in files:
        _check(repo, file, root)
    _tidy(folder)
    return Snapshot(
        repo=repo.repo, revision=repo.revision, commit=commit, include=repo.include, files=tuple(files)
    )


def _wanted(repo: HubRepo, listed: Iterable[HubFile], root: Root) -> list[HubFile]:
    """Return the files that the spec asks for. Raises SourceError for a name that leaves the root, and for none."""
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    patterns = list(repo.include) or None
    files = sorted(
        filter_repo_objects(listed, allow_patterns=patterns, key=lambda file: file.name),
        key=lambda file: file.name,
    )
    if not files:
        raise SourceError(
            f"{repo.repo}: no file matches {', '.join(repo.include) or '*'}; mend the spec's include"
        )
    for file in files:
        try:
            path = root.inside(_below(repo, file.name))
        except Quarantine as error:
            raise SourceError(f"{repo.repo}: {error.detail}; nothing of it was fetched") from error
        if path.exists() and (not path.is_file() or path.stat().st_size != file.size_bytes):
            raise SourceError(f"{path}: is there already and is not the file of {repo.repo}; move it away")
    return files


def _check_room(repo: HubRepo, files: list[HubFile], root: Root) -> None:
    missing = sum(file.size_bytes for file in files if _size(root, repo, file.name) is None)
    free = shutil.disk_usage(root.directory).free
    if missing > free:
        raise SourceError(f"{repo.repo}: needs {missing} bytes, {free} are free; make room and run again")


def _check(repo: HubRepo, file: HubFile, root: Root) -> None:
    """Raise SourceError where a file is not what the hub lists; it is taken away, for the next run."""
    path = root.inside(_below(repo, file.name))
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
    size = path.stat().st_size
    if not file.sha256:
        digest.update(b"blob %d\0" % size)  # what git takes the digest of
    with path.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    if size != file.size_bytes or digest.hexdigest() != (file.sha256 or file.blob):
        path.unlink()
        raise SourceError(
            f"{repo.repo}: {file.name}: came with {size} bytes and digest {digest.hexdigest()}, the hub lists "
            f"{file.size_bytes} and {file.sha256 or file.blob}; taken away, run again to fetch it anew"
        )


def _tidy(folder: Path) -> None:
    """Take away what the library noted beside the files: readers that look for `**/*.json` would find it."""
    cache = folder / ".cache"
    shutil.rmtree(cache / "huggingface", ignore_errors=True)
    if cache.is_dir() and not any(cache.iterdir()):
        cache.rmdir()


def _copy(repo: HubRepo, root: Root, hub: Path, progress: Progress) -> Snapshot:
    """Copy the files of a repository out of a folder that holds repositories."""
    folder = hub / repo.repo
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; a folder of repositories holds <owner>/<name>")
    source = Root(folder)
    names = [name for name in source.glob("**/*") if PurePosixPath(name).parts[0] not in (".cache", ".git")]
    listed = [HubFile(name=name, size_bytes=source.inside(name).stat().st_size) for name in names]
    files = _wanted(repo, listed, root)
    _check_room(repo, files, root)
    total = sum(file.size_bytes for file in files)
    done = 0
    for file in files:
        if _size(root, repo, file.name) != file.size_bytes:
            target = root.inside(_below(repo, file.name))
            with source.inside(file.name).open("rb") as opened, atomic(target) as out:
                shutil.copyfileobj(opened, out, 1 << 20)
        done += file.size_bytes
        progress(done, total)
    return Snapshot(
        repo=repo.repo, revision=repo.revision, commit="", include=repo.include, files=tuple(files)
    )


def _below(repo: HubRepo, name: str) -> str:
    return f"{repo.into}/{name}" if repo.into else name


def _size(root: Root, repo: HubRepo, name: str) -> int | None:
    """Return the size of a file of a repository below the root; None where it is not there."""
    try:
        path = root.inside(_below(repo, name))
    except Quarantine:
        return None
    return path.stat().st_size if path.is_file() else None


@contextmanager
def _in_our_words(repo: HubRepo) -> Iterator[None]:
    """Turn what the library raises into Again where the way was bad, and one line of ours where the repository is."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The library changed its client between versions; this is the base of that client's errors.
    unreachable: type[Exception] = HfHubHTTPError.__bases__[0]
    page = f"https://huggingface.co/datasets/{repo.repo}"
    try:
        yield
    except GatedRepoError as error:
        raise SourceError(
            f"{repo.repo}: asks for consent; accept its terms at {page}, log in with 'hf auth login', run again"
        ) from error
    except RevisionNotFoundError as error:
        raise SourceError(f"{repo.repo}: has no revision {repo.revision!r}; mend the spec") from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"{repo.repo}: no such repository, or not one that everybody may read; see {page}"
        ) from error
    except HfHubHTTPError as error:
        if error.response.status_code in _LATER:
            raise Again(f"the hub answers {error.response.status_code}") from error
        raise SourceError(f"{repo.repo}: {_line(error)}") from error
    except (unreachable, LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise Again(f"the hub does not answer ({_line(error)})") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{repo.repo}: {_line(error)}; run again to resume") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _quiet_bar(progress: Progress, total: int) -> Any:
    """Return a progress bar for the library that shows nothing itself and tells ours how many bytes came."""
    from huggingface_hub.utils.tqdm import tqdm

    counts: dict[int, int] = {}

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self.counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **{**options, "disable": True, "name": None})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            if self.counts_bytes:
                counts[id(self)] = counts.get(id(self), 0) + int(n or 0)
                progress(min(max(counts.values()), total), total)

    return Bar
