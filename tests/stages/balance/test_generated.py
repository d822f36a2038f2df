"""Generated items mix neighbours in sound and target; a listener that knows neither parent checks them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.audio.measured import NAMES
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.pipeline.schema import metrics_schema
from alm_proxies.report.charts import Heat
from alm_proxies.stages.balance.drift import CONTROLS, OTHER_EMOTION
from alm_proxies.stages.balance.generated import _pairs
from alm_proxies.stages.balance.mixtures import with_mixtures
from alm_proxies.stages.balance.settings import BalanceSettings, Copies, Generated
from alm_proxies.stages.balance.stage import Balanced, balance
from alm_proxies.stages.simulate.stage import Corpus
from alm_proxies.tables import Labels, Utterances

HALF = BalanceSettings(generated=Generated(size=0.5, controls=10), classes="square_root")
FEW_CONTROLS = HALF.model_copy(update={"generated": Generated(size=0.5, controls=5)})


pytestmark = pytest.mark.usefixtures("the_same_recordings_are_measured_once")


@pytest.fixture(scope="module")
def corpus(speech: Corpus) -> tuple[Labels, Utterances]:
    """Simulated speech and its true distributions."""
    frame = speech.utterances.frame.head(90).with_columns(split=pl.lit("train"))
    truth = Labels(speech.truth.frame.filter(pl.col("utterance_id").is_in(frame["utterance_id"])), speech.truth.about)
    return truth, Utterances.of(frame, about=speech.utterances.about)


@pytest.fixture(scope="module")
def balanced(
    corpus: tuple[Labels, Utterances], cache_of_features: Path, tmp_path_factory: pytest.TempPathFactory
) -> Balanced:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache_of_features))
        return balance(*corpus, tmp_path_factory.mktemp("made"), HALF)


def items_of(balanced: Balanced) -> list[dict[str, object]]:
    return list(balanced.utterances.frame.filter(pl.col("recipe").is_not_null()).iter_rows(named=True))


def test_items_mix_the_targets_of_two_compatible_parents_by_their_shares(
    corpus: tuple[Labels, Utterances], balanced: Balanced
) -> None:
    items = items_of(balanced)
    assert len(items) == balanced.metrics["generated"]["items"] >= 3
    known = {row["utterance_id"]: row for row in corpus[1].frame.iter_rows(named=True)}
    target = dict(zip(balanced.labels.frame["utterance_id"], balanced.labels.distributions(), strict=True))
    for item in items:
        (first, share), (second, rest) = Recipe.read(str(item["recipe"])).parents
        assert first != second
        assert 0.5 <= share <= 0.9
        for column in ("corpus", "gender", "language"):
            assert known[first][column] == known[second][column] == item[column]
        assert item["speaker"] == (
            known[first]["speaker"] if known[first]["speaker"] == known[second]["speaker"] else None
        )
        mixed = share * target[first] + rest * target[second]
        np.testing.assert_allclose(target[item["utterance_id"]], mixed, atol=1e-9)
    own = balanced.labels.frame.filter(pl.col("utterance_id").is_in([item["utterance_id"] for item in items]))
    assert own["human_votes"].sum() == 0


def test_neighbours_are_close_in_target_and_in_sound_and_of_the_first_parents_fold() -> None:
    rng = np.random.default_rng(0)
    count = 400
    targets = rng.dirichlet(np.ones(4), count)
    place = rng.normal(0, 1, (count, 1))  # one direction of sound
    features = (place + rng.normal(0, 0.1, (count, len(NAMES)))).astype(np.float32)
    fold = rng.integers(0, 2, count)
    rows = pl.DataFrame(
        {
            "utterance_id": [f"c/{number}" for number in range(count)],
            "corpus": "c",
            "gender": "female",
            "language": "en",
            "speaker": [f"c/{number % 20}" for number in range(count)],
            "split": "train",
            "weight": 1.0,
        }
    )
    settings = BalanceSettings(generated=Generated(size=1.0, neighbours=3))
    pairs, lonely = _pairs(rows, features, targets, fold, np.ones(count), settings, set())
    assert (len(pairs), lonely) == (count, 0)
    first, second = np.array([(pair.first, pair.second) for pair in pairs]).T
    assert (fold[first] == fold[second]).all()
    assert (first != second).all()
    other = rng.permutation(second)
    for values in (targets, place):
        near, far = (np.abs(values[first] - values[chosen]).sum(1).mean() for chosen in (second, other))
        assert near < 0.5 * far


def test_a_transcript_is_carried_only_where_both_parents_say_it(
    corpus: tuple[Labels, Utterances], tmp_path: Path, balanced: Balanced
) -> None:
    labels, utterances = corpus
    known = dict(utterances.frame.select("utterance_id", "transcript").iter_rows())
    for item in items_of(balanced):
        (first, _), (second, _) = Recipe.read(str(item["recipe"])).parents
        assert item["transcript"] in (None, known[first])
        assert item["transcript"] is None or known[first] == known[second]
    same = Utterances.of(utterances.frame.with_columns(transcript=pl.lit("the same words")), about=utterances.about)
    again = balance(labels, same, tmp_path / "out", FEW_CONTROLS)
    sounds = Sounds(again.utterances, stage="balance")
    transcripts = []
    for item in items_of(again):
        parents = [parent for parent, _ in Recipe.read(str(item["recipe"])).parents]
        clips = [sounds.open(str(name)).clip for name in (item["utterance_id"], *parents)]
        lengths = [clip.duration for clip in clips if clip is not None]
        assert item["duration"] == pytest.approx(lengths[0])
        assert (item["transcript"] is not None) == (lengths[0] >= 0.95 * max(lengths[1:]))  # words are cut off else
        transcripts.append(item["transcript"])
    assert None in transcripts


def test_what_the_listener_rejects_is_left_out_and_the_controls_say_what_it_notices(balanced: Balanced) -> None:
    figures = balanced.metrics["generated"]
    rejected = balanced.findings.counts().get("drifted", 0)
    assert figures["tried"] == figures["items"] + rejected
    assert figures["tried"] == pytest.approx(45, abs=1)
    controls = {control["name"]: control for control in figures["controls"]}
    assert set(controls) == {*CONTROLS, OTHER_EMOTION}
    assert controls["noise at 0 dB"]["tried"] == 10
    assert controls["noise at 0 dB"]["rate"] > 0.8
    blind = [name for name, control in controls.items() if control["tried"] and control["rate"] < 0.8]
    named = balanced.findings.frame.filter(pl.col("kind") == "drift_check_blind")["where"].to_list()
    assert sorted(named) == sorted(blind)
    page = balanced.page.html()
    assert "no evidence about people" in page
    for name in controls:
        assert name in page
    assert balanced.metrics["reasons"] == {}


def test_shares_hold_over_utterances_and_items_and_rendering_is_the_recipe(
    corpus: tuple[Labels, Utterances], tmp_path: Path, balanced: Balanced
) -> None:
    settings = HALF.model_copy(update={"render": True, "copies": Copies(size=1.2), "may_leave": ("sim",)})
    ahead = balance(*corpus, tmp_path / "ahead", settings)
    assert ahead.metrics["generated"] == balanced.metrics["generated"]  # the seed is the same
    assert balanced.metrics["met"]
    weights = balanced.labels.frame["weight"].to_numpy()
    reached = weights @ balanced.labels.distributions() / weights.sum()
    wanted = [share["wanted"] for share in balanced.metrics["shares"] if share["kind"] == "classes"]
    np.testing.assert_allclose(reached, wanted, atol=1e-3)
    files, recipes = Sounds(ahead.utterances, stage="balance"), Sounds(balanced.utterances, stage="balance")
    mixed = [item for item in items_of(ahead) if "#mix" in str(item["utterance_id"])]
    both = [item for item in mixed if item["utterance_id"] in set(balanced.utterances.frame["utterance_id"])]
    assert len(both) >= 3
    for item in both:
        written, other = (sounds.open(str(item["utterance_id"])).clip for sounds in (files, recipes))
        assert written is not None
        assert other is not None
        np.testing.assert_allclose(written.samples, other.samples, atol=1e-6)
    assert ahead.page.html().count("<audio") >= 45
    assert ahead.metrics["copies"]["worst_error"] <= 0.01


def test_one_speakers_utterances_are_mixed_where_asked(corpus: tuple[Labels, Utterances], tmp_path: Path) -> None:
    settings = HALF.model_copy(update={"generated": Generated(size=0.5, controls=5, speaker="same")})
    silent = corpus[1].frame.with_columns(transcript=pl.lit(None, pl.String))  # no two are known to say the same words
    balanced_alone = balance(corpus[0], Utterances.of(silent, about=corpus[1].about), tmp_path / "one", settings)
    speakers = dict(corpus[1].frame.select("utterance_id", "speaker").iter_rows())
    for item in items_of(balanced_alone):
        (first, _), (second, _) = Recipe.read(str(item["recipe"])).parents
        assert item["speaker"] == speakers[first] == speakers[second]
    untried = [
        control["name"] for control in balanced_alone.metrics["generated"]["controls"] if control["rate"] is None
    ]
    assert untried == [OTHER_EMOTION]
    assert list(balanced_alone.metrics["reasons"]) == ["generated/controls/*/rate"]
    assert "same speaker and words" in balanced_alone.metrics["reasons"]["generated/controls/*/rate"]


def test_no_item_mixes_utterances_of_two_splits(corpus: tuple[Labels, Utterances], tmp_path: Path) -> None:
    frame = corpus[1].frame.with_columns(split=pl.Series(["train", "train", "development"] * 30))
    split = dict(frame.select("utterance_id", "split").iter_rows())
    both = FEW_CONTROLS.model_copy(update={"splits": ("train", "development"), "examples": 0})
    items = items_of(balance(corpus[0], Utterances.of(frame, about=corpus[1].about), tmp_path, both))
    assert len(items) >= 3
    for item in items:
        assert {split[parent] for parent, _ in Recipe.read(str(item["recipe"])).parents} == {item["split"]}


def test_items_are_of_one_group_and_of_no_utterance_of_weight_0(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    accent = pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.lit("near")).otherwise(pl.lit("far"))
    utterances = Utterances.of(corpus[1].frame.with_columns(accent=accent), about=corpus[1].about)
    frame = corpus[0].frame.with_columns(weight=(pl.int_range(pl.len()) % 2).cast(pl.Float64))
    labels = Labels.of(frame, about=corpus[0].about, where="labels")
    settings = FEW_CONTROLS.model_copy(update={"groups": {"accent": {"near": 0.6, "far": 0.4}}})
    balanced = balance(labels, utterances, tmp_path, settings)
    columns = balanced.utterances.frame.select("utterance_id", "accent")
    weight, accents = dict(frame.select("utterance_id", "weight").iter_rows()), dict(columns.iter_rows())
    items = items_of(balanced)
    assert len(items) >= 3
    for item in items:
        parents = [parent for parent, _ in Recipe.read(str(item["recipe"])).parents]
        assert [weight[parent] for parent in parents] == [1.0, 1.0]
        assert {accents[parent] for parent in parents} == {item["accent"]}
    shares = {share["name"]: share["wanted"] for share in balanced.metrics["shares"] if share["kind"] == "accent"}
    assert shares == {"near": 0.6, "far": 0.4}


def test_the_page_counts_no_item_among_the_shares_before(balanced: Balanced, corpus: tuple[Labels, Utterances]) -> None:
    heat = next(chart for chart in balanced.page.charts if chart.name == "classes-by-ambiguity-before")
    assert isinstance(heat, Heat)
    np.testing.assert_allclose(heat.values.sum(1), corpus[0].distributions().mean(0), atol=1e-9)
    assert re.findall(r"\d+", balanced.page.summary)[:2] == ["90", str(len(items_of(balanced)))]


def test_without_recordings_to_train_a_listener_nothing_is_generated_and_it_is_said(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    few = Labels(corpus[0].frame.head(40), corpus[0].about)
    balanced = balance(few, corpus[1], tmp_path / "out", HALF)
    assert balanced.findings.counts()["not_generated"] == 1
    assert balanced.metrics["generated"] is None
    assert balanced.metrics["reasons"]["generated"] in balanced.findings.frame["message"].to_list()
    jsonschema.Draft202012Validator(metrics_schema()).validate(
        json.loads(json.dumps(balanced.metrics, allow_nan=False))
    )
    assert balanced.utterances.frame.equals(corpus[1].frame)
    assert len(balanced.labels) == 40
    assert (balanced.recordings, balanced.left_out) == (40, 0)


def test_recordings_that_cannot_be_used_are_findings_and_count_as_left_out(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    labels, utterances = corpus
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "not_finite.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    bad = [str(tmp_path / f"{kind}.wav") for kind in ("missing", "empty", "silent", "not_finite")]
    audio = pl.Series("audio", [*bad, None, *utterances.frame["audio"][5:]], dtype=pl.String)
    damaged = Utterances.of(utterances.frame.with_columns(audio), about=utterances.about)
    for rows in (damaged.frame.height, 40):  # too few to generate anything: they are counted and named all the same
        some = damaged.frame["utterance_id"].head(rows)
        part = Labels(labels.frame.filter(pl.col("utterance_id").is_in(some.implode())), labels.about)
        balanced = balance(part, damaged, tmp_path / f"out{rows}", FEW_CONTROLS)
        assert (balanced.recordings, balanced.left_out) == (rows, 5)
        kinds = dict.fromkeys(("missing", "empty", "silent", "not_finite", "no_audio"), 1)
        assert balanced.findings.counts().items() >= kinds.items()


def test_columns_that_mixing_does_not_know_are_null_in_generated_items(corpus: tuple[Labels, Utterances]) -> None:
    labels = Labels(corpus[0].frame.with_columns(valence_error=pl.lit(0.1)), corpus[0].about)
    own = corpus[0].frame.head(1).with_columns(utterance_id=pl.lit("generated/0"))
    both, _, _ = with_mixtures(labels, corpus[1], own, corpus[1].frame.head(0), None, None)
    assert both.frame["valence_error"].null_count() == 1
    assert both.frame.filter(pl.col("valence_error").is_null())["utterance_id"].to_list() == ["generated/0"]
