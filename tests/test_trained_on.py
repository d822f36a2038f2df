from __future__ import annotations

import polars as pl

from alm_proxies.about import About, AnnotatorCard, MadeBy
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.trained_on import (
    KEY,
    meets,
    trained_on_by,
    trained_on_of,
    with_dividing_splits,
    without_trained_on,
    without_trained_on_votes,
)

FRAME = pl.DataFrame(
    {
        "utterance_id": ["a/1", "a/2", "a/3", "b/1"],
        "corpus": ["a", "a", "a", "b"],
        "speaker": ["a/x", "a/y", None, "a/x"],
        "split": ["train", "test", None, "train"],
    }
)
UTTERANCES = Utterances.of(FRAME)


def predictions(trained_on: dict[str, list[str]] | None, ids: list[str]) -> Labels:
    made_by = None if trained_on is None else MadeBy(stage="predict", settings={KEY: trained_on})
    frame = pl.DataFrame({"utterance_id": ids, "p_sad": [0.5] * len(ids), "p_angry": [0.5] * len(ids)})
    return Labels.of(frame, about=About(taxonomy=("sad", "angry"), made_by=made_by))


def test_corpus_and_speaker_must_both_meet_and_an_unknown_speaker_may_be_anyone() -> None:
    assert meets(FRAME, {"a": ["a/x"]}).to_list() == [True, False, True, False]
    assert meets(FRAME, {"a": [""]}).to_list() == [True, True, True, False]
    assert meets(FRAME, {"a": ["a/y"], "b": ["a/x"]}).to_list() == [False, True, True, True]
    assert meets(FRAME, {}).to_list() == [False] * 4


def test_a_split_that_no_training_utterance_is_of_keeps_unknown_speakers_apart() -> None:
    frame = FRAME.with_columns(split=pl.Series(["train", "test", "test", "train"]))
    assert meets(frame, {"a": ["", "split:train"]}).to_list() == [True, False, False, False]
    assert meets(frame, {"a": ["a/y", "split:train"]}).to_list() == [False, True, False, False]
    assert meets(frame, {"a": ["", "split:train", "split:test"]}).to_list() == [True, True, True, False]
    assert meets(FRAME, {"a": ["", "split:train"]}).to_list() == [True, False, True, False]


def test_what_a_model_was_trained_on_names_splits_only_where_every_utterance_has_one() -> None:
    assert trained_on_by(FRAME) == {"a": ["", "a/x", "a/y"], "b": ["a/x", "split:train"]}
    assert trained_on_by(FRAME.head(2)) == {"a": ["a/x", "a/y", "split:test", "split:train"]}
    assert trained_on_by(FRAME.clear()) == {}


def test_a_split_divides_unknown_speakers_where_one_of_the_corpus_has_a_split() -> None:
    assert with_dividing_splits(FRAME)["split"].to_list() == [None] * 4
    of_corpus = FRAME.with_columns(split=pl.Series(["train", "test", "test", "train"]))
    assert with_dividing_splits(of_corpus)["split"].to_list() == ["train", "test", "test", None]


def test_a_table_without_speakers_is_no_test_of_a_model_whose_split_was_by_speaker() -> None:
    """The splits of the second table may be others than those that the model's speakers were divided by."""
    by_speaker = FRAME.filter(pl.col("speaker").is_not_null() & (pl.col("split") == "train"))
    trained_on = trained_on_by(with_dividing_splits(by_speaker))
    second = Utterances.of(FRAME.with_columns(speaker=pl.lit(None, pl.String()), split=pl.lit("test")))
    kept, findings = without_trained_on(predictions(trained_on, ["a/1", "a/2", "a/3"]), second, stage="evaluate")
    assert [(finding.kind, finding.count) for finding in findings] == [("trained_on", 3)]
    assert findings[0].fix.startswith("Give the speakers where they are not known")
    assert not len(kept)
    votes, findings = without_trained_on_votes(proxies(trained_on), second, stage="fuse")
    assert [(finding.kind, finding.count) for finding in findings] == [("proxy_trained_on", 4)]
    assert not votes.frame["annotator"].is_in(["m"]).any()


def test_what_the_split_alone_keeps_apart_is_counted() -> None:
    utterances = Utterances.of(FRAME.with_columns(split=pl.Series(["train", "test", "test", "train"])))
    labels = predictions({"a": ["", "split:train"]}, ["a/1", "a/2", "a/3", "b/1"])
    kept, findings = without_trained_on(labels, utterances, stage="evaluate")
    assert kept.frame["utterance_id"].to_list() == ["a/2", "a/3", "b/1"]
    assert [(finding.kind, finding.count) for finding in findings] == [("trained_on", 1), ("apart_by_split", 2)]
    assert all(finding.message.startswith("utterances of a whose speaker") for finding in findings)
    votes, findings = without_trained_on_votes(proxies({"a": ["a/y", "split:train"]}), utterances, stage="fuse")
    assert votes.frame.filter(pl.col("annotator") == "m")["utterance_id"].to_list() == ["a/1", "a/3", "b/1"]
    assert [(one.kind, one.where, one.count) for one in findings] == [
        ("apart_by_split", "m", 1), ("proxy_trained_on", "m", 1)
    ]  # fmt: skip


def test_what_was_trained_on_is_left_out_and_counted() -> None:
    labels = predictions({"a": ["a/x"]}, ["a/1", "a/2", "b/1"])
    kept, findings = without_trained_on(labels, UTTERANCES, stage="evaluate")
    assert kept.frame["utterance_id"].to_list() == ["a/2", "b/1"]
    assert [(finding.stage, finding.kind, finding.count) for finding in findings] == [("evaluate", "trained_on", 1)]
    assert kept.about == labels.about


def test_an_utterance_that_is_in_no_table_meets_by_the_corpus_in_its_id() -> None:
    kept, findings = without_trained_on(predictions({"a": ["a/x"]}, ["a/9", "c/9"]), UTTERANCES, stage="align")
    assert kept.frame["utterance_id"].to_list() == ["c/9"]
    assert findings[0].count == 1


def test_labels_that_no_model_made_stay_as_they_are() -> None:
    labels = predictions(None, ["a/1", "a/2"])
    assert trained_on_of(labels.about) == {}
    assert without_trained_on(labels, UTTERANCES, stage="fuse") == (labels, [])


def test_predictions_of_a_model_that_does_not_state_its_training_are_kept_with_a_warning() -> None:
    """A plug-in's recipe may leave the list out: then its own training speakers would be scored without a word."""
    labels = predictions({}, ["a/1", "a/2"])
    kept, findings = without_trained_on(labels, UTTERANCES, stage="evaluate")
    assert kept == labels
    assert [(finding.stage, finding.kind) for finding in findings] == [("evaluate", "trained_on_unknown")]


def proxies(trained_on: dict[str, list[str]] | None) -> Votes:
    """A human vote and votes of two proxies on every utterance; the model of the first proxy was trained."""
    ids = FRAME["utterance_id"].to_list()
    rows = [(name, who, source) for name in ids for who, source in (("a/p", "human"), ("m", "proxy"), ("n", "proxy"))]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "source"], orient="row")
    card = AnnotatorCard(digest="1", trained_on=trained_on)
    about = About(taxonomy=("sad", "angry"), annotators={"m": card})
    return Votes.of(frame.with_columns(label=pl.lit("sad")), about=about)


def test_votes_of_a_proxy_on_what_it_was_trained_on_are_left_out_and_those_of_others_stay() -> None:
    kept, findings = without_trained_on_votes(proxies({"a": ["a/x"]}), UTTERANCES, stage="fuse")
    mine = kept.frame.filter(pl.col("annotator") == "m")["utterance_id"].to_list()
    assert mine == ["a/2", "b/1"]
    assert kept.frame.height == 12 - 2
    assert [(finding.stage, finding.kind, finding.where, finding.count) for finding in findings] == [
        ("fuse", "proxy_trained_on", "m", 2)
    ]
    assert kept.about == proxies({"a": ["a/x"]}).about


def test_findings_on_proxies_count_utterances_and_say_so_where_a_vote_has_several_rows() -> None:
    utterances = Utterances.of(FRAME.with_columns(split=pl.Series(["train", "test", "test", "train"])))
    given = proxies({"a": ["a/y", "split:train"]})
    shared = pl.concat([given.frame.with_columns(label=pl.lit(label), weight=0.5) for label in given.taxonomy[:2]])
    _, findings = without_trained_on_votes(Votes.of(shared, about=given.about), utterances, stage="fuse")
    assert {finding.kind: finding.count for finding in findings} == {"apart_by_split": 1, "proxy_trained_on": 1}
    assert all(finding.message.startswith("utterances of a whose speaker") for finding in findings)


def test_without_utterances_every_speaker_of_a_corpus_may_have_been_trained_on() -> None:
    kept, findings = without_trained_on_votes(proxies({"a": ["a/x"]}), None, stage="fuse")
    assert kept.frame.filter(pl.col("annotator") == "m")["utterance_id"].to_list() == ["b/1"]
    assert findings[0].count == 3


def test_votes_of_proxies_that_name_no_training_stay_as_they_are() -> None:
    for trained_on in (None, {}, {"c": ["c/x"]}):
        votes = proxies(trained_on)
        kept, findings = without_trained_on_votes(votes, UTTERANCES, stage="fuse")
        assert kept is votes
        assert not findings
