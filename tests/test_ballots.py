"""Every combination of properties of a vote, in all code that counts votes: all must agree with one plain rule."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import alm_proxies
from alm_proxies.ballots import (
    Counting,
    Merge,
    ballots_of,
    held_out_without_label,
    left_out,
    only_held_out,
    usable_of,
    which_count,
    with_shares_of_votes,
    without_consensus,
)
from alm_proxies.compare.leaks import refuse_seen
from alm_proxies.compare.material import material_of
from alm_proxies.errors import InputError
from alm_proxies.estimators.attributes import Attributes, rated_by_people
from alm_proxies.estimators.counts import counts_of
from alm_proxies.estimators.dawid_skene import DawidSkene
from alm_proxies.estimators.trials import influence
from alm_proxies.measures.alt_test import alt_test
from alm_proxies.measures.held_out import held_out_counts, score_held_out
from alm_proxies.stages.annotate.human_votes import HumanVotes
from alm_proxies.stages.fuse.labels import Fusion
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import STATUSES, Labels, MadeBy, Utterances, Votes

LABELS = ("angry", "happy", "sad")
RATERS = {"rater": "c/r1", "crowd": "c/crowd", "consensus": "c/consensus"}
PROXIES = {"rater": "alm", "crowd": "alm/crowd", "consensus": "alm/consensus"}


@dataclass(frozen=True)
class Vote:
    """The only vote on its utterance."""

    utterance: str
    source: str
    kind: str
    held_out: bool
    status: str
    label: bool
    rating: bool
    secondary: bool

    def row(self) -> dict[str, object]:
        return {
            "utterance_id": self.utterance,
            "annotator": (RATERS if self.source == "human" else PROXIES)[self.kind],
            "source": self.source,
            "label": "happy" if self.label else None,
            "secondary": ["sad"] if self.secondary else None,
            "valence": 0.5 if self.rating else None,
            "status": self.status,
            "held_out": self.held_out,
        }

    def counts(self, side: str, consensus: bool, answer: str = "label") -> bool:
        """The rule, in an independent form."""
        if self.status != "ok" or (self.kind == "consensus" and not consensus):
            return False
        if not {"label": self.label, "rating": self.rating, "either": self.label or self.rating}[answer]:
            return False
        if side == "held_out":
            return self.held_out
        return not self.held_out and side in ("fit", self.source)


def every_vote() -> list[Vote]:
    choices = (("human", "proxy"), ("rater", "crowd", "consensus"), *[(False, True)], STATUSES, *[(False, True)] * 3)
    votes = []
    for source, kind, held, status, label, rating, secondary in itertools.product(*choices):
        possible = (source == "human" or not held) and (status == "ok") == (label or rating)
        if possible and (label or not secondary):
            votes.append(Vote(f"u{len(votes):03d}", source, kind, held, status, label, rating, secondary))
    return votes


VOTES = every_vote()
NAMED = [vote for vote in VOTES if vote.kind != "crowd"]
SCHEMA = {
    "utterance_id": pl.String(), "annotator": pl.String(), "source": pl.String(), "label": pl.String(),
    "secondary": pl.List(pl.String()), "valence": pl.Float64(), "status": pl.String(), "held_out": pl.Boolean(),
}  # fmt: skip


def table(votes: list[Vote], more: tuple[dict[str, object], ...] = ()) -> Votes:
    return Votes.of(pl.DataFrame([*(vote.row() for vote in votes), *more], schema=SCHEMA), taxonomy=LABELS)


def learned() -> tuple[dict[str, object], ...]:
    """Votes to fit on, about other utterances."""
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for i in range(40):
        truth = LABELS[int(random.integers(3))]
        for annotator, source in (("c/r1", "human"), ("c/r2", "human"), ("alm", "proxy")):
            label = truth if random.random() < 0.8 else LABELS[int(random.integers(3))]
            vote = Vote(f"z{i:02d}", source, "rater", False, "ok", True, True, False).row()
            rows.append({**vote, "annotator": annotator, "label": label, "valence": float(random.random())})
    return tuple(rows)


def labels_for(votes: list[Vote], **columns: object) -> Labels:
    frame = pl.DataFrame({"utterance_id": [vote.utterance for vote in votes]})
    shares = {f"p_{label}": 1 / 3 for label in LABELS}
    return Labels.of(frame.with_columns(**{k: pl.lit(v) for k, v in (shares | columns).items()}))


def utterances_for(votes: list[Vote]) -> Utterances:
    return Utterances.of(pl.DataFrame({"utterance_id": [vote.utterance for vote in votes]}))


consensus_or_not = pytest.mark.parametrize("consensus", [False, True])


def test_there_are_all_combinations() -> None:
    assert len(VOTES) == 3 * (2 * (5 + 4) + (5 + 4))
    assert len({tuple(vote.row().items())[1:].__repr__() for vote in VOTES}) == len(VOTES)


@consensus_or_not
@pytest.mark.parametrize("answer", ["label", "rating", "either"])
@pytest.mark.parametrize("side", ["human", "proxy", "fit", "held_out"])
def test_the_rule_itself(side, answer, consensus) -> None:
    kept = table(VOTES).frame.filter(which_count(side, consensus=consensus, answer=answer))
    expected = [vote.utterance for vote in VOTES if vote.counts(side, consensus, answer)]
    assert kept["utterance_id"].to_list() == expected
    assert expected


@consensus_or_not
@pytest.mark.parametrize("answer", ["label", "rating"])
def test_every_row_counts_or_is_left_out_for_one_reason(answer, consensus) -> None:
    votes = table(VOTES)
    kept = votes.frame.filter(which_count("fit", consensus=consensus, answer=answer)).height
    excluded = sum(finding.count for finding in left_out(votes, consensus=consensus, answer=answer))
    rows = len(VOTES) if answer == "label" else sum(vote.rating for vote in VOTES)
    assert kept + excluded == rows


@consensus_or_not
@pytest.mark.parametrize("merge", [Merge(), Merge(primary=0.9, secondary=0.1)])
def test_counts_of_an_estimator(merge, consensus) -> None:
    counts = counts_of(table(VOTES), merge=merge, consensus=consensus)
    assert counts.utterances.to_list() == [vote.utterance for vote in VOTES]
    share = [1.0 - merge.secondary if vote.secondary else 1.0 for vote in VOTES]
    human = np.array([vote.counts("human", consensus) for vote in VOTES]) * 1.0
    assert np.allclose(counts.human, np.outer(human, [0, 1, 0]) * np.array(share)[:, None] + np.outer(
        human * (1 - np.array(share)), [0, 0, 1]
    ))  # fmt: skip
    proxy = sum(block.votes for block in counts.blocks)
    assert np.array_equal(proxy, [vote.counts("proxy", consensus) for vote in VOTES])


@consensus_or_not
@pytest.mark.parametrize("parts", [1, 2])
def test_labels_of_fuse_at_once_and_in_parts(parts, consensus) -> None:
    settings = FuseSettings(method="dirichlet", consensus=consensus)
    whole = table(VOTES, learned())
    half = pl.col("utterance_id") < VOTES[len(VOTES) // 2].utterance
    halves = [Votes(whole.frame.filter(condition), whole.about) for condition in (half, ~half)]
    if parts == 1:
        frame = fuse(whole, settings).labels.frame
    else:
        fusion = Fusion.of([(part, None) for part in halves], settings)
        frame = pl.concat([fusion.labels(part, None).frame for part in halves])
    mine = frame.filter(pl.col("utterance_id").str.starts_with("u")).sort("utterance_id")
    assert mine["human_votes"].to_list() == [float(vote.counts("human", consensus)) for vote in VOTES]
    assert mine["proxy_votes"].to_list() == [float(vote.counts("proxy", consensus)) for vote in VOTES]


def test_dawid_skene_which_needs_raters_and_counts_no_consensus() -> None:
    votes = table(NAMED, learned())
    frame = DawidSkene().fit(votes).predict(votes).frame
    mine = frame.filter(pl.col("utterance_id").str.starts_with("u")).sort("utterance_id")
    assert mine["human_votes"].to_list() == [float(vote.counts("human", False)) for vote in NAMED]
    assert mine["proxy_votes"].to_list() == [float(vote.counts("proxy", False)) for vote in NAMED]


def test_attributes_which_need_raters_and_count_no_consensus() -> None:
    ids = pl.Series([vote.utterance for vote in VOTES])
    expected = [vote.counts("human", False, "rating") for vote in VOTES]
    assert rated_by_people(table(VOTES), ids).tolist() == expected
    rated = [vote for vote, mine in zip(VOTES, expected, strict=True) if mine]
    plain = Attributes().fit(table(rated, learned())).models_["valence"]
    every = Attributes().fit(table([v for v in VOTES if v.source == "human"], learned())).models_["valence"]
    assert every.raters == plain.raters == ("c/crowd", "c/r1", "c/r2")
    assert np.array_equal(every.rater_bias, plain.rater_bias)
    assert (every.mean, every.variance, every.iterations) == (plain.mean, plain.variance, plain.iterations)


@consensus_or_not
def test_held_out_votes_that_are_scored_against(consensus) -> None:
    held = [vote for vote in VOTES if vote.held_out]
    expected = [vote.utterance for vote in held if vote.counts("held_out", consensus)]
    ids, counts, findings = held_out_counts(table(held), consensus=consensus)
    assert ids.to_list() == expected
    assert counts.tolist() == [[0.0, 1.0, 0.0]] * len(expected)
    assert sum(finding.count for finding in findings) == len(held) - len(expected)
    scored = score_held_out(labels_for(held), table(held), consensus=consensus)
    assert scored.per_utterance["utterance_id"].to_list() == expected


@consensus_or_not
def test_held_out_ratings_that_are_scored_against(consensus) -> None:
    held = [vote for vote in VOTES if vote.held_out and vote.rating and vote.label]
    rows = [vote.row() | {"valence": 0.1 if vote.kind == "consensus" else 0.5} for vote in held]
    predicted = labels_for(held, valence=0.5)
    both = [vote for vote in held if vote.counts("held_out", consensus, "rating")]
    off = sum(vote.kind == "consensus" for vote in both)
    error = score_held_out(predicted, table([], tuple(rows)), consensus=consensus).score("rmse_valence")
    assert error == pytest.approx(0.4 * (off / len(both)) ** 0.5)


@consensus_or_not
def test_what_a_report_is_made_from(consensus) -> None:
    votes = table(VOTES)
    known = (votes if consensus else without_consensus(votes)).frame["utterance_id"].unique()
    material, _ = material_of(
        labels_for(VOTES), known, lambda _: votes, utterances_for(VOTES), at_most=1000, seed=0, consensus=consensus
    )
    kept = [vote for vote in VOTES if consensus or vote.kind != "consensus"]
    assert material.ids.tolist() == [vote.utterance for vote in kept]
    for side in ("human", "held_out", "proxy"):
        assert getattr(material, side).sizes().tolist() == [vote.counts(side, consensus) for vote in kept], side
        of_side = ballots_of(table(VOTES), pl.Series([vote.utterance for vote in kept]), side, consensus=consensus)
        assert np.array_equal(of_side.counts(), getattr(material, side).counts())


def test_the_alt_test_which_needs_raters_and_counts_no_consensus() -> None:
    human = [vote for vote in NAMED if vote.source == "human"]
    bot = [Vote(vote.utterance, "proxy", "rater", False, "ok", True, False, False).row() for vote in human]
    assert alt_test(table(human, tuple(bot)), "alm").items == sum(vote.counts("human", False) for vote in human)


@pytest.mark.parametrize("counting", [Counting(), Counting(consensus=True), None])
@pytest.mark.parametrize("vote", VOTES, ids=lambda vote: vote.utterance)
def test_labels_that_saw_what_they_are_judged_by(vote, counting) -> None:
    consensus = counting is None or counting.consensus
    votes = table([vote])
    given = float(vote.counts("human", consensus))
    assert refuse_seen(labels_for([vote], human_votes=given), votes, counting) == []
    more = labels_for([vote], human_votes=given + 1.0)
    if vote.counts("held_out", consensus):
        with pytest.raises(InputError, match="held-out votes"):
            refuse_seen(more, votes, counting)
    else:
        counted = vote.counts("human", consensus)
        assert [finding.kind for finding in refuse_seen(more, votes, counting)] == ["votes_missing"] * counted


@pytest.mark.parametrize("vote", VOTES, ids=lambda vote: vote.utterance)
def test_human_shares_beside_which_a_panel_is_watched(vote) -> None:
    assert HumanVotes.of_parts([table([vote])]).shares == ({"happy": 1.0} if vote.counts("human", True) else {})


def test_utterances_of_which_everything_is_held_out() -> None:
    expected = [vote.utterance for vote in VOTES if vote.counts("held_out", True, "either")]
    assert only_held_out(table(VOTES)).to_list() == expected
    given = [Vote(name, "human", "rater", False, "ok", True, False, False) for name in expected[::2]]
    both = table(VOTES, tuple({**vote.row(), "annotator": "c/r2"} for vote in given))
    assert only_held_out(both).to_list() == expected[1::2]


def test_utterances_with_held_out_votes_for_no_label() -> None:
    voted = {vote.utterance for vote in VOTES if vote.held_out and vote.source == "human" and vote.kind != "consensus"}
    labelled = {vote.utterance for vote in VOTES if vote.counts("held_out", False)}
    assert labelled < voted
    assert held_out_without_label(table(VOTES)) == len(voted - labelled)


@pytest.mark.parametrize("vote", [vote for vote in VOTES if vote.kind != "consensus"], ids=lambda vote: vote.utterance)
def test_votes_of_an_annotator_whose_influence_is_shown(vote) -> None:
    estimator = fuse(table([], learned()), FuseSettings(method="dirichlet")).estimator
    shown = influence(estimator, table([vote]), vote.utterance)
    assert shown["votes"].to_list() == [float(vote.counts("fit", False))]


def test_usable_votes_are_numbered_by_their_utterances() -> None:
    usable = usable_of(table(VOTES))
    assert usable.human["u"].to_list() == [n for n, vote in enumerate(VOTES) if vote.counts("human", False)]
    assert usable.proxy["u"].to_list() == [n for n, vote in enumerate(VOTES) if vote.counts("proxy", False)]


@consensus_or_not
@pytest.mark.parametrize("merge", [Merge(), Merge(primary=0.9, secondary=0.1)])
def test_plain_shares_are_of_the_votes_that_count_and_counted_as_for_the_labels(merge, consensus) -> None:
    counting = Counting(merge=merge, consensus=consensus).model_dump(mode="json")
    labels = labels_for(VOTES, concentration=7.0, proxy_votes=2.0, concentration_gain=1.0, weight=0.5)
    labels = Labels.of(labels.frame, about=labels.about.with_(made_by=MadeBy.of("fuse", counting, {})))
    plain, findings = with_shares_of_votes(labels, table(VOTES), utterances_for(VOTES))
    counted = np.array([vote.counts("human", consensus) for vote in VOTES])
    second = np.array([vote.secondary for vote in VOTES]) * merge.secondary
    expected = np.stack([0.0 * second, 1.0 - second, second], axis=1)
    assert np.allclose(plain.distributions(), np.where(counted[:, None], expected, 1 / 3))
    assert plain.frame["concentration"].to_list() == [1.0 if is_counted else 7.0 for is_counted in counted]
    assert plain.frame["proxy_votes"].to_list() == [0.0 if is_counted else 2.0 for is_counted in counted]
    assert plain.frame["weight"].to_list() == [0.5] * len(VOTES)
    assert [(finding.kind, finding.count) for finding in findings] == [("label_for_votes", int((~counted).sum()))]


def test_plain_shares_of_a_copy_and_of_a_mixture_are_those_of_their_parents() -> None:
    votes = Votes.of(
        pl.DataFrame({"utterance_id": ["a", "a", "b"], "annotator": ["c/r1", "c/r2", "c/r1"],
                      "label": ["angry", "sad", "happy"]}),
        taxonomy=LABELS,
    )  # fmt: skip
    recipes = {"a": None, "b": None, "none": None, "copy": [["a", 1.0]], "mix": [["a", 0.7], ["b", 0.3]],
               "of mix": [["mix", 0.5], ["b", 0.5]], "half": [["a", 0.5], ["none", 0.5]]}  # fmt: skip
    written = [parents and json.dumps({"parents": parents, "effects": [], "seed": 0}) for parents in recipes.values()]
    utterances = Utterances.of(pl.DataFrame({"utterance_id": list(recipes), "recipe": written}))
    labels = Labels.of(
        pl.DataFrame(
            {"utterance_id": list(recipes), "p_angry": 0.2, "p_happy": 0.2, "p_sad": 0.6, "concentration": 9.0}
        )
    )
    plain, findings = with_shares_of_votes(labels, votes, utterances)
    shares = dict(zip(recipes, plain.distributions().round(9).tolist(), strict=True))
    assert shares == {
        "a": [0.5, 0.0, 0.5], "b": [0.0, 1.0, 0.0], "none": [0.2, 0.2, 0.6], "copy": [0.5, 0.0, 0.5],
        "mix": [0.35, 0.3, 0.35], "of mix": [0.175, 0.65, 0.175], "half": [0.2, 0.2, 0.6],
    }  # fmt: skip
    assert plain.frame["concentration"].round(9).to_list() == [2.0, 1.0, 9.0, 2.0, 1.7, 1.35, 9.0]
    assert plain.frame["entropy"][1] == 0.0
    assert [finding.count for finding in findings] == [2]


def test_plain_shares_without_a_vote_to_take_them_of_are_refused() -> None:
    labels, utterances = labels_for(VOTES), utterances_for(VOTES)
    with pytest.raises(InputError, match="needs the human votes"):
        with_shares_of_votes(labels, None, utterances)
    held = table([vote for vote in VOTES if vote.held_out])
    with pytest.raises(InputError, match="no human vote"):
        with_shares_of_votes(labels, held, utterances)
    other = table([Vote("elsewhere", "human", "rater", False, "ok", True, False, False)])
    with pytest.raises(InputError, match="no label belongs"):
        with_shares_of_votes(labels, other, utterances)
    with pytest.raises(InputError, match="taxonomy"):
        with_shares_of_votes(labels, Votes.of(other.frame, taxonomy=("happy", "sad")), utterances)


def test_only_this_room_knows_what_a_consensus_is_called() -> None:
    package = Path(alm_proxies.__file__).parent
    users = {path.name for path in package.rglob("*.py") if "CONSENSUS" in path.read_text(encoding="utf-8")}
    assert users == {"tables.py", "ballots.py", "hold_out.py", "kept_votes.py", "corpus_files.py"}
    text = {path.name for path in package.rglob("*.py") if '"/consensus"' in path.read_text(encoding="utf-8")}
    assert text == {"tables.py"}
