"""One `ebbtide up` for all tests of a run, and a headless Chromium that looks at it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from streams.embedded.process import free_port

#: Where screenshots are kept, as the tests' output.
SHOTS: Final = Path(os.environ.get("EBBTIDE_TEST_SHOTS", ".cache/screenshots"))
DEADLINE_S: Final = 120.0
#: No sandbox where tests run as root; nothing that calls home.
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def wait_until(what: str, true: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return once ``true`` is; AssertionError naming ``what`` after the deadline."""
    end = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end, f"{what}: not within {deadline_s:g} s"
        time.sleep(0.1)


@dataclass
class Up:
    """A running `ebbtide up`. url: of the page; said: its own words so far; data_dir: where its logs are."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    data_dir: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def pid_of(self, *words: str) -> int:
        """The process id of the descendant whose command has all these words."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                parent = int(re.search(r"PPid:\s+(\d+)", (entry / "status").read_text())[1])  # type: ignore[index]
            except (OSError, TypeError):
                continue
            if parent == self.process.pid and all(word in command for word in words):
                found.append(int(entry.name))
        assert len(found) == 1, (words, found)
        return found[0]


def _environment() -> dict[str, str]:
    # NiceGUI takes a process that pytest is said to run in for a test of its own.
    return {name: text for name, text in os.environ.items() if not name.startswith(("EBBTIDE_", "PYTEST_"))}


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running_up(folder: Path, *options: str) -> Iterator[Up]:
    """`ebbtide up` on a free port, until the page answers."""
    port = free_port()
    log = folder / "up.log"
    command = [sys.executable, "-m", "streams.cli", "up", "--port", str(port), *options]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")], stdout=out, stderr=out, env=_environment()
        )
    up = Up(process, f"http://127.0.0.1:{port}", log, folder / "data")

    def answers() -> bool:
        assert process.poll() is None, up.said
        return _is_ready(up.url)

    try:
        wait_until("the page", answers)
        yield up
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A simulated marketplace of five days, of which the last goes by in five minutes."""
    with running_up(tmp_path_factory.mktemp("up"), "--days", "5", "--speed", "300") as up:
        yield up


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page over what a demo has kept: nothing comes any more."""
    folder = tmp_path_factory.mktemp("still")
    ebbtide = [sys.executable, "-m", "streams.cli"]
    env = _environment()
    subprocess.run(
        [*ebbtide, "demo", "--data-dir", str(folder), "--json"],
        check=True,
        env=env,
        stdout=subprocess.DEVNULL,
    )
    port = free_port()
    page = [*ebbtide, "page", "--data-dir", str(folder), "--port", str(port)]
    with (folder / "page.log").open("wb") as out:
        process = subprocess.Popen(page, env=env, stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until("the page", lambda: _is_ready(url))
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        yield browser
        browser.close()


@dataclass
class Reader:
    """A tab, and what its console said that it should not have."""

    page: Page
    wrong: list[str]

    def open(self, url: str) -> Page:
        """Go there and wait until what is asked for is shown."""
        self.page.goto(url)
        self.page.wait_for_selector("main h1")
        self.page.wait_for_selector("body.nicegui-ready, main", state="attached")
        return self.page


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


@pytest.fixture
def reader(context: BrowserContext) -> Reader:
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"{request.url} {request.failure}"))
    return Reader(page, wrong)


@pytest.fixture(scope="session", autouse=True)
def shots() -> Path:
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS
