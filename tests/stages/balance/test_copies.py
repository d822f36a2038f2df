"""Whole copies come within a point of the wanted shares; every copy beyond the first is augmented and can be heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.audio.effects import EFFECTS
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.audio.strength import EMOTIONAL, effect_at
from alm_proxies.errors import InputError
from alm_proxies.measures.divergence import jsd_nats
from alm_proxies.stages.balance.settings import BalanceSettings, Copies
from alm_proxies.stages.balance.stage import Balanced, balance
from alm_proxies.stages.simulate.cues import CUES
from alm_proxies.stages.simulate.dialogues import turns_of
from alm_proxies.stages.simulate.listeners import true_distribution
from alm_proxies.stages.simulate.speakers import speaker
from alm_proxies.tables import About, Labels, Utterances

LABELS = ("angry", "happy", "neutral", "sad")
COUNT = 600
MANY = BalanceSettings(copies=Copies(size=1.5))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Labels, Utterances]:
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(3)
    for number in range(8):
        soundfile.write(root / f"{number}.wav", rng.normal(0, 0.05, 6400), 16_000)
    shares = rng.dirichlet(np.array([0.5, 0.4, 1.6, 0.7]), COUNT) ** rng.choice([0.4, 1.0, 2.0], COUNT)[:, None]
    shares /= shares.sum(1, keepdims=True)
    ids = [f"made/u{number:04d}" for number in range(COUNT)]
    speakers = rng.integers(0, 20, COUNT)
    about = pl.DataFrame(
        {
            "utterance_id": ids,
            "corpus": "made",
            "audio": [f"{number % 8}.wav" for number in range(COUNT)],
            "start": 0.1,
            "end": 0.4,
            "speaker": [f"made/s{speaker}" for speaker in speakers],
            "gender": np.where(speakers % 2, "female", "male"),
            "transcript": [f"sentence {number}" for number in range(COUNT)],
            "split": np.where(speakers < 14, "train", "test"),
        }
    )
    frame = pl.DataFrame({"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}})
    return Labels.of(frame, taxonomy=LABELS), Utterances.of(about, about=About(roots={"made": str(root)}))


@pytest.fixture(scope="module")
def many(corpus: tuple[Labels, Utterances], tmp_path_factory: pytest.TempPathFactory) -> tuple[Balanced, Path]:
    """Copies of the corpus, and their folder."""
    folder = tmp_path_factory.mktemp("many")
    return balance(*corpus, folder, MANY), folder


def copies_of(balanced: Balanced) -> pl.DataFrame:
    return balanced.utterances.frame.filter(pl.col("recipe").is_not_null())


def test_copies_are_within_a_point_of_every_wanted_share(
    corpus: tuple[Labels, Utterances], many: tuple[Balanced, Path]
) -> None:
    balanced, folder = many
    rows = balanced.labels.frame.join(balanced.utterances.frame, on="utterance_id").filter(pl.col("split") == "train")
    assert rows["weight"].unique().to_list() == [1.0]
    assert balanced.metrics["copies"]["items"] == len(rows)
    assert abs(len(rows) - 1.5 * balanced.metrics["utterances"]) <= 1
    reached = rows.select(f"p_{label}" for label in LABELS).to_numpy().mean(0)
    np.testing.assert_allclose(reached, 0.25, atol=0.01)
    before = corpus[1].frame.filter(pl.col("split") == "train")["gender"].value_counts(normalize=True)
    after = rows["gender"].value_counts(normalize=True)
    both = before.join(after, on="gender")
    assert (both["proportion"] - both["proportion_right"]).abs().max() <= 0.01
    worst = balanced.metrics["copies"]["worst_error"]
    copied, wanted = balanced.metrics["copies"]["shares"], balanced.metrics["shares"]
    away = [abs(share["after"] - wish["wanted"]) for share, wish in zip(copied, wanted, strict=True)]
    assert worst == pytest.approx(max(away))
    assert worst <= 0.01
    assert "copies_off_target" not in balanced.findings.counts()
    assert balanced.metrics["copies"]["worst"] in (folder / "report.html").read_text(encoding="utf-8")


def test_every_copy_beyond_the_first_has_an_effect_and_its_parents_speaker_words_and_target(
    corpus: tuple[Labels, Utterances], many: tuple[Balanced, Path]
) -> None:
    balanced, _ = many
    copies = copies_of(balanced)
    assert copies.height == balanced.metrics["copies"]["augmented"] > 200
    parents = {row["utterance_id"]: row for row in corpus[1].frame.iter_rows(named=True)}
    target = dict(zip(balanced.labels.frame["utterance_id"], balanced.labels.distributions(), strict=True))
    used = set()
    for row in copies.iter_rows(named=True):
        recipe = Recipe.read(row["recipe"])
        ((parent, share),) = recipe.parents
        ((effect, _),) = recipe.effects
        used.add(effect)
        assert share == 1.0
        assert row["audio"] is None
        assert row["duration"] == pytest.approx(0.3)
        assert parents[parent]["split"] == "train"
        for column in ("speaker", "gender", "transcript", "split"):
            assert row[column] == parents[parent][column]
        assert (target[row["utterance_id"]] == target[parent]).all()
    assert used == set(Copies().effects)
    assert "effect_changes_emotion" not in balanced.findings.counts()


@pytest.mark.parametrize("effect", ["shift", "telephone"])
def test_no_two_copies_of_an_utterance_get_the_same_effect(
    corpus: tuple[Labels, Utterances], tmp_path: Path, effect: Any
) -> None:
    frame = corpus[1].frame.with_columns(split=pl.when(pl.int_range(pl.len()) < 60).then("split"))
    frame = frame.filter(pl.col("split") == "train")
    settings = BalanceSettings(copies=Copies(size=6, effects=(effect,)), classes="keep", examples=0)
    copies = copies_of(balance(corpus[0], Utterances.of(frame, about=corpus[1].about), tmp_path, settings))
    assert len(copies) > 100
    made = copies.select(
        parent=pl.col("recipe").str.json_path_match("$.parents[0][0]"),
        effect=pl.col("recipe").str.json_path_match("$.effects[0]"),
    )
    assert made.is_duplicated().sum() == 0


def test_an_effect_that_changes_a_cue_of_emotion_is_off_unless_asked_for_and_then_reported(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    assert not set(Copies().effects) & set(EMOTIONAL)
    asked = BalanceSettings(copies=Copies(size=1.5, effects=("gain", "room")))
    balanced = balance(*corpus, tmp_path / "out", asked)
    gained = balanced.metrics["copies"]["effects"]["gain"]
    assert balanced.findings.counts()["effect_changes_emotion"] == gained
    assert "loudness" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("effect", EFFECTS)
def test_the_effects_named_emotional_are_those_that_move_the_simulators_truth(effect: str) -> None:
    people = [speaker(index) for index in range(20)]
    cues = np.array([turn.wanted for turn in turns_of(200, people, seed=1)], dtype=np.float64)
    moves = {"decibels": "energy", "semitones": "pitch", "factor": "rate"}
    after = cues.copy()
    for row in range(len(cues)):
        for name, value in effect_at(effect, 0.25, np.random.default_rng(row))[1].items():
            if name in moves:
                after[row, CUES.index(moves[name])] += np.log2(value) if name == "factor" else value
    moved = float(np.median(jsd_nats(true_distribution(cues, 0), true_distribution(after, 0))))
    assert (moved > 5e-4) == (effect in EMOTIONAL)


def test_other_splits_are_never_copied_and_without_the_option_nothing_is(
    corpus: tuple[Labels, Utterances], many: tuple[Balanced, Path], tmp_path: Path
) -> None:
    balanced, _ = many
    test = corpus[1].frame.filter(pl.col("split") == "test")["utterance_id"]
    kept = balanced.labels.frame.filter(pl.col("utterance_id").is_in(test.implode()))
    assert kept.height == len(test)
    assert (kept["weight"] == 1.0).all()
    plain = balance(*corpus, tmp_path / "plain")
    assert plain.utterances.frame.equals(corpus[1].frame)
    assert len(plain.labels) == COUNT
    assert "copies" not in plain.metrics


def test_rendered_sound_is_the_recipes_to_a_millionth(corpus: tuple[Labels, Utterances], tmp_path: Path) -> None:
    every = Copies(size=1.2, effects=("gain", "noise", "room", "telephone", "shift", "mask_frequency",
                                                   "mask_time", "speed", "pitch"))  # fmt: skip
    ahead = balance(*corpus, tmp_path / "ahead", BalanceSettings(copies=every, render=True))
    fly = balance(*corpus, tmp_path / "fly", BalanceSettings(copies=every))
    files, recipes = Sounds(ahead.utterances, stage="balance"), Sounds(fly.utterances, stage="balance")
    copies = copies_of(ahead)
    assert copies["recipe"].to_list() == copies_of(fly)["recipe"].to_list()
    assert {Recipe.read(recipe).effects[0][0] for recipe in copies["recipe"]} == set(every.effects)
    for row in copies.iter_rows(named=True):
        assert Path(row["audio"]).is_relative_to(tmp_path / "ahead" / "audio")
        written, other = files.open(row["utterance_id"]).clip, recipes.open(row["utterance_id"]).clip
        assert written is not None
        assert other is not None
        assert row["duration"] == pytest.approx(len(written.samples) / 16_000)
        np.testing.assert_allclose(written.samples, other.samples, atol=1e-6)
    silent = [Recipe.read(row["recipe"]).effects[0][0] for row in copies.iter_rows(named=True) if not row["transcript"]]
    assert set(silent) == {"mask_time"}  # it may hide a word


def test_a_seed_gives_the_same_files_and_another_one_others(corpus: tuple[Labels, Utterances], tmp_path: Path) -> None:
    def files(name: str, seed: int) -> dict[str, bytes]:
        balance(*corpus, tmp_path / name, MANY.model_copy(update={"seed": seed, "examples": 3}))
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()}

    first, again, other = files("a", 0), files("b", 0), files("c", 1)
    assert first == again
    assert first["utterances.parquet"] != other["utterances.parquet"]


def test_the_page_has_copies_to_listen_to_beside_their_parents_where_the_corpus_may_be_shown(
    corpus: tuple[Labels, Utterances], many: tuple[Balanced, Path], tmp_path: Path
) -> None:
    hidden, _ = many
    assert "<audio" not in hidden.page.html()
    assert hidden.findings.counts()["kept_back"] == 1
    shown = balance(*corpus, tmp_path / "shown", MANY.model_copy(update={"may_leave": ("made",)}))
    page = shown.page.html()
    assert page.count("<audio") == 60
    copies = {row["utterance_id"]: row for row in copies_of(shown).iter_rows(named=True)}
    named = [copy for copy in copies if f">{copy}</h3>" in page]
    assert len(named) == 30
    for copy in named:
        assert f">{Recipe.read(copies[copy]['recipe']).parents[0][0]}</h3>" in page


def test_utterances_without_a_recording_get_a_weight_in_place_of_copies(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    labels, utterances = corpus
    silent = utterances.frame.with_columns(
        audio=pl.when(pl.int_range(pl.len()) % 2 == 0).then(None).otherwise("audio"),
    )
    balanced = balance(labels, Utterances.of(silent, about=utterances.about), tmp_path / "out", MANY)
    heavy = balanced.labels.frame.filter(pl.col("weight") > 1)
    assert heavy.height == balanced.findings.counts()["not_copied"] > 20
    parents = {Recipe.read(recipe).parents[0][0] for recipe in copies_of(balanced)["recipe"]}
    assert not parents & set(silent.filter(pl.col("audio").is_null())["utterance_id"])
    weights = balanced.labels.frame.join(balanced.utterances.frame, on="utterance_id").filter(
        pl.col("split") == "train"
    )
    assert weights["weight"].sum() == balanced.metrics["copies"]["items"] + (heavy["weight"] - 1).sum()


def test_shares_that_weights_miss_as_far_are_no_fault_of_the_copies(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    settings = BalanceSettings(copies=Copies(size=3), classes={"angry": 1, "happy": 0, "neutral": 0, "sad": 0})
    balanced = balance(*corpus, tmp_path, settings)
    assert balanced.metrics["copies"]["worst_error"] > 0.05
    assert balanced.findings.counts()["wish_not_met"] >= 4
    assert "copies_off_target" not in balanced.findings.counts()


def test_few_copies_that_miss_the_shares_are_named_and_none_at_all_is_refused(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    few = balance(*corpus, tmp_path / "few", BalanceSettings(copies=Copies(size=0.01)))
    counts = few.findings.counts()
    assert counts["copies_off_target"] >= 1
    assert counts["without_a_copy"] == few.metrics["utterances"] - few.metrics["copies"]["items"]
    with pytest.raises(InputError, match=r"copies\.size"):
        balance(*corpus, tmp_path / "none", BalanceSettings(copies=Copies(size=1e-9)))


def with_one_recording(utterances: Utterances, path: Path) -> Utterances:
    """The utterances with another file in the place of one recording."""
    audio = pl.when(pl.col("audio") == "0.wav").then(pl.lit(str(path))).otherwise("audio")
    return Utterances.of(utterances.frame.with_columns(audio=audio), about=utterances.about)


def test_a_recording_that_cannot_be_used_is_not_copied_and_counts_as_left_out(
    corpus: tuple[Labels, Utterances], many: tuple[Balanced, Path], tmp_path: Path
) -> None:
    labels, utterances = corpus
    (tmp_path / "damaged.wav").write_bytes(b"RIFF")
    damaged = with_one_recording(utterances, tmp_path / "damaged.wav")
    balanced = balance(labels, damaged, tmp_path / "out", MANY)
    whole, _ = many
    assert (whole.recordings, whole.left_out) == (len(set(copies_of(whole)["recipe"].map_elements(parent_of))), 0)
    lost = set(damaged.frame.filter(pl.col("audio").str.ends_with("damaged.wav"))["utterance_id"])
    parents = set(copies_of(balanced)["recipe"].map_elements(parent_of))
    assert not parents & lost
    assert (balanced.recordings, balanced.left_out) == (whole.recordings, whole.recordings - len(parents))
    assert balanced.left_out == balanced.findings.counts()["not_copied"] == balanced.findings.counts()["truncated"] > 5
    plain = balance(labels, damaged, tmp_path / "plain")
    assert (plain.recordings, plain.left_out) == (None, 0)


def parent_of(recipe: str) -> str:
    return Recipe.read(recipe).parents[0][0]


def test_a_recording_that_cannot_be_rendered_is_a_finding_and_no_item(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    labels, utterances = corpus
    soundfile.write(tmp_path / "silent.wav", np.zeros(6400), 16_000)
    silent = with_one_recording(utterances, tmp_path / "silent.wav")
    settings = BalanceSettings(copies=Copies(size=1.5), render=True)
    balanced = balance(labels, silent, tmp_path / "out", settings)
    failed = balanced.findings.frame.filter(pl.col("kind") == "parent_failed")
    assert balanced.recordings
    assert balanced.left_out == len(set(failed["utterance_id"].str.replace("#.*", ""))) > 5
    copies = copies_of(balanced)
    assert copies["audio"].null_count() == 0
    assert set(copies["utterance_id"]) <= set(balanced.labels.frame["utterance_id"])
    shares = balanced.labels.frame.join(balanced.utterances.frame, on="utterance_id").filter(pl.col("split") == "train")
    reached = [share["after"] for share in balanced.metrics["copies"]["shares"][:4]]
    np.testing.assert_allclose(shares.select(f"p_{label}" for label in LABELS).to_numpy().mean(0), reached)
    figures: dict[str, Any] = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert figures["copies"]["augmented"] == copies.height
