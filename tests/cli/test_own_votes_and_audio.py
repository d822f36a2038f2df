"""Votes and recordings of a user's own, as a user would try it: a second modality as proxy, sound elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.cli.app import run
from alm_proxies.tables import Labels, Utterances

CLIPS = [f"{actor}_{sentence}_ANG_XX" for actor in range(1001, 1009) for sentence in ("IEO", "TIE", "IOM", "IWW")]
MODALITIES = {"1": "voice", "2": "face"}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Votes on voice and face in the shape of CREMA-D; the faces agree with the voices."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    rows = ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"']
    for number, clip in enumerate(CLIPS):
        truth = rng.dirichlet([0.3] * 6)
        for modality, votes in (("1", 4), ("2", 10)):
            counts = ",".join(map(str, rng.multinomial(votes, truth)))
            rows.append(f'"{modality}{number:05}",{counts},"{clip}",{votes},0.5,"A"')
    (tmp_path / "CREMA-D").mkdir()
    (tmp_path / "CREMA-D" / "tabulatedVotes.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_second_modality_is_read_as_a_proxy_by_commands(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = ["read", "crema_d", "CREMA-D", "--quiet"]
    assert run([*read, "-o", "voice", "--hold-out", "keep=1"]) == 0
    assert run([*read, "-o", "face", "--modality", "face"]) == 0
    both = ["fuse", "voice/votes.parquet", "face/votes.parquet", "--method", "pool", "-o", "labels.parquet", "--quiet"]
    assert run(both) == 2
    assert "are read as a proxy: --as proxy:NAME" in capsys.readouterr().err
    assert run([*read, "-o", "face", "--modality", "face", "--as", "proxy:face"]) == 2
    assert "was 'face' trained on human votes" in capsys.readouterr().err
    assert run([*read, "-o", "face", "--modality", "face", "--as", "proxy:face", "--trained-on-these-votes", "no"]) == 0
    assert run(both) == 0
    labels = Labels.read("labels.parquet").frame
    assert set(labels["proxy_votes"]) == {10.0}
    assert set(labels["human_votes"]) == {1.0}


PIPELINE = """\
taxonomy = "crema6"
folder = "out"
[[read]]
format = "crema_d"
source = "CREMA-D"
[[read]]
format = "crema_d"
source = "CREMA-D"
modality = "face"
AS
[hold_out]
keep = 1
[fuse]
method = "pool"
[align]
"""


def test_a_second_modality_is_read_as_a_proxy_in_one_pipeline(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus / "two.toml"
    path.write_text(PIPELINE.replace("AS", ""))
    assert run(["check", "two.toml"]) == 2
    assert 'read another modality of the corpus as a proxy: as = "proxy:NAME"' in capsys.readouterr().err
    path.write_text(PIPELINE.replace("AS", 'as = "proxy:face"\ntrained_on_these_votes = "no"'))
    assert run(["check", "two.toml", "--quiet"]) == 0
    assert run(["run", "two.toml", "--quiet"]) == 0
    assert set(Labels.read("out/fuse/labels.parquet").frame["proxy_votes"]) == {10.0}


def table(folder: Path, sound: str | None) -> None:
    head = "clip,rater,heard" + (",sound" if sound else "")
    rows = [f"c{clip},r{rater},happy" + (f",{sound}" if sound else "") for clip in range(4) for rater in range(2)]
    (folder / "votes.csv").write_text("\n".join([head, *rows]))


READ = ["read", "table", "votes.csv", "--corpus", "mine", "--taxonomy", "crema6", "--quiet", "-o", "mine"]
COLUMNS = "utterance_id=clip,annotator=rater,label=heard"
ASK = ["annotate", "mine/utterances.parquet", "--annotator", "quiet.toml", "-o", "proxies", "--quiet"]


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An annotator that would answer, if there were anything to hear."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.csv").write_text("utterance_id,text\nmine/c0,happy\n")
    (tmp_path / "quiet.toml").write_text(
        'name = "quiet"\nengine = "scripted"\nmodel = "m"\nprompt = "reference"\nvotes = 3\nanswer = "words"\n'
        'serve = { answers = "answers.csv" }\n'
    )
    return tmp_path


@pytest.mark.parametrize("sound", [None, "gone.wav"])
def test_no_vote_because_every_recording_is_missing_is_exit_1(
    sound: str | None, quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(quiet, sound)
    assert run([*READ, "--columns", COLUMNS + (",audio=sound" if sound else "")]) == 0
    capsys.readouterr()
    assert run(ASK) == 1
    out = capsys.readouterr().out
    assert "(12 of 12 votes left out)" in out
    if sound is None:
        assert out.startswith("0 of 0 votes cast, 0 of them now, 0.00 spent, 12 more impossible without a")
    assert run([*ASK, "--max-left-out", "1"]) == 0


def test_utterances_without_a_recording_count_as_left_out_unless_it_is_a_pilot(
    quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (quiet / "sounds").mkdir()
    tone = 0.3 * np.sin(np.arange(16_000) * 0.05)
    for clip in range(2):
        soundfile.write(quiet / "sounds" / f"c{clip}.wav", tone, 16_000)
    (quiet / "answers.csv").write_text("utterance_id,text\n" + "".join(f"mine/c{clip},happy\n" for clip in range(4)))
    table(quiet, None)
    assert run([*READ, "--columns", COLUMNS, "--recordings", "sounds"]) == 0
    utterances = Utterances.read("mine/utterances.parquet")
    assert utterances.about.roots == {"mine": str(quiet / "sounds")}
    assert utterances.frame.sort("utterance_id")["audio"].to_list() == ["c0.wav", "c1.wav", None, None]
    pilot = [*ASK, "--limit", "1"]
    assert run(pilot) == 0
    capsys.readouterr()
    assert run(ASK) == 1
    assert (
        "6 of 6 votes cast, 3 of them now, 0.00 spent, 6 more impossible without a recording" in capsys.readouterr().out
    )
    assert pl.read_parquet("proxies/votes.parquet")["label"].to_list() == ["happy"] * 6
