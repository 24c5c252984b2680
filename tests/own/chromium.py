"""A headless Chromium that shows a page, by its DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
"""Path of the browser; None if there is none."""
MOBILE = 700
"""Width in pixels below which the screen is that of a telephone."""


class Browser:
    """One tab. Requests, console messages and exceptions since the last `show` are kept."""

    def __init__(self, to_browser: int, from_browser: int):
        self._to, self._from = to_browser, os.fdopen(from_browser, "rb", buffering=0)
        self._number, self._session, self._rest = 0, None, b""
        self.requests: list[str] = []
        self.messages: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def show(self, page: Path, width: int = 1280, dark: bool = False) -> None:
        """Loads a page and waits until it is there."""
        height, scheme = 900, {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < MOBILE)  # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.requests, self.messages = [], []
        self.call("Page.navigate", url=page.resolve().as_uri())
        while self._event()["method"] != "Page.loadEventFired":
            pass
        self.run("0")

    def run(self, script: str) -> Any:
        """Returns the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, whole: bool = False) -> bytes:
        """Returns a PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole,
                           **({"clip": self._all()} if whole else {}))  # fmt: skip
        return base64.b64decode(answer["data"])

    def _all(self) -> Mapping[str, float]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _event(self) -> Any:
        while "method" not in (event := self._message()):
            pass
        self._note(event)
        return event

    def _note(self, event: Mapping[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded":
                self.messages.append(json.dumps(about)[:500])

    def _message(self) -> Any:
        while b"\0" not in self._rest:
            more = self._from.read(1 << 16)
            assert more, "the browser ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Starts Chromium, with its profile in `folder`, until the block ends."""
    assert PROGRAM
    to_browser, from_browser = os.pipe(), os.pipe()
    flags = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--no-first-run", "--remote-debugging-pipe",
        "--hide-scrollbars", f"--user-data-dir={folder}",
    ]  # fmt: skip
    actions = [
        (os.POSIX_SPAWN_DUP2, to_browser[0], 3), (os.POSIX_SPAWN_DUP2, from_browser[1], 4),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]  # fmt: skip
    pid = os.posix_spawn(
        PROGRAM, [PROGRAM, *flags, "about:blank"], os.environ, file_actions=actions, setpgroup=0
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        yield Browser(to_browser[1], from_browser[0])
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(to_browser[1])
