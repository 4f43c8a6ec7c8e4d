"""What must be true of every page: hostile text is only text, nothing is asked for, all can be read on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.chromium import Page

RAN = "window.ran = (window.ran || 0) + 1; alert(1)"
HOSTILE = [
    f"<script>{RAN}</script>",
    f'"><img src=x onerror="{RAN}">',
    f"javascript:{RAN}",
    f"</style></script><svg onload='{RAN}'>",
    "turned \u202e around",
    "cut\0short",
    f"<iframe srcdoc='<script>parent.ran=1</script>'></iframe><a href='javascript:{RAN}'>x</a>",
    "{{ 7 * 7 }} {% raw %}",
]
# The least ratio of contrast of each kind of text, by WCAG 2.2: relative luminance of the text and of what is behind.
CONTRAST = """(() => {
  const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d",
    {willReadFrequently: true});
  const parse = color => { context.clearRect(0, 0, 1, 1); context.fillStyle = color; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data]; };
  const light = rgb => rgb.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = one => { for (; one; one = one.parentElement) {
    const found = parse(getComputedStyle(one).backgroundColor);
    if (found[3] === 255) return found; } return [255, 255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const worst = {};
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.checkVisibility() || one.closest("script, title")) continue;
    const style = getComputedStyle(one);
    const a = light(parse(one.closest("svg") ? style.fill : style.color)), b = light(behind(one));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const name = `${one.tagName}.${one.className.baseVal ?? one.className}`;
    worst[name] = Math.min(worst[name] ?? 99, ratio);
  }
  return worst;
})()"""


def assert_only_text(page: Page, url: str, texts: list[str]) -> None:
    """Assert that a page shows the texts, that nothing of them runs, and that it asks for nothing but itself."""
    page.settle()
    page.value("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
    loaded = page.value(
        "Promise.all([...document.images].map(one => one.decode().then(() => one.naturalWidth)))"
    )

    assert (page.dialogs, page.errors, page.requests) == ([], [], [url])
    assert page.value(
        "[window.ran, document.scripts.length, document.querySelectorAll('iframe, object').length]"
    ) == [None, 1, 0]
    assert loaded and min(loaded) > 0
    shown = page.value("document.body.textContent")
    assert [text for text in texts if text not in shown] == []


def assert_fits_phone(page: Page, url: str) -> None:
    """Assert that a page does not move sideways on a phone, and that all its letters stand out, dark and light."""
    page.size(375, 700, phone=True)
    page.go(url)

    assert page.value("innerWidth") == 375
    assert page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for theme in ("dark", "light"):
        page.prefer(theme)
        worst: dict[str, float] = page.value(CONTRAST)
        assert len(worst) > 6
        assert {name: ratio for name, ratio in worst.items() if ratio < 4.5} == {}
