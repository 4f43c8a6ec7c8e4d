from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from converters.formats.flickr30k_entities import Source, caption, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

BOX = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
OBJECTS = (
    f"<object><name>1</name>{BOX}</object>"
    f"<object><name>1</name><name>2</name>{BOX.replace('11', '1')}</object>"
    "<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>"
)
LINES = (
    "[/EN#1/people Two men] and [/EN#2/people/clothing one of them] in [/EN#3/scene a park] .\n"
    "[/EN#0/notvisual It] is [/EN#2/people a man] .\n"
)


def _folder(folder: Path, objects: str = OBJECTS, lines: str | bytes = LINES, name: str = "7") -> Root:
    for part in ("Annotations", "Sentences"):
        (folder / part).mkdir(exist_ok=True)
    size = "<size><width>500</width><height>333</height><depth>3</depth></size>"
    document = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(document)
    data = lines if isinstance(lines, bytes) else lines.encode()
    (folder / "Sentences" / f"{name}.txt").write_bytes(data)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_size_that_no_picture_has_is_unknown(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    document = tmp_path / "Annotations" / "7.xml"
    document.write_text(document.read_text().replace("500", "9" * 30).replace("333", "-1"))

    (found,), _ = _split(root)

    assert (found.images[0].width, found.images[0].height) == (None, None)


def test_phrases_point_to_the_boxes_of_their_chains(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("7", "flickr30k-images/7.jpg")
    assert (found.images[0].width, found.images[0].height) == (500, 333)
    assert [item.box for item in found.instances] == [(10, 20, 30, 40), (0, 20, 30, 40)]
    assert [item.text for item in found.captions] == ["Two men and one of them in a park .", "It is a man ."]
    assert [(item.id, item.text, item.instances, item.spans) for item in found.expressions] == [
        ("0.0", "Two men", (0, 1), ((0, 7),)),
        ("0.1", "one of them", (1,), ((12, 23),)),
        ("1.0", "a man", (1,), ((6, 11),)),
    ]


def test_spans_are_where_the_words_stand(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path))

    texts = {item.id: item.text for item in found.captions}
    for phrase in found.expressions:
        ((start, end),) = phrase.spans
        assert texts[phrase.id.partition(".")[0]][start:end] == phrase.text


def test_a_list_says_which_pictures_belong_to_a_split(tmp_path: Path) -> None:
    _folder(tmp_path, name="8")
    root = _folder(tmp_path)
    (tmp_path / "val.txt").write_text("8\n9\n8\n\n")

    found, rejected = _split(root, image_set="val.txt")

    assert [item.key for item in found] == ["8"]
    assert [(item.key, item.reason, item.origin.record) for item in rejected] == [
        ("9", "id.orphan", "line 2"),
        ("8", "id.duplicate", "line 3"),
    ]


def test_captions_of_another_picture_are_left_out(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    (tmp_path / "UNRELATED").write_text("# format: <imageID> <sentence number>\n7 2\n8 1")

    (found,), (rejected,) = _split(root, unrelated="UNRELATED")

    assert [item.id for item in found.captions] == ["0"]
    assert (rejected.key, rejected.reason, rejected.origin.record) == ("7.1", "where.filtered", "line 2")


@pytest.mark.parametrize(
    ("line", "reason"), [("", "text.empty"), ("a [/EN#1/people man walks", "schema"), ("[/EN#1", "schema")]
)
def test_a_broken_caption_is_rejected_alone(line: str, reason: str) -> None:
    with pytest.raises(Quarantine) as caught:
        caption(line, "0", {"1": [0]})

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("objects", "lines", "reason"),
    [
        ("<object><name>1</name><bndbox><xmin>nan?</xmin></bndbox></object>", LINES, "schema"),
        ("<object>", LINES, "xml.malformed"),
        (OBJECTS, b"\xff\xfe\x00broken", "schema"),
    ],
)
def test_a_defective_file_costs_its_picture_alone(
    tmp_path: Path, objects: str, lines: str | bytes, reason: str
) -> None:
    _folder(tmp_path, objects, lines)
    root = _folder(tmp_path, name="8")

    found, rejected = _split(root)

    assert [item.key for item in found] == ["8"]
    assert [(item.key, item.reason) for item in rejected] == [("7", reason)]


@pytest.mark.parametrize(("name", "reason"), [("../7", "path.outside"), ("x" * 300, "path.invalid")])
def test_a_listed_name_cannot_leave_the_root(tmp_path: Path, name: str, reason: str) -> None:
    root = _folder(tmp_path)
    (tmp_path / "val.txt").write_text(f"{name}\n")

    _, rejected = _split(root, image_set="val.txt", annotations="Annotations", sentences="Sentences")

    assert [item.reason for item in rejected] in ([reason], ["id.orphan"])


def test_a_folder_without_sentences_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no text file"):
        _split(Root(tmp_path))


def test_a_phrase_of_blanks_that_never_ends_takes_no_longer_than_others(tmp_path: Path) -> None:
    started = time.process_time()

    (found,), _ = _split(_folder(tmp_path, lines=f"[/EN#1/people{' ' * 60_000}x\n"))

    assert found.expressions == ()
    assert time.process_time() - started < 10
