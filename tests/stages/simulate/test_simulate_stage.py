from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from forked import Forked
from pydantic import ValidationError

from alm_proxies.audio.features import measure_all
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.errors import InputError
from alm_proxies.stages.simulate.cues import CUES
from alm_proxies.stages.simulate.listeners import true_distribution
from alm_proxies.stages.simulate.stage import Corpus, SimulateSettings, simulate
from alm_proxies.tables import Labels, Utterances, Votes

SMALL = SimulateSettings(utterances=30, seed=4, speakers=12, dense=10)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes; the utterances without the folder's own name, which their roots hold."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(folder.resolve()).encode(), b"ROOT")
        for path in files
        if path.name != "utterances.parquet"
    }


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus]:
    folder = tmp_path_factory.mktemp("corpus")
    return folder, simulate(folder, SMALL, workers=1, quiet=True)


def test_what_is_written_can_be_read_and_is_what_was_returned(simulated: tuple[Path, Corpus]) -> None:
    folder, corpus = simulated
    utterances = Utterances.read(folder / "utterances.parquet")
    assert utterances.frame.equals(corpus.utterances.frame)
    assert (
        Votes.read(folder / "votes.parquet")
        .frame.sort("utterance_id", "annotator")
        .equals(corpus.votes.frame.sort("utterance_id", "annotator"))
    )
    truth = Labels.read(folder / "truth.parquet")
    assert truth.frame.equals(corpus.truth.frame)
    assert truth.taxonomy == corpus.votes.taxonomy
    assert truth.frame["concentration"].null_count() == 30
    assert utterances.about.made_by is not None
    assert utterances.about.made_by.stage == "simulate"
    assert utterances.group_columns == []
    assert len(corpus.findings) == 0


def test_every_utterance_has_its_sound_under_the_root(simulated: tuple[Path, Corpus]) -> None:
    folder, corpus = simulated
    frame = corpus.utterances.frame
    assert frame["utterance_id"].to_list() == [f"sim/{n:06d}" for n in range(1, 31)]
    for audio, duration in frame.select("audio", "duration").iter_rows():
        info = soundfile.info(Path(corpus.utterances.about.roots["sim"]) / audio)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.duration == pytest.approx(duration)
    assert len(list((folder / "wav").iterdir())) == 30


def test_truth_is_the_documented_function_of_the_stored_parameters(simulated: tuple[Path, Corpus]) -> None:
    folder, corpus = simulated
    parameters = pl.read_parquet(folder / "parameters.parquet")
    assert parameters["utterance_id"].equals(corpus.truth.frame["utterance_id"])
    assert np.allclose(true_distribution(parameters.select(CUES).to_numpy()), corpus.truth.distributions())


def test_no_speaker_is_in_two_splits(simulated: tuple[Path, Corpus]) -> None:
    frame = simulated[1].utterances.frame
    assert frame.group_by("speaker").agg(pl.col("split").n_unique())["split"].max() == 1
    assert set(frame["split"]) == {"train", "development", "test"}


def test_dense_votes_are_held_out_and_the_few_are_not(simulated: tuple[Path, Corpus]) -> None:
    counts = simulated[1].votes.frame.group_by("utterance_id", "held_out").len()
    assert counts.filter("held_out")["len"].unique().to_list() == [10]
    assert counts.filter(~pl.col("held_out"))["len"].is_between(3, 5).all()


def test_the_same_settings_give_the_same_bytes_for_any_number_of_workers(
    simulated: tuple[Path, Corpus], tmp_path: Path
) -> None:
    corpus = simulate(tmp_path, SMALL, workers=5, quiet=True)
    assert contents(tmp_path) == contents(simulated[0])
    assert corpus.utterances.frame.equals(simulated[1].utterances.frame)


def test_another_seed_is_another_corpus_of_the_same_people(simulated: tuple[Path, Corpus], tmp_path: Path) -> None:
    other = simulate(tmp_path, SMALL.model_copy(update={"seed": 5}), quiet=True)
    assert not set(contents(tmp_path).values()) & set(contents(simulated[0]).values())
    assert set(other.utterances.frame["speaker"]) <= {f"sim/s{n:03d}" for n in range(1, 13)}


def test_a_corpus_cut_short_is_finished_with_the_same_bytes(simulated: tuple[Path, Corpus], tmp_path: Path) -> None:
    simulate(tmp_path, SMALL, quiet=True)
    (tmp_path / "truth.parquet").unlink()
    (tmp_path / "wav" / "000003.wav").unlink()
    broken = tmp_path / "wav" / "000007.wav"
    broken.write_bytes(broken.read_bytes()[:999])
    (tmp_path / "wav" / "000008.wav").write_bytes(b"")
    (tmp_path / "wav" / ".000009.wav.x.part").write_bytes(b"half")
    corpus = simulate(tmp_path, SMALL, quiet=True)
    assert contents(tmp_path) == contents(simulated[0])
    assert corpus.findings.counts() == {"kept": 27}


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(simulated: tuple[Path, Corpus], tmp_path: Path) -> None:
    code = (
        "import sys; from alm_proxies.stages.simulate.stage import *;"
        "simulate(sys.argv[1], SimulateSettings.model_validate_json(sys.argv[2]), workers=1)"
    )
    with Forked("-c", code, tmp_path, SMALL.model_dump_json()) as process:
        while process.poll() is None and len(list(tmp_path.glob("wav/*.wav"))) < 3:
            pass
        process.kill()
    written = len(list(tmp_path.glob("wav/*.wav")))
    assert written >= 3
    corpus = simulate(tmp_path, SMALL, quiet=True)
    assert corpus.findings.counts() == {"kept": written}
    assert contents(tmp_path) == contents(simulated[0])


def test_other_settings_replace_a_corpus_as_a_whole(tmp_path: Path) -> None:
    simulate(tmp_path, SimulateSettings(utterances=8, speakers=12), quiet=True)
    corpus = simulate(tmp_path, SimulateSettings(utterances=5, speakers=12, seed=1), quiet=True)
    assert len(list((tmp_path / "wav").iterdir())) == len(corpus.utterances) == 5
    assert len(corpus.findings) == 0


def test_a_folder_with_a_strangers_corpus_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "votes.parquet").write_bytes(b"precious")
    with pytest.raises(InputError, match="Choose another folder"):
        simulate(tmp_path, SMALL, quiet=True)
    assert (tmp_path / "votes.parquet").read_bytes() == b"precious"


def test_other_crowds_and_corpora_share_no_names(simulated: tuple[Path, Corpus], tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"crowd": 2, "corpus": "sim2"})
    other = simulate(tmp_path, settings, quiet=True)
    for column in ("utterance_id", "speaker", "dialogue"):
        assert not set(other.utterances.frame[column]) & set(simulated[1].utterances.frame[column])
    assert not set(other.votes.frame["annotator"]) & set(simulated[1].votes.frame["annotator"])
    assert other.utterances.frame["utterance_id"].str.starts_with("sim2/").all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"votes": (5, 3)}, "lowest number first"),
        ({"dense": 76}, "80 listeners"),
        ({"utterances": 0}, "greater than or equal to 1"),
        ({"speakers": 13}, "multiple of 2"),
        ({"corpus": "a/b"}, "pattern"),
        ({"speaker": 60}, "not permitted"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SimulateSettings.model_validate(wrong)


def copies(corpus: Corpus, effects: dict[str, list[tuple[str, dict[str, object]]]]) -> Utterances:
    rows = [
        {
            "utterance_id": f"sim/000002#{name}",
            "recipe": Recipe(parents=(("sim/000002", 1.0),), effects=tuple(done), seed=1).written(),
        }
        for name, done in effects.items()
    ]
    frame = pl.concat([corpus.utterances.frame, pl.DataFrame(rows)], how="diagonal")
    return Utterances.of(frame, about=corpus.utterances.about)


def test_copies_sound_as_their_cues_say(simulated: tuple[Path, Corpus]) -> None:
    table = copies(
        simulated[1],
        {
            "up": [("pitch", {"semitones": 3.0})],
            "loud": [("gain", {"decibels": -6.0})],
            "slow": [("speed", {"factor": 0.8})],
        },
    )
    sounds = Sounds(table, stage="test")
    ids = ["sim/000002", "sim/000002#up", "sim/000002#loud", "sim/000002#slow"]
    frame = measure_all(ids, sounds.open, stage="test", groups=("prosody",)).frame
    plain, up, loud, slow = frame.iter_rows(named=True)
    assert up["pitch_level"] - plain["pitch_level"] == pytest.approx(3.0, abs=0.6)
    assert loud["energy_level"] - plain["energy_level"] == pytest.approx(-6.0, abs=0.5)
    lengths = {name: len(opened.clip.samples) for name in ids if (opened := sounds.open(name)).clip is not None}
    assert lengths["sim/000002#slow"] / lengths["sim/000002"] == pytest.approx(1 / 0.8, rel=0.02)
    assert slow["pitch_level"] - plain["pitch_level"] == pytest.approx(0.0, abs=0.6)


def test_importing_the_stage_loads_nothing_heavy() -> None:
    code = (
        "import sys, alm_proxies.stages.simulate.stage;"
        "print([m for m in ('scipy', 'librosa', 'soundfile', 'torch', 'sklearn', 'altair') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
