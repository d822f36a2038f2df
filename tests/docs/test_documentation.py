"""The tutorials' commands and Python, run as printed in an empty folder; and what the site's pages say is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from forked import Forked, bash

from alm_proxies.cards import card_of
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.taxonomy import taxonomy_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TUTORIALS = sorted(path for path in (DOCS / "tutorials").glob("*.md") if path.stem != "index")
TOML = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)
SERVER = "http://127.0.0.1:8000/v1"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A real server in a process of its own, on a free port."""
    program = Path(__file__).with_name("listening_server.py")
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.stdin.close()


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(bash|python)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.server
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_printed(page: Path, tmp_path: Path, server: str) -> None:
    listed = blocks(page)
    assert len(listed) >= 5
    for kind, printed in listed:
        text = printed.replace(SERVER, server)
        done = bash(text, tmp_path) if kind == "bash" else Forked.done("-c", text, cwd=tmp_path)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / {"method-researcher": "runs/compare/manifest.json"}.get(page.stem, "report.html")).exists()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it; a dead link or a missing page fails here."""
    place = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", place]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.mark.site
def test_every_command_and_public_name_is_in_the_site(site: Path) -> None:
    from alm_proxies import __all__
    from alm_proxies.cli.app import app

    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    verbs = [name for name in app() if not name.startswith("-")]
    assert len(verbs) >= 9
    assert [verb for verb in verbs if f">alm-proxies {verb}<a" not in commands] == []
    names = (site / "reference/python.html").read_text(encoding="utf-8")
    assert [name for name in __all__ if not name.startswith("__") and f".{name}" not in names] == []


@pytest.mark.site
def test_every_setting_has_a_meaning_in_the_site(site: Path) -> None:
    html = (site / "reference/settings.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>\n<td><code>(.*?)</code></td>(.*?)</tr>", html, flags=re.DOTALL)
    assert len(rows) > 80
    assert [key for key, rest in rows if re.findall(r"<td>(.*?)</td>", rest, flags=re.DOTALL)[-1] == ""] == []


@pytest.mark.site
def test_words_in_angle_brackets_are_shown_as_they_are(site: Path) -> None:
    assert "soft cross-entropy with p_&lt;label&gt;" in (site / "reference" / "exports.html").read_text()
    for page in (site / "reference").glob("*.html"):
        assert not re.search(r"\\<[a-z]+>", page.read_text()), page.name


@pytest.mark.site
def test_every_file_of_the_house_is_on_the_map_with_a_line(site: Path) -> None:
    html = (site / "house/map.html").read_text(encoding="utf-8")
    files = [path for path in (ROOT / "alm_proxies").rglob("*.py") if path.stat().st_size]
    rows = re.findall(r"<td><code>([\w.]+\.py)</code></td>\n<td>(.*?)</td>", html)
    assert len(rows) == len(files)
    assert [name for name, line in rows if not line] == []


def test_every_column_of_the_contract_is_described() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        from site_pages.words import COLUMNS
    finally:
        sys.path.remove(str(DOCS))
    from alm_proxies import tables

    for name, meanings in COLUMNS.items():
        assert {column.name for column in getattr(tables, name).COLUMNS} - set(meanings) == set(), name


def test_every_python_block_of_the_how_to_pages_runs(tmp_path: Path) -> None:
    pages = [page for page in sorted((DOCS / "how-to").glob("*.md")) if page.stem != "extend"]  # test_extending runs it
    listed = [(page, text) for page in pages for kind, text in blocks(page) if kind == "python"]
    assert len(listed) >= 2
    for page, text in listed:
        done = Forked.done("-c", text, cwd=tmp_path)
        assert done.returncode == 0, f"{page}\n{text}\n{done.stderr}"


def test_every_pipeline_of_the_how_to_pages_has_keys_that_are_known(tmp_path: Path) -> None:
    """Whole files, and sections alone; the entry points of a package are no pipeline."""
    listed = {
        f"{page.stem}-{number}": text
        for page in sorted((DOCS / "how-to").glob("*.md"))
        for number, text in enumerate(TOML.findall(page.read_text(encoding="utf-8")))
        if "[project." not in text
    }
    assert len(listed) >= 6
    around = 'taxonomy = "crema6"\nfolder = "out"\n[simulate]\n[fuse]\n'
    for name, text in listed.items():
        file = tmp_path / f"{name}.toml"
        file.write_text(text if "folder =" in text else around + text, encoding="utf-8")
        assert read_pipeline(file).runs


def test_the_example_of_several_corpora_maps_every_label_of_crema_d_that_its_taxonomy_lacks() -> None:
    (text,) = TOML.findall((DOCS / "how-to" / "combine-corpora.md").read_text(encoding="utf-8"))
    file = tomllib.loads(text)
    (crema,) = (block for block in file["read"] if block["format"] == "crema_d")
    labels = taxonomy_of(card_of("crema_d").taxonomy or "").labels
    assert set(crema["map"]) == set(labels) - set(taxonomy_of(file["taxonomy"]).labels)


def test_the_first_page_lists_what_the_extra_all_brings() -> None:
    (listed,) = re.findall(r"`all` is ([^;]+) together", (DOCS / "index.md").read_text(encoding="utf-8"))
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (everything,) = project["optional-dependencies"]["all"]
    assert f"alm-proxies[{','.join(re.findall('`([^`]+)`', listed))}]" == everything


def test_every_message_that_the_page_of_problems_explains_is_said_somewhere() -> None:
    text = (DOCS / "how-to" / "problems.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\*\*`([^`]+)`\.\*\*", text, flags=re.MULTILINE)
    package = "".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "alm_proxies").rglob("*.py"))
    assert len(messages) >= 4
    assert [message for message in messages if message not in package] == []


@pytest.mark.browser
@pytest.mark.parametrize("page", ["index", "concepts/fusion", "reference/python", "tutorials/corpus-owner"])
def test_a_page_asks_the_network_for_nothing_and_does_not_complain(browser: Any, site: Path, page: str) -> None:
    with served(site) as url:
        browser.driver.get(f"{url}/{page}.html")
        browser.wait("document.readyState === 'complete'")
        asked = [other for other in browser.asked_of_the_network() if not other.startswith(url)]
        assert asked == []
        assert browser.complaints() == []
        assert browser.ask("document.querySelectorAll('.arithmatex').length") == 0
        if page == "concepts/fusion":
            assert browser.ask("document.querySelectorAll('math[display=block]').length") >= 3
            assert browser.ask("document.querySelector('math').getBoundingClientRect().height") > 5
        browser.screen(420)
        wide = browser.ask("document.documentElement.scrollWidth")
        assert wide <= 421


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line of log for each."""

    def log_message(self, *_: object) -> None:
        pass
