"""What mkdocs calls while it builds the site: pages made from the code, and formulas as MathML."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))
from site_pages.pages import PAGES, project_urls  # mkdocs loads this file by its path

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Where the site lies and where its source is: pyproject.toml says it."""
    urls = project_urls()
    config.site_url = urls["Documentation"]
    config.copyright = f'<a href="{urls["Source"]}">Source</a>, Apache-2.0'
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every generated page."""
    from mkdocs.structure.files import File

    for place, make in PAGES.items():
        files.append(File.generated(config, place, content=make()))
    return files


def on_page_content(html: str, **_: object) -> str:
    """Formulas between $ or $$ as MathML, which browsers draw without a script."""
    html = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', lambda m: _mathml(m[1], "inline"), html, flags=re.S)
    return re.sub(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', lambda m: _mathml(m[1], "block"), html, flags=re.S)


def _mathml(formula: str, display: str) -> str:
    from latex2mathml.converter import convert

    return str(convert(unescape(formula).strip(), display=display))
