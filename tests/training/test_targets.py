from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from small_corpus import LABELS, RATERS

from alm_proxies.errors import InputError
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, MadeBy, Utterances, Votes
from alm_proxies.trained_on import KEY
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import targets_of

if TYPE_CHECKING:
    from conftest import Corpus


def changed(table: Utterances, **columns: pl.Expr) -> Utterances:
    return Utterances.of(table.frame.with_columns(**columns), about=table.about)


def test_rows_votes_and_raters_are_aligned(corpus: Corpus) -> None:
    targets = targets_of(corpus.labels, corpus.utterances, votes=corpus.votes, raters=True)
    assert targets.labels == LABELS
    assert len(targets.train) == 36
    assert len(targets.development) == 12
    np.testing.assert_allclose(targets.counts / 3, targets.shares)
    assert targets.rater_votes.raters == RATERS
    summed = np.zeros_like(targets.counts)
    np.add.at(summed, targets.rater_votes.row, targets.rater_votes.shares)
    np.testing.assert_allclose(summed, targets.counts)
    assert targets.trained_on == {"tones": [f"tones/s{number}" for number in range(8)]}


def test_utterances_that_a_split_by_speaker_leaves_out_are_not_learned_from(corpus: Corpus) -> None:
    """Their speakers may be those of the test split, so that no prediction of the corpus could be scored."""
    unknown = pl.col("utterance_id").is_in(["tones/000", "tones/001"])
    known = {name: pl.when(~unknown).then(name) for name in ("speaker", "split")}
    targets = targets_of(corpus.labels, changed(corpus.utterances, **known), votes=corpus.votes)
    assert len(targets) == 46
    assert not {"tones/000", "tones/001"} & set(targets.ids)
    assert targets.trained_on == {"tones": [f"tones/s{number}" for number in range(8)]}
    assert [(finding.kind, finding.count) for finding in targets.findings] == [("unknown_speaker", 2)]
    for columns in (
        {"split": known["split"]},  # their speakers are known
        {"speaker": known["speaker"], "split": pl.lit(None, pl.String)},  # there is no split
        {"speaker": pl.lit(None, pl.String), "split": known["split"]},  # the split is not by speaker
    ):
        assert len(targets_of(corpus.labels, changed(corpus.utterances, **columns), votes=corpus.votes)) == 48


def test_what_learns_from_predictions_was_trained_on_what_their_model_was(corpus: Corpus) -> None:
    """So that predictions of either on those speakers are no test of it."""
    made_by = MadeBy(stage="predict", settings={KEY: {"others": ["others/a"], "tones": ["tones/x"]}})
    labels = Labels(corpus.labels.frame, corpus.labels.about.with_(made_by=made_by))
    own = [f"tones/s{number}" for number in range(8)]
    assert targets_of(labels, corpus.utterances).trained_on == {"others": ["others/a"], "tones": [*own, "tones/x"]}


def test_splits_are_stated_as_training_where_the_table_divides_utterances_of_unknown_speakers_too(
    corpus: Corpus,
) -> None:
    ids = pl.col("utterance_id")
    some = changed(corpus.utterances, speaker=pl.when(ids != "tones/000").then("speaker"))
    splits = ["split:development", "split:train"]
    assert targets_of(corpus.labels, some).trained_on["tones"][:3] == ["", *splits]
    labels = Labels(corpus.labels.frame.filter(ids != "tones/000"), corpus.labels.about)
    assert targets_of(labels, some).trained_on["tones"][:3] == [*splits, "tones/s0"]
    in_no_split = changed(some, split=pl.when(ids != "tones/000").then("split"))
    assert targets_of(labels, in_no_split).trained_on == {"tones": [f"tones/s{number}" for number in range(8)]}


def test_held_out_votes_are_never_seen_and_utterances_with_no_other_leave_training(corpus: Corpus) -> None:
    frame = corpus.votes.frame
    gone = pl.col("utterance_id").is_in(["tones/000", "tones/047"]) | (pl.col("annotator") == RATERS[2])
    votes = Votes.of(frame.with_columns(held_out=gone), about=corpus.votes.about)
    targets = targets_of(corpus.labels, corpus.utterances, votes=votes)
    assert "tones/000" not in targets.ids
    assert targets.counts.sum() == 2 * 46
    assert targets.counts[targets.ids.index("tones/047")].sum() == 0
    assert {finding.kind: finding.count for finding in targets.findings} == {"only_held_out": 1}


def test_without_a_development_split_whole_speakers_are_set_aside(corpus: Corpus) -> None:
    none = changed(corpus.utterances, split=pl.lit(None, dtype=pl.String))
    targets = targets_of(corpus.labels, none, development=0.25, seed=1)
    kept, aside = ({targets.speakers[row] for row in rows} for rows in (targets.train, targets.development))
    assert len(aside) == 2
    assert not kept & aside
    assert [finding.kind for finding in targets.findings] == ["development_set_aside"]
    again = targets_of(corpus.labels, none, development=0.25, seed=1)
    assert again.development.tolist() == targets.development.tolist()


def test_a_copy_is_on_its_parents_side_where_no_speaker_is_known(corpus: Corpus) -> None:
    frame = corpus.utterances.frame.with_columns(split=pl.lit(None, pl.String), speaker=pl.lit(None, pl.String))
    recipes = [f'{{"parents":[["{name}",1.0]],"effects":[],"seed":0}}' for name in frame["utterance_id"]]
    twin = pl.col("utterance_id") + "#2"
    copies = frame.with_columns(recipe=pl.Series(recipes), audio=pl.lit(None, pl.String), utterance_id=twin)
    labels = corpus.labels.frame
    twins = labels.with_columns(utterance_id=twin)
    targets = targets_of(
        Labels.of(pl.concat([labels, twins]), about=corpus.labels.about),
        Utterances.of(pl.concat([frame, copies]), about=corpus.utterances.about),
        development=0.25,
    )
    kept, aside = (
        {targets.ids[row].removesuffix("#2") for row in rows} for rows in (targets.train, targets.development)
    )
    assert (len(kept), len(aside)) == (36, 12)
    assert not kept & aside


def mixed(corpus: Corpus, utterances: Utterances, pairs: list[tuple[str, str]]) -> tuple[Labels, Utterances]:
    """The corpus with items mixed from pairs of recordings, whose speaker is that of both, or none."""
    frame, labels = utterances.frame, corpus.labels.frame
    first, second = (
        pl.DataFrame({"utterance_id": list(side)}).join(frame, on="utterance_id", how="left", maintain_order="left")
        for side in zip(*pairs, strict=True)
    )
    names = pl.Series("utterance_id", [f"{one}#mix{other[-3:]}" for one, other in pairs])
    items = first.with_columns(
        names,
        recipe=pl.Series([f'{{"parents":[["{a}",0.5],["{b}",0.5]],"effects":[],"seed":0}}' for a, b in pairs]),
        audio=pl.lit(None, pl.String),
        speaker=pl.select(pl.when(first["speaker"] == second["speaker"]).then(first["speaker"])).to_series(),
    )
    own = pl.DataFrame({"utterance_id": [one.partition("#")[0] for one, _ in pairs]}).join(
        labels, on="utterance_id", how="left"
    )
    return (
        Labels.of(pl.concat([labels, own.with_columns(names)]), about=corpus.labels.about),
        Utterances.of(pl.concat([frame, items]), about=utterances.about),
    )


def test_an_item_mixed_from_two_speakers_is_of_both_and_of_no_unknown_one(corpus: Corpus) -> None:
    ids = pl.col("utterance_id")
    labels, utterances = mixed(corpus, corpus.utterances, [("tones/000", "tones/006"), ("tones/000", "tones/012")])
    some = Labels(labels.frame.filter(~ids.is_in([f"tones/{number:03d}" for number in range(6, 18)])), labels.about)
    targets = targets_of(some, utterances, votes=corpus.votes)
    assert targets.trained_on == {"tones": [f"tones/s{number}" for number in range(8)]}
    nested, table = mixed(corpus, utterances, [("tones/000#mix006", "tones/013")])
    only = Labels(nested.frame.filter(ids.is_in(["tones/000#mix006#mix013", "tones/042"])), labels.about)
    assert targets_of(only, table).trained_on == {"tones": [f"tones/s{number}" for number in (0, 1, 2, 7)]}
    gone = corpus.votes.frame.with_columns(held_out=ids == "tones/006")
    left = targets_of(some, utterances, votes=Votes.of(gone, about=corpus.votes.about))
    assert [name for name in left.ids if "#" in name] == ["tones/000#mix012"]
    assert [(finding.kind, finding.count) for finding in left.findings] == [("only_held_out", 1)]


def test_a_recording_mixed_into_an_item_of_another_corpus_is_of_its_own(corpus: Corpus) -> None:
    """So that predictions of its speaker are no test of a model that was trained on the item alone."""
    labels, utterances = mixed(corpus, corpus.utterances, [("tones/000", "tones/006")])
    other = pl.when(pl.col("utterance_id") == "tones/006").then(pl.lit("others")).otherwise("corpus")
    alone = Labels(labels.frame.filter(pl.col("utterance_id") != "tones/006"), labels.about)
    assert set(targets_of(alone, changed(utterances, corpus=other), votes=corpus.votes).trained_on) == {
        "tones",
        "others",
    }


def test_no_mixed_item_lies_on_both_sides_where_development_is_set_aside(corpus: Corpus) -> None:
    none = changed(corpus.utterances, split=pl.lit(None, dtype=pl.String))
    pairs = [(f"tones/{a:03d}", f"tones/{b:03d}") for a in range(0, 48, 6) for b in range(1, 48, 6)]
    labels, utterances = mixed(corpus, none, pairs)
    targets = targets_of(labels, utterances, votes=corpus.votes, development=0.25, seed=1)
    kept, aside = (
        {int(part) // 6 for row in rows for part in targets.ids[row].removeprefix("tones/").split("#mix")}
        for rows in (targets.train, targets.development)
    )
    assert (len(kept), len(aside)) == (6, 2)
    assert not kept & aside
    assert len(targets) == 48 + 6 * 6 + 2 * 2
    assert targets.counts[targets.development].sum() == 12 * 3
    counts = {finding.kind: finding.count for finding in targets.findings}
    assert counts == {"development_set_aside": 12 + 2 * 2, "mixed_across_sides": 2 * 6 * 2}


def test_other_splits_weightless_labels_and_unknown_utterances_take_no_part(corpus: Corpus) -> None:
    test = changed(
        corpus.utterances,
        split=pl.when(pl.col("speaker") == "tones/s0").then(pl.lit("test")).otherwise(pl.col("split")),
    )
    labels = corpus.labels.frame.with_columns(
        weight=pl.when(pl.col("utterance_id") == "tones/010").then(0.0).otherwise(1.0),
        utterance_id=pl.col("utterance_id").replace("tones/011", "tones/999"),
    )
    targets = targets_of(Labels.of(labels, about=corpus.labels.about), test)
    assert len(targets.train) == 36 - 6 - 2
    assert {finding.kind for finding in targets.findings} == {"no_weight", "no_utterance"}
    assert "tones/s0" not in targets.trained_on["tones"]


def test_votes_that_judge_nothing_are_said_with_what_to_give(corpus: Corpus) -> None:
    others = Votes.of(
        corpus.votes.frame.with_columns(utterance_id="else/" + pl.col("utterance_id")), about=corpus.votes.about
    )
    proxies = Votes.of(corpus.votes.frame.with_columns(source=pl.lit("proxy")), about=corpus.votes.about)
    for votes, message, fix in (
        (others, "none of the votes is on one of these utterances: they are on 'else/tones/", "(--votes)"),
        (proxies, "no utterance has a human vote that is not held out", "Give human votes"),
    ):
        findings = targets_of(corpus.labels, corpus.utterances, votes=votes).findings
        (finding,) = (finding for finding in findings if finding.kind == "no_human_votes")
        assert message in finding.message
        assert fix in finding.fix


def test_what_cannot_be_trained_on_is_refused(corpus: Corpus) -> None:
    only = changed(corpus.utterances, split=pl.lit("test"))
    with pytest.raises(InputError, match="no labelled utterance of split train or development can be used. Give"):
        targets_of(corpus.labels, only)
    weightless = Labels.of(corpus.labels.frame.with_columns(weight=pl.lit(0.0)), about=corpus.labels.about)
    with pytest.raises(InputError, match=rf"can be used \({len(weightless)} labels of weight 0\)"):
        targets_of(weightless, corpus.utterances)
    with pytest.raises(InputError, match="labels: has no rows"):
        targets_of(Labels(weightless.frame.head(0), weightless.about), corpus.utterances)
    speaker_alone = changed(corpus.utterances, split=pl.lit("train"), speaker=pl.lit("tones/s1"))
    with pytest.raises(InputError, match="only one speaker"):
        targets_of(corpus.labels, speaker_alone)
    with pytest.raises(InputError, match="raters need votes"):
        targets_of(corpus.labels, corpus.utterances, raters=True)
    crowd = corpus.votes.frame.with_columns(
        annotator=pl.lit("tones/crowd"), draw=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    with pytest.raises(InputError, match="raters of the votes are not known"):
        targets_of(corpus.labels, corpus.utterances, votes=Votes.of(crowd, about=corpus.votes.about), raters=True)


def test_row_weights_grow_with_the_concentration_and_exact_labels_keep_theirs(corpus: Corpus) -> None:
    targets = targets_of(corpus.labels, corpus.utterances)
    weight, strength = (np.resize(values, len(targets)) for values in ([1.0, 1.0, 2.0], [2.0, np.nan, 6.0]))
    targets = replace(targets, weight=weight, concentration=strength)
    np.testing.assert_array_equal(targets.row_weights(None), weight)
    np.testing.assert_allclose(targets.row_weights(2.0), np.resize([0.5, 1.0, 1.5], len(targets)))
    exact = replace(targets, concentration=np.full(len(targets), np.inf))
    np.testing.assert_array_equal(exact.row_weights(2.0), weight)


def test_labels_fused_from_human_votes_alone_are_named_and_others_not(corpus: Corpus, tmp_path: Path) -> None:
    settings = TrainSettings(recipe="features", epochs=1, hidden=8)
    alone = fuse(corpus.votes, FuseSettings(method="human")).labels
    proxy = corpus.votes.frame.with_columns(
        annotator=pl.lit("alm"), source=pl.lit("proxy"), draw=pl.int_range(pl.len())
    )
    both = Votes.of(pl.concat([corpus.votes.frame, proxy], how="vertical_relaxed"), about=corpus.votes.about)
    cases = {
        "alone": (alone, settings),
        "shares": (alone, settings.model_copy(update={"targets": "votes"})),
        "read": (corpus.labels, settings),
        "proxy": (fuse(both, FuseSettings(method="weighted")).labels, settings),
    }
    named = [
        name
        for name, (labels, given) in cases.items()
        if "drawn_to_common"
        in train(labels, corpus.utterances, tmp_path / name, given, votes=corpus.votes, quiet=True).findings.counts()
    ]
    assert named == ["alone"]


def test_only_labels_that_are_used_are_counted_as_used_in_place_of_votes(corpus: Corpus, tmp_path: Path) -> None:
    ids = pl.col("utterance_id")
    utterances = changed(
        corpus.utterances, split=pl.when(ids.is_in(["tones/000", "tones/001"])).then(pl.lit("test")).otherwise("split")
    )
    votes = Votes(corpus.votes.frame.filter(~ids.is_in(["tones/000", "tones/001", "tones/002"])), corpus.votes.about)
    settings = TrainSettings(recipe="features", epochs=1, hidden=8, targets="votes")
    done = train(corpus.labels, utterances, tmp_path / "out", settings, votes=votes, quiet=True)
    assert done.findings.counts()["label_for_votes"] == 1
