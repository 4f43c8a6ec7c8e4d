from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine import members, tar
from dataengine.errors import ShardError
from dataengine.peers import dali
from dataengine.restore import index

NAMES = st.text("abcä_/-.0 ", min_size=1, max_size=180).filter(
    lambda name: not name.startswith("/") and not name.endswith("/") and ".." not in name and "//" not in name
)
FORMATS = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def _tar(path: Path, files: list[tuple[str, bytes]], kind: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=kind) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda size, offset: data[offset : offset + size]


def _pairs(*keys: str) -> list[tuple[str, bytes]]:
    return [(f"{key}.{kind}", f"{key} {kind}".encode()) for key in keys for kind in ("jpg", "json")]


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=9000)), max_size=6), FORMATS)
def test_the_walk_finds_what_tarfile_finds(files: list[tuple[str, bytes]], kind: int) -> None:
    files = [(n, d) for n, d in files if kind != tarfile.USTAR_FORMAT or len(n.encode()) <= 100]
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = sink.getvalue()

    found, faults = tar._walk(_reader(data), len(data))

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        wanted = [(one.name, one.offset, one.offset_data, one.size) for one in archive if one.isfile()]
    assert [tuple(one) for one in found] == wanted
    assert faults == []


def test_headers_of_1979_and_long_folders_are_read(tmp_path: Path) -> None:
    old = tarfile.TarInfo("old.txt")
    old.size = 3
    block = bytearray(old.tobuf(tarfile.USTAR_FORMAT))
    block[156:157] = b"\0"
    block[257:] = bytes(255)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    long = tarfile.TarInfo(f"{'folder/' * 20}a.jpg")
    data = bytes(block) + b"abc" + bytes(509) + long.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(data)

    found, faults = tar.walk(tmp_path / "a.tar")

    assert [(one.name, one.start, one.size) for one in found] == [
        ("old.txt", 512, 3),
        (f"{'folder/' * 20}a.jpg", 1536, 0),
    ]
    assert faults == []


def test_sizes_beyond_octal_and_in_pax_records_are_read(tmp_path: Path) -> None:
    big = tarfile.TarInfo("big.bin")
    big.size = 8**11 + 5
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = big.tobuf(kind)

        found, faults = tar._walk(_reader(data), len(data) + big.size + 1024)

        assert [(one.name, one.size) for one in found] == [("big.bin", big.size)]
        assert [fault.says for fault in faults] == ["has no end mark (two empty blocks); it may be cut off"]


def _faults(path: Path) -> list[tuple[int, str]]:
    return [(fault.offset, fault.says) for fault in tar.walk(path)[1]]


def test_a_truncated_tar_is_named_with_its_offset(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", [("a.jpg", b"x" * 600), ("b.jpg", b"y" * 600)])
    whole = path.read_bytes()
    for length, says in (
        (2048, [(1536, "'b.jpg' ends early: 0 of 600 bytes are there; the archive is cut off")]),
        (2100, [(1536, "'b.jpg' ends early: 52 of 600 bytes are there; the archive is cut off")]),
        (3072, [(3072, "has no end mark (two empty blocks); it may be cut off")]),
        (3584, [(3072, "ends after one empty block, expected two")]),
    ):
        path.write_bytes(whole[:length])
        assert _faults(path) == says


def test_behind_a_damaged_header_the_next_whole_one_is_read(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", [("a.jpg", b"x" * 600), ("b.jpg", b"y" * 600), ("c.jpg", b"z")])
    data = bytearray(path.read_bytes())
    data[1536 + 3] ^= 1
    path.write_bytes(data)

    found, faults = tar.walk(path)

    assert [one.name for one in found] == ["a.jpg", "c.jpg"]
    assert [tuple(one) for one in faults] == [(1536, "header is damaged; 1536 bytes are skipped")]


def test_what_is_no_file_and_what_follows_the_end_is_said(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE), ("p", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
    with (tmp_path / "a.tar").open("ab") as file:
        file.write(b"\0" * 512 + b"more")
    size = (tmp_path / "a.tar").stat().st_size

    assert _faults(tmp_path / "a.tar") == [
        (512, "'l.jpg' is a link, no file"),
        (1024, "'p' is a pipe, no file"),
        (size - 4, "4 bytes follow the end mark; nothing reads them"),
    ]


def test_a_missing_tar_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"a\.tar: No such file"):
        tar.walk(tmp_path / "a.tar")
    with pytest.raises(ShardError, match="no tars in or below it"):
        members.tars_in(tmp_path)


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_samples_are_those_of_webdataset(tmp_path: Path) -> None:
    files = [
        *_pairs("a", "b", "sub/a"), ("sub.d/c.x.JPG", b"1"), ("sub.d/c.json", b"{}"), ("__meta__/x.json", b"{}"),
        (".hidden", b""), ("plain", b"2"), ("e.txt", b"3"),
    ]  # fmt: skip
    _tar(tmp_path / "0.tar", files, tarfile.PAX_FORMAT)

    found = members.read_tar(tmp_path, "0.tar")

    wanted = [
        (one["__key__"], {key for key in one if not key.startswith("__")})
        for one in webdataset.WebDataset([str(tmp_path / "0.tar")], shardshuffle=False)
    ]
    assert [(s[0].key, {part.extension.lower() for part in s}) for s in found.samples] == wanted
    data = (tmp_path / "0.tar").read_bytes()
    assert [data[p.start : p.start + p.size] for sample in found.samples for p in sample] == [
        data for name, data in files if name not in ("__meta__/x.json", ".hidden", "plain")
    ]
    said = [fault.says for fault in found.faults]
    assert said == [
        "'__meta__/x.json' is in no sample: names between underscores are for webdataset itself",
        "'.hidden' is in no sample: it has no name before its first dot",
        "'plain' is in no sample: it has no extension",
    ]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            [*_pairs("a", "b"), ("a.txt", b"")],
            [(4096, "key 'a' comes again, it began at offset 0: two samples")],
        ),
        ([("a.jpg", b"1"), ("a.JPG", b"2")], [(1024, "a.JPG stands twice in its sample")]),
        ([*_pairs("a", "b", "c"), ("d.png", b"")], [(6144, "sample 'd' is half: it has no json")]),
        (
            _pairs("0.5", "0.7"),
            [
                (
                    0,
                    "names split ambiguously: at the first dot, as readers do, sample '0' has 5.jpg, 5.json, 7.jpg,"
                    " 7.json; at the last dot all samples have jpg, json; rename the members",
                )
            ],
        ),
    ],
)
def test_faults_of_samples_are_named_with_their_offsets(
    tmp_path: Path, files: list[tuple[str, bytes]], says: list[tuple[int, str]]
) -> None:
    if files[0][0] == "0.5.jpg":
        files = [*files, ("1.jpg", b""), ("1.json", b"")]
    _tar(tmp_path / "a.tar", files)

    found = members.read_tar(tmp_path, "a.tar")

    assert [tuple(fault) for fault in found.faults] == says


def test_the_table_leads_to_every_byte(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    _tar(tmp_path / "0.tar", _pairs("a", "b"))
    _tar(tmp_path / "sub/1.tar", _pairs("c"), tarfile.GNU_FORMAT)
    contents = list(members.read_tars(tmp_path, members.tars_in(tmp_path), workers=2))

    rows = pq.read_table(members.dump(contents, tmp_path)).to_pylist()

    assert [(row["shard"], row["sample"], row["key"], row["extension"]) for row in rows] == [
        ("0.tar", 0, "a", "jpg"), ("0.tar", 0, "a", "json"), ("0.tar", 1, "b", "jpg"), ("0.tar", 1, "b", "json"),
        ("sub/1.tar", 0, "c", "jpg"), ("sub/1.tar", 0, "c", "json"),
    ]  # fmt: skip
    for row in rows:
        data = (tmp_path / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
        assert data == f"{row['key']} {row['extension']}".encode()


def test_a_key_of_two_tars_is_said(tmp_path: Path) -> None:
    _tar(tmp_path / "0.tar", _pairs("a", "b"))
    _tar(tmp_path / "1.tar", _pairs("b", "c"))

    contents = list(members.read_tars(tmp_path, members.tars_in(tmp_path)))

    assert members.keys_twice(contents) == ["key 'b' is in 0.tar and in 1.tar"]


def test_the_index_for_dali_has_a_line_a_sample(tmp_path: Path) -> None:
    _tar(tmp_path / "0.tar", [("a.jpg", b"12"), ("a.json", b"{}"), ("b.x.jpg", b"1")])
    _tar(tmp_path / "1.tar", [("a b.jpg", b"12")])
    first, second = members.read_tars(tmp_path, members.tars_in(tmp_path))

    path = dali.dump(tmp_path, first)

    assert path.name == "0.idx"
    assert path.read_text() == "v1.2 2\njpg 512 2 a.jpg json 1536 2 a.json\nx.jpg 2560 1 b.x.jpg\n"
    with pytest.raises(ShardError, match=r"1\.tar: offset 0: 'a b' has a blank, which DALI cannot read"):
        dali.dump(tmp_path, second)


def test_compressed_tars_are_named(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    data = _tar(tmp_path / "a.tar", _pairs("x")).read_bytes()
    (tmp_path / "s/one.tar.gz").write_bytes(gzip.compress(data))

    with pytest.raises(ShardError, match=r"one\.tar\.gz: is compressed, and is left out; unpack it"):
        index(tmp_path / "s")
    (tmp_path / "s/two.tar").write_bytes(gzip.compress(data))
    found = index(tmp_path / "s")

    assert [line.partition(" ")[2].partition(",")[0] for line in found.faults] == [
        "offset 0: is compressed by gzip; unpack it",
        "is compressed",
    ]


def test_a_tar_is_not_the_folder_that_it_lies_in(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", _pairs("x"))

    with pytest.raises(ShardError, match="is a file; expected the folder that tars lie in"):
        index(path)
