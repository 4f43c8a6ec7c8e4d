from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine import tar
from dataengine.errors import ShardError

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-.", min_size=1, max_size=100).filter(
    lambda name: name.strip(".") != ""
)


def _archive(members: list[tuple[str, bytes]]) -> bytes:
    blocks = [tar.header(name, len(data)) + data + tar.padding(len(data)) for name, data in members]
    return b"".join(blocks) + tar.end()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=2000)), max_size=5))
def test_tarfile_reads_back_what_was_written(members: list[tuple[str, bytes]]) -> None:
    data = _archive(members)

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = [(one.name, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]

    assert found == members
    assert len(data) % tar.BLOCK == 0


def test_a_header_equals_the_one_that_tarfile_writes_but_for_the_device_fields() -> None:
    info = tarfile.TarInfo("tiny-000000.json")
    info.size, info.mode, info.mtime = 1234, 0o644, 0

    ours, theirs = tar.header("tiny-000000.json", 1234), info.tobuf(tarfile.USTAR_FORMAT)

    # The checksum covers the device fields, which tarfile leaves empty.
    assert (ours[:148], ours[156:329], ours[345:]) == (theirs[:148], theirs[156:329], theirs[345:])


def test_metadata_holds_no_time_and_no_owner() -> None:
    with tarfile.open(fileobj=io.BytesIO(_archive([("a", b"x")]))) as archive:
        (member,) = archive.getmembers()

    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")


@pytest.mark.parametrize(("name", "size"), [("a" * 101, 1), ("a", 8**11)])
def test_what_does_not_fit_a_header_is_an_error(name: str, size: int) -> None:
    with pytest.raises(ShardError, match="does not fit a tar header"):
        tar.header(name, size)


def test_the_longest_name_and_size_fit() -> None:
    assert len(tar.header("a" * 100, 8**11 - 1)) == tar.BLOCK
