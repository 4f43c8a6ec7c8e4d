"""From what a spec says of its files to the files below a root: what is there, what is missing, and bringing it.

Each part of a spec's `fetch` is done by itself and costs no other. What was brought is written down below the root's
`.fetch`, last and by rename; a second run looks there and does only what is missing.
"""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import xxhash

from dataengine import download, hub
from dataengine import unpack as archives
from dataengine.download import Got, Progress, Wait
from dataengine.errors import Quarantine, SourceError, UsageError
from dataengine.files import Root, make_folder, unwritable, write_atomic
from dataengine.remote import KEPT, ByHand, Fetch, HubRepo, Inner, Kind, RemoteFile
from dataengine.spec import DatasetSpec

State = Literal["there", "partly", "missing", "fetched", "by hand", "failed"]
# A title for a piece of work gives a function that is told how far it is.
Shown = Callable[[str], Progress]
Bring = Callable[[RemoteFile, Path], Got]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a spec's `fetch`: where it comes from, where to, and how far it is.

    `size_bytes` is the size of the download where it is known, `have_bytes` what of it is there. `files` counts what
    came of an archive or a repository, `refused` what was left out of an archive, by reason.
    """

    item: str
    kind: Literal["file", "repository", "manual"]
    source: str
    state: State
    splits: tuple[str, ...] = ()
    size_bytes: int | None = None
    have_bytes: int = 0
    sha256: str = ""
    files: int | None = None
    refused: dict[str, int] = {}
    detail: str = ""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file that was brought and checked."""

    url: str
    size_bytes: int
    sha256: str
    changed_ns: int


def wanted(spec: DatasetSpec, splits: Iterable[str]) -> Fetch:
    """Return the parts of a spec's `fetch` that some splits need. Raises UsageError where the spec has none."""
    if spec.fetch is None:
        place = f"; see {spec.homepage}" if spec.homepage else ""
        raise UsageError(f"{spec.id}: its spec does not say where the files come from (fetch){place}")
    chosen = set(splits)

    def needed(part: RemoteFile | HubRepo | ByHand) -> bool:
        return not part.splits or bool(chosen & set(part.splits))

    parts = {
        name: tuple(part for part in getattr(spec.fetch, name) if needed(part))
        for name in ("files", "hub", "manual")
    }
    if not any(parts.values()):
        raise UsageError(f"{spec.id}: nothing in its fetch is for {', '.join(sorted(chosen))}")
    return Fetch(**parts)


def look(wanted: Fetch, directory: Path) -> list[Item]:
    """Return how far each part is, from what lies on disk alone; the folder need not exist."""
    root = Root(directory) if directory.is_dir() else None
    found = [_look_file(file, root) for file in wanted.files]
    found += [_look_repo(repo, root) for repo in wanted.hub]
    return found + [_look_by_hand(part, root) for part in wanted.manual]


def fetch(
    wanted: Fetch, directory: Path, shown: Shown, hub_at: str | None = None, wait: Wait = time.sleep
) -> Iterator[Item]:
    """Bring what is missing below a folder, which is made; yield each part when it is done or has failed.

    `hub_at` is another address of the Hugging Face hub, or a folder of its repositories. Raises UsageError where
    another fetch works on the folder.
    """
    root = Root(make_folder(directory))
    with _alone(root):
        connection = download.session()

        def bring(file: RemoteFile, path: Path) -> Got:
            return download.download(file, path, connection, shown(file.target), wait)

        for file in wanted.files:
            yield _one(_look_file(file, root), partial(_file, file, root, bring, shown))
        for repo in wanted.hub:
            yield _one(_look_repo(repo, root), partial(_repo, repo, root, hub_at, shown, wait))
        for part in wanted.manual:
            yield _look_by_hand(part, root)


def _one(before: Item, work: Callable[[], Item]) -> Item:
    """Do a part that is not done yet; one that fails says why and costs no other."""
    if before.state == "there":
        return before
    try:
        return work()
    except SourceError as error:
        return msgspec.structs.replace(before, state="failed", detail=str(error))


@contextmanager
def _alone(root: Root) -> Iterator[None]:
    """Hold the folder's lock. Raises UsageError where another process has it."""
    path = make_folder(root.directory / KEPT) / "lock"
    try:
        file = path.open("wb")
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{root.directory}: another fetch works on this folder; wait for it") from error
        yield


def _kept(root: Root, name: str, ending: str) -> Path:
    """Return the record of a part. Its ending is none that a reader looks for."""
    return root.directory / KEPT / f"{name}{ending}"


def _unpacked(root: Root, name: str, to: archives.Archive | Inner) -> Path:
    """Return the record of an archive, one for each way that specs which share a root unpack it."""
    if not (to.into or to.strip):
        return _kept(root, name, ".unpacked")
    way = xxhash.xxh3_64_hexdigest(f"{to.into}\n{to.strip}".encode())
    return _kept(root, f"{name}-{way}", ".unpacked")


def _look_file(file: RemoteFile, root: Root | None) -> Item:
    item = Item(
        item=file.target,
        kind="file",
        source=file.url,
        state="missing",
        splits=file.splits,
        size_bytes=file.size_bytes,
    )
    if root is None:
        return item
    path = _target(file, root)
    record = _record(file, root)
    accounts = _accounts(file, root, record) if record else None
    # Once it is unpacked, an archive may be deleted.
    if record and accounts is not None and (_unchanged(path, record) or (accounts and not path.exists())):
        return msgspec.structs.replace(
            item,
            state="there",
            size_bytes=record.size_bytes,
            have_bytes=record.size_bytes,
            sha256=record.sha256,
            **_sums(accounts),
        )
    if path.is_file():
        return msgspec.structs.replace(item, state="partly", have_bytes=path.stat().st_size)
    part = path.with_name(f"{path.name}.part")
    if part.is_file():
        return msgspec.structs.replace(item, state="partly", have_bytes=part.stat().st_size)
    return item


def _file(file: RemoteFile, root: Root, bring: Bring, shown: Shown) -> Item:
    """Bring one file, check it, and unpack it where it is an archive."""
    path = _target(file, root)
    record = _record(file, root)
    if record is None or not _unchanged(path, record):
        check = shown(f"{file.target}: check")
        got = _check_there(file, path, root, check) if path.exists() else bring(file, path)
        record = _Record(
            url=file.url, size_bytes=got.size_bytes, sha256=got.sha256, changed_ns=path.stat().st_mtime_ns
        )
        write_atomic(_kept(root, file.target, ".fetched"), msgspec.json.encode(record))
    item = Item(
        item=file.target,
        kind="file",
        source=file.url,
        state="fetched",
        splits=file.splits,
        size_bytes=record.size_bytes,
        have_bytes=record.size_bytes,
        sha256=record.sha256,
    )
    if file.unpack is None:
        return item
    accounts = [_unpack(file.target, file.unpack, _archive(file, record), root, shown)]
    accounts += [_unpack_inner(inner, root, shown) for inner in file.then]
    return msgspec.structs.replace(item, **_sums(accounts))


def _unpack(name: str, kind: Kind, archive: archives.Archive, root: Root, shown: Shown) -> archives.Account:
    return archives.unpack(
        root.inside(name), kind, archive, root, _unpacked(root, name, archive), shown(f"{name}: unpack")
    )


def _unpack_inner(inner: Inner, root: Root, shown: Shown) -> archives.Account:
    """Unpack an archive that came out of another one. Raises SourceError where it did not."""
    path = root.inside(inner.path)
    if not path.is_file():
        raise SourceError(f"{path}: no such file; the spec says that it comes out of an archive (then)")
    got = download.digest(path, shown(f"{inner.path}: check"))
    archive = archives.Archive(
        archive=inner.path, size_bytes=got.size_bytes, sha256=got.sha256, into=inner.into, strip=inner.strip
    )
    return _unpack(inner.path, inner.unpack, archive, root, shown)


def _check_there(file: RemoteFile, path: Path, root: Root, progress: Progress) -> Got:
    """Look at a file that is there already. Raises SourceError where it is not what the spec states."""
    if not path.is_file():
        raise SourceError(f"{path}: is there and is no file; move it away")
    last = _last_record(file, root)
    if last and last.url != file.url and not (file.sha256 or file.md5):
        raise SourceError(
            f"{path}: came from {last.url}, not from {file.url}; move it away, or fetch into another folder"
        )
    try:
        return download.check(file, path, progress)
    except download.Mismatch as error:
        raise SourceError(f"{error}; it was there already: move it away, or mend the spec") from error


def _target(file: RemoteFile, root: Root) -> Path:
    try:
        return root.inside(file.target)
    except Quarantine as error:
        raise SourceError(f"{file.target}: {error.detail}; a file must come to lie below --root") from error


def _record(file: RemoteFile, root: Root) -> _Record | None:
    """Return what is known of a file that was brought; None where the spec states another one now."""
    found = _last_record(file, root)
    if found is None or found.url != file.url:
        return None
    other = file.sha256 not in (None, found.sha256) or file.size_bytes not in (None, found.size_bytes)
    return None if other else found


def _last_record(file: RemoteFile, root: Root) -> _Record | None:
    """Return what is known of the file that was last brought to the place of this one."""
    try:
        return msgspec.json.decode(_kept(root, file.target, ".fetched").read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return None


def _unchanged(path: Path, record: _Record) -> bool:
    """Say whether a file is there as it was when it was checked, by size and time."""
    if not path.is_file():
        return False
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) == (record.size_bytes, record.changed_ns)


def _archive(file: RemoteFile, record: _Record) -> archives.Archive:
    return archives.Archive(
        archive=file.target,
        size_bytes=record.size_bytes,
        sha256=record.sha256,
        into=file.into,
        strip=file.strip,
    )


def _accounts(file: RemoteFile, root: Root, record: _Record) -> list[archives.Account] | None:
    """Return the accounts of an archive and of those in it; None where one is not unpacked, or lost a file."""
    if file.unpack is None:
        return []
    archive = _archive(file, record)
    found = [archives.unpacked(_unpacked(root, file.target, archive), archive, root)]
    for inner in file.then:
        kept = _unpacked(root, inner.path, inner)
        about = archives.recorded(kept)
        found.append(archives.unpacked(kept, about, root) if about else None)
    accounts = [account for account in found if account is not None]
    return accounts if len(accounts) == len(found) else None


def _sums(accounts: list[archives.Account]) -> dict[str, Any]:
    """Return what came of archives as keys of an Item."""
    refused: Counter[str] = Counter()
    for account in accounts:
        refused.update(account.refused)
    return {
        "files": sum(account.files for account in accounts) if accounts else None,
        "refused": dict(refused),
    }


def _look_repo(repo: HubRepo, root: Root | None) -> Item:
    item = Item(
        item=repo.into or ".",
        kind="repository",
        source=f"{repo.repo}@{repo.revision}",
        state="missing",
        splits=repo.splits,
        size_bytes=repo.size_bytes,
    )
    found = hub.there(repo, root, _repo_record(repo, root)) if root else None
    return _came(item, found, "there") if found else item


def _repo(repo: HubRepo, root: Root, hub_at: str | None, shown: Shown, wait: Wait) -> Item:
    found = hub.fetch_repo(repo, root, _repo_record(repo, root), hub_at, shown(repo.repo), wait)
    return _came(_look_repo(repo, root), found, "fetched")


def _came(item: Item, found: hub.Snapshot, state: State) -> Item:
    total = sum(file.size_bytes for file in found.files)
    return msgspec.structs.replace(
        item, state=state, size_bytes=total, have_bytes=total, files=len(found.files), detail=found.commit
    )


def _repo_record(repo: HubRepo, root: Root) -> Path:
    # One repository may stand twice, with other files for another split.
    name = repo.repo.replace("/", "--")
    part = xxhash.xxh3_64_hexdigest("\n".join((repo.revision, repo.into, *repo.include)).encode())
    return _kept(root, f"hub/{name}-{part}", ".fetched")


def _look_by_hand(part: ByHand, root: Root | None) -> Item:
    """Return what a person must do; done where all that it names is there."""
    gone = [path for path in part.paths if root is None or not root.inside(path).exists()]
    done = bool(part.paths) and not gone
    return Item(
        item=", ".join(part.paths) or ".",
        kind="manual",
        source=part.url,
        state="there" if done else "by hand",
        splits=part.splits,
        detail=part.do,
    )
