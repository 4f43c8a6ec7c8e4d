from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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
    assert 1 < most <= 4
    assert _open_files(tmp_path) == 0
