from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from dataengine import tar
from dataengine.errors import ShardError
from dataengine.index import Index, load_set
from dataengine.manifest import read_samples
from dataengine.shard import shard
from dataengine.stream import Stream, recipe
from dataengine.verify import rebuild, verify

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _tars(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in _files(folder).items() if name.endswith(".tar")}


def _both(tiny: Tiny) -> None:
    tiny.convert("train")
    tiny.convert("val")


def _ids(folder: Path) -> list[str]:
    return list(Index(folder).table.column("id").to_pylist())


@pytest.mark.parametrize("layout", ["by_task", "mixed"])
def test_workers_and_place_change_no_byte(tiny: Tiny, tmp_path: Path, layout: Any) -> None:
    _both(tiny)

    shard([tiny.out], tmp_path / "a", layout=layout, samples_per_shard=2)
    shard([tiny.out], tmp_path / "c/d", layout=layout, samples_per_shard=2, workers=2)

    a, c = (_files(tmp_path / name) for name in ("a", "c/d"))
    assert len(_tars(tmp_path / "a")) == 5
    # `manifest` in shards.json is the way from the shards to the manifests, which is another one from c/d.
    assert {name: data for name, data in a.items() if name != "shards.json"} == {
        name: data for name, data in c.items() if name != "shards.json"
    }


def test_two_local_workers_are_the_same_in_mixed_order_of_finishing(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(300)
    tiny.convert()

    shard([tiny.out], tmp_path / "a", samples_per_shard=7)
    shard([tiny.out], tmp_path / "b", samples_per_shard=7, workers=2)

    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_tarfile_reads_every_member_that_the_index_names(tiny: Tiny, tmp_path: Path) -> None:
    directory, _ = tiny.convert()
    converted = {sample.id: sample for sample in read_samples(directory)}

    shard([tiny.out], tmp_path / "s", samples_per_shard=4)

    index = Index(tmp_path / "s")
    for number in range(len(index)):
        row = index.row(number)
        with tarfile.open(tmp_path / "s" / f"{row['shard']}.tar") as archive:
            assert archive.getnames() == sorted(archive.getnames())
            record = json.load(archive.extractfile(f"{row['key']}.json"))  # type: ignore[arg-type]
            path = record["images"][0]["path"]
            picture = archive.extractfile(f"{row['key']}.{path.rpartition('.')[2]}")
            assert picture is not None
            assert archive.getmember(f"{row['key']}.json").offset_data == row["json_offset"]
            assert picture.read() == (tiny.root / path).read_bytes()
        assert record["id"] == row["id"]
        assert [turn["text"] for turn in record["conversation"]] == [
            turn.text for turn in converted[row["id"]].conversation
        ]
    assert _ids(tmp_path / "s") == list(converted)


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_the_shards_as_they_are(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s", samples_per_shard=4)
    paths = sorted(str(path) for path in (tmp_path / "s").glob("*.tar"))

    found = list(webdataset.WebDataset(paths, shardshuffle=False))

    index = Index(tmp_path / "s")
    assert [one["__key__"] for one in found] == index.table.column("key").to_pylist()
    for one, number in zip(found, range(len(index)), strict=True):
        record = json.loads(one["json"])
        picture = one["jpg" if record["images"][0]["format"] == "jpeg" else "png"]
        assert record["id"] == index.row(number)["id"]
        assert picture == (tiny.root / record["images"][0]["path"]).read_bytes()


def test_the_mixed_layout_holds_every_sample_once_and_in_proportion(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(20)
    train, _ = tiny.convert("train")
    val, _ = tiny.convert("val")

    made = shard([tiny.out], tmp_path / "s", layout="mixed", samples_per_shard=8)

    expected = sorted(sample.id for path in (train, val) for sample in read_samples(path))
    assert sorted(_ids(tmp_path / "s")) == expected
    assert [file.samples for file in made.shards] == [8, 8, 7]
    for file in made.shards:
        rows = [one for one in Index(tmp_path / "s").table.to_pylist() if f"{one['shard']}.tar" == file.name]
        assert sum("/val/" in row["id"] for row in rows) == 1
    for source in made.sources:
        inside = [one for one in _ids(tmp_path / "s") if f"/{source.split}/" in one]
        assert inside == [s.id for s in read_samples(tmp_path / "s" / source.manifest)]


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x20
    path.write_bytes(bytes(data))


def _in_picture(row: dict[str, Any]) -> int:
    return int(row["image_offsets"][0]) + 50


def _in_json(row: dict[str, Any]) -> int:
    return int(row["json_offset"]) + 9


def _in_header(row: dict[str, Any]) -> int:
    return int(row["json_offset"]) - 500


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (_in_picture, "offset {picture}: picture images/004.png of tiny/train/4#detection is damaged"),
        (_in_json, "offset {json}: JSON of tiny/train/4#detection is damaged"),
        (
            _in_header,
            "offset {header}: header of tiny-detection-train-000001-000000.json, tiny/train/4#detection,",
        ),
    ],
)
def test_a_flipped_byte_is_found_named_and_mended(
    tiny: Tiny, tmp_path: Path, where: Callable[[dict[str, Any]], int], says: str
) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s", samples_per_shard=3)
    before = _files(tmp_path / "s")
    row = Index(tmp_path / "s").row(3)
    path = tmp_path / "s/tiny-detection-train-000001.tar"
    _flip(path, where(row))

    findings = verify(tmp_path / "s")
    mended = rebuild(tmp_path / "s", only="tiny-detection-train-000001")

    places = {
        "picture": row["image_offsets"][0],
        "json": row["json_offset"],
        "header": row["json_offset"] - 512,
    }
    assert findings[0].startswith(
        f"{path}: digest differs from shards.json; rebuild it with 'dataengine shard"
    )
    assert len(findings) == 2
    assert findings[1].startswith(f"{path}: {says.format(**places)}")
    assert mended == []
    assert _files(tmp_path / "s") == before
    assert verify(tmp_path / "s") == []


def test_padding_that_is_not_empty_is_found(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    path = tmp_path / "s/tiny-detection-train-000000.tar"
    _flip(path, path.stat().st_size - 3)

    findings = verify(tmp_path / "s")

    assert findings[1:] == [
        f"{path}: offset {path.stat().st_size - 1024}: the end, two empty blocks, is damaged"
    ]


def test_padding_behind_a_member_is_named(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    row = Index(tmp_path / "s").row(2)
    path = tmp_path / "s/tiny-detection-train-000000.tar"
    place = row["json_offset"] + row["json_size"]
    assert place % 512
    _flip(path, place)

    findings = verify(tmp_path / "s")

    name = "tiny-detection-train-000000-000002.json"
    assert findings[1:] == [f"{path}: offset {place}: padding behind {name}, {row['id']}, is damaged"]


def test_swapped_samples_are_named_both(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(12)
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    path = tmp_path / "s/tiny-detection-train-000000.tar"
    rows = Index(tmp_path / "s").table.to_pylist()
    data = bytearray(path.read_bytes())
    pairs = ((a, b) for a in rows for b in rows if a["id"] < b["id"] and a["json_size"] == b["json_size"])
    first, second = next(pairs)
    places = [slice(row["json_offset"], row["json_offset"] + row["json_size"]) for row in (first, second)]
    data[places[0]], data[places[1]] = data[places[1]], data[places[0]]
    path.write_bytes(data)

    findings = verify(tmp_path / "s")

    assert sorted(findings[1:]) == sorted(
        f"{path}: offset {one['json_offset']}: JSON of {one['id']} is damaged, it is that of {other['id']}"
        for one, other in ((first, second), (second, first))
    )
    assert rebuild(tmp_path / "s") == []
    assert verify(tmp_path / "s") == []


def test_a_key_that_stands_twice_in_the_tar_is_named(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    path = tmp_path / "s/tiny-detection-train-000000.tar"
    first, second = Index(tmp_path / "s").table.to_pylist()[:2]
    data = bytearray(path.read_bytes())
    place = second["json_offset"] - 512
    name = f"{first['key']}.json"
    data[place : place + 512] = tar.header(name, second["json_size"])
    path.write_bytes(data)

    findings = verify(tmp_path / "s")

    assert findings[1:] == [
        f"{path}: offset {place}: header of {second['key']}.json, {second['id']}, is damaged, its name is {name!r}"
    ]


def test_an_id_that_stands_twice_in_the_index_is_named(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    path = tmp_path / "s/index.parquet"
    table = pq.read_table(path)
    ids = table.column("id").to_pylist()
    pq.write_table(table.set_column(0, "id", pa.array([ids[1], *ids[1:]])), path)

    assert verify(tmp_path / "s") == [f"{path}: id {ids[1]!r} stands twice"]


def test_cut_and_missing_tars_are_found_and_mended(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s", samples_per_shard=3)
    before = _files(tmp_path / "s")
    cut, gone = sorted((tmp_path / "s").glob("*.tar"))
    size = cut.stat().st_size
    rows = Index(tmp_path / "s").table.to_pylist()[:3]
    os.truncate(cut, 5000)
    gone.unlink()

    findings = verify(tmp_path / "s")
    mended = rebuild(tmp_path / "s")

    row = next(row for row in rows if row["image_offsets"][0] + row["image_sizes"][0] > 5000)
    assert [line.partition(";")[0] for line in findings] == [
        f"{cut}: has 5000 bytes, expected {size}",
        f"{cut}: offset {min(row['json_offset'], row['image_offsets'][0]) - 512}: {row['id']} and what follows it"
        " are cut off",
        f"{gone}: missing",
    ]
    assert mended == []
    assert _files(tmp_path / "s") == before


def test_a_rebuild_whose_pictures_have_changed_says_so_and_replaces_nothing(
    tiny: Tiny, tmp_path: Path
) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    path = tmp_path / "s/tiny-detection-train-000000.tar"
    _flip(path, 700)
    before = path.read_bytes()
    Image.new("RGB", (32, 24), (1, 2, 3)).save(tiny.root / "images/001.jpg")

    findings = rebuild(tmp_path / "s")

    assert findings == [
        f"{path}: rebuilt bytes differ from shards.json; its source files have changed; 'dataengine shard' with the"
        " manifests writes it anew from what they are now"
    ]
    assert path.read_bytes() == before


def test_a_rebuild_after_a_new_conversion_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    tiny.convert(seed=5)

    with pytest.raises(ShardError, match="was converted again since"):
        rebuild(tmp_path / "s")


def test_a_rebuild_of_an_unknown_shard_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")

    with pytest.raises(ShardError, match="no shard 'other'"):
        rebuild(tmp_path / "s", only="other")


def _lose(root: Path) -> None:
    (root / "images/003.jpg").unlink()


def _resize(root: Path) -> None:
    Image.new("RGB", (33, 24)).save(root / "images/003.jpg")


def _corrupt(root: Path) -> None:
    (root / "images/003.jpg").write_bytes(b"no picture")


def _link_out(root: Path) -> None:
    (root / "images/003.jpg").rename(root.parent / "003.jpg")
    (root / "images/003.jpg").symlink_to(root.parent / "003.jpg")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_lose, "image.missing"),
        (_resize, "image.changed"),
        (_corrupt, "image.corrupt"),
        (_link_out, "path.outside"),
    ],
)
def test_a_picture_that_changed_since_it_was_converted_costs_its_sample(
    tiny: Tiny, tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    tiny.convert()
    change(tiny.root)

    made = shard([tiny.out], tmp_path / "s", samples_per_shard=4)

    assert [(one.id, one.reason) for one in made.dropped] == [("tiny/train/3#detection", reason)]
    assert made.sources[0].samples == 5 == len(_ids(tmp_path / "s"))
    assert made.sources[0].samples + len(made.dropped) == made.sources[0].ledger.samples
    assert verify(tmp_path / "s") == []


def _marked(tiny: Tiny, tmp_path: Path) -> Path:
    """Shards of the tiny dataset whose pictures have marks on them."""
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "mark_recognition: {}"))
    tiny.convert(task="mark_recognition")
    shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    return tmp_path / "s"


def test_drawn_pictures_have_the_digest_of_what_the_shard_holds(tiny: Tiny, tmp_path: Path) -> None:
    folder = _marked(tiny, tmp_path)

    assert verify(folder) == []
    stream = Stream(folder, recipe(seed=1, global_batch=1))
    for number in range(6):
        sample, (data,) = stream.read_row(number)
        (image,) = sample.images
        assert sample.marks
        assert data != (tiny.root / image.path).read_bytes()
        assert data.startswith(b"\x89PNG" if image.format == "png" else b"\xff\xd8")


def test_drawn_shards_come_out_the_same_from_many_workers_and_when_rebuilt(
    tiny: Tiny, tmp_path: Path
) -> None:
    folder = _marked(tiny, tmp_path)
    before = _tars(folder)

    shard([tiny.out], tmp_path / "two", samples_per_shard=2, workers=2)
    (folder / "tiny-mark_recognition-train-000001.tar").unlink()

    assert _tars(tmp_path / "two") == before
    assert rebuild(folder) == []
    assert _tars(folder) == before


def test_a_picture_of_another_kind_is_drawn_as_png_and_says_so(tiny: Tiny, tmp_path: Path) -> None:
    document = tiny.document()
    Image.open(tiny.root / "images/002.png").save(tiny.root / "images/002.bmp")
    document["images"][1]["file_name"] = "002.bmp"
    tiny.write(document)

    folder = _marked(tiny, tmp_path)

    sample, (data,) = Stream(folder, recipe(seed=1, global_batch=1)).read_row(1)
    assert (sample.images[0].path, sample.images[0].format) == ("images/002.bmp", "png")
    assert data.startswith(b"\x89PNG")


def test_one_more_manifest_leaves_the_finished_tars_alone(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert("train")
    shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*.tar")}
    tiny.convert("val")

    shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    shard([tiny.out], tmp_path / "whole", samples_per_shard=2)

    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*.tar")}
    assert {name: after[name] for name in before} == before
    assert len(after) == 5
    assert _files(tmp_path / "s") == _files(tmp_path / "whole")


def test_dropped_samples_stay_accounted_for_when_their_tar_is_kept(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert("train")
    _lose(tiny.root)
    first = shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    tiny.convert("val")

    second = shard([tiny.out], tmp_path / "s", samples_per_shard=2)

    assert second.dropped == first.dropped
    assert len(second.dropped) == 1


def test_a_picture_that_came_back_brings_its_sample_back(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert("train")
    whole = shard([tiny.out], tmp_path / "whole", samples_per_shard=2)
    (tiny.root / "images").rename(tmp_path / "images")
    lost = shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    (tmp_path / "images").rename(tiny.root / "images")

    again = shard([tiny.out], tmp_path / "s", samples_per_shard=2)

    assert len(lost.dropped) == sum(file.samples for file in whole.shards)
    assert again == whole
    assert _tars(tmp_path / "s") == _tars(tmp_path / "whole")


def test_a_picture_that_was_mended_brings_its_sample_back(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert("train")
    whole = shard([tiny.out], tmp_path / "whole", samples_per_shard=2)
    picture = tiny.root / "images/001.jpg"
    good = picture.read_bytes()
    picture.write_bytes(b"\0" * len(good))
    lost = shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    picture.write_bytes(good)

    again = shard([tiny.out], tmp_path / "s", samples_per_shard=2)

    assert [dropped.reason for dropped in lost.dropped] != ["image.missing"]
    assert len(lost.dropped) == 1
    assert again == whole
    assert _tars(tmp_path / "s") == _tars(tmp_path / "whole")


def test_a_second_run_changes_no_tar(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    before = (_files(tmp_path / "s"), (tmp_path / "s/tiny-detection-train-000000.tar").stat().st_mtime_ns)

    shard([tiny.out], tmp_path / "s")

    assert (
        _files(tmp_path / "s"),
        (tmp_path / "s/tiny-detection-train-000000.tar").stat().st_mtime_ns,
    ) == before


def test_tars_of_an_older_plan_are_removed_and_strange_files_are_not(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s", samples_per_shard=1)
    (tmp_path / "s/mine.tar").write_bytes(b"not yours")

    shard([tiny.out], tmp_path / "s", samples_per_shard=4)

    assert sorted(_tars(tmp_path / "s")) == [
        "mine.tar",
        "tiny-detection-train-000000.tar",
        "tiny-detection-train-000001.tar",
    ]
    (tmp_path / "s/mine.tar").unlink()
    shard([tiny.out], tmp_path / "fresh", samples_per_shard=4)
    assert _files(tmp_path / "s") == _files(tmp_path / "fresh")


class _Killed(BaseException):
    pass


def _kill(count: int, text: str) -> None:
    if count:
        raise _Killed


def test_tars_of_an_unfinished_run_by_another_plan_are_removed(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    with pytest.raises(_Killed):
        shard([tiny.out], tmp_path / "s", layout="mixed", samples_per_shard=1, progress=_kill)
    assert list(_tars(tmp_path / "s")) == ["mixed-000000.tar"]
    (tmp_path / "s/.mixed-000001.tar.tmp999").write_bytes(b"half")

    shard([tiny.out], tmp_path / "s")

    assert sorted(_files(tmp_path / "s")) == [
        "ATTRIBUTION.md",
        "attribution.json",
        "index.parquet",
        "shards.json",
        "tiny-detection-train-000000.tar",
    ]


def test_a_manifest_given_twice_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    directory, _ = tiny.convert()
    shutil.copytree(tiny.out, tmp_path / "copy")

    with pytest.raises(
        ShardError, match=r"tiny/detection/train is given twice, as .* and .*; give each split once"
    ):
        shard([tiny.out, directory], tmp_path / "s")
    with pytest.raises(ShardError, match="is given twice"):
        shard([tiny.out, tmp_path / "copy"], tmp_path / "s")


def test_an_empty_manifest_gives_an_empty_set(tiny: Tiny, tmp_path: Path) -> None:
    tiny.write({**tiny.document(), "images": [], "annotations": []})
    tiny.convert(allow_empty=True)

    made = shard([tiny.out], tmp_path / "s")

    assert (made.shards, len(Index(tmp_path / "s"))) == ((), 0)
    assert verify(tmp_path / "s") == []


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(1500)
    tiny.convert()
    shard([tiny.out], tmp_path / "a/s", samples_per_shard=20)
    out = tmp_path / "b/s"
    command = [sys.executable, "-m", "dataengine", "shard", str(tiny.out), "--out", str(out),
               "--samples-per-shard", "20"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not list(out.glob(".parts/*.msgpack")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    done = {path.stem: (out / f"{path.stem}.tar").stat().st_mtime_ns for path in out.glob(".parts/*.msgpack")}
    assert 0 < len(done) < 75
    assert not (out / "shards.json").exists()

    shard([tiny.out], out, samples_per_shard=20)

    assert _files(out) == _files(tmp_path / "a/s")
    assert {name: (out / f"{name}.tar").stat().st_mtime_ns for name in done} == done


def test_a_full_disk_is_one_line_and_the_next_run_finishes(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(60)
    tiny.convert()
    shard([tiny.out], tmp_path / "a/s")
    out = tmp_path / "b/s"
    code = (
        "import resource, sys; from dataengine.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "shard", str(tiny.out), "--out", str(out)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    left = sorted(path.name for path in out.iterdir())
    shard([tiny.out], out)

    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode == 2
    assert len(errors) == 1
    assert "cannot be written: File too large; free space" in errors[0]
    assert "Traceback" not in done.stderr
    assert left == []
    assert _files(out) == _files(tmp_path / "a/s")


def test_a_set_that_was_stopped_at_its_end_says_that_it_is_unfinished(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s")
    (tmp_path / "s/shards.json").unlink()

    with pytest.raises(ShardError, match="run 'dataengine shard' to finish the set"):
        load_set(tmp_path / "s")
    shard([tiny.out], tmp_path / "s")

    assert Stream(tmp_path / "s", recipe(seed=0, global_batch=2)).read(0)


@pytest.mark.parametrize("name", ["shards.json", "index.parquet"])
def test_a_damaged_index_is_written_anew_by_the_next_run(tiny: Tiny, tmp_path: Path, name: str) -> None:
    _both(tiny)
    shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    whole = _files(tmp_path / "s")
    (tmp_path / "s" / name).write_bytes(whole[name][:100])
    with pytest.raises(ShardError, match="run 'dataengine shard' again"):
        Index(tmp_path / "s")

    shard([tiny.out], tmp_path / "s", samples_per_shard=2)

    assert _files(tmp_path / "s") == whole
