"""Chromium without a window, spoken to through its own pipe: no driver to install, no port, no network.

The protocol is the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/), one JSON object a message,
each ended by a NUL byte.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW_TO_GET = (
    "no Chromium here, so no page was proven in a browser; install one (Debian: apt-get install chromium)"
)
WAIT_S = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
# What Chromium wants to know of a key: its code, and the text that it writes.
_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), " ": (32, " "), "/": (191, "/")}


def find() -> str | None:
    """Return the path of a Chromium on this machine, or None."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


class Browser:
    """One running Chromium with a profile of its own; `close` ends it."""

    def __init__(self, path: str, profile: Path) -> None:
        profile.mkdir(parents=True, exist_ok=True)
        commands, self._write = _high_pipe()
        self._read, answers = _high_pipe()
        log = profile / "chromium.log"
        self._pid = os.posix_spawn(
            path,
            [path, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            {**os.environ, "HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, commands, 3),
                (os.POSIX_SPAWN_DUP2, answers, 4),
            ],
            setpgroup=0,
        )
        os.close(commands)
        os.close(answers)
        self._log = log
        self._rest = b""
        self._last = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}

    def open(self, url: str = "about:blank", width: int = 1280, height: int = 900) -> Page:
        """Return a new page that has loaded a URL, in a window of so many CSS pixels."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        page.size(width, height)
        if url != "about:blank":
            page.go(url)
        return page

    def close(self) -> None:
        """End Chromium and all that it started."""
        try:
            self.call("Browser.close", wait_s=10)
        except (TimeoutError, OSError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, session: str = "", wait_s: float = WAIT_S, **given: Any) -> dict[str, Any]:
        """Return what a command of the protocol answers. Raises RuntimeError for an error, TimeoutError for none."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": given}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        until = time.monotonic() + wait_s
        while number not in self._answers:
            self.hear(until)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def hear(self, until: float) -> None:
        """Take in what Chromium says next. Raises TimeoutError where it says nothing until then."""
        if not select.select([self._read], [], [], max(until - time.monotonic(), 0))[0]:
            raise TimeoutError(f"Chromium does not answer; see {self._log}")
        data = os.read(self._read, 1 << 20)
        if not data:
            raise BrokenPipeError(f"Chromium has ended: {self._log.read_text()[-600:]}")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for one in map(json.loads, messages):
            if "id" in one:
                self._answers[one["id"]] = one
            elif one.get("sessionId") in self._pages:
                self._pages[one["sessionId"]].happened(one["method"], one["params"])

    def say(self, method: str, session: str, **given: Any) -> None:
        """Give a command whose answer nobody waits for."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": given, "sessionId": session}
        os.write(self._write, json.dumps(message).encode() + b"\0")


class Page:
    """One page in a context of its own, and what happened on it since it was opened.

    `requests` are all URLs that it asked for but `data:`, `dialogs` the messages of alerts, `errors` what the console
    tells: exceptions, errors and whatever a policy refused.
    """

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self._loaded = False
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """Return what a command of the protocol answers for this page."""
        return self._browser.call(method, self._session, **given)

    def happened(self, method: str, what: dict[str, Any]) -> None:
        """Note an event."""
        match method:
            case "Page.loadEventFired":
                self._loaded = True
            case "Page.javascriptDialogOpening":
                self.dialogs.append(what["message"])
                self._browser.say("Page.handleJavaScriptDialog", self._session, accept=True)
            case "Network.requestWillBeSent" if not what["request"]["url"].startswith("data:"):
                self.requests.append(what["request"]["url"])
            case "Runtime.exceptionThrown":
                details = what["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if what["type"] in ("error", "assert"):
                self.errors.append(str([one.get("value", one.get("description")) for one in what["args"]]))
            case "Log.entryAdded" if what["entry"]["level"] in ("error", "warning"):
                self.errors.append(what["entry"]["text"])

    def go(self, url: str, wait_s: float = WAIT_S) -> None:
        """Load a URL, and wait until all that belongs to it is there."""
        self._loaded = False
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise RuntimeError(f"{url}: {answer['errorText']}")
        until = time.monotonic() + wait_s
        while not self._loaded:
            self._browser.hear(until)

    def value(self, script: str) -> Any:
        """Return the value of an expression of JavaScript, of a promise once it is kept."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", script))
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait until what was done shows: two frames are drawn."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, named as KeyboardEvent.key names it."""
        code, text = _KEYS.get(key, (ord(key.upper()[0]), key if len(key) == 1 else ""))
        given = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **given, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)
        self.settle()

    def type(self, text: str) -> None:
        """Write a text where the focus is."""
        self.call("Input.insertText", text=text)
        self.settle()

    def click(self, selector: str) -> None:
        """Click on the middle of the first element that a selector finds."""
        place = self.value(
            f"(() => {{const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = one.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )
        self.settle()

    def size(self, width: int, height: int = 900, *, phone: bool = False) -> None:
        """Make the window so many CSS pixels wide and high; a phone's has no scroll bars and a pixel ratio of 2."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def prefer(self, scheme: str, media: str = "") -> None:
        """Ask for the `dark` or `light` theme as a system's settings do, and for a medium such as `print`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def forbid_scripts(self) -> None:
        """Let no script of the page run from now on, as a reader may."""
        self.call("Emulation.setScriptExecutionDisabled", value=True)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        """Close the page and forget its context."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)


def _high_pipe() -> tuple[int, int]:
    """Return both ends of a pipe, away from the numbers that Chromium's ends get."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
