from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.formats import voc_xml
from converters.formats.records import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.check import check_spec
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.records.operations import NAMES
from dataengine.spec import Resolved

Samples = Callable[[str], Root]
TABLE = {"path": "t.json", "kind": "json"}
HEAD = """\
id: mine
title: Mine
license: {annotations: CC0-1.0, images: CC0-1.0}
tasks: {caption: {}}
status: layout
"""


def _read(folder: Path, **source: Any) -> tuple[list[Annotation], list[Rejected]]:
    declared = msgspec.convert({"table": TABLE, "key": "{id}", "fields": {}, **source}, Source, strict=True)
    found = list(read(declared, Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _write(folder: Path, name: str, rows: Any) -> None:
    (folder / name).write_text(json.dumps(rows))


def _reasons(rejected: list[Rejected]) -> Counter[str]:
    return Counter(item.reason for item in rejected)


def test_a_row_becomes_an_annotation_that_names_its_place(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 5, "say": "a cat"}])

    (made,), rejected = _read(tmp_path, fields={"images": "{id:03d}.jpg", "captions": "say"})

    assert (made.key, made.images[0].path, made.captions[0].text) == ("5", "005.jpg", "a cat")
    assert (made.origin.file, made.origin.record) == ("t.json", "[0]")
    assert rejected == []


def test_rows_that_where_leaves_out_are_reported_as_filtered(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 1, "split": "a"}, {"id": 2, "split": "b"}, {"id": 3, "split": "a"}])

    made, rejected = _read(tmp_path, where="split == $part", vars={"part": "a"})

    assert [item.key for item in made] == ["1", "3"]
    assert [(item.reason, item.origin.record) for item in rejected] == [("where.filtered", "[1]")]


def test_a_join_adds_one_row_or_many_and_ids_agree_as_text(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 1}, {"id": "2"}])
    _write(tmp_path, "images.json", {"1": {"file": "a.jpg"}, "2": {"file": "b.jpg"}})
    _write(tmp_path, "says.json", [{"of": "2", "say": "x"}, {"of": 2, "say": "y"}])

    made, rejected = _read(
        tmp_path,
        join=[
            {
                "table": {"path": "images.json", "kind": "json", "rows": "."},
                "by": {"id": "$key"},
                "as": "img",
            },
            {
                "table": {"path": "says.json", "kind": "json"},
                "by": {"id": "of"},
                "as": "says",
                "many": True,
                "orphans": "keep",
            },
        ],
        fields={"images": "{img.file}", "captions": "says[].say"},
    )

    assert [(item.images[0].path, [one.text for one in item.captions]) for item in made] == [
        ("a.jpg", []),
        ("b.jpg", ["x", "y"]),
    ]
    assert rejected == []


def test_orphans_twins_and_unused_rows_of_a_join_are_accounted_for(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 1}, {"id": 2}, {"id": 3}, {"id": None}])
    _write(tmp_path, "r.json", [{"of": 1}, {"of": 2}, {"of": 2}, {"of": 9}, {}])
    join = {
        "table": {"path": "r.json", "kind": "json"},
        "by": {"id": "of"},
        "as": "r",
        "unused": "quarantine",
    }

    made, rejected = _read(tmp_path, join=[join])

    assert [item.key for item in made] == ["1"]
    assert [(item.origin.file, item.origin.record, item.reason) for item in rejected] == [
        ("r.json", "[4]", "field.missing"),
        ("t.json", "[1]", "id.duplicate"),
        ("t.json", "[2]", "id.orphan"),
        ("t.json", "[3]", "field.missing"),
        ("r.json", "[3]", "id.orphan"),
    ]


def test_a_row_that_where_filters_is_no_orphan(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 1, "split": "a"}, {"id": 2, "split": "b"}])
    _write(tmp_path, "r.json", [{"of": 1, "size": 3}])
    join = {"table": {"path": "r.json", "kind": "json"}, "by": {"id": "of"}, "as": "r"}

    _, by_row = _read(tmp_path, join=[join], where="split == 'a'")
    _, by_join = _read(tmp_path, join=[join], where=["split == 'a'", "r.size > 3"])

    assert _reasons(by_row) == {"where.filtered": 1}
    assert _reasons(by_join) == {"where.filtered": 2}


def test_rows_are_grouped_into_one_item_in_the_order_of_their_first(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "file,class,x0,x1,y0,y1\nb.jpg,cat,1,3,2,5\na.jpg,dog,0,1,0,1\nb.jpg,dog,4,6,4,6\n"
    )

    made, rejected = _read(
        tmp_path,
        table={"path": "t.csv", "kind": "csv"},
        group={"by": "file", "as": "rows"},
        key="{file}",
        labels=["cat", "dog"],
        fields={
            "images": "{file}",
            "instances": {
                "each": "rows",
                "category": "it.class",
                "box": {"from": ["it.x0", "it.x1", "it.y0", "it.y1"], "format": "xxyy"},
            },
        },
    )

    assert [(item.key, [one.category for one in item.instances]) for item in made] == [
        ("b.jpg", ["cat", "dog"]),
        ("a.jpg", ["dog"]),
    ]
    assert made[0].instances[0].box == (1, 2, 3, 5)
    assert [item.origin.record for item in made] == ["line 2 and 1 more", "line 3"]
    assert rejected == []


def test_elements_become_items_that_name_their_place(tmp_path: Path) -> None:
    scene = {"id": "s", "frames": {"f": {"QA": {"see": [{"Q": "q0"}, {"Q": "q1"}], "plan": []}}}}
    _write(tmp_path, "t.json", [scene, {"id": "empty", "frames": {}}, {"id": "none"}])

    made, rejected = _read(
        tmp_path,
        explode=[
            {"path": "frames", "as": "frame"},
            {"path": "frame.QA", "as": "stage"},
            {"path": "stage", "as": "qa"},
        ],
        key="{id}.{$frame}.{$stage}.{$qa}",
        where="qa.Q != 'q0'",
        fields={"questions": {"text": "qa.Q"}},
    )

    assert [(item.key, item.origin.record) for item in made] == [
        ("s.f.see.1", "[0].frames[f].QA[see][1]"),
    ]
    assert [(item.reason, item.origin.record) for item in rejected] == [
        ("where.filtered", "[0].frames[f].QA[see][0]"),
        ("unit.none", "[0].frames[f].QA[plan]"),
        ("unit.none", "[1]"),
        ("field.missing", "[2]"),
    ]


def test_lists_are_walked_in_step_as_items_or_as_facts(tmp_path: Path) -> None:
    both = {"id": "b", "asked": ["who?", "where?"], "told": ["Ann", "home"]}
    _write(tmp_path, "t.json", [both, {"id": "c", "asked": ["why?"], "told": []}])

    made, rejected = _read(
        tmp_path,
        explode={"path": ["asked", "told"], "as": "it"},
        key="{id}.{$it}",
        fields={"questions": {"text": "it[0]", "answers": "it[1]"}},
    )
    (whole,), torn = _read(
        tmp_path, fields={"questions": {"each": ["asked", "told"], "text": "it[0]", "answers": "it[1]"}}
    )

    pairs = [("who?", ("Ann",)), ("where?", ("home",))]
    assert [(one.text, one.answers) for item in made for one in item.questions] == pairs
    assert [(item.key, item.origin.record) for item in made] == [
        ("b.0", "[0].asked[0]"),
        ("b.1", "[0].asked[1]"),
    ]
    assert [(one.text, one.answers) for one in whole.questions] == pairs
    assert _reasons(rejected) == _reasons(torn) == {"schema": 1}


def test_columns_that_let_adds_are_there_for_every_later_step(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a.jpg#0\tA dog.\na.jpg#1\tA brown dog.\nb.jpg#0\tA cat.\nbare\tA cow.\n")
    _write(tmp_path, "sizes.json", {"a": {"w": 7}, "b": {"w": 9}})

    made, rejected = _read(
        tmp_path,
        table={"path": "t.tsv", "kind": "tsv", "header": False, "columns": ["name", "say"], "quote": ""},
        let={
            "file": {"from": "name", "ops": [{"regex_take": "^(.*)#"}]},
            "stem": {"from": "file", "ops": [{"replace": {"old": ".jpg", "new": ""}}]},
        },
        where="stem != 'c'",
        join=[
            {
                "table": {"path": "sizes.json", "kind": "json", "rows": "."},
                "by": {"stem": "$key"},
                "as": "size",
            }
        ],
        group={"by": "file", "as": "lines"},
        key="{stem}",
        fields={"images": {"path": "{file}", "width": "size.w"}, "captions": "lines[].say"},
    )

    assert [(item.key, item.images[0].width, len(item.captions)) for item in made] == [
        ("a", 7, 2),
        ("b", 9, 1),
    ]
    assert [(item.reason, item.detail) for item in rejected] == [
        ("field.missing", "let.file: its operations find nothing")
    ]


def test_a_column_that_let_would_take_over_rejects_the_row(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 1, "name": "x"}])

    made, rejected = _read(tmp_path, let={"name": "id"})

    assert made == []
    assert _reasons(rejected) == {"schema": 1}


def test_an_element_of_a_line_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": 1, "says": ["x"]}\n')

    made, _ = _read(
        tmp_path,
        table={"path": "t.jsonl", "kind": "jsonl"},
        explode={"path": "says", "as": "say"},
        fields={"captions": "say"},
    )

    assert made[0].origin.record == "line 1: says[0]"


def test_a_key_that_comes_twice_is_rejected_and_so_is_a_row_without_one(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 1}, {"id": 1}, {}])

    made, rejected = _read(tmp_path)

    assert [item.key for item in made] == ["1"]
    assert [(item.key, item.reason) for item in rejected] == [("1", "id.duplicate"), ("[2]", "field.missing")]


def test_a_name_that_a_column_has_already_is_not_taken_over(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": 1, "say": ["x"]}])

    made, rejected = _read(tmp_path, explode={"path": "say", "as": "say"})

    assert made == []
    assert rejected[0].reason == "schema"
    assert "choose another name for 'as'" in rejected[0].detail


def test_variables_name_files_and_the_place_of_a_file_is_there_for_paths(tmp_path: Path) -> None:
    (tmp_path / "val" / "7").mkdir(parents=True)
    _write(tmp_path, "val/7/data.json", {"say": "x"})

    made, _ = _read(
        tmp_path,
        table={"path": "{$part}/*/data.json", "kind": "json"},
        vars={"part": "val"},
        key="{$folder}.{$key}",
        fields={"images": "{$folder}/{$stem}.png", "captions": {"text": {"template": "{$part}: {say}"}}},
    )

    assert (made[0].key, made[0].images[0].path, made[0].captions[0].text) == (
        "val/7.0",
        "val/7/data.png",
        "val: x",
    )


def _labelled(folder: Path, declared: Any) -> tuple[str, ...] | None:
    spec = {"table": TABLE, "key": "k", "fields": {}, "labels": declared}
    space = labels(msgspec.convert(spec, Source), Root(folder))
    return space.names if space else None


def test_labels_come_from_the_spec_or_from_a_table_each_name_once(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("0 Ignore\t\n1 cat\n2 cat\n3 dog\n")
    table = {
        "path": "classes.txt",
        "kind": "csv",
        "delimiter": " ",
        "header": False,
        "columns": ["n", "name"],
    }

    names = _labelled(tmp_path, {"table": table, "name": {"from": "name", "ops": ["strip"]}})

    assert names == ("Ignore", "cat", "dog")
    assert _labelled(tmp_path, ["b", "a"]) == ("b", "a")
    assert _labelled(tmp_path, None) is None


def test_a_table_of_labels_that_cannot_be_read_is_an_error_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("0,cat\n1,dog,2\n")
    table = {"path": "classes.txt", "kind": "csv", "header": False, "columns": ["n", "name"]}

    with pytest.raises(SourceError, match="line 2: 3 cells, expected 2"):
        _labelled(tmp_path, {"table": table, "name": "name"})
    with pytest.raises(SourceError, match=r"line 1: labels\.name: no label"):
        _labelled(tmp_path, {"table": table, "name": "label"})


rows_of_anything = st.lists(
    st.one_of(
        st.none(),
        st.integers(0, 3),
        st.fixed_dictionaries(
            {},
            optional={
                "id": st.one_of(
                    st.integers(0, 3), st.none(), st.text(max_size=2), st.lists(st.integers(), max_size=1)
                ),
                "split": st.sampled_from(["a", "b", 1, None, ["a"]]),
                "say": st.one_of(
                    st.text(max_size=3), st.lists(st.text(max_size=2), max_size=2), st.booleans()
                ),
                "box": st.one_of(
                    st.none(), st.lists(st.one_of(st.floats(0, 9), st.text(max_size=1)), max_size=5)
                ),
            },
        ),
    ),
    max_size=8,
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of_anything)
def test_every_row_ends_as_one_annotation_or_one_rejection(tmp_path: Path, rows: list[Any]) -> None:
    _write(tmp_path, "t.json", rows)
    _write(tmp_path, "r.json", [{"of": 0}, {"of": 1}, {"of": 1}])

    made, rejected = _read(
        tmp_path,
        where="split != 'b'",
        join=[{"table": {"path": "r.json", "kind": "json"}, "by": {"id": "of"}, "as": "r"}],
        fields={
            "captions": {"text": {"from": "say", "ops": ["strip"]}},
            "instances": {"box": {"from": "box", "format": "xywh"}},
        },
    )

    places = [item.origin.record for item in made] + [item.origin.record for item in rejected]
    assert sorted(places) == sorted(f"[{number}]" for number in range(len(rows)))


def test_the_order_of_rows_is_kept_from_run_to_run(tmp_path: Path) -> None:
    _write(tmp_path, "t.json", [{"id": n, "g": n % 3} for n in range(20)])

    first = _read(tmp_path, group={"by": "g", "as": "rows"}, key="{g}")
    second = _read(tmp_path, group={"by": "g", "as": "rows"}, key="{g}")

    assert first == second
    assert [item.key for item in first[0]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("fields: {captoins: say}", "unknown key 'captoins'; did you mean 'captions'?"),
        ("fields: {captions: {txt: say}}", "unknown key 'txt'; did you mean 'text'?"),
        ("fields: {captions: {text: {from: a, ops: [stirp]}}}", "did you mean 'strip'?"),
        ("fields: {instances: {box: {from: b, format: xyhw}}}", "xyhw"),
        ("where: os.system('x')", "is not allowed, expected a path or a literal"),
        ("joins: []", "unknown key 'joins'; did you mean 'join'?"),
        ("table: {path: '{$year}.json', kind: json}", "no $year in vars"),
        ("vars: {key: 1}", "'$key' is there already"),
        ("explode: [{path: a, as: x}, {path: b, as: x}]", "'x': stands twice as 'as'"),
        ("explode: {path: b, as: x}\n  let: {x: a}", "'x': stands twice as 'as' or in 'let'"),
        ("explode: {path: [], as: x}", "path: expected a path, or several"),
        ("let: {x: a..b}", "a '.' without a name before it"),
        ("join: [{table: {path: a, kind: json}, by: {}, as: x}]", "at least one pair"),
        ("key: '{id'", "a lone '{'"),
    ],
)
def test_a_mistake_in_a_spec_is_found_without_data(tmp_path: Path, source: str, words: str) -> None:
    lines = {"table": "table: {path: t.json, kind: json}", "key": "key: '{id}'", "fields": "fields: {}"}
    lines[source.split(":")[0]] = source
    path = tmp_path / "mine.yaml"
    body = "".join(f"  {line}\n" for line in lines.values())
    path.write_text(f"{HEAD}source:\n  format: records\n{body}  splits: {{train: {{use: train}}}}\n")

    mistakes = check_spec(Catalog(), str(path))

    # A misspelt key is two mistakes: it is unknown, and the right one is missing.
    assert [words in mistake for mistake in mistakes].count(True) == 1
    assert all(str(path) in mistake for mistake in mistakes)


SHIPPED = sorted(
    spec.dataset.id
    for spec in {spec.dataset.id: spec for spec in Catalog()}.values()
    if spec.dataset.source.format == "records"
)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_spec_has_no_mistake(name: str) -> None:
    assert check_spec(Catalog(), name) == []


# dataset, folder of the samples, split, annotations, rejections
REAL = [
    ("amber", "amber", "relation", 20, {}),
    ("aokvqa", "aokvqa", "val", 1, {}),
    ("bccd_csv", "bccd", "test", 3, {}),
    ("chartqa", "chartqa_human", "test_human", 17, {}),
    ("chartx", "chartx", "val", 2, {}),
    ("charxiv", "charxiv", "val", 25, {}),
    ("drivelm_nus", "drivelm", "sample", 79, {}),
    ("dsdl_coco_demo", "dsdl_coco", "val", 5, {}),
    ("ferret_bench", "ferret_bench_refer", "refer_caption", 40, {}),
    ("ferret_ui_sample", "ferret_ui", "train", 3, {}),
    ("geometry3k", "geometry3k", "loose", 4, {}),
    ("gqa", "gqa", "train", 2, {}),
    ("icdar2015_text", "icdar2015_mmocr", "test", 3, {}),
    ("llamafactory_mllm_demo", "llamafactory_mllm_demo", "train", 6, {}),
    ("llava_bench_coco", "llava_qa90", "test", 90, {}),
    ("llava_bench_wild", "llava_wild", "test", 60, {}),
    ("llava_caps_boxes_80", "coco_caps_boxes_llava", "val", 3, {"image.missing": 77}),
    ("llava_gpt4_qa_30x3", "llava_gpt4_qa_30x3", "test", 90, {}),
    ("mantis_instruct", "mantis_instruct", "train", 6, {}),
    ("mantis_video_eval", "mantis_classification", "train", 2, {}),
    ("mathvision", "math_vision", "testmini", 14, {}),
    ("mathvista", "mathvista", "testmini", 30, {}),
    ("nih_chestxray14", "nih_chestxray14", "all", 61, {}),
    ("nih_chestxray14", "nih_chestxray14", "boxes", 60, {}),
    ("nlvr", "nlvr", "dev", 6, {}),
    ("ocrbench", "ocrbench", "test", 40, {}),
    ("popev2", "popev2", "originals", 16, {"where.filtered": 16}),
    ("rlaif_v_prompts", "rlaif_v_prompts", "test", 9, {}),
    ("scienceqa", "scienceqa", "val", 1, {"where.filtered": 1}),
    ("screen_annotation", "screen_annotation", "valid", 20, {}),
    ("screenqa_short", "screenqa_short", "val", 40, {}),
    ("skyscript", "fmt_skyscript", "train", 2, {}),
    ("sugarcrepe", "sugarcrepe", "replace_att", 19, {}),
    ("tabmwp", "tabmwp", "dev1k", 20, {}),
    ("text_recog_crops", "text_recog_crops", "plain", 10, {}),
    ("tifa", "tifa", "sample", 19, {}),
    ("tifa", "tifa", "sample_prompts", 2, {}),
    ("voc_openimages_csv", "voc_openimages_csv", "train", 12, {}),
    ("vqa_med_2019", "vqa_med_2019", "test", 50, {}),
    ("vsr", "vsr", "dev", 16, {}),
    ("websrc", "websrc", "dev", 5, {"where.filtered": 10}),
    ("websrc", "websrc", "train", 10, {"where.filtered": 5}),
    ("wildreceipt", "wildreceipt", "toy", 2, {}),
    ("xcomposer_examples", "xcomposer_finetune", "many_images", 2, {}),
    ("xcomposer_examples", "xcomposer_finetune", "text_only", 2, {}),
]


def _real(name: str, split: str, root: Root) -> tuple[Resolved, list[Annotation], list[Rejected]]:
    spec = Catalog().find(name)[0]
    found = list(read(spec.source(split), root))
    return (
        spec,
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


@pytest.mark.parametrize(("name", "folder", "split", "annotations", "reasons"), REAL)
def test_a_real_sample_is_read_by_its_spec(
    samples: Samples, name: str, folder: str, split: str, annotations: int, reasons: dict[str, int]
) -> None:
    _, made, rejected = _real(name, split, samples(folder))

    assert len(made) == annotations
    assert _reasons(rejected) == reasons


def test_a_csv_layout_and_the_xml_of_the_same_pictures_have_the_same_boxes(samples: Samples) -> None:
    root = samples("bccd")
    source = voc_xml.Source(annotations="BCCD/Annotations", images="BCCD/JPEGImages")
    xml = {item.key: item for item in voc_xml.read(source, root) if isinstance(item, Annotation)}

    _, made, _ = _real("bccd_csv", "test", root)

    table = {item.key: item for item in made}["BloodImage_00001.jpg"]
    boxes = sorted(one.box or () for one in xml["BloodImage_00001"].instances)
    assert sorted(one.box or () for one in table.instances) == boxes


def test_the_right_choice_of_a_real_problem_is_the_one_that_its_solution_gives(samples: Samples) -> None:
    _, made, _ = _real("geometry3k", "loose", samples("geometry3k"))

    by_key = {item.key: item.questions[0] for item in made}
    assert by_key["11"].choices == ("30", "40", "60", "80")
    assert by_key["11"].answers == ("80",)


def test_answers_of_real_questions_are_those_of_the_file(samples: Samples) -> None:
    _, asked, _ = _real("aokvqa", "val", samples("aokvqa"))
    _, med, _ = _real("vqa_med_2019", "test", samples("vqa_med_2019"))
    _, web, _ = _real("websrc", "dev", samples("websrc"))

    first = asked[0].questions[0]
    assert (first.answers, first.choices[first.answer_index or 0]) == (("cigarette",), "cigarette")
    assert asked[0].images[0].path == "val2017/000000461751.jpg"
    assert med[0].questions[0].answers == ("cta - ct angiography",)
    assert {item.images[0].path.rpartition("/")[0] for item in web} == {"data/auto/08/processed_data"}


def test_a_real_receipt_names_its_words(samples: Samples) -> None:
    spec, made, _ = _real("wildreceipt", "toy", samples("wildreceipt"))

    word = made[0].instances[0]
    assert (word.text, word.category, word.box) == ("SAFEWAY", "Store_name_value", (550, 104, 937, 190))
    assert spec.dataset.labels == "source"


def _examples() -> list[str]:
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")
    return re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("example", _examples())
def test_every_example_of_the_docs_is_a_spec_without_mistakes(tmp_path: Path, example: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + example, encoding="utf-8")

    assert check_spec(Catalog(), str(path)) == []


def test_the_docs_name_every_operation() -> None:
    text = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")

    told = set(re.findall(r"`\{?(\w+)", text))

    assert set(NAMES) <= told
