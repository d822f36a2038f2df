"""A plug-in with a mistake is refused in one sentence that names its package, and never called a defect of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.test_plugins import install, say

POINTS = """\
[project.entry-points."alm_proxies.readers"]
raises = "faulty_speech:RAISES"
columns = "faulty_speech:COLUMNS"
tuples = "faulty_speech:TUPLES"
without_ids = "faulty_speech:WITHOUT_IDS"
function = "faulty_speech:read_raises"
nowhere = "faulty_speech:NOWHERE"
[project.entry-points."alm_proxies.estimators"]
plain = "faulty_speech:Plain"
posterior = "faulty_speech:Odd"
learns = "faulty_speech:Learns"
[project.entry-points."alm_proxies.engines"]
away = "faulty_speech:AWAY"
mute = "faulty_speech:MUTE"
number = "faulty_speech:NUMBER"
closed = "faulty_speech:CLOSED"
raising = "faulty_speech:RAISING"
[project.entry-points."alm_proxies.recipes"]
none = "faulty_speech:train_none"
[project.entry-points."alm_proxies.exports"]
nothing = "faulty_speech:NOTHING"
one_module = "faulty_speech:ONE_MODULE"
"""
CODE = '''\
from typing import ClassVar
import numpy as np
import polars as pl
from pydantic import BaseModel
from alm_proxies.engines.engine import Abilities, Reply
from alm_proxies.engines.registry import EngineKind
from alm_proxies.estimators.estimator import Estimator, Posterior
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.read.settings import Reader, Source
from alm_proxies.stages.read.sources import Part

class Lines(Source):
    """A file."""
    format: str = "lines"

class Serve(BaseModel):
    """It takes nothing."""

def read_raises(source, vocabulary, card):
    return {}["emotion"]

def read_columns(source, vocabulary, card):
    return vocabulary.votes(pl.DataFrame({"utterance_id": ["a"], "label": ["sad"]}), "here")

def read_tuples(source, vocabulary, card):
    return (pl.DataFrame(), pl.DataFrame())

def read_without_ids(source, vocabulary, card):
    return Part(pl.DataFrame({"name": ["a"]}), pl.DataFrame({"utterance_id": ["a"]}), (source.source,), [])

class Plain:
    """Not an Estimator."""

class Learns(Estimator):
    name: ClassVar[str] = "learns"
    def _learn(self, counts):
        raise ZeroDivisionError("oops")
    def posterior(self, counts):
        return Posterior(np.zeros((0, 0)), np.zeros(0))

class Odd(Estimator):
    name: ClassVar[str] = "posterior"
    def _learn(self, counts):
        pass
    def posterior(self, counts):
        return Posterior(np.ones((len(counts), 1)), np.ones(len(counts)))

class Away:
    @classmethod
    async def open(cls, model, serve):
        raise ConnectionError("no service at 9000")

class Answering:
    abilities = Abilities(engine="answering", model="m", local=True)
    @classmethod
    async def open(cls, model, serve):
        return cls()
    async def token_counts(self, texts):
        return (1,) * len(texts)
    async def close(self):
        pass

class Mute(Answering):
    async def ask(self, request):
        return None

class Number(Answering):
    async def ask(self, request):
        return Reply(request.key, texts=(3,) * len(request.seeds), finish=("stop",) * len(request.seeds))

class Raising(Answering):
    async def ask(self, request):
        raise RuntimeError("no level of " + request.utterance_id)

class Closed(Answering):
    @classmethod
    async def open(cls, model, serve):
        return None

def train_none(labels, utterances, folder, settings, *, votes=None, quiet=False):
    return None

def nothing(items, folder):
    pass

def one_module(items, folder):
    (folder / "ids.txt").write_text("\\n".join(items.frame["utterance_id"]))

RAISES, COLUMNS, TUPLES, WITHOUT_IDS, NOWHERE = (
    Reader(Lines, f"faulty_speech:read_{name}") for name in ("raises", "columns", "tuples", "without_ids", "nowhere")
)
AWAY, MUTE, NUMBER, CLOSED, RAISING = (
    EngineKind(Serve, f"faulty_speech:{name}") for name in ("Away", "Mute", "Number", "Closed", "Raising")
)
NOTHING = Format("nothing", "nobody", "faulty_speech:nothing", needs_audio=False)
ONE_MODULE = Format("one_module", "anybody", "faulty_speech:one_module", needs_audio=False)
'''
ANNOTATOR = 'name = "a"\nengine = "{engine}"\nmodel = "m"\nprompt = "listener"\nanswer = "words"\n'


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    install(target, tmp_path_factory.mktemp("source"), "faulty-speech", POINTS, {"__init__.py": CODE})
    return target


@pytest.fixture(scope="module")
def made(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with votes, labels, and a recording."""
    import numpy as np
    import soundfile

    folder = tmp_path_factory.mktemp("made")
    soundfile.write(folder / "a.wav", 0.1 * np.sin(np.arange(16_000) / 9), 16_000)
    for engine in ("away", "mute", "number", "closed", "raising"):
        (folder / f"{engine}.toml").write_text(ANNOTATOR.format(engine=engine))
    (folder / "v.csv").write_text("clip,rater,heard\na,r1,happy\na,r2,sad\nb,r1,happy\n")
    words = ["--columns", "utterance_id=clip,annotator=rater,label=heard", "--corpus", "c", "--taxonomy", "happy,sad"]
    for call in (
        ["read", "table", "v.csv", *words, "--recordings", ".", "--max-left-out", "1", "-o", "c"],
        ["fuse", "c", "--method", "human", "-o", "labels.parquet"],
    ):
        done = say(folder, [faulty], *call)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "place"))


def line(text: str) -> str:
    """The place of a line of the package."""
    return f"faulty_speech/__init__.py, line {CODE.splitlines().index(text) + 1}: "


CALLS = '    return vocabulary.votes(pl.DataFrame({"utterance_id": ["a"], "label": ["sad"]}), "here")'
FAILED = "the plug-in package faulty-speech 1.2 failed: "
READ = ["v.csv", "--corpus", "c", "--taxonomy", "happy,sad", "-o", "out"]
FUSE = ["fuse", "c", "-o", "out.parquet", "--method"]
ANNOTATE = ["annotate", "c", "-o", "out", "--annotator"]
EXPORT = ["export", "labels.parquet", "--utterances", "c", "-o", "out", "--format"]
FAULTS = {
    "a reader raises": (
        ["read", "raises", *READ],
        [line('    return {}["emotion"]') + FAILED + "KeyError: 'emotion'."],
    ),
    "a reader gives ours the wrong columns": (
        ["read", "columns", *READ],
        [line(CALLS) + FAILED + "KeyError: 'word'."],
    ),
    "a reader gives no Part": (["read", "tuples", *READ], ["v.csv: its reader gave tuple, not Part(", "'tuples'"]),
    "a reader gives tables without ids": (
        ["read", "without_ids", *READ],
        ["the utterances that its reader gave have no column utterance_id: name."],
    ),
    "a reader is a function": (
        ["read", "function", *READ],
        ["the reader 'function' of faulty-speech 1.2 is a function, not a Reader.", "settings:Reader"],
    ),
    "a reader names no function": (
        ["read", "nowhere", *READ],
        ["'faulty_speech:read_nowhere', which cannot be loaded"],
    ),
    "an estimator is another class": (
        [*FUSE, "plain"],
        ["'plain' of faulty-speech 1.2 is the class Plain, not an Estimator class."],
    ),
    "an estimator raises": (
        [*FUSE, "learns"],
        [line('        raise ZeroDivisionError("oops")') + FAILED + "ZeroDivisionError: oops."],
    ),
    "an estimator gives another shape": (
        [*FUSE, "posterior"],
        ["the estimator 'posterior': posterior() gave a mean of shape (2, 1)", "not (2, 2) (utterances, labels)"],
    ),
    "an engine's server is away": (
        [*ANNOTATE, "away.toml"],
        [line('        raise ConnectionError("no service at 9000")') + FAILED + "ConnectionError: no service at 9000."],
    ),
    "an engine raises on every recording": (
        [*ANNOTATE, "raising.toml"],
        [
            line('        raise RuntimeError("no level of " + request.utterance_id)')
            + FAILED
            + "RuntimeError: no level of c/a; "
        ],
    ),
    "an engine gives no reply": ([*ANNOTATE, "mute.toml"], ["the engine 'mute': ask() gave NoneType for 'c/a'; "]),
    "an engine gives a number": (
        [*ANNOTATE, "number.toml"],
        ["the engine 'number': ask() gave the answer 3 for 'c/a', which is no text; "],
    ),
    "an engine is none": ([*ANNOTATE, "closed.toml"], ["the engine 'closed': open() gave NoneType, which has no"]),
    "a recipe gives nothing": (
        ["train", "labels.parquet", "--utterances", "c", "-o", "out", "--recipe", "none"],
        ["the recipe 'none': it gave NoneType, not Trained(folder, epochs, findings)."],
    ),
    "an export writes no file": ([*EXPORT, "nothing"], ["the function faulty_speech:nothing wrote no file."]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_its_fault_is_one_sentence_with_its_name(fault: str, faulty: Path, place: Path) -> None:
    words, expected = FAULTS[fault]
    done = say(place, [faulty], *words, "--quiet")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in expected), done.stderr
    assert "defect" not in done.stderr
    assert not (place / "out").exists() or "annotate" in words


def test_the_traceback_of_its_fault_is_shown_on_request(faulty: Path, place: Path) -> None:
    done = say(place, [faulty], *FAULTS["a reader raises"][0], "--debug")
    assert 'return {}["emotion"]' in done.stderr
    assert done.returncode == 2


def test_an_export_of_a_package_that_is_one_module_is_found(faulty: Path, place: Path) -> None:
    done = say(place, [faulty], *EXPORT, "one_module", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (place / "out" / "ids.txt").read_text().split() == ["c/a", "c/b"]
