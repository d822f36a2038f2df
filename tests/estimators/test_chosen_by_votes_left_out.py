"""auto: proxies count where they help, are switched off where they do not, and the winner is reported."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.estimators.chosen import choose
from alm_proxies.estimators.counts import Block, Counts
from alm_proxies.estimators.estimator import Estimator
from alm_proxies.estimators.trials import Losses, folds_of, gap_words, paired, printed, score

LABELS = ("a", "b", "c", "d")
QUIET = pytest.mark.filterwarnings("ignore::alm_proxies.estimators.estimator.NotConvergedWarning")
pytestmark = QUIET


def counts_from(human: np.ndarray, **proxies: np.ndarray) -> Counts:
    n = len(human)
    blocks = tuple(
        Block(name, (name,), "votes", x.astype(float), x.sum(1).astype(float)) for name, x in proxies.items()
    )
    ids = pl.Series("utterance_id", [f"u{i:05d}" for i in range(n)])
    return Counts(LABELS, ids, human.astype(float), blocks, np.zeros((n, 0)), np.arange(n) % 25, True, None, ())


def crowd(n: int = 700, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Human votes, votes of a proxy that mixes up labels in a way it keeps to, and the truth."""
    rng = np.random.default_rng(seed)
    truth = np.stack([rng.dirichlet(0.3 + 3.0 * np.eye(4)[c]) for c in rng.integers(4, size=n)])
    human = np.stack([rng.multinomial(3, q) for q in truth])
    confusion = 0.7 * np.eye(4)[[0, 2, 1, 3]] + 0.3 / 4
    return human, np.stack([rng.multinomial(10, q @ confusion) for q in truth]), truth


def loss(fit: Estimator, counts: Counts, truth: np.ndarray) -> float:
    return float(-(truth * np.log(fit.posterior(fit.aligned(counts)).mean)).sum(1).mean())


@pytest.fixture(scope="module")
def useful():
    human, proxy, truth = crowd()
    counts = counts_from(human, proxy=proxy)
    return counts, truth, choose(counts, folds=3)


def test_useful_proxies_count_and_the_labels_are_nearer_to_the_truth(useful):
    counts, truth, choice = useful
    alone = choose(counts.only([]), folds=3)
    assert choice.candidate.proxies == ("proxy",)
    assert loss(choice.estimator, counts, truth) < loss(alone.estimator, counts.only([]), truth) - 0.05


def test_what_won_and_by_how_much_is_said_and_every_trial_is_kept(useful):
    _, _, choice = useful
    messages = {finding.kind: finding.message for finding in choice.findings}
    assert "held-out human votes" in messages["chosen"]
    assert "chosen for 2 votes" in messages["chosen"]
    assert messages["proxies"].startswith("the proxies count")
    won = choice.trials.filter("chosen")
    assert won.height == 1
    assert won["nll"].item() == choice.trials["nll"].min()
    assert won["high"].item() < 0


def test_shuffled_proxies_are_switched_off():
    human, proxy, _ = crowd()
    shuffled = proxy[np.random.default_rng(1).permutation(len(proxy))]
    choice = choose(counts_from(human, noise=shuffled), folds=3)
    assert choice.candidate.proxies == ()
    assert "switched off" in {f.kind: f.message for f in choice.findings}["proxies"]


def test_only_the_useful_one_of_two_proxies_counts_or_the_other_does_no_harm(useful):
    human, proxy, truth = crowd()
    noise = np.random.default_rng(2).multinomial(10, [0.25] * 4, size=len(human))
    counts = counts_from(human, proxy=proxy, noise=noise)
    choice = choose(counts, folds=3)
    assert "proxy" in choice.candidate.proxies
    alone_counts, _, alone = useful
    assert loss(choice.estimator, counts, truth) < loss(alone.estimator, alone_counts, truth) + 0.01


def test_the_same_votes_and_seed_choose_the_same():
    human, proxy, _ = crowd(200)
    first, second = (choose(counts_from(human, proxy=proxy), folds=3, seed=5) for _ in range(2))
    assert first.trials.equals(second.trials)
    assert first.candidate == second.candidate


def test_one_vote_an_utterance_is_enough_to_find_that_proxies_help():
    human, proxy, truth = crowd()
    rng = np.random.default_rng(3)
    single_votes = np.stack([rng.multivariate_hypergeometric(row, 1) for row in human])
    counts = counts_from(single_votes, proxy=proxy)
    choice = choose(counts, folds=3)
    assert choice.candidate.proxies == ("proxy",)
    assert loss(choice.estimator, counts, truth) < loss(choose(counts.only([])).estimator, counts.only([]), truth) - 0.1


def test_too_few_utterances_to_choose_by_are_said():
    human, proxy, _ = crowd(10)
    choice = choose(counts_from(human, proxy=proxy))
    assert choice.candidate.method == "weighted"
    assert [f.kind for f in choice.findings] == ["too_few_to_choose"]
    assert choice.trials.height == 0


@pytest.mark.parametrize("unvoted", [False, True], ids=["all utterances", "all utterances with human votes"])
def test_a_corpus_of_one_speaker_is_folded_by_utterance_and_its_proxies_may_count(unvoted):
    from dataclasses import replace

    human, proxy, _ = crowd()
    if unvoted:
        human[1::2] = 0
    counts = replace(counts_from(human, proxy=proxy), speakers=np.arange(len(human)) % (2 if unvoted else 1))
    choice = choose(counts, folds=3)
    assert choice.candidate.proxies == ("proxy",)
    assert "all are of one speaker" in {f.kind: f.message for f in choice.findings}["chosen"]


@pytest.fixture(scope="module")
def honest():
    human, proxy, truth = crowd(1500)
    counts = counts_from(human, proxy=proxy)
    return human, proxy, truth, loss(choose(counts, folds=3).estimator, counts, truth)


@pytest.mark.parametrize("leak", ["a copy of one rater", "asked where the human votes disagree"])
def test_proxies_that_know_of_the_human_votes_do_not_count_beside_honest_ones(leak, honest):
    """Cross-validation would choose them: they predict the very votes they were made from, and no others."""
    human, proxy, truth, without = honest
    rng = np.random.default_rng(7)
    if leak.startswith("a copy"):
        leaked = 10 * np.stack([rng.multivariate_hypergeometric(row, 1) for row in human])
    else:
        leaked = rng.multinomial(10, truth) * (human.max(1) < 3)[:, None]
    counts = counts_from(human, leaked=leaked, proxy=proxy)
    choice = choose(counts, folds=3)
    assert choice.candidate.proxies == ("proxy",)
    leaks = [f for f in choice.findings if f.kind == "proxies_leak"]
    assert [f.where for f in leaks] == ["leaked"]
    assert "do not count" in leaks[0].message
    assert loss(choice.estimator, counts, truth) == pytest.approx(without)


def test_folds_keep_speakers_whole_and_are_of_like_size():
    human, _, _ = crowd(500)
    counts = counts_from(human)
    fold = folds_of(counts, 5, 0)
    for speaker in range(25):
        assert len(set(fold[counts.speakers == speaker])) == 1
    sizes = np.bincount(fold)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 20


def crema() -> Path:
    root = os.environ.get("ALM_PROXIES_TEST_DATA")
    if not root:
        pytest.skip("ALM_PROXIES_TEST_DATA is not set")
    return Path(root) / "crema_d" / "tabulatedVotes.csv"


def test_on_real_votes_audio_visual_listeners_help_and_shuffled_ones_do_no_harm():
    """CREMA-D, a third of the clips: three voice votes to fuse, four to score by, audio-visual votes as proxies."""
    table = pl.read_csv(crema(), infer_schema_length=None, null_values=["NA"])
    table = table.rename({table.columns[0]: "row"}).with_columns(clip=pl.col("row") % 100_000).sort("clip")
    voice, heard = (
        table.filter(pl.col("row") // 100_000 == m).select("A", "D", "F", "H", "N", "S").to_numpy().astype(int)
        for m in (1, 3)
    )
    actor = table.filter(pl.col("row") // 100_000 == 1)["fileName"].str.slice(0, 4).cast(pl.Int64).to_numpy()
    keep = np.flatnonzero(voice.sum(1) >= 8)[::3]
    rng = np.random.default_rng(0)
    both = np.stack([rng.multivariate_hypergeometric(row, 7) for row in voice[keep]])
    human = np.stack([rng.multivariate_hypergeometric(row, 3) for row in both])
    held = both - human
    n = len(keep)

    def counts(*proxies: np.ndarray) -> Counts:
        blocks = tuple(Block("p", ("p",), "votes", x.astype(float), x.sum(1).astype(float)) for x in proxies)
        ids = pl.Series("utterance_id", [f"u{i:05d}" for i in range(n)])
        labels = tuple("ADFHNS")
        return Counts(labels, ids, human.astype(float), blocks, np.zeros((n, 0)), actor[keep], True, None, ())

    def nll(votes: Counts) -> np.ndarray:
        choice = choose(votes, folds=3)
        return -(held * np.log(choice.estimator.posterior(choice.estimator.aligned(votes)).mean)).sum(1) / 4

    alone, seen = nll(counts()), nll(counts(heard[keep]))
    shuffled = nll(counts(heard[keep][rng.permutation(n)]))
    assert seen.mean() - alone.mean() < -0.04
    assert shuffled.mean() - alone.mean() < 0.005


@pytest.mark.parametrize(("speakers", "least"), [(8, 0.90), (40, 0.92)])
def test_paired_intervals_cover_a_known_difference_that_varies_over_speakers_of_unequal_size(speakers, least):
    rng = np.random.default_rng(4)
    covered, width = 0, []
    for _ in range(400):
        size = rng.integers(5, 30, speakers)
        who = np.repeat(np.arange(speakers), size)
        votes = rng.integers(1, 4, len(who)).astype(float)
        shift = -0.1 + rng.normal(0, 0.1, speakers)[who] + rng.normal(0, 0.2, len(who))
        difference = paired(Losses(votes * (1 + shift), votes), Losses(votes, votes), who)
        covered += difference.low <= -0.1 <= difference.high
        width.append(difference.error)
    assert least <= covered / 400 <= 0.98
    assert np.median(width) == pytest.approx(2 * 0.11 / np.sqrt(speakers), rel=0.35)


def test_one_speaker_gives_no_interval():
    single = paired(Losses(np.ones(9), np.ones(9)), Losses(np.zeros(9), np.ones(9)), np.zeros(9, dtype=np.int64))
    assert (single.estimate, single.low, single.high) == (1.0, -np.inf, np.inf)


@pytest.mark.parametrize(("speakers", "ends"), [(1, False), (2, False), (3, True)])
def test_a_difference_is_printed_with_an_interval_only_of_three_speakers_or_more(speakers, ends):
    rng = np.random.default_rng(0)
    first, second = (Losses(rng.random(12), np.ones(12)) for _ in range(2))
    gap = paired(first, second, np.arange(12) % speakers)
    assert np.isfinite(printed(gap).low) == ends
    assert printed(gap).estimate == gap.estimate
    assert (" to " in gap_words(gap, "speakers")) == ends
    assert ("which takes 3 speakers or more" in gap_words(gap, "speakers")) != ends
    assert ("which takes 3 utterances or more" in gap_words(gap, "utterances (speakers are not known)")) != ends


def test_left_out_votes_are_scored_from_the_others_alone():
    """A unanimous pair: with either vote left out the other still speaks for it."""
    human, _, _ = crowd(200)
    counts = counts_from(human)
    choice = choose(counts, folds=2)
    left = counts.left_one_out()
    assert left.mass.sum() == human.sum()
    together = score(choice.estimator, left.beside(counts), left, len(counts))
    seen = -(counts.human * np.log(choice.estimator.posterior(counts).mean)).sum()
    assert together.loss.sum() > seen


def test_a_numeric_column_counts_like_a_proxy_where_it_helps():
    from dataclasses import replace

    human, _, truth = crowd(500)
    rng = np.random.default_rng(6)
    loud = np.log(truth[:, :1]) + rng.normal(0, 0.3, (500, 1))
    useful, useless = (replace(counts_from(human), columns=c) for c in (loud, rng.normal(size=(500, 1))))
    assert choose(useful, folds=3).candidate.proxies == ("columns",)
    assert choose(useless, folds=3).candidate.proxies == ()
