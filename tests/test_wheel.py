"""The wheel, installed into an empty environment without torch and used in an empty folder."""

import os
import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

import alm_proxies

CHECKOUT = Path(alm_proxies.__file__).parents[1]
VOTES = "utterance_id,annotator,label\nu1,r1,happy\nu1,r2,sad\nu2,r1,sad\nu2,r2,sad\n"
COLUMNS = "utterance_id=utterance_id,annotator=annotator,label=label"
IN_THIS_PROCESS = """name = "in-this-process"
engine = "transformers"
model = "Qwen/Qwen2-Audio-7B-Instruct"
prompt = "listener"
votes = 2
"""


@dataclass(frozen=True)
class Installed:
    """A wheel, and the environment outside the checkout that it and its core dependencies were installed into."""

    wheel: Path
    environment: Path
    folder: Path

    def call(self, *command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment in the empty folder, with nothing of this process's environment."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(CHECKOUT)]
    _run(build)
    (wheel,) = place.glob("*.whl")
    environment = place / "environment"
    venv.create(environment, with_pip=False)
    constraints = place / "constraints.txt"
    constraints.write_text("\n".join(_pinned()) + "\n")
    python = str(environment / "bin" / "python")
    _run([*pip, "--python", python, "install", "--no-compile", "--constraint", str(constraints), str(wheel)])
    folder = place / "an empty folder"
    folder.mkdir()
    return Installed(wheel, environment, folder)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _pinned() -> list[str]:
    """The lock without its hashes, which pip takes for requirements only."""
    lock = (CHECKOUT / "requirements" / "lock.txt").read_text()
    pins = [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert len(pins) > 40
    return pins


def test_it_carries_what_it_ships(installed: Installed) -> None:
    inside = set(ZipFile(installed.wheel).namelist())
    for kind in ("prompts", "pipelines", "data_cards"):
        files = [path for path in (CHECKOUT / kind).rglob("*") if path.is_file()]
        assert files
        missing = {f"alm_proxies/shipped/{path.relative_to(CHECKOUT).as_posix()}" for path in files} - inside
        assert missing == set()
    package = CHECKOUT / "alm_proxies"
    code = {path.relative_to(CHECKOUT).as_posix() for path in package.rglob("*.py")}
    assert "alm_proxies/py.typed" in inside
    weights = {path.relative_to(CHECKOUT).as_posix() for path in (package / "embedded").rglob("*") if path.is_file()}
    assert {name for name in code | weights if "__pycache__" not in name} - inside == set()
    assert not [name for name in inside if name.startswith(("tests/", "benchmarks/"))]


def test_it_is_the_core_alone_and_imports_without_torch(installed: Installed) -> None:
    script = "import sys, alm_proxies; assert 'torch' not in sys.modules; print(alm_proxies.__file__)"
    assert str(installed.environment) in installed.call("python", "-c", script).stdout
    extras = ("torch", "transformers", "vllm", "peft", "librosa", "vl_convert")
    heavy = f"import importlib.util as u; print([n for n in {extras} if u.find_spec(n)])"
    assert installed.call("python", "-c", heavy).stdout.strip() == "[]"


def test_every_public_name_is_there_without_torch(installed: Installed) -> None:
    script = "import alm_proxies, sys\nfor name in alm_proxies.__all__: getattr(alm_proxies, name)"
    installed.call("python", "-c", script)


def test_help_and_version(installed: Installed) -> None:
    assert "Usage: alm-proxies" in installed.call("alm-proxies", "--help").stdout
    assert installed.call("alm-proxies", "--version").stdout.strip() == alm_proxies.__version__


def test_check_reads_the_shipped_demo_says_what_it_needs_and_writes_nothing(installed: Installed) -> None:
    before = sorted(installed.folder.iterdir())
    done = installed.call("alm-proxies", "check", "demo", code=2)
    assert done.stdout.startswith("1 problem; 400 votes planned")
    assert "pip install 'alm-proxies[local]'" in done.stderr
    assert sorted(installed.folder.iterdir()) == before


def test_a_table_is_read_and_fused(installed: Installed) -> None:
    (installed.folder / "votes.csv").write_text(VOTES)
    table = ["read", "table", "votes.csv", "-o", "out", "--corpus", "mine", "--taxonomy", "happy,sad"]
    done = installed.call("alm-proxies", *table, "--columns", COLUMNS)
    assert "2 utterances, 4 votes" in done.stdout
    done = installed.call("alm-proxies", "fuse", "out/votes.parquet", "--method", "dirichlet", "-o", "labels.parquet")
    assert "2 labels by dirichlet" in done.stdout
    script = "from alm_proxies import Labels; print(Labels.read('labels.parquet').taxonomy)"
    assert installed.call("python", "-c", script).stdout.strip() == "('happy', 'sad')"


def test_a_simulated_corpus_is_fused_and_aligned_with_the_core_alone(installed: Installed) -> None:
    installed.call("alm-proxies", "simulate", "-o", "sim", "--utterances", "30", "--dense", "4", "--seed", "1")
    tables = ["--utterances", "sim/utterances.parquet"]
    installed.call("alm-proxies", "fuse", "sim/votes.parquet", *tables, "--method", "human", "-o", "fused.parquet")
    votes = ["--votes", "sim/votes.parquet"]
    done = installed.call("alm-proxies", "align", "fused.parquet", *votes, *tables, "-o", "report.html")
    assert "pip install 'alm-proxies[png]'" in done.stderr
    charts = {path.suffix for path in (installed.folder / "report_charts").iterdir()}
    assert charts == {".svg"}
    assert (installed.folder / "report.html").stat().st_size > 50_000


def test_spectral_features_name_the_extra_they_need(installed: Installed) -> None:
    script = """
import numpy as np
from alm_proxies.audio.clip import Clip
from alm_proxies.audio.features import measure
from alm_proxies.errors import MissingExtraError
clip = Clip(np.sin(np.arange(16000) / 10).astype(np.float32), 16000)
assert measure(clip, ["prosody"]).values["energy_level"] is not None
try:
    measure(clip)
except MissingExtraError as error:
    print(error)
"""
    done = installed.call("python", "-c", script)
    assert done.stdout.strip().endswith("Install it with: pip install 'alm-proxies[audio]'")


USERS_SCRIPT = """
from pathlib import Path

from alm_proxies import FuseSettings, Labels, Votes, fuse

votes = Votes.read(Path("votes.parquet"))
fused = fuse(votes, FuseSettings(method="dirichlet"))
labels: Labels = fused.labels
names: tuple[str, ...] = labels.taxonomy
reveal_type(fused)
reveal_type(labels.frame)
wrong: int = fused.labels
fuse(votes, FuseSettings(method="dirichlet"), utterance=None)
"""


def test_a_users_script_is_checked_against_our_types(installed: Installed) -> None:
    (installed.folder / "script.py").write_text(USERS_SCRIPT)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed.environment / "bin/python")]
    command = [*mypy, "--cache-dir", str(installed.folder / "mypy"), "script.py"]
    done = subprocess.run(command, cwd=installed.folder, capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr
    assert 'Revealed type is "alm_proxies.stages.fuse.stage.Fused"' in shown
    assert "polars.dataframe.frame.DataFrame" in shown
    errors = [line for line in shown.splitlines() if ": error: " in line]
    assert [re.sub(r".*\[(.*)\]$", r"\1", line) for line in errors] == ["assignment", "call-arg"], shown


def test_an_engine_that_is_not_installed_is_one_sentence_with_its_install_line(installed: Installed) -> None:
    (installed.folder / "local.toml").write_text(IN_THIS_PROCESS)
    pipeline = 'taxonomy = "crema6"\nfolder = "run"\n[simulate]\nutterances = 5\n[annotate]\npanel = ["local.toml"]\n'
    (installed.folder / "run.toml").write_text(pipeline)
    done = installed.call("alm-proxies", "check", "run.toml", code=2)
    messages = [line for line in done.stderr.splitlines() if "pip install 'alm-proxies[local]'" in line]
    assert len(messages) == 1
    assert "local.toml: the engine transformers needs transformers, which is not installed" in messages[0]


def test_asking_an_engine_that_is_not_installed_is_one_sentence_too(installed: Installed) -> None:
    (installed.folder / "asked.toml").write_text(IN_THIS_PROCESS)
    installed.call("alm-proxies", "simulate", "-o", "sim", "--utterances", "3")
    asked = ["sim/utterances.parquet", "--annotator", "asked.toml", "--taxonomy", "crema6", "-o", "votes"]
    done = installed.call("alm-proxies", "annotate", *asked, code=2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("alm-proxies: ")
    assert "pip install 'alm-proxies[local]'" in last
