from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataengine import files
from dataengine.errors import DataEngineError, Quarantine, SourceError
from dataengine.files import Root, atomic, digest_file, link, make_folder, write_atomic

NAMES = st.text(st.sampled_from("ab./\\\0: é"), max_size=12)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root with two files, beside a file that is none of its business."""
    (tmp_path / "root" / "deep").mkdir(parents=True)
    (tmp_path / "root" / "a.json").write_bytes(b"[1]")
    (tmp_path / "root" / "deep" / "b.txt").write_bytes(b"one\ntwo\r\nthree")
    (tmp_path / "secret.txt").write_text("secret")
    return Root(tmp_path / "root")


def refused(root: Root, name: str) -> str:
    with pytest.raises(Quarantine) as caught:
        root.inside(name)
    return caught.value.reason


def test_a_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        Root(tmp_path / "none")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.txt", "deep/../../secret.txt", "/etc/passwd", "..\\secret.txt", "\\etc\\passwd", "C:/x", "C:\\x",
        "..", "deep/..",
    ],
)  # fmt: skip
def test_a_name_that_climbs_out_is_refused(root: Root, name: str) -> None:
    assert refused(root, name) == "path.outside"


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 2000])
def test_what_is_no_name_is_refused(root: Root, name: str) -> None:
    assert refused(root, name) == "path.invalid"


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_not(root: Root) -> None:
    (root.directory / "out").symlink_to(root.directory.parent)
    (root.directory / "in").symlink_to(root.directory / "deep")
    (root.directory / "chain").symlink_to(root.directory / "out" / "secret.txt")

    assert refused(root, "out/secret.txt") == "path.outside"
    assert refused(root, "chain") == "path.outside"
    assert root.inside("in/b.txt").read_bytes().startswith(b"one")


def test_a_file_beside_one_that_was_asked_for_may_still_be_a_link_that_leads_out(root: Root) -> None:
    (root.directory / "deep" / "away.txt").symlink_to(root.directory.parent / "secret.txt")

    assert root.inside("deep/b.txt").is_file()
    assert refused(root, "deep/away.txt") == "path.outside"
    assert refused(root, "deep/../../secret.txt") == "path.outside"
    assert root.inside("deep/b.txt").is_file()


def test_a_neighbour_with_a_longer_name_is_outside(root: Root) -> None:
    neighbour = root.directory.parent / "root2"
    neighbour.mkdir()
    (root.directory / "next").symlink_to(neighbour)

    assert refused(root, "next/x") == "path.outside"


def test_names_of_other_systems_and_missing_files_have_their_place(root: Root) -> None:
    assert root.inside("deep\\b.txt").read_bytes().endswith(b"three")
    assert root.inside("./deep//b.txt").is_file()
    assert not root.inside("deep/none.txt").exists()
    assert root.inside("..a").name == "..a"


def test_the_whole_machine_can_be_a_root() -> None:
    root = Root(Path("/"))

    assert root.inside("usr") == Path("/usr")


@given(name=NAMES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_leads_out(root: Root, name: str) -> None:
    try:
        found = root.inside(name)
    except Quarantine:
        return

    real, top = os.path.realpath(found), os.path.realpath(root.directory)
    assert real == top or real.startswith(f"{top}/")


def test_a_file_that_is_read_is_remembered_by_its_digest(root: Root) -> None:
    data = root.read("a.json", "annotations")
    lines = list(root.lines("deep/b.txt", "image_set"))

    assert data == b"[1]"
    assert lines == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert root.digests == {
        name: xxhash.xxh3_128_hexdigest((root.directory / name).read_bytes())
        for name in ("a.json", "deep/b.txt")
    }
    assert root.digests["a.json"] == digest_file(root.directory / "a.json")


def test_a_file_that_was_not_read_to_its_end_equals_no_file(root: Root) -> None:
    for number, _ in root.lines("deep/b.txt", "image_set"):
        assert number == 1
        break

    begun = dict(root.digests)
    root.refresh(begun)

    assert begun["deep/b.txt"] != root.digests["deep/b.txt"] == digest_file(root.directory / "deep" / "b.txt")


@pytest.mark.parametrize("name", ["none.json", "../secret.txt", "deep", "y" * 700, "deep/" + "z" * 300])
def test_a_missing_annotation_file_is_told_with_the_key_that_asks_for_it(root: Root, name: str) -> None:
    with pytest.raises(SourceError) as caught:
        root.read(name, "splits.train.annotations")

    message = str(caught.value)
    assert "\n" not in message
    assert "source.splits.train.annotations" in message or "cannot be read" in message


def test_a_line_without_end_is_refused(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 8)
    (root.directory / "long").write_bytes(b"short\n" + b"x" * 20)

    with pytest.raises(SourceError, match="line 2 is longer than 8 bytes"):
        list(root.lines("long", "annotations"))


def test_a_file_beyond_the_limit_is_not_read(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_ANNOTATION_BYTES", 2)

    with pytest.raises(SourceError, match="3 bytes, more than an annotation file may have"):
        root.read("a.json", "annotations")


def test_a_listing_is_sorted_and_one_file_more_is_a_change(root: Root) -> None:
    (root.directory / "deep" / "a.txt").write_text("")
    (root.directory / "deep" / "folder.txt").mkdir()
    (root.directory / "deep" / "out.txt").symlink_to(root.directory.parent / "secret.txt")

    found = root.glob("**/*.txt")
    before = dict(root.digests)
    (root.directory / "deep" / "c.txt").write_text("")
    root.refresh(before)

    assert found == ["deep/a.txt", "deep/b.txt"]
    assert root.digests["glob:**/*.txt"] != before["glob:**/*.txt"]


def test_what_a_listing_leaves_out_is_remembered_with_its_reason(root: Root) -> None:
    folder, outside = root.directory / "deep", root.directory.parent
    (folder / "out.txt").symlink_to(outside / "secret.txt")
    (folder / "gone.txt").symlink_to(folder / "nothing.txt")
    os.mkfifo(folder / "pipe.txt")
    (folder / "linked").symlink_to(outside)
    (folder / "again").symlink_to(folder)
    (root.directory / "other").mkdir()
    (folder / "aside").symlink_to(root.directory / "other")

    assert root.glob("deep/**/*.txt") == root.glob("./**/*.txt") == ["deep/b.txt"]
    assert {name: reason for name, (reason, _) in root.left_out.items()} == {
        "deep/out.txt": "path.outside",
        "deep/gone.txt": "path.invalid",
        "deep/pipe.txt": "path.invalid",
        "deep/linked": "path.outside",
        "deep/aside": "path.invalid",
    }


def test_a_listing_of_which_nothing_can_be_read_is_refused(root: Root) -> None:
    (root.directory / "deep" / "out.csv").symlink_to(root.directory.parent / "secret.txt")

    with pytest.raises(
        SourceError, match=r"no file of 1 that match 'deep/\*.csv' can be read: 'deep/out.csv' leads out"
    ):
        root.glob("deep/*.csv")
    with pytest.raises(SourceError, match="leaves the root"):
        root.glob("../*.txt")
    assert root.glob("deep/out.csv") == []
    assert root.glob("deep/*.tsv") == []


@pytest.mark.parametrize("pattern", ["", "/etc/*"])
def test_a_pattern_must_be_relative(root: Root, pattern: str) -> None:
    with pytest.raises(SourceError, match="no pattern of files inside --root"):
        root.glob(pattern)


def test_refreshing_sees_a_changed_and_a_missing_file(root: Root) -> None:
    root.read("a.json", "annotations")
    before = dict(root.digests)

    (root.directory / "a.json").write_bytes(b"[2]")
    root.refresh(before)

    assert root.digests != before
    (root.directory / "a.json").unlink()
    with pytest.raises(SourceError, match="no such file"):
        root.refresh(before)


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"

    write_atomic(path, b"one")
    write_atomic(path, b"two")

    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    write_atomic(path, b"one")

    with pytest.raises(TypeError):
        write_atomic(path, "text")  # type: ignore[arg-type]

    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_refused_before_it_blocks(root: Root) -> None:
    os.mkfifo(root.directory / "pipe.json")

    with pytest.raises(SourceError, match=r"pipe\.json: is a pipe or a device, expected a file"):
        root.read("pipe.json", "annotations")


def test_a_pipe_is_no_picture_either(root: Root) -> None:
    (root.directory / "a.png").write_bytes(b"x")
    os.mkfifo(root.directory / "b.png")
    (root.directory / "c.png").symlink_to("b.png")

    os.close(root.open("a.png"))
    for name in ("b.png", "c.png"):
        with pytest.raises(Quarantine, match="is a pipe or a device"):
            root.inside(name)
        with pytest.raises((Quarantine, OSError), match="is a pipe or a device"):
            root.open(name)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataEngineError, match="file/x: cannot be written"):
        make_folder(tmp_path / "file" / "x")

    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_a_file_written_in_pieces_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "sub/rows.txt"
    with atomic(path) as file:
        file.write(b"one ")
        assert not path.exists()
        file.write(b"two")

    with pytest.raises(ValueError, match="torn"), atomic(path) as file:
        file.write(b"three")
        raise ValueError("torn")

    assert path.read_bytes() == b"one two"
    assert [one.name for one in path.parent.iterdir()] == ["rows.txt"]


def test_a_link_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")

    link(tmp_path / "a", tmp_path / "b")
    link(tmp_path / "a", tmp_path / "deep/er/c")

    assert [(tmp_path / name).read_text() for name in ("a", "b", "deep/er/c")] == ["new", "new", "new"]


def test_a_file_is_opened_where_its_path_leads_and_nowhere_else(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    outside.mkdir()
    (outside / "x.jpg").write_bytes(b"outside")
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "top.jpg", "a/odd name.jpg"):
        (root / name).write_bytes(name.encode())
    (root / "a/link.jpg").symlink_to(root / "b/1.jpg")
    (root / "a/out.jpg").symlink_to(outside / "x.jpg")
    (root / "c").symlink_to(outside)
    opened = Root(root)

    def content(name: str) -> bytes:
        with os.fdopen(opened.open(name), "rb") as file:
            return file.read()

    for name in ("a/1.jpg", "a/2.jpg", "a/odd name.jpg", "b/1.jpg", "top.jpg", "a/2.jpg"):
        assert content(name) == name.encode()
    assert content("a/link.jpg") == b"b/1.jpg"
    for name in ("a/out.jpg", "c/x.jpg", "a/../../outside/x.jpg", "../outside/x.jpg"):
        with pytest.raises(Quarantine, match=r"root"):
            opened.open(name)
    assert content("a/1.jpg") == b"a/1.jpg"
    with pytest.raises(FileNotFoundError):
        opened.open("a/none.jpg")
