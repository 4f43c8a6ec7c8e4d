from __future__ import annotations

from typing import Any

import pytest

from dataengine import docs
from dataengine.catalog import Catalog
from dataengine.prompts import PromptBank
from dataengine.spec import DatasetSpec, License, Source, Split, TaskUse


def dataset(splits: dict[str, dict[str, Any]], lang: str = "en") -> DatasetSpec:
    return DatasetSpec(
        id="tiny",
        title="Tiny",
        license=License(annotations="CC0-1.0", images="CC-BY-4.0"),
        source=Source(
            format="records",
            splits={name: Split(**{"use": "train", **facts}) for name, facts in splits.items()},
        ),
        tasks={"caption": TaskUse()},
        status="layout",
        lang=lang,
    )


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": {"images_expected": 10}, "val": {"records_expected": 3}}, "train 10, val 3 records"),
        ({"train": {"images_expected": 10}, "test": {}}, "train 10, test"),
        ({f"s{n}": {"images_expected": n} for n in range(6)}, "6 splits, 15"),
        ({f"s{n}": {"records_expected": 2} for n in range(7)}, "7 splits, 14 records"),
        ({f"s{n}": {} for n in range(9)}, "9 splits"),
    ],
)
def test_a_size_is_that_of_each_split_or_the_sum_of_many(
    splits: dict[str, dict[str, Any]], expected: str
) -> None:
    assert docs.size(dataset(splits)) == expected


def test_a_dataset_has_the_languages_of_its_splits() -> None:
    assert docs.languages(dataset({"a": {}, "b": {"lang": "ja"}, "c": {"lang": "ja"}}, "zh")) == ("zh", "ja")


def test_the_page_of_datasets_has_one_row_for_each_in_order() -> None:
    page = docs.datasets()

    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `") and line.count("|") > 5]
    assert [row[0] for row in rows] == [f"| `{name}`" for name in sorted(Catalog().dataset_files)]
    (coco,) = (row for row in rows if row[0] == "| `coco2017`")
    assert coco[1] == "[COCO 2017](https://cocodataset.org)"
    assert coco[2].split(", ")[0] == "detection"
    assert coco[3:8] == ["CC-BY-4.0 / per_record", "train 118287, val 5000", "train, eval", "en", "real"]


def test_the_page_of_datasets_counts_what_its_rows_show() -> None:
    page = docs.datasets()

    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `") and line.count("|") > 5]
    detection = sum("detection" in row[2].split(", ") for row in rows)
    real = sum("detection" in row[2].split(", ") and row[7] == "real" for row in rows)
    assert f"{len(rows)} datasets, " in page
    assert f"| `detection` | {detection} | {real} |" in page
    assert f"| zh | {sum('zh' in row[6].split(', ') for row in rows)} |" in page


def test_templates_are_counted_in_each_language() -> None:
    bank = PromptBank(
        id="b",
        questions={"en01": "a", "en02": "b", "zh01": "c"},
        answers={"en01": "d", "zh01": "e"},
    )

    assert docs.templates(bank) == "2 / 1, zh 1 / 1"
