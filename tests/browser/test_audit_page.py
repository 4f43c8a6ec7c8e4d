"""The audit's page in a real browser: what is hostile is only text, and the page can be used by everyone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from dataengine.audit.report import write
from dataengine.audit.run import audit
from tests.browser.checks import CONTRAST, HOSTILE, RAN

if TYPE_CHECKING:
    from tests.browser.conftest import Open

HUGE = "x" * 1_000_000
TWIN = "twin <img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of an audit of COCO files whose names, keys and places are hostile, and wrong in many ways."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "images").mkdir()
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, text in enumerate([*HOSTILE, HUGE]):
        name = f"{number}.png" if number % 2 else f"images/{text[:100]}.jpg"
        if number % 2:
            Image.effect_noise((400, 300), 90 + number).convert("RGB").save(root / name)
        images.append({"id": number, "file_name": name, "width": 400, "height": 300})
        for box in ([10 + number, 20, 0, 5], [390, 200, 60, 50], [30, 40, 5, 5], *[[50, 60, 200, 100]] * 2):
            one = {
                "id": len(objects) // 2,
                "image_id": number,
                "category_id": number,
                "bbox": box,
                "iscrowd": 0,
            }
            objects.append({**one, "segmentation": [[50, 60, 250, 60, 250, 160, 50, 160]], "area": 9})
    # The same pixels under two names.
    (root / TWIN).write_bytes((root / "1.png").read_bytes())
    images.append({"id": 99, "file_name": TWIN, "width": 400, "height": 300})
    categories = [{"id": number, "name": text} for number, text in enumerate([*HOSTILE, HUGE])]
    document = {"images": images, "annotations": objects, "categories": categories}
    (root / "a.json").write_text(json.dumps(document))
    options = {"images": "."}
    for _ in range(2):  # the second compares with the first
        report = audit([root / "a.json"], format_name="coco_instances", root=root, options=options)
        write(report, root / "report")
    return (root / "report/index.html").as_uri()


def test_hostile_texts_are_shown_and_nothing_of_them_runs(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)

    page.settle()

    assert (page.dialogs, page.errors) == ([], [])
    assert page.value("[window.ran, document.scripts.length, document.querySelectorAll('iframe, object').length]") == [
        None, 1, 0,
    ]  # fmt: skip
    text = page.value("document.body.textContent")
    assert f"<script>{RAN}</script>" in text
    cards = page.value("[...document.querySelectorAll('.card')].map(one => one.textContent).join()")
    assert HOSTILE[1] in cards and TWIN in cards
    assert "</style></script><svg onload=" in text
    assert "{{ 7 * 7 }} {% raw %}" in text
    assert "turned \\u202e around" in text and "\u202e" not in text
    assert "cut\\u0000short" in text
    assert "xxx … (1,000," in text and "x" * 3000 not in text
    assert len(Path(page_url.removeprefix("file://")).read_bytes()) < 2_000_000


def test_what_was_not_escaped_would_not_run_either(page_url: str, open_page: Open, tmp_path: Path) -> None:
    html = Path(page_url.removeprefix("file://")).read_text()
    broken = html.replace(
        "<main", f'<script>{RAN}</script><img src="x:" onerror="{RAN}"><style>*{{}}</style><main', 1
    )
    (tmp_path / "a.html").write_text(broken)

    page = open_page((tmp_path / "a.html").as_uri())
    page.settle()

    assert page.value("window.ran") is None
    assert page.dialogs == []
    assert len([one for one in page.errors if "Content Security Policy" in one]) >= 3


def test_nothing_but_the_page_is_asked_for(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)

    page.value("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
    loaded = page.value(
        "Promise.all([...document.images].map(one => one.decode().then(() => one.naturalWidth)))"
    )

    assert page.requests == [page_url]
    assert len(loaded) > 5 and min(loaded) > 0
    assert page.errors == []


def test_a_search_leaves_the_rows_and_cards_that_hold_all_words(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)
    shown = "[...document.querySelectorAll('tbody tr, .card')].filter(one => one.checkVisibility())"
    before = page.value(f"{shown}.length")

    page.press("/")
    page.type("Outside BOX.")

    texts = page.value(f"{shown}.map(one => one.textContent.toLowerCase())")
    assert 0 < len(texts) < before
    assert all("outside" in text and "box." in text for text in texts)
    assert page.value("document.getElementById('found').textContent").startswith(f"{len(texts)} of ")
    assert page.value("document.getElementById('account').hidden")

    page.press("Escape")
    assert page.value(f"{shown}.length") == before


def test_a_click_on_a_head_sorts_by_number_then_back(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)
    hits = "[...document.querySelector('#rules table').tBodies[0].rows].map(row => Number(row.cells[2].dataset.value))"
    head = "#rules table thead th:nth-child(3)"
    own = page.value(hits)

    page.click(f"{head} button")
    assert page.value(f"document.querySelector('{head}').ariaSort") == "descending"
    assert page.value(hits) == sorted(own, reverse=True)

    page.press("Enter")
    assert page.value(f"document.querySelector('{head}').ariaSort") == "ascending"
    assert page.value(hits) == sorted(own) != sorted(own, reverse=True)

    page.press("Enter")
    assert page.value(hits) == own
    assert page.value(f"document.querySelector('{head}').ariaSort") is None


def test_a_rule_leads_to_its_examples_even_where_the_search_hid_them(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)
    page.press("/")
    page.type("area coco")
    page.value("document.getElementById('search').value = 'warn a box leaves'")
    page.type(" ")

    page.click("#rules a[href='#rule-box.outside']")

    assert page.value("location.hash") == "#rule-box.outside"
    assert not page.value("document.getElementById('rule-box.outside').hidden")


def test_duplicates_stand_side_by_side(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)

    tops = page.value(
        "[...document.getElementById('rule-image.duplicate_exact').querySelectorAll('.card img')]"
        ".map(one => one.getBoundingClientRect().top)"
    )

    assert len(tops) == 2 and tops[0] == tops[1]


def test_the_keyboard_reaches_all_and_the_focus_is_seen(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)

    page.press("Tab")
    assert page.value("document.activeElement.className") == "skip"
    assert page.value("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Enter")
    assert page.value("document.activeElement.id") == "main"
    seen = []
    for _ in range(12):
        page.press("Tab")
        seen.append(page.value("getComputedStyle(document.activeElement).outlineStyle"))
    assert set(seen) == {"solid"}
    page.press("/")
    assert page.value("document.activeElement.id") == "search"


def test_a_phone_shows_all_without_moving_the_page_sideways(page_url: str, open_page: Open) -> None:
    page = open_page("about:blank")
    page.size(375, 700, phone=True)
    page.go(page_url)

    assert page.value("innerWidth") == 375
    assert page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = page.value(
        "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    )
    assert wide > 0  # a table that is too wide scrolls inside
    small = page.value(
        "Math.min(...[...document.querySelectorAll('svg text')].filter(one => one.checkVisibility())"
        ".map(one => one.getBoundingClientRect().height))"
    )
    assert small >= 8


def test_the_button_turns_the_theme_whatever_the_system_prefers(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)
    back = "getComputedStyle(document.body).backgroundColor"
    page.prefer("dark")
    dark = page.value(back)
    page.prefer("light")
    light = page.value(back)

    page.click("#theme")

    assert dark != light
    assert page.value(back) == dark
    page.click("#theme")
    assert page.value(back) == light
    page.prefer("dark")
    assert page.value(back) == light


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page_url: str, open_page: Open, theme: str) -> None:
    """At least 4.5 : 1, as WCAG 2.2, success criterion 1.4.3, asks of text."""
    page = open_page(page_url)
    page.prefer(theme)

    worst: dict[str, float] = page.value(CONTRAST)

    assert len(worst) > 12
    assert {name: ratio for name, ratio in worst.items() if ratio < 4.5} == {}


def test_without_scripts_everything_is_there(page_url: str, open_page: Open) -> None:
    page = open_page("about:blank")
    page.forbid_scripts()
    page.go(page_url)

    assert not page.value("document.getElementById('tools').checkVisibility()")
    assert page.value("[...document.querySelectorAll('section')].every(one => one.checkVisibility())")
    assert page.value("document.querySelectorAll('th button').length") == 0


def test_plots_say_in_words_what_they_show(page_url: str, open_page: Open) -> None:
    page = open_page(page_url)

    labels = page.value("[...document.querySelectorAll('svg[role=img]')].map(one => one.ariaLabel)")
    tables = page.value("document.querySelectorAll('.plots details table').length")

    assert len(labels) >= 5 and all(len(label) > 20 for label in labels)
    assert tables >= len(labels)
    assert any(label.startswith("Sizes of boxes:") for label in labels)
