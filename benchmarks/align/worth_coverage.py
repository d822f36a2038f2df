"""How often the interval of the worth in human votes covers the truth, over simulated corpora of 400 utterances.

The method is fixed: the mixture of human votes alone and that with proxies are fitted once to a corpus of their own and
never again. So there is one truth, the population curve: the expected log loss of these very methods beside k votes,
over utterances and votes without end. An answer beyond the curve covers where the truth lies there. One line a corpus
is appended to a file; the script goes on where it was stopped and prints the share that covers with its Clopper-Pearson
interval.

    nice -n 19 python benchmarks/align/worth_coverage.py worth_coverage.jsonl --corpora 400 --proxy 0.75
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import beta

from alm_proxies.ballots import Array
from alm_proxies.compare.material import material_of
from alm_proxies.compare.worth import learning
from alm_proxies.estimators.counts import Counts, counts_of
from alm_proxies.estimators.estimator import Estimator
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.trials import votes_reaching
from alm_proxies.seeds import generator
from alm_proxies.tables import Utterances, Votes

LABELS = ("angry", "happy", "neutral", "sad")
GIVEN, HELD_OUT, PROXY_VOTES = 3, 6, 5
EACH = 10
"""Utterances per speaker."""
KINDS = np.array([[8, 0.4, 1.2, 0.4], [0.4, 6, 1.5, 0.3], [0.5, 0.5, 9, 0.8], [0.4, 0.3, 1.6, 7], [1.2, 0.8, 1.2, 1.2]])
MOST = 8


def population(speakers: int, random: np.random.Generator, proxy: float) -> tuple[Array, Array]:
    """True shares of the utterances of `speakers` speakers, and the distributions that proxy votes are drawn from.

    A speaker has a taste for kinds of utterances and a clarity of speech; a proxy sees the truth mixed with a bias.
    """
    tastes = random.dirichlet(np.full(len(KINDS), 2.0), speakers).repeat(EACH, axis=0)
    clarity = random.lognormal(0.0, 0.4, speakers).repeat(EACH)
    kind = (tastes.cumsum(1) < random.random((speakers * EACH, 1))).sum(1)
    shares = random.standard_gamma(KINDS[kind] * clarity[:, None]) + 1e-9
    shares /= shares.sum(1, keepdims=True)
    bias = random.dirichlet(np.full(len(LABELS), 1.0), speakers * EACH)
    return shares, proxy * shares + (1.0 - proxy) * bias


def drawn(shares: Array, count: int, random: np.random.Generator) -> Array:
    """`count` labels of each row."""
    return (shares.cumsum(1)[:, None, :] < random.random((len(shares), count, 1))).sum(2).clip(0, shares.shape[1] - 1)


def corpus(speakers: int, random: np.random.Generator, proxy: float) -> tuple[Votes, Utterances]:
    """Votes of the fit, held-out ones and those of a proxy."""
    shares, seen = population(speakers, random, proxy)
    human, machine = drawn(shares, GIVEN + HELD_OUT, random), drawn(seen, PROXY_VOTES, random)
    ids = [f"u{number:06}" for number in range(len(shares))]
    frames = []
    for name, source, table in (("crowd", "human", human), ("proxy", "proxy", machine)):
        row, draw = (part.ravel() for part in np.indices(table.shape))
        columns = {
            "utterance_id": np.array(ids)[row], "annotator": name, "source": source, "draw": draw,
            "label": np.array(LABELS)[table.ravel()], "held_out": (source == "human") & (draw >= GIVEN),
        }  # fmt: skip
        frames.append(pl.DataFrame(columns))
    people = pl.DataFrame({"utterance_id": ids, "speaker": [f"s{number // EACH:05}" for number in range(len(ids))]})
    return Votes.of(pl.concat(frames), taxonomy=LABELS), Utterances.of(people)


def truth(methods: list[Estimator], template: Counts, proxy: float, speakers: int = 4000) -> tuple[float, list[float]]:
    """The worth on the population curve, and that curve: expected log losses, targets taken as the true shares."""
    random = generator(0, "population")
    shares, seen = population(speakers, random, proxy)
    order = drawn(shares, MOST, random)
    votes = np.eye(len(LABELS))[drawn(seen, PROXY_VOTES, random)].sum(1)
    rows = np.zeros(len(shares), dtype=np.int64)
    many = template.rows(rows)
    block = many.blocks[0]
    many = replace(many, blocks=(replace(block, counts=votes, votes=votes.sum(1)),))
    curve, fused = [], float("nan")
    for k in range(1, MOST + 1):
        context = np.eye(len(LABELS))[order[:, :k]].sum(1)
        losses = []
        for method in methods:
            mean = method.posterior(method.aligned(many.with_human(context))).mean
            losses.append(float(-(shares * np.log(np.maximum(mean, 1e-300))).sum(1).mean()))
        curve.append(losses[0])
        fused = losses[1] if k == GIVEN else fused
    return votes_reaching(range(1, MOST + 1), np.array(curve), fused) - GIVEN, curve


def coverage_of(number: int, methods: list[Estimator], speakers: int, proxy: float) -> dict[str, float | None]:
    """The worth for one corpus, as in the report."""
    votes, utterances = corpus(speakers, generator(number, "worth coverage"), proxy)
    counts = counts_of(votes, utterances=utterances)
    labels = methods[1].predict(counts)
    known = votes.frame["utterance_id"].unique()
    material, _ = material_of(labels, known, lambda _: votes, utterances, at_most=100_000, seed=0)
    learned = learning(material, counts, seed=number, refit=lambda _: methods)
    assert learned is not None
    read = dict(zip(("worth", "low", "high"), learned.votes(), strict=True))
    return {name: value if np.isfinite(value) else None for name, value in read.items()} | {
        "beyond": learned.at[-1] - learned.given
    }


def covers(row: dict[str, float | None], true: float) -> bool:
    """Whether the interval contains the truth; null is "beyond the curve", which covers a truth beyond it."""
    beyond = row["beyond"] or 0.0
    low, high = (beyond if row[end] is None else row[end] for end in ("low", "high"))
    assert low is not None
    assert high is not None
    return low <= true and (row["high"] is None or true <= high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--corpora", type=int, default=400)
    parser.add_argument("--utterances", type=int, default=400)
    parser.add_argument("--proxy", type=float, default=0.75, help="how much of the truth a proxy sees")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    asked = parser.parse_args()
    start = time.monotonic()
    random = generator(1, "corpus that the methods are fitted to")
    fitted_to, people = corpus(200, random, asked.proxy)
    counts = counts_of(fitted_to, utterances=people)
    methods: list[Estimator] = [Gated(8, seed=0).fit(counts.only(())), Gated(8, seed=0).fit(counts)]
    true, curve = truth(methods, counts, asked.proxy)
    print(f"truth: worth {true:.2f} human votes; curve {', '.join(f'{loss:.4f}' for loss in curve)}", flush=True)
    rows = [json.loads(line) for line in asked.file.read_text().splitlines()] if asked.file.exists() else []
    done = {row["corpus"] for row in rows if row["proxy"] == asked.proxy}
    with asked.file.open("a") as file:
        for number in range(asked.corpora):
            if number in done or time.monotonic() - start > 60 * asked.minutes:
                continue
            row = {"corpus": number, "proxy": asked.proxy, "utterances": asked.utterances}
            row |= coverage_of(number, methods, asked.utterances // EACH, asked.proxy)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
    mine = [row for row in rows if row["proxy"] == asked.proxy]
    hits, n = sum(covers(row, true) for row in mine), len(mine)
    low = beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0
    known = [row["worth"] for row in mine if row["worth"] is not None]
    print(
        f"{hits} of {n} corpora cover: {100 * hits / n:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}); "
        f"worth {np.mean(known):.2f} on average (sd {np.std(known):.2f}), {n - len(known)} beyond the curve"
    )


if __name__ == "__main__":
    main()
