"""The paper's method as a baseline: rare classes are filled up within the class; each of its defects is fixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from pydantic import ValidationError

from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.stages.balance.reference import _counted, _standardised, class_weights
from alm_proxies.stages.balance.settings import BalanceSettings, Copies, Reference
from alm_proxies.stages.balance.stage import Balanced, balance
from alm_proxies.stages.simulate.stage import Corpus
from alm_proxies.tables import Labels, Utterances

pytestmark = pytest.mark.usefixtures("the_same_recordings_are_measured_once")

REFERENCE = BalanceSettings(method="reference", reference=Reference(ratio=0.5, augmented=0.5), examples=4)


@pytest.fixture(scope="module")
def corpus(speech: Corpus) -> tuple[Labels, Utterances]:
    """Simulated speech with its true distributions, and a test split."""
    frame = speech.utterances.frame.with_columns(
        split=pl.when(pl.int_range(pl.len()) < 100).then(pl.lit("train")).otherwise(pl.lit("test"))
    )
    return speech.truth, Utterances.of(frame, about=speech.utterances.about)


@pytest.fixture(scope="module")
def balanced(
    corpus: tuple[Labels, Utterances], cache_of_features: Path, tmp_path_factory: pytest.TempPathFactory
) -> Balanced:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache_of_features))
        return balance(*corpus, tmp_path_factory.mktemp("made"), REFERENCE)


def items_of(balanced: Balanced) -> list[dict[str, object]]:
    return list(balanced.utterances.frame.filter(pl.col("recipe").is_not_null()).iter_rows(named=True))


def top_of(labels: Labels) -> dict[str, int]:
    return dict(zip(labels.frame["utterance_id"], labels.distributions().argmax(1).tolist(), strict=True))


def test_a_rare_class_is_filled_up_to_its_part_of_the_largest_and_no_other_is(
    corpus: tuple[Labels, Utterances], balanced: Balanced
) -> None:
    split = dict(corpus[1].frame.select("utterance_id", "split").iter_rows())
    before = np.bincount([top for name, top in top_of(corpus[0]).items() if split[name] == "train"], minlength=4)
    train = set(balanced.utterances.frame.filter(pl.col("split") == "train")["utterance_id"])
    after = np.bincount([top for name, top in top_of(balanced.labels).items() if name in train], minlength=len(before))
    wanted = int(np.ceil(0.5 * before.max()))
    np.testing.assert_array_equal(after, np.where(before > 0, np.maximum(before, wanted), 0))
    assert (after > before).any()
    assert balanced.metrics["reference"]["items"] == int((after - before).sum()) == len(items_of(balanced))


def test_parents_are_two_of_one_class_and_the_target_lies_between_theirs(
    corpus: tuple[Labels, Utterances], balanced: Balanced
) -> None:
    split = dict(corpus[1].frame.select("utterance_id", "split").iter_rows())
    top = top_of(balanced.labels)
    target = dict(zip(balanced.labels.frame["utterance_id"], balanced.labels.distributions(), strict=True))
    for item in items_of(balanced):
        (first, share), (second, rest) = Recipe.read(str(item["recipe"])).parents
        assert first != second
        assert top[first] == top[second] == top[str(item["utterance_id"])]
        assert split[first] == split[second] == item["split"] == "train"
        np.testing.assert_allclose(
            target[str(item["utterance_id"])], share * target[first] + rest * target[second], atol=1e-9
        )


def test_no_item_mixes_utterances_of_two_splits(corpus: tuple[Labels, Utterances], tmp_path: Path) -> None:
    split = dict(corpus[1].frame.select("utterance_id", "split").iter_rows())
    both = REFERENCE.model_copy(update={"splits": ("train", "test"), "examples": 0})
    items = items_of(balance(*corpus, tmp_path, both))
    assert len(items) > 10
    for item in items:
        assert {split[parent] for parent, _ in Recipe.read(str(item["recipe"])).parents} == {item["split"]}


def test_no_item_mixes_utterances_of_two_corpora_whose_cards_may_differ_or_of_weight_0(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    name, about = pl.col("utterance_id"), corpus[1].about
    number = name.str.slice(-1).cast(pl.Int64)
    other = corpus[1].frame.with_columns(corpus=pl.when(number < 5).then("corpus").otherwise(pl.lit("other")))
    utterances = Utterances.of(other, about=about.with_(roots={**about.roots, "other": about.roots["sim"]}))
    frame = corpus[0].frame.with_columns(weight=pl.when(number % 5 == 0).then(0.0).otherwise(1.0))
    labels = Labels.of(frame, about=corpus[0].about, where="labels")
    of = dict(other.select("utterance_id", "corpus").iter_rows())
    weight = dict(frame.select("utterance_id", "weight").iter_rows())
    balanced = balance(labels, utterances, tmp_path, REFERENCE.model_copy(update={"examples": 0}))
    items = items_of(balanced)
    assert len(items) > 10
    for item in items:
        parents = [parent for parent, _ in Recipe.read(str(item["recipe"])).parents]
        assert {of[parent] for parent in parents} == {item["corpus"]}
        assert [weight[parent] for parent in parents] == [1.0, 1.0]


def test_shares_of_groups_may_be_named_though_items_are_of_two_of_them(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    wanted = {"female": 0.5, "male": 0.5}
    balanced = balance(*corpus, tmp_path, REFERENCE.model_copy(update={"groups": {"gender": wanted}, "examples": 0}))
    shares = {share["name"]: share["wanted"] for share in balanced.metrics["shares"] if share["kind"] == "gender"}
    assert shares == {**wanted, "unknown": 0.0}


def test_the_nearer_parents_words_reach_the_table_that_prompts_read_unless_some_were_cut_off(
    corpus: tuple[Labels, Utterances], balanced: Balanced
) -> None:
    words = dict(corpus[1].frame.select("utterance_id", "transcript").iter_rows())
    sounds = Sounds(balanced.utterances, stage="balance")
    transcripts = []
    for item in items_of(balanced):
        (first, share), (second, _) = Recipe.read(str(item["recipe"])).parents
        clip, other = (sounds.open(name).clip for name in (first, second))
        assert clip is not None
        assert other is not None
        nearer, length = (first, clip.duration) if share >= 0.5 else (second, other.duration)
        whole = min(clip.duration, other.duration) >= 0.95 * length
        assert item["transcript"] == (words[nearer] if whole else None)
        transcripts.append(item["transcript"])
        rendered = sounds.open(str(item["utterance_id"])).clip
        assert rendered is not None
        assert item["duration"] == pytest.approx(rendered.duration)
    assert any(transcripts)


def test_the_sampler_gives_every_most_likely_label_the_same_weight(balanced: Balanced) -> None:
    train = set(balanced.utterances.frame.filter(pl.col("split") == "train")["utterance_id"])
    frame = balanced.labels.frame.with_columns(top=pl.Series(balanced.labels.distributions().argmax(1)))
    mass = frame.filter(pl.col("utterance_id").is_in(list(train))).group_by("top").agg(pl.col("weight").sum())
    np.testing.assert_allclose(mass["weight"].to_numpy(), mass["weight"].mean())
    assert frame.filter(~pl.col("utterance_id").is_in(list(train)))["weight"].unique().to_list() == [1.0]


def test_weights_given_count_and_an_utterance_of_weight_0_keeps_it() -> None:
    frame = pl.DataFrame(
        {"utterance_id": list("abcd"), "p_x": [0.9, 0.8, 0.7, 0.1], "p_y": [0.1, 0.2, 0.3, 0.9],
         "weight": [1.0, 3.0, 0.0, 2.0]}
    )  # fmt: skip
    np.testing.assert_allclose(class_weights(Labels.of(frame, taxonomy=("x", "y"))), [0.5, 1.5, 0.0, 2.0])


def test_pitch_and_rate_change_by_a_semitone_and_five_per_cent_at_most_in_the_recipe(balanced: Balanced) -> None:
    effects = [effect for item in items_of(balanced) for effect in Recipe.read(str(item["recipe"])).effects]
    assert 0 < len(effects) < len(items_of(balanced))
    for name, given in effects:
        if name == "pitch":
            assert abs(given["semitones"]) <= 1
        else:
            assert (name, abs(given["factor"] - 1) <= 0.05) == ("speed", True)
    assert {name for name, _ in effects} == {"pitch", "speed"}


def test_an_item_of_the_silence_before_a_longer_recording_is_left_out(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    labels, utterances = corpus
    rng = np.random.default_rng(0)
    waited = np.concatenate([np.zeros(24_000), rng.normal(0, 0.1, 8_000)])
    soundfile.write(tmp_path / "waited.wav", waited, 16_000)
    soundfile.write(tmp_path / "short.wav", rng.normal(0, 0.1, 16_000), 16_000)
    name = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("waited.wav")).otherwise(pl.lit("short.wav"))
    frame = utterances.frame.with_columns(audio=pl.lit(f"{tmp_path}/") + name)
    settings = BalanceSettings(method="reference", reference=Reference(ratio=0.5, neighbours=100), examples=0)
    balanced = balance(labels, Utterances.of(frame, about=utterances.about), tmp_path / "out", settings)
    sounds = Sounds(balanced.utterances, stage="balance")
    items = items_of(balanced)
    assert items
    assert balanced.findings.counts()["silent_item"] > 0
    for item in items:
        clip = sounds.open(str(item["utterance_id"])).clip
        assert clip is not None
        assert np.abs(clip.samples).max() > 1e-3
    assert balanced.metrics["reference"]["items"] == len(items)


def test_a_recording_without_features_is_no_neighbour_and_is_named(
    corpus: tuple[Labels, Utterances], tmp_path: Path
) -> None:
    labels, utterances = corpus
    counts = np.bincount(labels.distributions().argmax(1))
    rare = int(np.where(counts > 0, counts, counts.max()).argmin())
    broken = next(name for name, top in top_of(labels).items() if top == rare)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    frame = utterances.frame.with_columns(
        split=pl.lit("train"),
        audio=pl.when(pl.col("utterance_id") == broken)
        .then(pl.lit(str(tmp_path / "broken.wav")))
        .otherwise(pl.col("audio")),
    )
    balanced = balance(labels, Utterances.of(frame, about=utterances.about), tmp_path / "out", REFERENCE)
    parents = {name for item in items_of(balanced) for name, _ in Recipe.read(str(item["recipe"])).parents}
    assert parents
    assert broken not in parents
    assert broken in set(balanced.findings.frame["utterance_id"])
    lacking = [top for top, row in enumerate(balanced.metrics["reference"]["filled"].values()) if row["items"]]
    assert balanced.recordings == int(np.isin(list(top_of(labels).values()), lacking).sum())
    assert balanced.left_out == 1


def test_the_page_says_which_wanted_shares_it_misses(balanced: Balanced) -> None:
    assert not balanced.metrics["met"]
    assert balanced.findings.counts()["wish_not_met"] >= 1
    page = balanced.page.html()
    assert "Rare classes filled up" in page
    assert "inverse counts of most likely labels" in page
    assert page.count("<audio") == 12  # four items, each with both parents
    assert "items fill up rare classes" in balanced.line


def test_words_that_are_not_known_say_nothing_and_known_ones_are_counted() -> None:
    counted = _counted(["Oh, NO! Why?", None])
    np.testing.assert_allclose(counted[0], [12, 3, 1, 1, 0, 1, 2, 5, 10 / 3, 4 / 7])
    assert np.isnan(counted[1]).all()
    np.testing.assert_array_equal(_standardised(counted)[1], np.zeros(10))


def test_settings_of_the_other_method_are_refused() -> None:
    with pytest.raises(ValidationError, match='method = "reference" has no copies'):
        BalanceSettings(method="reference", copies=Copies(size=1.0))
