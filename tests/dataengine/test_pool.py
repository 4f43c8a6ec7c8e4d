from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataengine.errors import ShardError
from dataengine.pool import Pool


def _open_files(folder: Path) -> int:
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        try:
            found += str(folder) in str(one.readlink())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("threads", [1, 4])
def test_a_pool_keeps_few_files_open_whatever_is_read(tmp_path: Path, threads: int) -> None:
    for number in range(20):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]) * 1000)
    pool = Pool(tmp_path, max_open=4)
    most = 0

    def read(turn: int) -> bool:
        nonlocal most
        number = turn * 7 % 20
        data = pool.read(f"{number}.tar", turn % 900, 100)
        # Listing the descriptors takes a while: one that is closed and one opened meanwhile would both be seen.
        with pool._lock:
            most = max(most, _open_files(tmp_path))
        return data == bytes([number]) * 100

    with ThreadPoolExecutor(threads) as executor:
        right = list(executor.map(read, range(400)))
    pool.close()

    assert all(right)
    # Beside the four, what other threads were reading from at that moment.
    assert 1 < most <= 4 + threads - 1
    assert _open_files(tmp_path) == 0


def test_pieces_are_those_that_were_asked_for_and_short_behind_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(range(100)))
    pool = Pool(tmp_path)

    pieces = pool.read_pieces("a.tar", [(90, 10), (0, 3), (95, 10), (200, 1)])

    assert pieces == [bytes(range(90, 100)), b"\0\1\2", bytes(range(95, 100)), b""]
    with pytest.raises(ShardError, match=r"b\.tar: No such file or directory; rebuild it with"):
        pool.read_pieces("b.tar", [(0, 1)])
