"""Every reader, on its made-up trees with one file damaged: a corpus with findings, or one sentence with a fix."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alm_proxies.audio.folder import SOUNDS
from alm_proxies.errors import AlmProxiesError
from alm_proxies.finding_kinds import KINDS
from alm_proxies.stages.read.stage import Corpus, ReadSettings, Source, read
from tests.stages.read.audformat_trees import rated
from tests.stages.read.corpora import (
    damaged,
    emodb,
    label_studio,
    msp_improv,
    msp_podcast,
    plain_iemocap,
    ravdess,
)
from tests.stages.read.more_corpora import dusha, emotionlines
from tests.stages.read.test_every_reader import READERS, SAMPLES, _source, settings_of

TIMES = 3
"""Damages of each kind to each file."""
SCALES = {"valence": [1, 7], "dominance": [1, 7]}
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_WORD = re.compile(rb"[A-Za-z]{2,}")
_ODD = (b"", b"nan", b"-1", b"1e999", b"99999999999999999999", b"inf", b"\xff", b"\0", b'"', b"{", b"[]", b"null",
        b"true", b"\xe4", b"\t", b";", b"../..", b"\\ud800", b"0.5.5")  # fmt: skip


def _lines(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    place = int(rng.integers(0, len(lines)))
    action = int(rng.integers(0, 4))
    if action == 0:
        del lines[place]
    elif action == 1:
        lines.insert(place, lines[int(rng.integers(0, len(lines)))])
    elif action == 2:
        lines = [lines[index] for index in rng.permutation(len(lines))]
    else:
        lines[place] = lines[place][: int(rng.integers(0, len(lines[place]) + 1))]
    return b"\n".join(lines)


def _replaced(pattern: re.Pattern[bytes], content: bytes, rng: np.random.Generator) -> bytes:
    places = list(pattern.finditer(content))
    if not places:
        return content + b"?"
    match = places[int(rng.integers(0, len(places)))]
    return content[: match.start()] + _ODD[int(rng.integers(0, len(_ODD)))] + content[match.end() :]


DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "bytes": lambda content, rng: damaged(content, rng, 6) if len(content) > 2 else b"\xfe",
    "noise": lambda content, rng: rng.bytes(int(rng.integers(0, 200))),
    "lines": _lines,
    "numbers": lambda content, rng: _replaced(_NUMBER, content, rng),
    "words": lambda content, rng: _replaced(_WORD, content, rng),
    "encoding": lambda content, rng: (
        content.decode("utf-8", "replace").encode("utf-16")
        if rng.integers(0, 2)
        else b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    ),
}


def _msp(shape: str) -> Callable[[Path], Source]:
    return lambda folder: _source({"format": "msp_podcast", "source": msp_podcast(folder, shape)})


def _audformat(storage: str) -> Callable[[Path], Source]:
    def source(folder: Path) -> Source:
        audformat = pytest.importorskip("audformat", reason="audformat is a development dependency")
        return _source({"format": "audformat", "source": rated(audformat, folder, storage), "corpus": "mine"})

    return source


def _crema_d(folder: Path) -> Source:
    head = (
        '"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum","subType","clipName",'
        '"sessionNums","respEmo","respLevel","dispEmo","dispVal","dispLevel"'
    )
    rows = [
        f'"{n}","SSI_{n}",217,"{"ADFHNS"[n]}_{n}0","-12",1,0,7,{n},4,"1001_IEO_NEU_XX",44,"A","{n}0","N",50,"X"'
        for n in range(6)
    ]
    (folder / "finishedResponses.csv").write_text("\n".join([head, *rows]))
    clicks = '"","localid","sessionNums","queryType","questNum","pos","ttr","numTries","clipNum","clipName"\n'
    (folder / "finishedEmoResponses.csv").write_text(clicks + '"1","SSI_1",44,1,1,1,"10001",0,7,"x"\n')
    people = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
    (folder / "VideoDemographics.csv").write_text(people)
    return _source({"format": "crema_d", "source": folder})


TREES: dict[str, Callable[[Path], Source]] = {
    **SAMPLES,
    "iemocap, several turns": lambda folder: _source({"format": "iemocap", "source": plain_iemocap(folder)}),
    "crema_d, finishedResponses": _crema_d,
    **{f"msp_podcast {shape}": _msp(shape) for shape in ("1.6", "1.11", "2.0", "txt", "json", "json 1.6")},
    "emodb, odd rows": lambda folder: _source({"format": "emodb", "source": emodb(folder)}),
    "ravdess": lambda folder: _source({"format": "ravdess", "source": ravdess(folder)}),
    "msp_improv, odd rows": lambda folder: _source({"format": "msp_improv", "source": msp_improv(folder)}),
    "label_studio, odd tasks": lambda folder: _source(
        {"format": "label_studio", "source": label_studio(folder), "corpus": "mine", "scales": SCALES}
    ),
    "emotionlines, odd lines": lambda folder: _source({"format": "emotionlines", "source": emotionlines(folder)}),
    "dusha, control tasks": lambda folder: _source({"format": "dusha", "source": dusha(folder)}),
    "audformat csv": _audformat("csv"),
    "audformat parquet": _audformat("parquet"),
}


def test_every_reader_has_a_tree() -> None:
    assert {name.split(",")[0].split(" ")[0] for name in TREES} == set(READERS)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", sorted(TREES))
def test_a_damaged_file_gives_findings_or_one_sentence_with_a_fix(name: str, tmp_path: Path) -> None:
    source = TREES[name](tmp_path)
    settings = settings_of(source.format)
    whole = read(source, settings)
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.suffix.lower() not in SOUNDS]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noticed = not files
    for path in files:
        content = path.read_bytes()
        for damage in DAMAGES.values():
            for _ in range(TIMES):
                path.write_bytes(damage(content, rng))
                corpus = _outcome(source, settings)
                noticed |= corpus is None or corpus.findings.counts() != whole.findings.counts()
        path.write_bytes(content)
    assert noticed
    assert read(source, settings).votes.content_digest() == whole.votes.content_digest()


def _outcome(source: Source, settings: ReadSettings) -> Corpus | None:
    """The corpus, all of whose findings are of a known kind; None where the source is refused as it should be."""
    try:
        corpus = read(source, settings)
    except AlmProxiesError as error:
        refused = error
    else:
        assert set(corpus.findings.counts()) <= set(KINDS)
        return corpus
    assert refused.fix, refused
    assert "\n" not in str(refused), refused
    return None
