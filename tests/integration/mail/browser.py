# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium, driven by the W3C WebDriver protocol of Debian's chromedriver. Needs the packages chromium and chromium-driver."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

# How the protocol names an element in JSON.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
SECONDS = 30.0
# linux/sched.h
CLONE_NEWNET = 0x40000000


class BrowserError(Exception):
    """What the driver answered, or what did not come in time."""


class Browser:
    def __init__(self, session: str) -> None:
        """session: URL of a session of chromedriver."""
        self.session = session

    def ask(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None) -> Any:
        return _ask(method, self.session + path, body)

    def open(self, url: str) -> None:
        self.ask("POST", "/url", {"url": url})

    def url(self) -> str:
        return str(self.ask("GET", "/url"))

    def find(self, css: str) -> list[str]:
        """Ids of the elements that can be seen."""
        found = self.ask("POST", "/elements", {"using": "css selector", "value": css})
        return [one[ELEMENT] for one in found if self.ask("GET", f"/element/{one[ELEMENT]}/displayed")]

    def wait(self, css: str) -> str:
        """The first element of this kind, as soon as one can be seen."""
        return str(self.until(lambda: self.find(css), f"no {css}")[0])

    def until(self, check: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """What ``check`` returns, once it is true. A page that is being replaced is asked again."""
        end = time.monotonic() + seconds
        while True:
            try:
                found, reason = check(), ""
            except BrowserError as error:
                found, reason = None, str(error)
            if found:
                return found
            if time.monotonic() > end:
                raise BrowserError(f"{what} within {seconds:.0f} s at {self.url()}. {reason}")
            time.sleep(0.2)

    def click(self, css: str) -> None:
        """As soon as nothing is before it any more."""

        def clicked() -> bool:
            self.ask("POST", f"/element/{self.find(css)[0]}/click", {}) if self.find(css) else _missing(css)
            return True

        self.until(clicked, f"cannot click {css}")

    def write(self, css: str, text: str) -> None:
        element = self.wait(css)
        self.ask("POST", f"/element/{element}/clear", {})
        self.ask("POST", f"/element/{element}/value", {"text": text})

    def type(self, css: str, text: str) -> None:
        """Keys, without clearing what is there."""
        self.ask("POST", f"/element/{self.wait(css)}/value", {"text": text})

    def choose(self, css: str, value: str) -> None:
        """An entry of a list."""
        self.wait(css)
        self.run("const one = document.querySelector(arguments[0]); one.value = arguments[1]; one.dispatchEvent(new Event('change'))", css, value)

    def text(self, css: str) -> str:
        return str(self.ask("GET", f"/element/{self.wait(css)}/text"))

    def run(self, script: str, *arguments: Any) -> Any:
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    @contextmanager
    def frame(self, css: str) -> Iterator[None]:
        """What is inside an iframe."""
        self.ask("POST", "/frame", {"id": {ELEMENT: self.wait(css)}})
        try:
            yield
        finally:
            self.ask("POST", "/frame", {"id": None})

    def picture(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))

    def console(self) -> list[str]:
        """What pages complained about: faults of scripts, breaches of the content security policy."""
        return [f"{entry['level']} {entry['message']}" for entry in self.ask("POST", "/se/log", {"type": "browser"})]


@contextmanager
def apart() -> Iterator[None]:
    """A network namespace for this thread and what it starts, with a loopback alone.

    Chromium ends its requests whenever an interface of its machine comes or goes. Needs root.
    """
    library = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        if library.unshare(CLONE_NEWNET):
            raise BrowserError(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            if library.setns(before.fileno(), CLONE_NEWNET):
                raise BrowserError(f"stays in its network namespace: {os.strerror(ctypes.get_errno())}")


def _missing(css: str) -> None:
    raise BrowserError(f"no {css}")


def _ask(method: str, url: str, body: Optional[Mapping[str, Any]] = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        found = json.loads(error.read())["value"]
        raise BrowserError(f"{found['error']}: {found['message'].splitlines()[0]}") from error


@contextmanager
def chromium(*arguments: str, size: tuple[int, int] = (1280, 800)) -> Iterator[Browser]:
    """A browser with a profile of its own. arguments: of Chromium."""
    with tempfile.TemporaryDirectory() as profile:
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        session = ""
        try:
            url = f"http://127.0.0.1:{_port(driver)}"
            options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"]
            options += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", *arguments]
            wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": options}, "goog:loggingPrefs": {"browser": "ALL"}}
            made = _ask("POST", f"{url}/session", {"capabilities": {"alwaysMatch": wanted}})
            session = f"{url}/session/{made['sessionId']}"
            yield Browser(session)
        finally:
            if session:
                _ask("DELETE", session)
            driver.terminate()
            driver.wait()


def _port(driver: subprocess.Popen[str]) -> int:
    """The port that it says it listens on."""
    for line in driver.stdout or ():
        found = re.search(r"started successfully on port (\d+)", line)
        if found:
            return int(found[1])
    raise BrowserError("chromedriver did not start")
