from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.voc_xml import Source, labels, parse, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
BOX = "<bndbox><xmin>9</xmin><ymin>107</ymin><xmax>499</xmax><ymax>263</ymax></bndbox>"
CAT = f"<object><name>cat</name>{BOX}</object>"


def _document(body: str) -> str:
    return (
        "<annotation><filename>other.jpg</filename>"
        f"<size><width>500</width><height>366</height></size>{body}</annotation>"
    )


def _folder(folder: Path, **documents: str | bytes) -> Root:
    (folder / "Annotations").mkdir()
    for stem, text in documents.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "Annotations" / f"{stem}.xml").write_bytes(data)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_box_loses_the_count_from_one(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_document(CAT))

    (found,), rejected = _split(root)

    assert rejected == []
    assert found.key == "a"
    assert [(item.category, item.box) for item in found.instances] == [("cat", (8, 106, 499, 263))]
    assert (found.images[0].width, found.images[0].height) == (500, 366)
    assert (found.origin.file, found.origin.record) == ("Annotations/a.xml", "annotation")
    assert found.exhaustive


def test_a_box_that_counts_from_zero_stays(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, a=_document(CAT)), origin=0)

    assert found.instances[0].box == (9, 107, 499, 263)


def test_coordinates_may_be_fractions(tmp_path: Path) -> None:
    box = BOX.replace("<xmin>9<", "<xmin> 9.5 <")
    root = _folder(tmp_path, a=_document(f"<object><name>cat</name>{box}</object>"))

    (found,), _ = _split(root)

    assert found.instances[0].box == (8.5, 106, 499, 263)


def test_the_list_decides_which_files_are_read_and_in_which_order(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_document(""), b=_document(""), c=_document(""))
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfc\r\na \r\n\r\n")

    found, rejected = _split(root, image_set="val.txt")

    assert [item.key for item in found] == ["c", "a"]
    assert rejected == []


def test_the_list_of_one_class_is_read_by_its_names(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_document(""), b=_document(""), **{"c d": _document("")})
    (tmp_path / "cat_val.txt").write_text("a -1\nb  1\nc d  0\n")

    found, rejected = _split(root, image_set="cat_val.txt")

    assert [item.key for item in found] == ["a", "b", "c d"]
    assert rejected == []


def test_a_listed_picture_without_a_file_is_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_document(""))
    (tmp_path / "val.txt").write_text("a\nb\n")

    found, (rejected,) = _split(root, image_set="val.txt")

    assert [item.key for item in found] == ["a"]
    assert (rejected.key, rejected.reason) == ("b", "id.orphan")
    assert "Annotations/b.xml" in rejected.detail


def test_a_picture_that_is_listed_twice_is_rejected_once(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_document(""))
    (tmp_path / "val.txt").write_text("a\na\n")

    found, (rejected,) = _split(root, image_set="val.txt")

    assert len(found) == 1
    assert (rejected.reason, rejected.origin.record) == ("id.duplicate", "line 2")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../../etc/passwd", "path.outside"), ("/etc/passwd", "path.outside"), ("a" * 300, "path.invalid")],
)
def test_a_listed_name_that_no_file_of_the_root_has_is_rejected(
    tmp_path: Path, name: str, reason: str
) -> None:
    root = _folder(tmp_path, a=_document(""))
    (tmp_path / "val.txt").write_text(f"{name}\n")

    found, (rejected,) = _split(root, image_set="val.txt")

    assert found == []
    assert rejected.reason == reason


def test_without_a_list_every_file_of_the_folder_is_read(tmp_path: Path) -> None:
    root = _folder(tmp_path, b=_document(""), a=_document(""))
    (tmp_path / "Annotations" / "deep").mkdir()
    (tmp_path / "Annotations" / "deep" / "c.xml").write_text(_document(""))

    found, _ = _split(root)

    assert [item.key for item in found] == ["a", "b", "deep/c"]
    assert found[2].images[0].path == "JPEGImages/deep/c.jpg"


def test_annotations_may_lie_in_the_root_itself(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(_document(CAT))

    (found,), _ = _split(Root(tmp_path), annotations="", images="")

    assert found.images[0].path == "a.jpg"
    assert found.origin.file == "a.xml"


@pytest.mark.parametrize("folder", ["Annotations", "../elsewhere", "/etc"])
def test_a_folder_that_is_not_there_or_outside_is_an_error(tmp_path: Path, folder: str) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(Root(tmp_path), annotations=folder)


def test_a_folder_without_xml_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no XML file"):
        _split(_folder(tmp_path))


@pytest.mark.parametrize(
    ("options", "stated", "path"),
    [
        ({}, "other.jpg", "JPEGImages/a.jpg"),
        ({"extension": "png"}, "other.jpg", "JPEGImages/a.png"),
        ({"media": "filename"}, "other.jpg", "JPEGImages/other.jpg"),
        ({"media": "filename"}, "other", "JPEGImages/other.jpg"),
        ({"media": "filename"}, "", "JPEGImages/a.jpg"),
        ({"media": "filename"}, "../x.jpg", "JPEGImages/../x.jpg"),
    ],
)
def test_the_picture_is_named_by_the_file_or_by_what_it_states(
    tmp_path: Path, options: dict[str, Any], stated: str, path: str
) -> None:
    root = _folder(tmp_path, a=_document("").replace("other.jpg", stated))

    (found,), _ = _split(root, **options)

    assert found.images[0].path == path


def test_flags_and_attributes_are_kept(tmp_path: Path) -> None:
    body = (
        f"<object><name>cat</name><pose>Left</pose><truncated>1</truncated><difficult>1</difficult>"
        f"<occluded>0</occluded><attributes><attribute><name>color</name><value>red</value></attribute>"
        f"</attributes>{BOX}</object>"
        f"<object><name>cat</name><pose>Unspecified</pose><difficult>0</difficult>{BOX}</object>"
    )

    (found,), _ = _split(_folder(tmp_path, a=_document(body)))

    first, second = found.instances
    assert first.difficult
    assert first.attributes == {"pose": "Left", "truncated": "1", "color": "red"}
    assert not second.difficult
    assert second.attributes == {}


def test_a_part_is_no_object_and_does_not_change_its_owner(tmp_path: Path) -> None:
    part = f"<part><name>head</name>{BOX.replace('9', '1')}</part>"
    root = _folder(tmp_path, a=_document(f"<object><name>person</name>{part}{BOX}</object>"))

    (found,), _ = _split(root)

    assert [(item.category, item.box) for item in found.instances] == [("person", (8, 106, 499, 263))]


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size><width>0</width><height>0</height></size>",
        "<size><width>x</width></size>",
        f"<size><width>{'9' * 30}</width><height>1e308</height></size>",
    ],
)
def test_a_size_that_is_not_stated_is_unknown(tmp_path: Path, size: str) -> None:
    root = _folder(tmp_path, a=f"<annotation>{size}{CAT}</annotation>")

    (found,), _ = _split(root)

    assert (found.images[0].width, found.images[0].height) == (None, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<object><name>cat</name></object>", "schema"),
        (f"<object>{BOX}</object>", "schema"),
        (f"<object><name>cat</name>{BOX.replace('9', 'nine')}</object>", "schema"),
        ("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>", "schema"),
        (f"<object><name>dog</name>{BOX}</object>", "category.unknown"),
    ],
)
def test_a_defective_object_is_rejected_and_stays_ignored(tmp_path: Path, body: str, reason: str) -> None:
    root = _folder(tmp_path, a=_document(body + CAT))

    (found,), (rejected,) = _split(root, labels=("cat",))

    assert (rejected.reason, rejected.origin.record) == (reason, "object[0]")
    assert [item.ignore for item in found.instances] == [True, False]
    assert found.exhaustive == ("<name>cat</name>" in body)


def test_labels_are_the_declared_ones_or_the_names_in_the_files(tmp_path: Path) -> None:
    dog = CAT.replace("cat", " dog ")
    root = _folder(tmp_path, a=_document(CAT + dog), b=_document(CAT), c="<annotation>")

    assert labels(Source(), root).names == ("cat", "dog")
    assert labels(Source(labels=("dog", "cat", "cow")), root).names == ("dog", "cat", "cow")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<annotation><object>", "xml.malformed"),
        (b"", "xml.malformed"),
        (b"\x89PNG", "xml.malformed"),
        (b"<svg/>", "schema"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "xml.malformed"),
        (b'<?xml version="1.0" encoding="rot13"?><annotation/>', "xml.malformed"),
        (b"<!DOCTYPE annotation><annotation/>", "xml.doctype"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><annotation/>'.encode("utf-16"), "xml.doctype"),
        (
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
            "xml.doctype",
        ),
        (
            b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>',
            "xml.doctype",
        ),
    ],
)
def test_a_document_that_is_no_voc_file_is_rejected(tmp_path: Path, data: bytes, reason: str) -> None:
    root = _folder(tmp_path, a=data, b=_document(CAT))

    (found,), (rejected,) = _split(root)

    assert found.key == "b"
    assert (rejected.key, rejected.reason, rejected.origin.file) == ("a", reason, "Annotations/a.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "gbk", "utf-16", "shift_jis"])
def test_the_declared_encoding_counts(encoding: str) -> None:
    name = "é" if encoding in ("latin-1", "utf-8", "utf-16") else "日"
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation><folder>{name}</folder></annotation>'

    assert parse(text.encode(encoding)).findtext("folder") == name


def test_brackets_without_end_cost_no_stack() -> None:
    with pytest.raises(Quarantine, match=r"xml\.malformed"):
        parse(b"<annotation>" + b"<a>" * 200_000)


def test_reading_remembers_the_digests_of_list_and_documents(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_document(""))
    (tmp_path / "val.txt").write_text("a\n")

    _split(root, image_set="val.txt")

    assert sorted(root.digests) == ["Annotations/a.xml", "val.txt"]


def test_a_missing_document_that_comes_later_is_a_change(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_document(""))
    (tmp_path / "val.txt").write_text("a\nb[1]\n")
    _split(root, image_set="val.txt")
    before = dict(root.digests)

    (tmp_path / "Annotations" / "b[1].xml").write_text(_document(""))
    root.refresh(list(before))

    assert root.digests != before


@pytest.mark.parametrize(
    ("folder", "options", "num_images", "num_objects"),
    [
        ("voc2007_2012_det", {"image_set": "ImageSets/Main/val.txt"}, 12, 31),
        ("bccd/BCCD", {}, 10, 181),
        ("fmt_roboflow/voc/train", {"annotations": "", "images": ""}, 2, 2),
        ("fmt_voc/voc_dataset1", {"image_set": "ImageSets/Main/train.txt"}, 1, 2),
        ("voc2007_original_xml/VOCdevkit/VOC2012", {"image_set": "ImageSets/Main/trainval.txt"}, 1, 1),
    ],
)
def test_real_files_read_without_a_rejection(
    samples: Samples, folder: str, options: dict[str, Any], num_images: int, num_objects: int
) -> None:
    root = samples(folder)

    found, rejected = _split(root, **options)

    assert rejected == []
    assert len(found) == num_images
    assert sum(len(item.instances) for item in found) == num_objects
    assert all((root.directory / item.images[0].path).is_file() for item in found)
    assert labels(Source(**options), root).labels
