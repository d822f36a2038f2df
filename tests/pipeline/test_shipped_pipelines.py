"""The pipelines that are shipped for real corpora: check passes on made-up trees, CREMA-D runs to the end."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.cli.app import run as command
from alm_proxies.files import shipped_folder
from alm_proxies.pipeline.check import check
from alm_proxies.tables import Labels, Votes
from tests.stages.read.corpora import PLAIN_LINES, iemocap, plain_msp_podcast, sound

ACTORS = 12
CLIPS = 24


def made_up_crema_d(folder: Path) -> Path:
    """Votes and recordings in the shape of CREMA-D."""
    rows = ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"']
    rng = np.random.default_rng(0)
    (folder / "AudioWAV").mkdir(parents=True)
    for actor in range(1001, 1011):
        for number, sentence in enumerate(("IEO", "TIE", "IOM", "IWW")):
            counts = ",".join(map(str, rng.multinomial(6, [1 / 6] * 6)))
            rows.append(f'"1{actor % 1000:04}{number}",{counts},"{actor}_{sentence}_ANG_XX",6,0.5,"A"')
            soundfile.write(folder / "AudioWAV" / f"{actor}_{sentence}_ANG_XX.wav", rng.normal(0, 0.1, 8_000), 16_000)
    (folder / "tabulatedVotes.csv").write_text("\n".join(rows) + "\n")
    return folder


def made_up_iemocap(folder: Path) -> Path:
    """A dialogue of each of the five sessions."""
    return iemocap(
        folder,
        {
            f"Ses0{session}F_impro01": [
                (f"Ses0{session}F_impro01_{side}{turn:03d}", "xxx", PLAIN_LINES) for side in "FM" for turn in range(2)
            ]
            for session in range(1, 6)
        },
    )


def made_up_msp_podcast(folder: Path) -> Path:
    """Eight clips, some of them in each of the splits."""
    plain_msp_podcast(folder)
    splits = ("Train", "Train", "Development", "Test1", "Test2", "Train", "Train", "Test1")
    rows = [f"{split}; MSP-PODCAST_0001_{clip:04d}.wav" for clip, split in enumerate(splits)]
    (folder / "Partitions.txt").write_text("\n".join(rows) + "\n")
    for clip in range(len(splits)):
        sound(folder / "Audios" / f"MSP-PODCAST_0001_{clip:04d}.wav")
    return folder


TREES: dict[str, Callable[[Path], Path]] = {
    "crema_d": made_up_crema_d,
    "iemocap": made_up_iemocap,
    "msp_podcast": made_up_msp_podcast,
}


def test_every_shipped_pipeline_of_a_corpus_is_tried_here() -> None:
    shipped = {path.stem for path in shipped_folder("pipelines").glob("*.toml")}
    assert shipped - {"demo", "embedded"} >= set(TREES)


@pytest.mark.parametrize("name", TREES)
def test_check_passes_on_a_made_up_tree(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree = TREES[name](tmp_path / "corpus")
    found = check(name, changes={"read.source": str(tree.relative_to(tmp_path))})
    assert found.problems == ()
    assert any("recordings are present and complete" in fact for fact in found.facts), found.facts
    assert any("are held out" in fact for fact in found.facts)


@pytest.mark.parametrize("name", TREES)
def test_a_corpus_that_is_not_there_is_one_problem(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (problem,) = check(name).problems
    assert str(tmp_path) in problem


@pytest.fixture(scope="module")
def part_of_crema_d(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """A dozen actors of the real corpus with two dozen clips each."""
    folder = tmp_path_factory.mktemp("corpus") / "CREMA-D"
    (folder / "AudioWAV").mkdir(parents=True)
    there = {path.stem: path for path in sorted((test_data / "crema_d" / "AudioWAV").iterdir())}
    actors = sorted({stem[:4] for stem in there})[:ACTORS]
    chosen = {stem for actor in actors for stem in [one for one in there if one.startswith(actor)][:CLIPS]}
    for stem in chosen:
        (folder / "AudioWAV" / there[stem].name).symlink_to(there[stem])
    with (test_data / "crema_d" / "tabulatedVotes.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    place = rows[0].index("fileName")
    with (folder / "tabulatedVotes.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([rows[0], *(row for row in rows[1:] if row[place] in chosen)])
    return folder


def test_crema_d_runs_from_its_votes_to_an_export(
    part_of_crema_d: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(part_of_crema_d.parent)
    assert command(["run", "crema_d", "--quiet"]) == 0, capsys.readouterr().err
    out = Path("runs/crema_d")
    votes = Votes.read(out / "read" / "votes.parquet").frame
    assert votes.filter(~pl.col("held_out")).group_by("utterance_id").len()["len"].max() == 3
    labels = Labels.read(out / "fuse" / "labels.parquet").frame
    assert labels.height == ACTORS * CLIPS
    assert labels["proxy_votes"].max() == 1.0
    metrics = json.loads((out / "evaluate" / "metrics.json").read_text())
    assert "prosody" in json.dumps(metrics)
    assert (out / "align" / "report.html").exists()
    assert {path.name for path in (out / "export").iterdir()} == {"huggingface", "labels"}
    capsys.readouterr()
    assert command(["run", "crema_d", "--quiet"]) == 0
    assert " 0 stages done, " in f" {capsys.readouterr().out}"
