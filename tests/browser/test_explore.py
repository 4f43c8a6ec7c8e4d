"""The page of `dataengine explore` in a browser: finding, looking, marking, and captions that would like to run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from dataengine import manifest as manifests
from dataengine import selection
from dataengine.annotation import Label, LabelSpace, Turn
from dataengine.explore.server import Server
from dataengine.explore.session import Session
from dataengine.geometry import mask_from_rle, rle_from_mask
from dataengine.sample import InstanceTargets, KeypointTargets, Region, Route, Sample, TargetInstance
from dataengine.selection import MARKED, Choice
from tests.browser.chromium import Page
from tests.dataengine.explore.making import made, report, write

if TYPE_CHECKING:
    from tests.browser.conftest import Open

EVIL = (
    "<img src=x onerror=alert(1)><script>alert(2)</script>'\"`${alert(3)}</pre></script><svg onload=alert(4)>"
)
WIDTH, HEIGHT = 320, 240


def _plain(number: int) -> Sample:
    return made(
        number, f"What is number {number}?", ("cat",) if number % 2 else ("dog",), path=f"{number % 3}.png"
    )


def _masked() -> Sample:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[60:120, 80:200] = 1
    one = TargetInstance(label="cat", box=(80, 60, 200, 120), area=7200, mask=rle_from_mask(mask))
    sample = made(100, "Trace the cat.", ("cat",), path="0.png")
    region = Region(kind="box", box=(10, 10, 60, 50))
    return _sized(
        msgspec.structs.replace(sample, targets=InstanceTargets(instances=(one,)), regions=(region,))
    )


def _posed() -> Sample:
    points = ((80.0, 60.0, 2), (160.0, 120.0, 1), (0.0, 0.0, 0))
    one = TargetInstance(label="cat", box=(40, 30, 200, 180), area=24000, keypoints=points)
    sample = made(101, "Find its pose.", ("cat",), path="1.png")
    routes = (
        *sample.routes,
        *(Route(token="[POSE]", kind="keypoint", name=name) for name in ("nose", "tail", "paw")),
    )
    targets = KeypointTargets(names=("nose", "tail", "paw"), instances=(one,))
    return _sized(msgspec.structs.replace(sample, targets=targets, routes=routes))


def _hostile() -> Sample:
    sample = made(102, EVIL, (EVIL,), license_=EVIL, path=f"{EVIL}.png".replace("/", "_"))
    return msgspec.structs.replace(
        sample, conversation=(*sample.conversation, Turn("user", EVIL), Turn("assistant", f"{EVIL}[DET]"))
    )


def _sized(sample: Sample) -> Sample:
    images = tuple(msgspec.structs.replace(one, width=WIDTH, height=HEIGHT) for one in sample.images)
    return msgspec.structs.replace(sample, images=images)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server for thirty samples, and one each with a mask, with keypoints, hostile, and without its picture."""
    root = tmp_path / "root"
    root.mkdir()
    for number in range(3):
        Image.new("RGB", (WIDTH, HEIGHT), (90 * number, 120, 90)).save(root / f"{number}.png")
    plain = [_sized(_plain(number)) for number in range(30)]
    samples = [*plain, _masked(), _posed(), _hostile(), made(103, "Lost", path="gone.png")]
    place = write(tmp_path / "m", samples, root=str(root))
    skeleton = LabelSpace(
        id="l", labels=(Label(name="cat", keypoints=("nose", "tail", "paw"), skeleton=((0, 1), (1, 2))),)
    )
    manifests.dump(msgspec.structs.replace(manifests.load(place), labels=skeleton), place)
    found = {"rule": "box.tiny", "severity": "warn", "subject": "d/detection/train", "detail": EVIL}
    seen: dict[str, Any] = {"image": "1.png", "box": [16.0, 24.0, 32.0, 48.0]}
    rows = [
        {**found, "key": "d/train/102#detection"},
        {**found, "detail": EVIL},
        {**found, "key": "d/train/4#detection", **seen},
    ]
    session = Session(
        [tmp_path / "m"], tmp_path / "cache", tmp_path / "s.parquet", report(tmp_path / "r", rows)
    )
    running = Server(session, 0)
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    session.parts.wait(len(session.parts.plan) - 1, 20)
    yield running
    running.shutdown()
    running.server_close()
    thread.join(5)
    session.close()


def _until(page: Page, script: str, wanted: Any = True) -> None:
    """Wait until an expression has a value: the page asks the server, and nobody knows for how long."""
    until = time.monotonic() + 20
    while (found := page.value(script)) != wanted:
        assert time.monotonic() < until, f"{script} is {found!r}, expected {wanted!r}"
        time.sleep(0.02)


def _list(page: Page, count: int) -> None:
    _until(page, "document.querySelectorAll('#cards .card').length", count)


def _id(page: Page, number: int) -> None:
    _until(page, "document.getElementById('id').textContent", f"d/train/{number}#detection")


def _link(server: Server, number: int) -> str:
    return f"{server.address}#sample=d%2Ftrain%2F{number}%23detection"


def _marks(tmp_path: Path) -> list[Choice]:
    return selection.read(tmp_path / "s.parquet") if (tmp_path / "s.parquet").exists() else []


def test_what_a_source_says_never_runs(open_page: Open, server: Server, tmp_path: Path) -> None:
    page = open_page(server.address + "#start=24")
    _list(page, 10)
    page.go("about:blank")
    page.go(_link(server, 102))
    _id(page, 102)
    _until(
        page,
        "document.querySelector('#pictures .problem')?.textContent.includes('is the source there') ?? false",
    )
    page.press("n")
    page.type(EVIL)
    page.press("Enter")
    _until(page, "document.getElementById('mark').textContent", "kept")
    for facet in ("label", "license"):
        page.value(f"document.querySelector('.facet[data-kind={facet}]').open = true")
    page.value(f"location.hash = new URLSearchParams([['label', {json.dumps(EVIL)}], ['text', 'ALERT(1)'], "
               f"['sample', 'd/train/102#detection']])")  # fmt: skip
    _until(page, "document.querySelectorAll('#said mark').length > 0")
    page.settle()

    assert page.value("document.getElementById('said').innerText").count(EVIL) == 3
    assert EVIL in page.value("document.getElementById('findings').innerText")
    assert page.value("document.getElementById('note').value") == EVIL
    assert page.value("document.querySelectorAll('script').length") == 1
    assert page.dialogs == []
    assert [one for one in page.requests if not one.startswith((server.address, "about:"))] == []
    # The picture that is gone is an error of its own, and nothing else went wrong.
    assert all("422" in one for one in page.errors), page.errors


def test_nothing_is_refused_by_the_policy_of_the_page(open_page: Open, server: Server) -> None:
    page = open_page(_link(server, 100))
    _id(page, 100)
    _until(page, "document.querySelector('#pictures img').complete")
    page.go("about:blank")
    page.go(server.address)
    _list(page, 24)
    page.click("#open-help")
    page.press("Escape")
    page.click("#theme")
    page.settle()

    assert page.errors == [] and page.dialogs == []


def test_samples_are_found_and_views_can_be_linked(open_page: Open, server: Server) -> None:
    page = open_page(server.address)
    _list(page, 24)
    _until(page, "document.getElementById('place').textContent", "1–24 of 34")
    page.press("/")
    page.type("NUMBER 1")
    page.press("Enter")
    _until(page, "document.getElementById('place').textContent", "1–11 of 11")
    page.value("document.querySelector('.facet[data-kind=label]').open = true")
    page.value("[...document.querySelectorAll('.facet[data-kind=label] label')].find(one => "
               "one.textContent.startsWith('cat')).querySelector('input').click()")  # fmt: skip
    _until(page, "document.getElementById('place').textContent", "1–6 of 6")
    link = page.value("location.href")
    assert page.value("[...document.querySelectorAll('#chosen button')].map(one => one.textContent)") == [
        "label: cat ×", "text: NUMBER 1 ×",
    ]  # fmt: skip

    other = open_page(link)
    _list(other, 6)
    ids = "[...document.querySelectorAll('#cards .id')].map(one => one.textContent)"
    assert other.value(ids) == [f"d/train/{number}#detection" for number in (1, 11, 13, 15, 17, 19)]
    assert other.value("document.getElementById('text').value") == "NUMBER 1"
    other.click("#cards .card:nth-child(3)")
    _id(other, 13)
    _until(other, "document.getElementById('position').textContent", "3 of 6")
    other.value("history.back()")
    _list(other, 6)
    assert other.value("document.getElementById('one').hidden") is True
    page.click("#clear")
    _until(page, "document.getElementById('place').textContent", "1–24 of 34")


def test_findings_and_marks_are_filters_too(open_page: Open, server: Server) -> None:
    page = open_page(server.address + "#rule=box.tiny")
    _list(page, 2)
    page.press("Enter")
    _id(page, 4)
    page.press("D", shift=True)
    _until(page, "document.getElementById('mark').textContent", "dropped")
    page.press("Escape")
    _list(page, 2)
    _until(page, "document.querySelectorAll('#cards .card.dropped').length", 1)
    page.value("location.hash = 'rule=box.tiny&mark=unmarked'")
    _list(page, 1)
    assert page.value("document.querySelector('#cards .id').textContent") == "d/train/102#detection"
    assert page.value("document.querySelectorAll('#subjects li').length") == 1


def test_keys_go_through_samples_and_mark_them(open_page: Open, server: Server, tmp_path: Path) -> None:
    page = open_page(server.address)
    _list(page, 24)
    page.press("j")
    page.press("j")
    page.press("k")
    page.press("Enter")
    _id(page, 1)
    page.press("j")
    _id(page, 2)
    page.press("ArrowRight")
    _id(page, 3)
    page.press("k")
    _id(page, 2)

    page.press("D", shift=True)
    _until(page, "document.getElementById('mark').textContent", "dropped")
    assert _marks(tmp_path) == [Choice(id="d/train/2#detection", keep=False, reason=MARKED)]
    page.press("n")
    page.type("too dark")
    page.press("Enter")
    _until(page, "document.activeElement.id", "")
    page.press("j")
    _id(page, 3)
    page.press("K", shift=True)
    _until(page, "document.getElementById('mark').textContent", "kept")
    assert _marks(tmp_path) == [
        Choice(id="d/train/2#detection", keep=False, reason=MARKED, note="too dark"),
        Choice(id="d/train/3#detection", keep=True, reason=MARKED),
    ]

    page.press("U", shift=True)
    _until(page, "document.getElementById('mark').textContent", "unmarked")
    page.press("U", shift=True)
    _until(page, "document.getElementById('toast').textContent.includes('train/2')")
    assert _marks(tmp_path) == [Choice(id="d/train/2#detection", keep=False, reason=MARKED)]
    page.go("about:blank")
    page.go(_link(server, 2))
    _until(page, "document.getElementById('mark').textContent", "dropped")


def test_a_note_can_be_written_before_the_mark(open_page: Open, server: Server, tmp_path: Path) -> None:
    page = open_page(_link(server, 5))
    _id(page, 5)
    page.press("n")
    page.type("a dog: K and D are letters here")
    page.press("Escape")
    page.press("D", shift=True)
    _until(page, "document.getElementById('mark').textContent", "dropped")
    assert _marks(tmp_path) == [
        Choice(id="d/train/5#detection", keep=False, reason=MARKED, note="a dog: K and D are letters here")
    ]


def test_two_tabs_do_not_overwrite_each_other(open_page: Open, server: Server, tmp_path: Path) -> None:
    one, two = open_page(_link(server, 7)), open_page(_link(server, 7))
    _id(one, 7)
    _id(two, 7)
    one.press("n")
    one.type("two dogs")
    one.press("Enter")
    _until(one, "document.getElementById('mark').textContent", "kept")

    two.press("D", shift=True)
    _until(two, "document.getElementById('toast').textContent.includes('marked elsewhere')")

    assert [choice.note for choice in _marks(tmp_path)] == ["two dogs"]
    assert two.value("[document.getElementById('mark').textContent, document.getElementById('note').value]") == [
        "kept", "two dogs",
    ]  # fmt: skip
    two.press("D", shift=True)
    _until(two, "document.getElementById('mark').textContent", "dropped")
    assert [choice.keep for choice in _marks(tmp_path)] == [False]


def test_an_order_by_chance_stands_in_the_address(open_page: Open, server: Server) -> None:
    page = open_page(server.address)
    _list(page, 24)
    ids = "[...document.querySelectorAll('#cards .id')].map(one => one.textContent)"
    before = page.value(ids)
    page.click("#random")
    _until(page, f"JSON.stringify({ids}) !== {json.dumps(json.dumps(before, separators=(',', ':')))}")
    drawn = page.value(ids)
    other = open_page(page.value("location.href"))
    _list(other, 24)
    assert other.value(ids) == drawn
    assert sorted(drawn) != sorted(before)


def test_boxes_and_keypoints_lie_where_they_are(open_page: Open, server: Server) -> None:
    page = open_page(_link(server, 101))
    _id(page, 101)
    _until(page, "document.querySelectorAll('#pictures circle').length", 2)
    page.settle()
    found = page.value(
        "(() => {const image = document.querySelector('#pictures img').getBoundingClientRect();"
        "const at = (one) => {const box = one.getBBox(); return [box.x, box.y, box.x + box.width, box.y + box.height]"
        ".map((v, i) => v / (i % 2 ? image.height : image.width))};"
        "return {box: at(document.querySelector('#pictures rect')), points: [...document.querySelectorAll("
        "'#pictures circle')].map(at), lines: document.querySelectorAll('#pictures line').length}})()"
    )
    shares = (WIDTH, HEIGHT) * 2
    assert found["box"] == pytest.approx(
        [v / s for v, s in zip((40, 30, 200, 180), shares, strict=True)], abs=1e-3
    )
    for (x0, y0, x1, y1), (x, y) in zip(found["points"], ((80, 60), (160, 120)), strict=True):
        assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((x / WIDTH, y / HEIGHT), abs=1e-3)
    assert found["lines"] == 1  # the other bone has an end that nobody saw
    page.press("p")
    assert page.value("document.querySelectorAll('#pictures circle').length") == 0
    page.press("b")
    assert page.value("document.querySelectorAll('#pictures rect').length") == 0


def test_masks_lie_on_their_pixels_and_can_be_switched_off(open_page: Open, server: Server) -> None:
    page = open_page(_link(server, 100))
    _until(page, "document.querySelectorAll('#pictures canvas').length", 1)
    inside = page.value(
        "(() => {const canvas = document.querySelector('#pictures canvas'), c = canvas.getContext('2d');"
        "const a = (x, y) => c.getImageData(x, y, 1, 1).data[3] > 0;"
        "return [canvas.width, canvas.height, a(80, 60), a(199, 119), a(79, 60), a(200, 119),"
        "a(80, 59), a(199, 120)]})()"
    )
    assert inside == [WIDTH, HEIGHT, True, True, False, False, False, False]
    assert page.value("document.querySelectorAll('#pictures rect.dashed').length") == 1  # the region
    page.press("m")
    assert page.value("document.querySelectorAll('#pictures canvas').length") == 0
    page.press("m")
    page.click("#legend button")
    assert page.value("document.querySelectorAll('#pictures canvas').length") == 0


def test_run_length_codes_are_read_as_the_engine_reads_them(open_page: Open, server: Server) -> None:
    page = open_page(server.address)
    chance = np.random.default_rng(3)
    for height, width, share in (
        (1, 1, 1.0),
        (7, 5, 0.5),
        (40, 3, 0.0),
        (33, 65, 0.02),
        (300, 200, 0.98),
        (64, 64, 0.5),
    ):
        mask = (chance.random((height, width)) < share).astype(np.uint8)
        if height == 300:  # long runs, too
            mask[:, 20:150] = 1
        rle = rle_from_mask(mask)
        painted = page.value(
            f"import('./draw.js').then(draw => {{const pixels = new Uint8ClampedArray(4 * {height * width});"
            f"draw.paintMask(pixels, {width}, {height}, {json.dumps(msgspec.to_builtins(rle))}, '#ff0000');"
            "return pixels.filter((_, i) => i % 4 === 3).reduce((text, v) => text + (v ? '1' : '0'), '')})"
        )
        assert painted == "".join(map(str, mask_from_rle(rle).ravel().tolist()))


def test_codes_that_are_none_end_at_once(open_page: Open, server: Server) -> None:
    page = open_page(server.address)
    for counts in ("oooooooooooo", "~~~~~~~~~~~~~~", "", "\\u0000\\u0001", "0" * 50_000, "1o1o1o" * 20_000):
        page.value(
            "import('./draw.js').then(draw => draw.paintMask(new Uint8ClampedArray(4 * 64), 8, 8,"
            f"{{size: [100000, 100000], counts: '{counts}'}}, '#ff0000'))"
        )
    assert page.errors == []


def test_a_lost_picture_is_a_card_with_words(open_page: Open, server: Server) -> None:
    page = open_page(_link(server, 103))
    _id(page, 103)
    _until(page, "document.querySelector('#pictures .problem')?.textContent.includes('gone.png') ?? false")
    page.press("k")
    _id(page, 102)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(open_page: Open, server: Server, scheme: str) -> None:
    page = open_page("about:blank")
    page.size(360, 740, phone=True)
    page.prefer(scheme)
    page.go(server.address + "#start=24")
    _list(page, 10)
    assert page.value("document.documentElement.scrollWidth") <= 360
    assert page.value("getComputedStyle(document.getElementById('filters')).display") == "none"
    page.click("#open-filters")
    assert page.value("getComputedStyle(document.getElementById('filters')).display") == "block"
    assert page.value("document.documentElement.scrollWidth") <= 360
    for number in (101, 102):
        page.go("about:blank")
        page.go(_link(server, number))
        _id(page, number)
        assert page.value("document.documentElement.scrollWidth") <= 360
    dark = page.value("getComputedStyle(document.body).backgroundColor") == "rgb(16, 20, 25)"
    assert dark is (scheme == "dark")


def test_an_old_address_says_what_to_do(open_page: Open, server: Server) -> None:
    page = open_page(server.address.replace(server.token, "old"))
    assert "printed this time" in page.value("document.body.innerText")


def test_a_finding_is_shown_where_it_is(open_page: Open, server: Server) -> None:
    page = open_page(_link(server, 4))
    _id(page, 4)
    place = (
        "[...document.querySelectorAll('#pictures rect[stroke=\"#e60000\"]')].map(one =>"
        "['x', 'y', 'width', 'height'].map(name => parseFloat(one.getAttribute(name))))"
    )
    _until(page, f"{place}.length", 1)
    assert page.value(place) == [[5, 10, 5, 10]]
    page.press("f")
    assert page.value(place) == []
