"""The browser of the tests tells what happens on a page: else a page that is wrong would pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.conftest import Open


def test_a_page_can_be_read_and_used(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<input onkeydown="document.title = event.key"><b>x</b>')
    page = open_page((tmp_path / "a.html").as_uri(), width=400)

    page.click("input")
    page.press("/")
    page.type("two words")

    assert page.value("[document.title, document.querySelector('input').value]") == ["/", "/two words"]
    assert page.value("innerWidth") == 400
    assert (page.dialogs, page.errors) == ([], [])


def test_dialogs_errors_and_requests_are_noted(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<img src=gone.png><img src='data:,x'><script>alert('seen'); console.error('told'); lost()</script>"
    )

    page = open_page((tmp_path / "a.html").as_uri())

    assert page.dialogs == ["seen"]
    assert [one.rsplit("/", 1)[1] for one in page.requests] == ["a.html", "gone.png"]
    told = "\n".join(page.errors)
    assert "told" in told and "lost is not defined" in told


def test_themes_phones_and_pages_without_scripts(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<meta name=viewport content='width=device-width'><script>var ran = 1</script>"
    )
    page = open_page("about:blank")
    page.size(375, 700, phone=True)
    page.prefer("dark")
    page.go((tmp_path / "a.html").as_uri())

    assert page.value("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [375, True]
    assert page.value("typeof ran") == "number"

    page.forbid_scripts()
    page.go((tmp_path / "a.html").as_uri())
    assert page.value("typeof ran") == "undefined"
