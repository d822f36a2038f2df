"""Fusion scored against the truth: simulated utterances with known distributions, proxies drawn from known ones.

Every utterance has 44 votes of different listeners; k of them are kept, the last twenty are held out, the same for
every method and k. A proxy casts ten votes an utterance, drawn from a distribution that is known: see `proxies_of`.
Scores are the cross-entropy of the truth with the prediction (NLL) and their JSD (base 2), and the same for the
held-out votes. The corpus is spoken once into --folder (about two minutes) and found there again.

    python benchmarks/fusion/simulated_truth.py --folder FOLDER [--quick] [--out simulated_truth.json]
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from crema_votes import LABELS, Corpus, jsd, losses
from real_votes import Report, average, ceiling, fitted, gap, raw
from worth_in_votes import worth_in_votes

from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.dirichlet import Dirichlet, Human, Pool, Weighted
from alm_proxies.estimators.estimator import NotConvergedWarning, Posterior
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.trials import Losses
from alm_proxies.seeds import generator
from alm_proxies.stages.simulate.stage import SimulateSettings, simulate
from alm_proxies.stages.simulate.words import TINTED

SETTINGS = SimulateSettings(utterances=3000, votes=(4, 4), dense=40, seed=1)
HELD_OUT = 20
PROXY_VOTES = 10
CURVE = (1, 2, 3, 4, 6, 8, 12, 16, 24)
HELPFUL = ("ideal", "biased", "weak", "text")
FUSED, ALONE = "auto", "human-only mixture (auto)"
RIVALS = (
    (ALONE, "none"),
    ("weighted, tuned", ""),
    ("pool", ""),
    ("mixture, generative, 16 classes", ""),
    ("supervised (ceiling)", ""),
)
# What a biased proxy says (columns) when the truth says (rows), in the order of LABELS.
CONFUSION = np.array(
    [
        [0.70, 0.20, 0.02, 0.05, 0.03, 0.00],
        [0.35, 0.40, 0.00, 0.00, 0.20, 0.05],
        [0.10, 0.05, 0.45, 0.20, 0.05, 0.15],
        [0.05, 0.00, 0.10, 0.80, 0.05, 0.00],
        [0.02, 0.05, 0.00, 0.03, 0.75, 0.15],
        [0.00, 0.05, 0.05, 0.00, 0.40, 0.50],
    ]
)


class Simulated(Corpus):
    """The simulated corpus in the form of CREMA-D: `voice` has all 44 votes, `truth` their distributions."""

    def __init__(self, folder: Path) -> None:
        simulated = simulate(folder, SETTINGS)
        self.utterances = simulated.utterances
        frame = simulated.utterances.frame
        self.clips = frame["utterance_id"].to_list()
        self.actors = frame["speaker"]
        self.truth = simulated.truth.frame.select(f"p_{label}" for label in LABELS).to_numpy()
        votes = simulated.votes.frame.join(frame.select("utterance_id").with_row_index("row"), on="utterance_id")
        self.voice = np.zeros((len(frame), len(LABELS)))
        label = votes["label"].replace_strict({name: j for j, name in enumerate(LABELS)}, return_dtype=pl.Int64)
        np.add.at(self.voice, (votes["row"].to_numpy(), label.to_numpy()), 1.0)
        transcripts = frame["transcript"].str.to_lowercase().str.strip_chars_end(".").str.split(", ")
        clauses = {" ".join(clause): LABELS.index(name) for name, some in TINTED.items() for clause in some}
        self.tinted = np.zeros_like(self.voice)
        for row, spoken in enumerate(transcripts):
            for clause in spoken:
                if clause in clauses:
                    self.tinted[row, clauses[clause]] += 1.0

    def drawn(self, seed: int) -> tuple[dict[int, Array], Array]:
        """The first k votes of every utterance in random order, and its last twenty."""
        rng = generator(seed, "split")
        kept = {k: np.zeros_like(self.voice) for k in CURVE}
        held = np.zeros_like(self.voice)
        for row, counts in enumerate(self.voice.astype(int)):
            votes = rng.permutation(np.repeat(np.arange(len(LABELS)), counts))
            np.add.at(held[row], votes[-HELD_OUT:], 1.0)
            for k, some in kept.items():
                np.add.at(some[row], votes[:k], 1.0)
        return kept, held


def proxies_of(corpus: Simulated, seed: int) -> dict[str, dict[str, Array]]:
    """Ten votes per utterance from each kind of proxy.

    ideal: the truth. biased: truth x CONFUSION, squared and normalised (sharper). weak: .3 truth + .7 mean truth.
    text: mean truth x exp(1.5 clauses worded like the label), normalised: it reads and does not hear.
    shuffled: ideal votes of another utterance. constant: neutral. permuted: ideal votes, every label renamed.
    duplicated: biased, under two names. fourfold: each biased vote entered four times, as if independent.
    beside noise: biased beside shuffled.
    """
    truth, mean = corpus.truth, corpus.truth.mean(0)

    def cast(name: str, shares: Array) -> Array:
        counts: Array = generator(seed, "proxy", name).multinomial(PROXY_VOTES, normal(shares)).astype(np.float64)
        return counts

    ideal, biased = cast("ideal", truth), cast("biased", normal(truth @ CONFUSION) ** 2)
    shuffled = ideal[generator(seed, "shuffled").permutation(len(ideal))]
    constant = np.zeros_like(ideal)
    constant[:, LABELS.index("neutral")] = PROXY_VOTES
    return {
        "ideal": {"p": ideal},
        "biased": {"p": biased},
        "weak": {"p": cast("weak", 0.3 * truth + 0.7 * mean)},
        "text": {"p": cast("text", mean * np.exp(1.5 * corpus.tinted))},
        "shuffled": {"p": shuffled},
        "constant": {"p": constant},
        "permuted": {"p": ideal[:, [3, 0, 5, 1, 2, 4]]},
        "duplicated": {"p": biased, "q": biased},
        "fourfold": {"p": 4 * biased},
        "beside noise": {"p": biased, "q": shuffled},
    }


def normal(shares: Array) -> Array:
    scaled: Array = shares / shares.sum(1, keepdims=True)
    return scaled


@dataclass(frozen=True)
class Score:
    """Losses per utterance of one method, seed and k, against the truth and against held-out votes."""

    truth_nll: Losses
    truth_jsd: Losses
    held_nll: Losses
    held_jsd: Losses

    @classmethod
    def of(cls, mean: Array, truth: Array, held: Array) -> Score:
        """The losses of predicted distributions."""
        weights = np.ones(len(truth))
        nll = -(truth * np.log(np.maximum(mean, 1e-12))).sum(1)
        return cls(Losses(nll, weights), Losses(jsd(mean, truth), weights), *losses(mean, held))


Results = dict[tuple[int, str, str], list[Score]]
MEASURES = {"truth_nll": "NLL, truth", "truth_jsd": "JSD2, truth", "held_nll": "NLL, held", "held_jsd": "JSD2, held"}


def auto(counts: Counts, seed: int) -> tuple[Posterior, float, str]:
    """The concentration of `auto`, the mean concentration that its proxies add, and its choice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        stack = Stack(seed=seed).fit(counts)
    aligned = stack.aligned(counts)
    posterior, without = stack.posterior(aligned), stack.posterior(aligned.without_proxies())
    return posterior, float((posterior.concentration - without.concentration).mean()), stack.words()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus is, or is to be spoken into")
    parser.add_argument("--quick", action="store_true", help="one seed, k = 3, helpful proxies")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    corpus = Simulated(arguments.folder)
    started = time.process_time()
    run = Run(corpus, 1 if arguments.quick else arguments.seeds, (3,) if arguments.quick else (1, 2, 3, 4))
    for seed in range(run.seeds):
        run.one_seed(seed, harm=not arguments.quick)
        print(f"seed {seed} done after {time.process_time() - started:.0f} s of CPU", flush=True)
    report = Report()
    run.say(report)
    report.kept["cpu seconds"] = round(time.process_time() - started, 1)
    print(f"\n{report.kept['cpu seconds']} s of CPU beside speaking")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report.kept, indent=1, default=float) + "\n", encoding="utf-8")


class Run:
    """All fits of all seeds, and their tables."""

    def __init__(self, corpus: Simulated, seeds: int, ks: tuple[int, ...]) -> None:
        self.corpus, self.seeds, self.ks = corpus, seeds, ks
        self.results: Results = {}
        self.believed: dict[tuple[int, str], list[tuple[Posterior, float]]] = {}
        self.chosen: dict[tuple[int, str], list[str]] = {}
        self.groups = corpus.actors.rank("dense").to_numpy().astype(np.int64)

    def one_seed(self, seed: int, *, harm: bool) -> None:
        """Every method at every k under every proxy; the harmful ones at k = 3."""
        kept, held = self.corpus.drawn(seed)
        kinds = proxies_of(self.corpus, seed)
        for k in CURVE:
            alone = self.corpus.counts(kept[k], {})
            self.keep(k, "none", ALONE, self.automatic(alone, k, "none", seed), held)
            self.keep(k, "none", "human", fitted(Human)(alone), held)
            self.keep(k, "none", "raw votes", raw(alone), held)
        for k in self.ks:
            for kind, proxies in kinds.items():
                if kind not in HELPFUL and not (harm and k == 3):
                    continue
                counts = self.corpus.counts(kept[k], proxies)
                self.keep(k, kind, FUSED, self.automatic(counts, k, kind, seed), held)
                for name, method in self.methods(seed, k).items():
                    self.keep(k, kind, name, method(counts), held)

    def methods(self, seed: int, k: int) -> dict[str, Callable[[Counts], Array]]:
        """The methods beside auto."""
        return {
            "pool": fitted(Pool),
            "weighted, tuned": fitted(Weighted),
            "dirichlet": fitted(Dirichlet),
            "mixture, generative, 16 classes": fitted(lambda: Mixture(16, seed=seed)),
            "gated, 16 classes, penalty .001": fitted(lambda: Gated(16, seed=seed)),
            "supervised (ceiling)": lambda counts: ceiling(self.corpus, counts, k, seed),
        }

    def automatic(self, counts: Counts, k: int, kind: str, seed: int) -> Array:
        """The predictions of auto; its strengths and choices are kept."""
        posterior, worth, words = auto(counts, seed)
        self.believed.setdefault((k, kind), []).append((posterior, worth))
        self.chosen.setdefault((k, kind), []).append(words)
        return posterior.mean

    def keep(self, k: int, kind: str, method: str, mean: Array, held: Array) -> None:
        """Score one method and store the result."""
        self.results.setdefault((k, kind, method), []).append(Score.of(mean, self.corpus.truth, held))

    def over_seeds(self, k: int, kind: str, method: str, measure: str) -> Losses:
        """Losses per utterance, averaged over the seeds."""
        return average(getattr(score, measure) for score in self.results[k, kind, method])

    def say(self, report: Report) -> None:
        """Every table."""
        self.say_corpus(report)
        self.say_scores(report)
        self.say_gaps(report)
        self.say_harm(report)
        self.say_worth(report)
        self.say_honesty(report)
        report.table(
            "chosen by auto",
            [{"k": k, "proxies": kind, "chosen": ", ".join(sorted(set(c)))} for (k, kind), c in self.chosen.items()],
        )

    def say_corpus(self, report: Report) -> None:
        """The size of the corpus, and the lowest possible scores."""
        truth = self.corpus.truth
        entropy = -(truth * np.log(truth)).sum(1).mean()
        sample = [jsd(truth, self.corpus.drawn(seed)[1]).mean() for seed in range(self.seeds)]
        rows = [("utterances", len(truth)), ("speakers", int(self.groups.max()))]
        rows += [("NLL of the truth itself (its entropy)", float(entropy))]
        rows += [("JSD2 of the truth to the held-out votes", float(np.mean(sample)))]
        report.table("the corpus and the floors", [{"message": message, "value": value} for message, value in rows])

    def say_scores(self, report: Report) -> None:
        """Every method with helpful proxies."""
        rows: list[dict[str, object]] = []
        for k, kind, method in sorted(self.results, key=lambda key: (key[0], key[1] != "none")):
            if k not in self.ks or kind not in ("none", *HELPFUL):
                continue
            row: dict[str, object] = {"k": k, "proxies": kind, "method": method}
            for measure, heading in MEASURES.items():
                endless = method == "raw votes" and measure.endswith("nll")
                row[heading] = "(infinite)" if endless else self.over_seeds(k, kind, method, measure).mean
            rows.append(row)
        report.table("against the truth and against twenty held-out votes", rows)

    def say_gaps(self, report: Report) -> None:
        """Auto against its rivals, paired."""
        rows = []
        for k in self.ks:
            for kind in HELPFUL:
                for other, of in RIVALS:
                    row: dict[str, object] = {"k": k, "proxies": kind}
                    for measure, heading in MEASURES.items():
                        sides = (
                            self.over_seeds(k, kind, FUSED, measure),
                            self.over_seeds(k, of or kind, other, measure),
                        )
                        difference = gap(f"auto minus {other}", *sides, self.groups)
                        row["comparison"] = difference["comparison"]
                        row[heading] = (
                            f"{difference['difference']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
                        )
                    rows.append(row)
        report.table("paired differences, 95 % intervals over speakers", rows)

    def say_harm(self, report: Report) -> None:
        """Every method with every proxy, against human votes alone."""
        rows = []
        for k, kind, method in self.results:
            if kind == "none" or k != 3 or (kind in HELPFUL and method != FUSED):
                continue
            row: dict[str, object] = {"proxies": kind}
            for measure in ("truth_nll", "held_nll"):
                sides = (self.over_seeds(3, kind, method, measure), self.over_seeds(3, "none", ALONE, measure))
                difference = gap(f"{method} minus human-only mixture", *sides, self.groups)
                row["comparison"] = difference["comparison"]
                row[MEASURES[measure]] = (
                    f"{difference['difference']:+.4f} ({difference['low']:+.4f} to {difference['high']:+.4f})"
                )
            rows.append(row)
        report.table("harm at k = 3", rows)

    def say_worth(self, report: Report) -> None:
        """Worth in human votes: by the loss, by the concentration of human-only fits, and concentration_gain itself."""
        curve = {k: self.over_seeds(k, "none", ALONE, "truth_nll") for k in CURVE}
        strength = {k: float(np.mean([m.concentration.mean() for m, _ in self.believed[k, "none"]])) for k in CURVE}
        report.table(
            "human-only learning curve against the truth",
            [{"k": k, "NLL, truth": curve[k].mean, "mean concentration": strength[k]} for k in CURVE],
        )
        rows = []
        for (k, kind), believed in self.believed.items():
            if kind == "none":
                continue
            worth = worth_in_votes(curve, self.over_seeds(k, kind, FUSED, "truth_nll"), self.groups)["all"]
            reads = {"worth": worth.votes - k, "low": worth.low - k, "high": worth.high - k}
            concentration = np.mean([posterior.concentration.mean() for posterior, _ in believed])
            by_fusion = {
                "read off the concentration": float(np.interp(concentration, list(strength.values()), CURVE)) - k,
                "mean concentration_gain": float(np.mean([gain for _, gain in believed])),
            }
            rows.append({"k": k, "proxies": kind, **reads, **by_fusion})
        report.table("worth of ten proxy votes in human votes, read off the curve, and concentration_gain", rows)

    def say_honesty(self, report: Report) -> None:
        """Squared error to the truth relative to its expected value, sum_j p_j (1 - p_j) / (c + 1)."""
        rows = []
        for (k, kind), believed in sorted(self.believed.items(), key=lambda item: (item[0][0], item[0][1] != "none")):
            ratios = []
            for posterior, _ in believed:
                error = np.square(posterior.mean - self.corpus.truth).sum(1)
                promised = (posterior.mean * (1 - posterior.mean)).sum(1) / (posterior.concentration + 1)
                ratios.append(error.sum() / promised.sum())
            row = {
                "k": k,
                "proxies": kind,
                "concentration": float(np.mean([m.concentration.mean() for m, _ in believed])),
            }
            rows.append(row | {"squared error / promised": float(np.mean(ratios))})
        report.table("is the concentration honest? (1 = as promised, above 1 = too sure)", rows)


if __name__ == "__main__":
    main()
