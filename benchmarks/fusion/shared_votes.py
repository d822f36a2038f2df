"""Strengths of labels whose human votes are shared among labels, against a known truth.

1,000 utterances of 40 speakers with six labels, truths from a mixture of Dirichlets, three human votes each and a proxy
of eight votes. Human votes are whole; two answers of one rater of half a vote each, from all raters (`halves`) or by
four in ten (`some halves`); stated shares (`shares`); or whole with a secondary label by half of the raters, merged
.9 to .1 (`secondary`). Every vote has the truth as its mean. Printed: the squared error of the labels, and by what part
of the promised error, (1 - |p|^2) / (S + 1), it differs: of all utterances, of those whose raters agree, and of those
without a majority; and the mean concentration_gain. With --alone the proxy is left out.

    python benchmarks/fusion/shared_votes.py [--seeds 3] [--kinds halves shares] [--methods auto raters] [--alone]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import polars as pl

from alm_proxies.counting import Merge
from alm_proxies.estimators.counts import Array, Counts, counts_of
from alm_proxies.estimators.dirichlet import Dirichlet, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.known_raters import KnownRaters
from alm_proxies.estimators.loglinear import Loglinear
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.stack import Stack
from alm_proxies.seeds import generator
from alm_proxies.tables import Utterances, Votes

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
COMMON = np.array([0.35, 0.2, 0.15, 0.15, 0.1, 0.05])
ROWS, VOTES, CAST = 1000, 3, 8
KINDS = ("whole", "halves", "some halves", "shares", "secondary")
METHODS: dict[str, Callable[[], Estimator]] = {
    "weighted": Weighted,
    "dirichlet": Dirichlet,
    "loglinear": Loglinear,
    "gated": lambda: Gated(8, 0.003),
    "mixture": Mixture,
    "raters": KnownRaters,
    "auto": lambda: Stack(quiet=True),
}


def corpus(kind: str, seed: int) -> tuple[Counts, Array]:
    """The counted votes of a simulated corpus, and the truth."""
    random = generator(seed, "shared votes", kind)
    centre = random.choice(len(LABELS), ROWS, p=COMMON)
    truth = np.stack([random.dirichlet(0.35 + 4.0 * np.eye(len(LABELS))[c]) for c in centre])
    ids = [f"u{row:04}" for row in range(ROWS)]
    rows: list[dict[str, object]] = []
    for name, share in zip(ids, truth, strict=True):
        for rater in range(VOTES):
            vector = _vote(kind, share, random)
            second = random.choice(LABELS, p=share) if kind == "secondary" and random.random() < 0.5 else None
            vote = {"utterance_id": name, "annotator": f"c/r{rater}", "source": "human", "draw": 0}
            vote["secondary"] = [str(second)] if second is not None else None
            rows += [{**vote, "label": LABELS[j], "weight": vector[j]} for j in np.flatnonzero(vector).tolist()]
        for draw, label in enumerate(random.choice(len(LABELS), CAST, p=0.7 * share + 0.3 / len(LABELS)).tolist()):
            vote = {"utterance_id": name, "annotator": "proxy", "source": "proxy", "draw": draw}
            rows.append({**vote, "label": LABELS[label], "weight": 1.0, "secondary": None})
    schema = {"secondary": pl.List(pl.String)}
    votes = Votes.of(pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None), taxonomy=LABELS)
    people = Utterances.of(pl.DataFrame({"utterance_id": ids, "speaker": [f"s{row % 40}" for row in range(ROWS)]}))
    merge = Merge(primary=0.9, secondary=0.1) if kind == "secondary" else Merge()
    return counts_of(votes, utterances=people, merge=merge), truth


def _vote(kind: str, share: Array, random: np.random.Generator) -> Array:
    """One human vote."""
    if kind == "shares":
        stated = np.round(random.dirichlet(2.0 * share + 1e-3), 3)
        stated[stated.argmax()] += 1.0 - stated.sum()
        return np.asarray(stated)
    shared = kind == "halves" or (kind == "some halves" and random.random() < 0.4)
    return np.asarray(random.multinomial(2, share) / 2 if shared else random.multinomial(1, share), dtype=np.float64)


def main() -> None:
    """Print a row for each kind of votes and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--alone", action="store_true", help="leave the proxy out")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", NotConvergedWarning)
    print("votes        method     error  over promised: all  agree  no majority  gain: agree  no majority")
    for kind in arguments.kinds:
        made = [corpus(kind, seed) for seed in range(arguments.seeds)]
        if arguments.alone:
            made = [(counts.only(()), truth) for counts, truth in made]
        for method in arguments.methods:
            figures = np.mean([_figures(METHODS[method](), *each) for each in made], axis=0)
            error, *ratios = figures[:4].tolist()
            shown = "  ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"{kind:12s} {method:10s} {error:.4f}  {shown}  {figures[4]:+.1f}  {figures[5]:+.1f}", flush=True)


def _figures(estimator: Estimator, counts: Counts, truth: Array) -> list[float]:
    labels = estimator.fit(counts).predict(counts)
    mean, strength = labels.distributions(), labels.frame["concentration"].to_numpy()
    gain = labels.frame["concentration_gain"].to_numpy()
    most = counts.human.max(1)
    errors = np.square(mean - truth).sum(1)
    promised = (1.0 - np.square(mean).sum(1)) / (strength + 1.0)
    every = np.ones(len(mean), dtype=bool)
    agree, none = most > 0.9 * VOTES - 1e-9, most <= VOTES / 2 + 1e-9
    ratios = [float(errors[part].sum() / promised[part].sum()) for part in (every, agree, none)]
    return [float(errors.mean()), *ratios, float(gain[agree].mean()), float(gain[none].mean())]


if __name__ == "__main__":
    main()
