"""The snapshot of wording: what it notices, and that every sentence in it is still looked at by a test."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from wording import SNAPSHOT, read, sentences, write

TESTS = Path(__file__).parent
ONE = """
def test_it(wording, tmp_path):
    wording("one", f"{tmp_path}/a.csv: two\\nlines")
"""


def pytest_in(folder: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A test of its own, run beside a copy of the mechanism with a snapshot of its own."""
    for name in ("wording.py",):
        (folder / name).write_text((TESTS / name).read_text())
    fixture = (TESTS / "conftest.py").read_text()
    (start,) = re.findall(r"@pytest.fixture\ndef wording.*?compare\(noted\)\n", fixture, flags=re.DOTALL)
    head = "from collections.abc import Iterator\nimport pytest\nfrom wording import Wording, compare\n"
    (folder / "conftest.py").write_text(head + start)
    (folder / "test_one.py").write_text(text)
    bare = {name: value for name, value in os.environ.items() if name not in ("CI", "ALM_PROXIES_WORDING")}
    bare["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # importing those that are installed takes longer than the test
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=bare | environment)


def test_missing_extra_and_changed_sentences_fail_and_renewing_writes_them(tmp_path: Path) -> None:
    assert pytest_in(tmp_path, ONE).returncode == 1
    assert pytest_in(tmp_path, ONE, ALM_PROXIES_WORDING="renew").returncode == 0
    assert read(tmp_path / "wording.snapshot") == {"test_one.py::test_it": ["one", "<tmp>/a.csv: two\nlines"]}
    assert pytest_in(tmp_path, ONE).returncode == 0
    assert pytest_in(tmp_path, ONE.replace('"one", ', "")).returncode == 1
    assert pytest_in(tmp_path, ONE.replace('"one", ', '"one", "three", ')).returncode == 1
    assert pytest_in(tmp_path, ONE.replace("one", "One")).returncode == 1


def test_a_page_gives_its_sentences_without_numbers_and_without_data() -> None:
    head = '<thead><tr><th><button data-tip="A hint.">Name</button></th></tr></thead>'
    body = "<tbody><tr><td>12.5</td><td>some data</td></tr></tbody>"
    page = f"<h1>4.5 votes, 3 raters.</h1><p>One <code>x</code>: \u22120.02.</p><table>{head}{body}</table>"
    assert sentences(page) == ["# votes, # raters.", "One x: #.", "A hint.", "Name"]


def test_continuous_integration_never_renews(tmp_path: Path) -> None:
    done = pytest_in(tmp_path, ONE, ALM_PROXIES_WORDING="renew", CI="true")
    assert done.returncode == 1
    assert not (tmp_path / "wording.snapshot").exists()


def test_the_snapshot_is_written_as_it_is_read(tmp_path: Path) -> None:
    write(read(), tmp_path / "again")
    assert (tmp_path / "again").read_text() == SNAPSHOT.read_text()


@pytest.mark.parametrize("test", sorted({name.partition("[")[0] for name in read()}))
def test_every_sentence_of_the_snapshot_belongs_to_a_test_that_looks_at_it(test: str) -> None:
    path, _, name = test.partition("::")
    tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    assert [[a.arg for a in node.args.args].count("wording") for node in functions] == [1]
