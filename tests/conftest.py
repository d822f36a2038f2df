"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wording import Wording, compare

from alm_proxies import finding_kinds

gc.disable()  # until all tests are imported: nothing of it is garbage, and to look for some takes seconds

_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1200,900",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip


_OVERPRINTED = """(() => {
  const bad = [];
  for (const chart of document.querySelectorAll("svg.chart")) {
    const sheet = chart.getBoundingClientRect();
    if (!sheet.width) continue;
    const words = [...chart.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    words.forEach(([word, box], place) => {
      if (box.left < sheet.left - 1 || box.right > sheet.right + 1 || box.top < sheet.top - 1
        || box.bottom > sheet.bottom + 1) bad.push([word, "outside"]);
      for (const [other, that] of words.slice(place + 1)) {
        const wide = Math.min(box.right, that.right) - Math.max(box.left, that.left);
        const high = Math.min(box.bottom, that.bottom) - Math.max(box.top, that.top);
        if (wide > 1 && high > 3) bad.push([word, other]);
      }
    });
  }
  return bad;
})()"""


@dataclass(frozen=True)
class Browser:
    """A headless Chromium that opens pages and runs scripts; reports console errors and network requests."""

    driver: Any

    def open(self, page: Path) -> None:
        self.driver.get(page.resolve().as_uri())

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def wait(self, script: str, seconds: float = 10.0) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: self.ask(script))

    def screen(self, width: int, *, scheme: str = "light") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def marks(self, kind: str) -> list[list[Any]]:
        """The id of every figure, and the number of visible marks in its wide or narrow drawing."""
        marks: list[list[Any]] = self.ask(
            "[...document.querySelectorAll('figure')].map(figure => [figure.id,"
            " [...figure.querySelectorAll(`.${arguments[0]} .mark[data-tip]`)]"
            ".map(mark => mark.getBoundingClientRect()).filter(box => box.width > 0 && box.height > 0).length])",
            kind,
        )
        return marks

    def overprinted(self) -> list[list[str]]:
        """Visible words of charts that overlap or lie outside their chart."""
        texts: list[list[str]] = self.ask(_OVERPRINTED)
        return texts

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked_of_the_network(self) -> list[str]:
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith(("file:", "data:", "about:", "chrome:"))]


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for what fixtures of modules and sessions do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def folders_for_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that are not there; pytest's own numbering would look at all folders before it names one."""
    root = tmp_path_factory.mktemp("caches")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def a_cache_of_its_own(folders_for_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache for every test, because the ports of test servers are used again."""
    folder = next(folders_for_caches)
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


_MADE_UP = re.compile("count_[a-z]|odd|left_out|kind")


@pytest.fixture(scope="session", autouse=True)
def kinds_of_findings_are_declared() -> None:
    """A test fails if it gathers a finding whose kind is not in alm_proxies/finding_kinds.py."""

    def refuse(kind: str) -> finding_kinds.Severity:
        assert _MADE_UP.fullmatch(kind), f"declare the kind {kind!r} in alm_proxies/finding_kinds.py"
        return finding_kinds.NOT_DECLARED

    finding_kinds.not_declared = refuse  # type: ignore[assignment]  # a name of its own for the argument


@pytest.fixture(scope="session")
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with full_disk(600):` writing more than 600 bytes into a file fails, as on a full disk."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One headless Chromium for the whole run."""
    program, control = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or control is None:
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*_ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(control))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The headless Chromium with a wide light screen and empty logs."""
    chromium.screen(1200)
    chromium.driver.get("about:blank")
    chromium.complaints()
    chromium.asked_of_the_network()
    return chromium


@pytest.fixture
def wording(request: pytest.FixtureRequest) -> Iterator[Wording]:
    """Collects sentences, which are compared with tests/wording.snapshot when the test has passed."""
    noted = Wording(request.node.nodeid)
    failed = request.session.testsfailed
    yield noted
    if request.session.testsfailed == failed:  # a test that failed has passed fewer sentences
        compare(noted)


@pytest.fixture(autouse=True)
def torch_keeps_its_threads() -> Iterator[None]:
    """Restore torch's number of threads after a test, because it changes the last digits of sums."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else None
    yield
    torch = sys.modules.get("torch")
    if torch is not None and threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real votes and real speech (see CONTRIBUTING.md)."""
    folder = os.environ.get("ALM_PROXIES_TEST_DATA")
    if not folder:
        pytest.skip("ALM_PROXIES_TEST_DATA does not name a folder with crema_d/ and emodb/")
    return Path(folder)


def pytest_collection_finish() -> None:
    """All tests are imported."""
    gc.enable()
    configurations = sys.modules.get("transformers.configuration_utils")
    if configurations is not None:  # printed for log lines that nobody reads: a third of the time to load a tiny model
        configurations.PreTrainedConfig.__repr__ = object.__repr__


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In continuous integration the run fails if a test was skipped.

    Only tests with real votes and speech may be left out there, and only where no folder of them is named.
    """
    gc.unfreeze()  # hypothesis, imported for the summary at the latest, looks for what refers to its generators
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if not os.environ.get("ALM_PROXIES_TEST_DATA"):
        skipped = [report for report in skipped if "ALM_PROXIES_TEST_DATA" not in str(report.longrepr)]
    if os.environ.get("CI") == "true" and skipped and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\n{len(skipped)} skipped: nothing may be skipped here.")
