"""Rules for every folder: floors, sizes, empty package files, and shipped files that parse."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import alm_proxies
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import read_prompt
from alm_proxies.cards import read_card
from alm_proxies.files import shipped_folder
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.taxonomy import taxonomy_of

PACKAGE = Path(alm_proxies.__file__).parent
CHECKOUT = PACKAGE.parent
LONGEST = 400
ARCHAIC = ("said", "told", "tells", "foretell", "foretells", "foretold", "thrice", "mend", "mends", "mended", "so many")
"""Words that docstrings and messages do without: write stated, reported, predict, three times, fix, a number of."""
ALLOWED_WORDS = {
    "contracts.py": "the names of columns under earlier contracts",
    "annotators/wording.py": "words of models' replies",
    "simulate/words.py": "the lexicon of simulated speech",
    "annotate/ledger": "SQL with the ledger's column `told`",
}
"""Files, by a part of their path, whose strings may have archaic words, and why."""


NOUNS = (
    "annotators|cells|clips|columns|draws|epochs|files|findings|folders|items|labels|lines|models|raters|recordings|"
    "requests|rows|runs|speakers|stages|steps|turns|utterances|values|votes"
)


def files(kind: str, pattern: str) -> list[Path]:
    paths = sorted(shipped_folder(kind).glob(pattern))
    assert paths, f"no {kind}/{pattern}"
    return paths


def name(path: Path) -> str:
    return path.stem


def test_floors_import_only_floors_below_them(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    command = [linter, "--config", CHECKOUT / "pyproject.toml", "--cache-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_no_files_import_each_other_in_circles_not_even_for_types(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    config = Path(__file__).with_name("import_circles.toml")
    command = [linter, "--config", config, "--cache-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_package_files_of_folders_are_empty() -> None:
    paths = sorted(PACKAGE.rglob("*/__init__.py"))
    assert len(paths) > 10
    assert [str(path.relative_to(PACKAGE)) for path in paths if path.stat().st_size] == []


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_no_file_is_too_long_to_read() -> None:
    files = [path for folder in (PACKAGE, CHECKOUT / "tests", CHECKOUT / "benchmarks") for path in folder.rglob("*.py")]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert len(lengths) > 700
    assert {str(path.relative_to(CHECKOUT)): n for path, n in lengths.items() if n > LONGEST} == {}


def test_only_the_ledgers_own_files_speak_sql() -> None:
    speaks = re.compile(r"import sqlite3|\bPRAGMA |\bSELECT .* FROM |\bINSERT (OR \w+ )?INTO |\bDELETE FROM |\b_sql\b")
    names = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if speaks.search(path.read_text(encoding="utf-8"))
    }
    ledger = "stages/annotate/ledger"
    assert {f"{ledger}.py", f"{ledger}_questions.py"} <= names
    assert [name for name in sorted(names) if not re.fullmatch(rf"{ledger}(_\w+)?\.py", name)] == []


def test_a_fields_default_is_named_so_that_every_type_checker_sees_it() -> None:
    # Without pydantic's plugin a type checker does not take the 16 of Field(16, ge=1) for a default.
    positional = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Field" and call.args
    ]
    assert positional == []


@pytest.mark.parametrize("path", files("prompts", "*.toml"), ids=name)
def test_a_shipped_prompt_parses(path: Path) -> None:
    assert read_prompt(path).elicits


@pytest.mark.parametrize("path", files("pipelines", "*.toml"), ids=name)
def test_a_shipped_pipeline_parses(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = read_pipeline(path, tmp_path)
    assert pipeline.runs
    monkeypatch.chdir(path.parent)  # paths of a shipped file are relative to where one is
    assert read_pipeline(path.stem, tmp_path) == pipeline


@pytest.mark.parametrize("path", files("pipelines", "annotators/*.toml"), ids=name)
def test_a_shipped_annotator_parses_and_is_ready(path: Path) -> None:
    ready = Annotator.read(path).ready(taxonomy_of("msp8").labels)
    assert ready.votes >= 1
    assert ready.cells


@pytest.mark.parametrize("path", files("data_cards", "*.md"), ids=name)
def test_a_shipped_card_parses(path: Path) -> None:
    assert read_card(path).name == path.stem


def test_docstrings_and_messages_have_no_archaic_words() -> None:
    pattern = re.compile(rf"(?<![\w`-])(?:{'|'.join(ARCHAIC)})(?![\w`-])", re.IGNORECASE)
    sentences = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {' '.join(node.value.split())[:100]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not any(part in path.as_posix() for part in ALLOWED_WORDS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 1
        if pattern.search(" ".join(node.value.split()))
    ]
    assert sentences == []


def test_a_count_before_a_noun_agrees_with_it() -> None:
    # "1 stages done": `counted` of printable.py writes the noun, and a verb, that agree with the count
    after = re.compile(rf" (?:[a-z-]+ )?(?:{NOUNS})\b")
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for before, part, rest in zip([ast.Constant("")] + parts, parts, parts[1:], strict=False):
                among = isinstance(before, ast.Constant) and str(before.value).endswith((" of ", "All "))
                if not among and is_count(part) and isinstance(rest, ast.Constant) and after.match(str(rest.value)):
                    wrong.append(f"{path.relative_to(PACKAGE)}:{part.lineno}: {rest.value!r}")
    assert wrong == []


def is_count(part: ast.expr) -> bool:
    """Whether a part of a sentence is a number of things: written with a comma for thousands, or a length."""
    if not isinstance(part, ast.FormattedValue):
        return False
    written = ast.unparse(part.format_spec) if part.format_spec else ""
    return "," in written or re.fullmatch(r"(len|sum|int)\(.*\)|.*\.height", ast.unparse(part.value)) is not None


def test_no_two_test_files_have_the_same_name() -> None:
    names = [path.name for path in (CHECKOUT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)  # pytest imports them by name, so it refuses to collect two
