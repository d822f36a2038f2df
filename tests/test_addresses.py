"""The address of the project in all documents is the one in pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
URLS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
ADDRESS = re.compile(r"https?://(?:[\w-]+\.github\.io|(?:raw\.githubusercontent|github)\.com/[\w.-]+)/alm-proxies")


def texts() -> dict[str, str]:
    """The project's files that may contain an address, by path."""
    paths = [path for kind in ("*.md", "*.toml", "*.cff", "*.yml", "Makefile") for path in ROOT.glob(kind)]
    for folder in ("alm_proxies", "docs", "data_cards", "prompts", "pipelines", "benchmarks", ".github"):
        for kind in ("md", "py", "toml", "yml", "html", "json"):
            paths += (ROOT / folder).rglob(f"*.{kind}")
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def test_every_address_is_that_of_pyproject() -> None:
    known = {URLS["Source"], URLS["Documentation"].rstrip("/")}
    addresses = {(name, address) for name, text in texts().items() for address in ADDRESS.findall(text)}
    assert {"pyproject.toml", "README.md", "CITATION.cff"} <= {name for name, _ in addresses}
    assert [name for name, _ in addresses if name.endswith((".py", ".yml"))] == [], "code reads pyproject.toml"
    assert [(name, address) for name, address in sorted(addresses) if address not in known] == []


def test_the_addresses_of_pyproject_are_below_one() -> None:
    assert URLS["Issues"] == f"{URLS['Source']}/issues"
    assert URLS["Changelog"] == f"{URLS['Source']}/blob/main/CHANGELOG.md"
    owner, name = URLS["Source"].removeprefix("https://github.com/").split("/")
    assert URLS["Documentation"] == f"https://{owner}.github.io/{name}/"


def test_every_link_of_the_readme_works_where_it_is_shown_alone_and_names_a_file() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(targets) >= 4
    assert [target for target in targets if not re.match(r"https://|#", target)] == []
    below = [target.removeprefix(URLS["Source"]) for target in targets if target.startswith(URLS["Source"])]
    ours = [re.sub("^/(blob|raw)/main/", "", target) for target in below]
    assert len(ours) >= 4
    assert [name for name in ours if not (ROOT / name.partition("#")[0]).is_file()] == []
