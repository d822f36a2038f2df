"""The commands and snippets of the README, run as printed in an empty folder."""

import re
from pathlib import Path

import pytest
from forked import TORCH, Forked, bash

from alm_proxies import Annotator
from alm_proxies.cli.app import run
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.settings import deciding

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest.mark.parametrize(("kind", "text"), BLOCKS, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(BLOCKS)])
def test_every_block_runs_as_printed(folder: Path, kind: str, text: str) -> None:
    done = bash(text, folder, TORCH) if kind == "bash" else Forked.done("-c", text, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_blocks_left_what_the_text_says(folder: Path) -> None:
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")[:300]
    assert (folder / "runs" / "mine" / "manifest.json").exists()
    assert (folder / "mine" / "labels.parquet").exists()


def test_every_link_to_a_file_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target


def _indented(start: str) -> str:
    """The indented block of the README with this beginning, without its indent."""
    lines = README.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().startswith(start))
    block = []
    for line in lines[first:]:
        if line and not line.startswith("    "):
            break
        block.append(line.removeprefix("    "))
    return "\n".join(block).split("\n\n")[0] + "\n"


def test_the_annotator_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "my_listener.toml"
    path.write_text(_indented('name = "my-listener"'), encoding="utf-8")
    annotator = Annotator.read(path, taxonomy="crema6")
    assert (annotator.votes, len(annotator.cells)) == (8, 8)


def test_the_corpus_is_read_as_printed(tmp_path: Path, test_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "CREMA-D").symlink_to(test_data / "crema_d")
    words = _indented("alm-proxies read crema_d").splitlines()[0].split()[1:]
    places = {"CREMA-D/": str(tmp_path / "CREMA-D"), "crema": str(tmp_path / "crema")}
    assert run([places.get(word, word) for word in words]) == 0
    assert "3,760 utterances, 34,715 votes" in capsys.readouterr().out


def test_the_pipeline_of_crema_d_is_the_shipped_one(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    block = text[text.index('    taxonomy = "crema6"\n    seed = 7') :].split("\n\n")[0]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(line.removeprefix("    ") for line in block.splitlines()), encoding="utf-8")
    (printed,), (shipped,) = read_pipeline(path).runs, read_pipeline("crema_d").runs
    for verb, sections in printed.sections.items():
        others = shipped.sections[verb]
        assert [deciding(section.settings) for section in sections] == [
            deciding(section.settings) for section in others[: len(sections)]
        ]
        assert [deciding(b) for section in sections for b in section.blocks] == [
            deciding(b) for section in others for b in section.blocks
        ]
