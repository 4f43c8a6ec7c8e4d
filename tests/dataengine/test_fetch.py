from __future__ import annotations

import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine import fetch as fetching
from dataengine.catalog import Catalog, shipped_specs
from dataengine.cli import main
from dataengine.convert import convert
from dataengine.files import Root

if TYPE_CHECKING:
    from tests.conftest import Tiny
    from tests.dataengine.conftest import Web

DATA = random.Random(8).randbytes(600_000)
Call = Callable[..., tuple[int, str, str]]


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a function that runs `fetch` here, answering what it asks, and gives (exit code, stdout, stderr)."""

    def run(*arguments: object, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        with pytest.raises(SystemExit) as stopped:
            main(["fetch", *[str(one) for one in arguments]])
        printed = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, printed.out, printed.err

    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tiny"


def declare(tiny: Tiny, **fetch: Any) -> Path:
    """Write what the tiny dataset's files come from into its spec."""
    tiny.spec.write_text(
        f"{tiny.spec.read_text()}homepage: https://example.org/tiny\nfetch: {json.dumps(fetch)}\n"
    )
    return tiny.spec


def items(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def lying(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".fetch" not in path.parts
    }


def test_nothing_is_asked_of_a_server_before_a_yes(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    spec = declare(
        tiny, files=[{"url": web.put("/a.bin", DATA), "size_bytes": len(DATA)}], hub=[{"repo": "owner/name"}]
    )

    refused = call(spec, "--root", root, "--hub", web.address, answer="n\n")
    silent = call(spec, "--root", root, "--hub", web.address)
    looked = call(spec, "--root", root, "--hub", web.address, "--dry-run")

    assert (refused[0], silent[0], looked[0]) == (1, 2, 0)
    assert "nothing was fetched" in refused[2]
    assert "nobody answered; add --yes" in silent[2]
    assert web.asked == []
    assert not root.exists()


def test_the_terms_stand_before_the_question(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    declare(
        tiny, files=[{"url": web.put("/a.bin", DATA), "size_bytes": len(DATA)}], hub=[{"repo": "owner/name"}]
    )
    tiny.spec.write_text(f"{tiny.spec.read_text()}unverified: [fetch]\n")

    _, out, err = call(tiny.spec, "--root", root, answer="n\n")

    for text in (
        "Tiny pictures for tests (tiny)",
        "https://example.org/tiny",
        "annotations CC0-1.0, pictures CC-BY-4.0",
        "2 parts, 600 kB and 1 of unknown size",
        "nobody has tried these addresses yet",
        "owner/name@main",
    ):
        assert text in out
    assert "under these terms? [y/N]" in err


def test_a_yes_brings_everything_and_a_second_run_nothing(
    web: Web, call: Call, tiny: Tiny, root: Path
) -> None:
    archive = zipped({"images/1.jpg": b"one", "images/2.jpg": b"two"})
    web.put_repo("owner/name", {"val.parquet": DATA[:5000]})
    spec = declare(
        tiny,
        files=[
            {"url": web.put("/a.bin", DATA), "path": "raw/a.bin", "sha256": hashlib.sha256(DATA).hexdigest()},
            {"url": web.put("/i.zip", archive), "unpack": "zip", "into": "pictures"},
        ],
        hub=[{"repo": "owner/name"}],
    )

    code, out, err = call(spec, "--root", root, "--hub", web.address, answer="y\n")

    assert (code, err.count("error")) == (0, 0)
    assert lying(root) == {
        "raw/a.bin": DATA,
        "i.zip": archive,
        "pictures/images/1.jpg": b"one",
        "pictures/images/2.jpg": b"two",
        "val.parquet": DATA[:5000],
    }
    assert f"fetched: raw/a.bin, 600 kB, sha256 {hashlib.sha256(DATA).hexdigest()}" in out
    web.asked.clear()
    code, out, _ = call(spec, "--root", root, "--hub", web.address, "--json")
    assert code == 0
    assert [item["state"] for item in items(out)] == ["there"] * 3
    assert [item["files"] for item in items(out)] == [None, 2, 1]
    assert web.asked == []


def test_an_archive_inside_an_archive_is_unpacked_too(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    outer = zipped(
        {"set/maps/train.zip": zipped({"train/1.png": b"one", "../2.png": b"two"}), "set/a.json": b"{}"}
    )
    inner = {"path": "maps/train.zip", "unpack": "zip", "into": "png", "strip": "train"}
    spec = declare(
        tiny, files=[{"url": web.put("/o.zip", outer), "unpack": "zip", "strip": "set", "then": [inner]}]
    )

    code, out, _ = call(spec, "--root", root, "--yes", "--json")

    assert code == 1
    assert (items(out)[0]["files"], items(out)[0]["refused"]) == (3, {"path.outside": 1})
    assert {"a.json", "maps/train.zip", "png/1.png"} <= set(lying(root))
    assert items(call(spec, "--root", root, "--dry-run", "--json")[1])[0]["state"] == "there"
    (root / "png/1.png").unlink()
    assert items(call(spec, "--root", root, "--dry-run", "--json")[1])[0]["state"] == "partly"
    call(spec, "--root", root, "--yes")
    assert (root / "png/1.png").read_bytes() == b"one"


def test_an_archive_that_lacks_the_one_inside_says_so(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    inner = {"path": "maps.zip", "unpack": "zip"}
    spec = declare(
        tiny, files=[{"url": web.put("/o.zip", zipped({"a": b"a"})), "unpack": "zip", "then": [inner]}]
    )

    code, _, err = call(spec, "--root", root, "--yes")

    assert code == 2
    assert "the spec says that it comes out of an archive (then)" in err


def test_what_is_missing_is_brought_and_nothing_else(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    archive = zipped({"1.jpg": b"one", "2.jpg": b"two"})
    spec = declare(
        tiny,
        files=[
            {"url": web.put("/a.bin", DATA)},
            {"url": web.put("/i.zip", archive), "unpack": "zip", "into": "p"},
        ],
    )
    call(spec, "--root", root, "--yes")
    (root / "i.zip").unlink()
    assert call(spec, "--root", root, "--yes")[0] == 0
    assert not (root / "i.zip").exists()
    (root / "p/2.jpg").unlink()
    web.asked.clear()

    code, out, _ = call(spec, "--root", root, "--yes", "--json")

    assert [item["state"] for item in items(out)] == ["there", "fetched"]
    assert [path for _, path, _ in web.asked] == ["/i.zip"]
    assert (code, lying(root)["p/2.jpg"]) == (0, b"two")


def test_a_changed_file_is_not_taken_for_what_was_fetched(
    web: Web, call: Call, tiny: Tiny, root: Path
) -> None:
    spec = declare(tiny, files=[{"url": web.put("/a.bin", DATA), "sha256": hashlib.sha256(DATA).hexdigest()}])
    call(spec, "--root", root, "--yes")
    (root / "a.bin").write_bytes(DATA[:-1] + b"x")

    code, _, err = call(spec, "--root", root, "--yes")

    assert code == 2
    assert "it was there already: move it away, or mend the spec" in err
    assert (root / "a.bin").read_bytes() == DATA[:-1] + b"x"


def test_another_file_of_the_same_name_is_not_taken_for_this_one(
    web: Web, call: Call, tiny: Tiny, root: Path
) -> None:
    text = tiny.spec.read_text()
    call(
        declare(tiny, files=[{"url": web.put("/one/i.zip", zipped({"a": b"a"})), "unpack": "zip"}]),
        "--root",
        root,
        "--yes",
    )
    tiny.spec.write_text(text)
    spec = declare(tiny, files=[{"url": web.put("/two/i.zip", zipped({"b": b"b"})), "unpack": "zip"}])

    code, _, err = call(spec, "--root", root, "--yes")

    assert code == 2
    assert f"came from {web.address}/one/i.zip, not from {web.address}/two/i.zip; move it away" in err


def test_two_datasets_share_an_archive_that_each_unpacks_elsewhere(
    web: Web, call: Call, tiny: Tiny, root: Path
) -> None:
    text = tiny.spec.read_text()
    one = {"url": web.put("/i.zip", zipped({"a": b"a"})), "unpack": "zip"}
    for into in ("x", "y", "x", "y"):
        tiny.spec.write_text(text)
        call(declare(tiny, files=[{**one, "into": into}]), "--root", root, "--yes")

    assert [path for _, path, _ in web.asked] == ["/i.zip"]
    assert {"x/a", "y/a"} <= set(lying(root))
    assert len(list((root / ".fetch").glob("*.unpacked"))) == 2


def test_a_file_that_was_there_before_is_checked_and_kept(
    web: Web, call: Call, tiny: Tiny, root: Path
) -> None:
    spec = declare(tiny, files=[{"url": web.put("/a.bin", DATA), "sha256": hashlib.sha256(DATA).hexdigest()}])
    root.mkdir(parents=True)
    (root / "a.bin").write_bytes(DATA)

    code, _, _ = call(spec, "--root", root, "--yes")

    assert code == 0
    assert web.asked == []
    assert items(call(spec, "--root", root, "--dry-run", "--json")[1])[0]["state"] == "there"


def test_what_was_fetched_is_converted(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    pictures = {f"tiny/images/{path.name}": path.read_bytes() for path in (tiny.root / "images").iterdir()}
    names = ("train.json", "val.json")
    files = [{"url": web.put(f"/{name}", (tiny.root / name).read_bytes())} for name in names]
    spec = declare(
        tiny, files=[*files, {"url": web.put("/i.zip", zipped(pictures)), "unpack": "zip", "strip": "tiny"}]
    )

    code, _, _ = call(spec, "--root", root, "--yes")

    assert code == 0
    (found,) = Catalog().find(str(spec))
    assert convert(found, "train", root, tiny.out).samples == 6


def test_a_shipped_spec_fetches_what_it_reads(
    web: Web, call: Call, samples_dir: Callable[[str], Path], tmp_path: Path, root: Path
) -> None:
    sample = samples_dir("coco_instances")
    for address, folder in (
        ("/annotations/annotations_trainval2017.zip", "annotations"),
        ("/zips/val2017.zip", "val2017"),
    ):
        paths = sorted((sample / folder).iterdir())
        web.put(address, zipped({f"{folder}/{path.name}": path.read_bytes() for path in paths}))
    text = (shipped_specs() / "datasets" / "coco2017.yaml").read_text()
    text = text.replace("http://images.cocodataset.org", web.address)
    spec = tmp_path / "coco2017.yaml"
    # The sample is a few records of the real archives, so it has other digests.
    spec.write_text(
        "".join(line for line in text.splitlines(True) if not line.lstrip().startswith(("size_", "sha256")))
    )

    code, _, _ = call(spec, "--root", root, "--yes", "--split", "val")

    assert code == 0
    found = next(one for one in Catalog().find(str(spec)) if one.task.id == "detection")
    assert (
        convert(found, "val", root, tmp_path / "out").samples
        == len(list((sample / "val2017").iterdir()))
        == 2
    )


def test_a_part_that_fails_costs_no_other(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    spec = declare(
        tiny,
        files=[
            {"url": f"{web.address}/none.bin"},
            {"url": web.put("/bad.zip", b"no archive"), "unpack": "zip"},
            {"url": web.put("/a.bin", DATA)},
        ],
    )

    code, out, err = call(spec, "--root", root, "--yes", "--json")

    assert code == 2
    assert [item["state"] for item in items(out)] == ["failed", "failed", "fetched"]
    assert "answers 404" in items(out)[0]["detail"]
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "error"]


def test_one_split_is_fetched_without_the_others(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    names = {"train": "/train.bin", "val": "/val.bin", "both": "/both.bin"}
    spec = declare(
        tiny,
        files=[
            {"url": web.put(path, name.encode()), **({"splits": [name]} if name != "both" else {})}
            for name, path in names.items()
        ],
    )

    code, _, _ = call(spec, "--root", root, "--yes", "--split", "val")

    assert code == 0
    assert set(lying(root)) == {"val.bin", "both.bin"}
    assert call(spec, "--root", root, "--yes", "--split", "vall")[2].endswith("did you mean 'val'?\n")


def test_a_task_is_fetched_by_its_splits(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "detection: {splits: [val]}"))
    spec = declare(
        tiny, files=[{"url": web.put(f"/{split}", b"x"), "splits": [split]} for split in ("train", "val")]
    )

    call(spec, "--root", root, "--yes")

    assert set(lying(root)) == {"val"}


def test_what_only_a_person_can_do_is_said(call: Call, tiny: Tiny, root: Path) -> None:
    step = {
        "do": "Fill in the form; put images/ into the root.",
        "url": "https://example.org/form",
        "paths": ["images"],
    }
    spec = declare(tiny, manual=[step])

    code, out, _ = call(spec, "--root", root)

    assert code == 1
    assert "by hand: Fill in the form; put images/ into the root. See https://example.org/form" in out
    (root / "images").mkdir(parents=True)
    code, out, _ = call(spec, "--root", root, "--json")
    assert (code, items(out)[0]["state"]) == (0, "there")


def test_a_spec_without_addresses_says_where_to_look(call: Call, tiny: Tiny, root: Path) -> None:
    tiny.spec.write_text(f"{tiny.spec.read_text()}homepage: https://example.org/tiny\n")

    code, _, err = call(tiny.spec, "--root", root)

    assert code == 2
    assert "does not say where the files come from (fetch); see https://example.org/tiny" in err


def test_what_an_archive_should_not_hold_is_a_finding(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    spec = declare(
        tiny, files=[{"url": web.put("/i.zip", zipped({"a": b"a", "../b": b"b"})), "unpack": "zip"}]
    )

    first = call(spec, "--root", root, "--yes")
    second = call(spec, "--root", root, "--yes", "--json")

    assert (first[0], second[0]) == (1, 1)
    assert "refused: path.outside 1, see .fetch/i.zip*.unpacked" in first[1]
    assert items(second[1])[0]["refused"] == {"path.outside": 1}
    assert not (root.parent / "b").exists()


def test_a_folder_that_leads_out_of_the_root_gets_no_file(
    web: Web, call: Call, tiny: Tiny, root: Path
) -> None:
    spec = declare(tiny, files=[{"url": web.put("/a.bin", DATA), "path": "out/a.bin"}])
    root.mkdir(parents=True)
    (root.parent / "elsewhere").mkdir()
    (root / "out").symlink_to(root.parent / "elsewhere")

    code, _, err = call(spec, "--root", root, "--yes")

    assert code == 2
    assert "leads out of the root through a link" in err
    assert not list((root.parent / "elsewhere").iterdir())


def test_two_fetches_do_not_share_a_folder(web: Web, call: Call, tiny: Tiny, root: Path) -> None:
    spec = declare(tiny, files=[{"url": web.put("/a.bin", DATA)}])
    root.mkdir(parents=True)

    with fetching._alone(Root(root)):
        code, _, err = call(spec, "--root", root, "--yes")

    assert code == 2
    assert "another fetch works on this folder" in err
    assert call(spec, "--root", root, "--yes")[0] == 0


def _start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dataengine", "fetch", *map(str, arguments)]

    def interruptible() -> None:
        # A shell that runs the tests in the background lets its children ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "stopped"])
def test_a_run_that_ended_in_the_middle_is_continued(
    web: Web, call: Call, tiny: Tiny, root: Path, end: signal.Signals
) -> None:
    archive = zipped({f"{number}.bin": DATA[number : number + 100_000] for number in range(5)})
    spec = declare(
        tiny, files=[{"url": web.put("/i.zip", archive, web.trick(cut=300_000, hold=True)), "unpack": "zip"}]
    )
    part = root / "i.zip.part"
    process = _start(spec, "--root", root, "--yes")
    deadline = time.monotonic() + 15
    while (part.stat().st_size if part.exists() else 0) < 200_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    there = part.stat().st_size
    process.send_signal(end)
    _, said = process.communicate(timeout=20)
    web.let_go.set()
    assert there >= 200_000
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert said.endswith("stopped; run the same command again to resume\n")

    code, _, _ = call(spec, "--root", root, "--yes")

    assert code == 0
    assert (root / "i.zip").read_bytes() == archive
    assert (root / "3.bin").read_bytes() == DATA[3:100_003]
    assert int(str(web.ranges("/i.zip")[1]).removeprefix("bytes=")[:-1]) >= 200_000
    assert not part.exists()
