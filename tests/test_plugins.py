"""A third-party package adds readers, estimators, engines, prompts and exports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forked

import alm_proxies
from alm_proxies.plugin_code import package_digest
from alm_proxies.plugins import KINDS, Plugin, plugins
from alm_proxies.stages.export.formats import Format
from alm_proxies.tables import Labels

CHECKOUT = Path(alm_proxies.__file__).parents[1]
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.2"
{points}
[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""
POINTS = """\
[project.entry-points."alm_proxies.readers"]
pipes = "speech_extras.light:READER"
broken = "speech_extras.no_such_module:READER"
[project.entry-points."alm_proxies.estimators"]
level = "speech_extras.heavy:Level"
[project.entry-points."alm_proxies.engines"]
first = "speech_extras.light:ENGINE"
[project.entry-points."alm_proxies.recipes"]
constant = "speech_extras.heavy:constant"
[project.entry-points."alm_proxies.prompts"]
speech_extras = "speech_extras.prompts"
lost = "speech_extras_of_old.prompts"
[project.entry-points."alm_proxies.exports"]
pairs = "speech_extras.light:PAIRS"
"""
LIGHT = '''\
"""The modules of the package, without its requirements."""
from typing import Literal
from pydantic import BaseModel
from alm_proxies.engines.registry import EngineKind
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.read.settings import Reader, Source

class PipeSource(Source):
    """A text file with utterance|rater|label."""
    format: Literal["pipes"] = "pipes"
    """Text with pipes."""
    separator: str = "|"
    """What stands between the parts."""

class FirstServe(BaseModel):
    """It takes nothing."""

READER = Reader(PipeSource, "speech_extras.heavy:read_pipes")
ENGINE = EngineKind(FirstServe, "speech_extras.heavy:First")
PAIRS = Format("pairs", "two columns", "speech_extras.heavy:pairs", needs_audio=False)
'''
HEAVY = '''\
"""What the package does."""
from typing import ClassVar
import numpy as np
import polars as pl
from alm_proxies.engines.engine import Abilities, Reply
from alm_proxies.estimators.estimator import Estimator, Posterior
from alm_proxies.stages.read.sources import Part
from alm_proxies.stages.train.stage import Trained
from alm_proxies.tables import Findings

def read_pipes(source, vocabulary, card):
    rows = [line.split(source.separator) for line in source.source.read_text().split()]
    ids = [f"{source.corpus}/{row[0]}" for row in rows]
    heard = pl.DataFrame({"utterance_id": ids, "annotator": [f"{source.corpus}/{row[1]}" for row in rows],
                          "source": "human", "word": [row[2] for row in rows]})
    votes, findings = vocabulary.votes(heard, str(source.source))
    about = pl.DataFrame({"utterance_id": sorted(set(ids)), "corpus": source.corpus,
                          "audio": [f"{one.split('/')[1]}.wav" for one in sorted(set(ids))]})
    return Part(about, votes, (source.source,), findings, root=source.source.parent)

class Level(Estimator):
    """The same for every utterance."""
    name: ClassVar[str] = "level"

    def _learn(self, counts):
        self.shares_ = (counts.human.sum(0) + 1) / (counts.human.sum() + counts.human.shape[1])

    def posterior(self, counts):
        return Posterior(np.tile(self.shares_, (len(counts), 1)), np.full(len(counts), 3.0))

class First:
    """Always answers the first choice."""
    abilities = Abilities(engine="first", model="m", local=True)

    @classmethod
    async def open(cls, model, serve):
        return cls()

    async def ask(self, request):
        answer = request.questions[0].choices[0]
        return Reply(request.key, texts=(answer,) * len(request.seeds), finish=("stop",) * len(request.seeds))

    async def token_counts(self, texts):
        return tuple(1 for _ in texts)

    async def close(self):
        pass

def constant(labels, utterances, folder, settings, *, votes=None, quiet=False):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_text(f"{len(labels)} labels, seed {settings.seed}")
    return Trained(folder, pl.DataFrame(), Findings.gather([]))

def pairs(items, folder):
    items.frame.select("utterance_id", "label").write_csv(folder / "pairs.csv", include_header=False)
'''
PROMPT = """\
describes = "a shouted question"
elicits = "label"
after = '''WHICH EMOTION? {{ choices }}'''
"""
ANNOTATOR = 'name = "firsts"\nengine = "first"\nmodel = "m"\nprompt = "shout"\nvotes = 2\nanswer = "words"\n'


def install(target: Path, source: Path, name: str, points: str, files: dict[str, str]) -> None:
    """Build and install a package as a user would; nothing from the network."""
    module = name.replace("-", "_")
    for file, text in files.items():
        (source / module / file).parent.mkdir(parents=True, exist_ok=True)
        (source / module / file).write_text(text)
    (source / "pyproject.toml").write_text(PROJECT.format(name=name, module=module, points=points))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(target), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    files = {
        "__init__.py": "",
        "light.py": LIGHT,
        "heavy.py": HEAVY,
        "prompts/__init__.py": "",
        "prompts/shout.toml": PROMPT,
        "prompts/torn.toml": PROMPT.partition("after")[0],
    }
    install(target, tmp_path_factory.mktemp("source"), "speech-extras", POINTS, files)
    return target


def say(place: Path, packages: list[Path], *words: str) -> subprocess.CompletedProcess[str]:
    """One command in a separate process, with the installed packages."""
    paths = os.pathsep.join(map(str, [CHECKOUT, *packages]))
    script = "import sys; from alm_proxies.cli.app import run; sys.exit(run(sys.argv[1:]))"
    return Forked.done("-c", script, *words, cwd=place, environment={"PYTHONPATH": paths})


def test_everything_it_brings_is_listed_with_distribution_and_version_and_what_is_broken_is_one_line(
    extras: Path, tmp_path: Path
) -> None:
    done = say(tmp_path, [extras], "plugins", "--json")
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    theirs = {
        (kind, name)
        for kind, named in listed.items()
        for name, plugin in named.items()
        if (plugin["distribution"], plugin["version"]) == ("speech-extras", "1.2")
    }
    assert theirs == {
        ("readers", "pipes"), ("readers", "broken"), ("estimators", "level"), ("engines", "first"),
        ("prompts", "shout"), ("prompts", "torn"), ("prompts", "speech_extras_of_old.prompts"), ("exports", "pairs"),
        ("recipes", "constant"),
    }  # fmt: skip
    faults = {name: plugin["fault"] for named in listed.values() for name, plugin in named.items() if plugin["fault"]}
    assert set(faults) == {"broken", "torn", "speech_extras_of_old.prompts"}
    for_people = say(tmp_path, [extras], "plugins").stdout
    assert "pipes (speech-extras 1.2)" in for_people
    broken = [line for line in for_people.splitlines() if line.startswith("  wrong: ")]
    assert broken == [f"  wrong: {fault}" for fault in faults.values()]
    assert sum("cannot be loaded" in line for line in broken) == 2


def test_a_key_that_the_settings_of_an_engine_do_not_have_is_refused(extras: Path, tmp_path: Path) -> None:
    """Pydantic passes unknown keys over unless the class forbids them."""
    (tmp_path / "firsts.toml").write_text(f"{ANNOTATOR}\nserve = {{ wrong = 1 }}\n")
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").write_bytes(b"")
    words = ["annotate", "sounds", "--annotator", "firsts.toml", "--taxonomy", "happy,sad", "-o", "out"]
    done = say(tmp_path, [extras], *words)
    assert done.returncode == 2
    assert "serve: unknown key 'wrong'" in done.stderr


def test_they_work_like_ours_and_stand_in_the_provenance(extras: Path, tmp_path: Path) -> None:
    (tmp_path / "votes.txt").write_text("a;r1;happy\na;r2;sad\nb;r1;happy\nb;r2;happy\n")
    (tmp_path / "firsts.toml").write_text(ANNOTATOR)
    (tmp_path / "p.toml").write_text(
        'taxonomy = "happy,sad"\nfolder = "out"\n[[read]]\nformat = "pipes"\ncorpus = "c"\nsource = "votes.txt"\n'
        'separator = ";"\n[fuse]\nmethod = "level"\n[[export]]\nformat = "pairs"\n'
    )
    for words in (
        ["read", "pipes", "votes.txt", "--corpus", "c", "--separator", ";", "--taxonomy", "happy,sad", "-o", "read"],
        ["fuse", "read/votes.parquet", "--method", "level", "-o", "labels.parquet"],
        ["export", "labels.parquet", "--utterances", "read/utterances.parquet", "--format", "pairs", "-o", "pairs"],
        ["train", "labels.parquet", "--utterances", "read/utterances.parquet", "--recipe", "constant", "-o", "model"],
        ["run", "p.toml"],
    ):
        done = say(tmp_path, [extras], *words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "pairs" / "pairs.csv").read_text().split() == ["c/a,happy", "c/b,happy"]
    findings = json.loads(say(tmp_path, [extras], "findings", "model", "--json").stdout)["findings"]
    assert [(finding["kind"], finding["severity"]) for finding in findings] == [("no_model", "problem")]
    assert findings[0]["where"].endswith("model")
    for part in ("'constant' of speech-extras 1.2", "model.json"):
        assert part in findings[0]["message"]
    assert "speech_extras.heavy:constant" in findings[0]["fix"]
    assert (tmp_path / "model" / "model.txt").read_text() == "2 labels, seed 0"
    by_command, by_file = tmp_path / "read" / "votes.parquet", tmp_path / "out" / "read" / "votes.parquet"
    assert by_command.read_bytes() == by_file.read_bytes()
    plugged = {
        stage: json.loads((tmp_path / "out" / stage / "stage.json").read_text())["depends"].get("plugins")
        for stage in ("read", "fuse", "export/pairs")
    }
    assert {stage: {name: state.split(",")[0] for name, state in used.items()} for stage, used in plugged.items()} == {
        "read": {"readers pipes": "speech-extras 1.2"},
        "fuse": {"estimators level": "speech-extras 1.2"},
        "export/pairs": {"exports pairs": "speech-extras 1.2"},
    }
    assert "--separator" in say(tmp_path, [extras], "read", "pipes", "--help").stdout


def test_a_finished_stage_runs_again_when_their_code_changes_though_their_version_does_not(
    extras: Path, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    shutil.copytree(extras, packages)
    (tmp_path / "votes.txt").write_text("a|r1|happy\na|r2|sad\nb|r1|happy\n")
    (tmp_path / "p.toml").write_text(
        'taxonomy = "happy,sad"\nfolder = "out"\n[[read]]\nformat = "pipes"\ncorpus = "c"\nsource = "votes.txt"\n'
        '[fuse]\nmethod = "level"\n'
    )

    def concentration() -> float:
        done = say(tmp_path, [packages], "run", "p.toml")
        assert done.returncode == 0, done.stderr
        return float(Labels.read(tmp_path / "out" / "fuse" / "labels.parquet").frame["concentration"][0])

    assert concentration() == 3.0
    assert "2 unchanged" in say(tmp_path, [packages], "run", "p.toml").stdout
    code = packages / "speech_extras" / "heavy.py"
    code.write_text(code.read_text().replace("np.full(len(counts), 3.0)", "np.full(len(counts), 4.0)"))
    assert concentration() == 4.0


def test_an_engine_and_a_prompt_of_theirs_vote(extras: Path, tmp_path: Path) -> None:
    import numpy as np
    import polars as pl
    import soundfile

    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16_000) / 9), 16_000)
    pl.DataFrame({"utterance_id": ["c/a"], "corpus": "c", "audio": str(tmp_path / "a.wav")}).write_parquet(
        tmp_path / "u.parquet"
    )
    (tmp_path / "firsts.toml").write_text(ANNOTATOR)
    words = ["annotate", "u.parquet", "--annotator", "firsts.toml", "--taxonomy", "happy,sad", "-o", "out", "--json"]
    done = say(tmp_path, [extras], *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["votes"] == 2
    votes = pl.read_parquet(tmp_path / "out" / "votes.parquet")
    assert votes["label"].to_list() == ["happy", "happy"]


def test_a_broken_one_is_one_sentence_and_hurts_nothing_else(extras: Path, tmp_path: Path) -> None:
    (tmp_path / "votes.txt").write_text("a|r1|happy\n")
    done = say(tmp_path, [extras], "read", "broken", "votes.txt", "-o", "read")
    assert done.returncode == 2
    assert "the plug-in 'broken' of speech-extras 1.2 cannot be loaded" in done.stderr
    assert done.stderr.count("\n") == 1
    words = ["read", "pipes", "votes.txt", "--corpus", "c", "--taxonomy", "happy,sad", "-o", "read"]
    assert say(tmp_path, [extras], *words).returncode == 0


def test_one_that_ends_the_process_where_it_is_imported_is_one_line_too(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("ending")
    points = '[project.entry-points."alm_proxies.engines"]\nending = "ending_speech:E"\n'
    files = {"__init__.py": "raise SystemExit(3)\n"}
    install(target, tmp_path_factory.mktemp("source"), "ending-speech", points, files)
    done = say(tmp_path, [target], "plugins")
    assert done.returncode == 0
    assert len([line for line in done.stdout.splitlines() if "SystemExit: 3" in line]) == 1


def test_a_name_taken_twice_is_refused_with_both_distributions(
    extras: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("more")
    points = '[project.entry-points."alm_proxies.estimators"]\nlevel = "other_speech:X"\n'
    install(target, tmp_path_factory.mktemp("source"), "other-speech", points, {"__init__.py": "X = 1\n"})
    done = say(tmp_path, [extras, target], "fuse", "v.parquet", "--method", "level", "-o", "l.parquet")
    assert done.returncode == 2
    assert "speech-extras" in done.stderr
    assert "other-speech" in done.stderr
    assert done.stderr.count("\n") == 1


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, **modules: str) -> Path:
    """A package with these modules that can be imported."""
    place = folder / name
    place.mkdir()
    for module, text in {"__init__": "", **modules}.items():
        (place / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return place


def test_the_code_of_a_package_is_its_modules_without_hidden_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = package(tmp_path, monkeypatch, "speech_of_an_editor", heavy="x = 1\n")
    plugin = Plugin("estimators", "level", "speech_of_an_editor.heavy:Level", "speech-of-an-editor", "1")

    def state() -> str:
        package_digest.cache_clear()
        return plugin.state

    before = state()
    (place / ".#heavy.py").symlink_to("somebody@somewhere.1")  # the lock of an editor
    (place / ".ipynb_checkpoints").mkdir()
    (place / ".ipynb_checkpoints" / "heavy-checkpoint.py").write_text("x = 0\n")
    assert state() == before
    (place / "heavy.py").write_text("x = 2\n")
    assert state() != before


def test_a_writer_in_a_package_with_the_name_of_one_of_our_modules_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, monkeypatch, "manifests", pairs="def write(items, folder):\n    pass\n")
    assert Format("pairs", "two columns", "manifests.pairs:write").writer.__module__ == "manifests.pairs"


@pytest.mark.parametrize("kind", KINDS)
def test_ours_are_found_without_an_import_and_load(kind: str) -> None:
    ours = [plugin for plugin in plugins(kind).values() if not plugin.origin]
    assert ours
    for plugin in ours:
        if kind == "prompts":
            assert Path(plugin.target).is_file()
        else:
            assert plugin.load() is not None
