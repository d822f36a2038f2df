"""Fusion on real votes: CREMA-D voice votes are the target, audio-visual and face votes of the same clips play proxies.

Four votes a clip are held out, the same for every method and every number k of human votes; nothing sees them but the
score. Every method is fitted to the same k votes of every clip; `auto` chooses by left-out votes among those k.

    ALM_PROXIES_TEST_DATA=... python benchmarks/fusion/real_votes.py [--quick] [--out real_votes.json]
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from crema_votes import HELD_OUT, Corpus, jsd, losses
from worth_in_votes import in_words, worth_in_votes

from alm_proxies.estimators.counts import Array, Counts
from alm_proxies.estimators.dirichlet import Dirichlet, Human, Pool, Weighted
from alm_proxies.estimators.estimator import Estimator, NotConvergedWarning
from alm_proxies.estimators.gated import Gated
from alm_proxies.estimators.mixture import Mixture
from alm_proxies.estimators.stack import Stack
from alm_proxies.estimators.supervised import Supervised
from alm_proxies.estimators.trials import Losses, Worth, paired
from alm_proxies.measures.jsd_floor import jsd_floor_of_votes
from alm_proxies.seeds import generator


def raw(counts: Counts) -> Array:
    shares: Array = counts.human / np.maximum(counts.human.sum(1, keepdims=True), 1.0)
    return shares


def ceiling(corpus: Corpus, counts: Counts, k: int, seed: int) -> Array:
    """Stacking on ALL votes of one half of the actors, for the other half."""
    mean = np.zeros_like(counts.human)
    half = (corpus.actors.rank("dense").to_numpy() + seed) % 2
    full = counts.with_human(corpus.voice)
    for part in (0, 1):
        fit = Supervised(k, seed=seed).fit(full.rows(np.flatnonzero(half != part)))
        rows = np.flatnonzero(half == part)
        mean[rows] = fit.posterior(fit.aligned(counts.rows(rows))).mean
    return mean


def floor(corpus: Corpus, seed: int) -> float:
    """JSD of a true distribution to four votes drawn from it, the truth drawn from a fit to all votes of a clip."""
    rng = generator(seed, "floor")
    counts = corpus.counts(corpus.voice, {})
    fit = Gated(16, seed=seed).fit(counts)
    posterior = fit.posterior(counts)
    alpha = posterior.mean * posterior.concentration[:, None]
    scored = corpus.voice.sum(1) >= 8
    truth = np.stack([rng.dirichlet(a) for a in alpha[scored]])
    sample = np.stack([rng.multinomial(HELD_OUT, q / q.sum()) for q in truth]).astype(np.float64)
    return float(jsd(truth, sample).mean())


def fitted(make: Callable[[], Estimator]) -> Callable[[Counts], Array]:
    def run(counts: Counts) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)
            fit = make().fit(counts)
        return fit.posterior(fit.aligned(counts)).mean

    return run


def auto(counts: Counts, seed: int, chosen: list[str] | None = None) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        stack = Stack(seed=seed).fit(counts)
    if chosen is not None:
        chosen.append(stack.words())
    return stack.posterior(stack.aligned(counts)).mean


def average(parts: Iterable[Losses]) -> Losses:
    """The losses per clip, averaged over seeds."""
    listed = list(parts)
    return Losses(np.mean([p.loss for p in listed], axis=0), np.mean([p.votes for p in listed], axis=0))


def observable(human: Array, proxy: Array) -> dict[str, np.ndarray]:
    """Strata known before any held-out vote."""
    different = (human > 0).sum(1)
    share = (proxy + 0.1) / (proxy + 0.1).sum(1, keepdims=True)
    entropy = -(share * np.log(share)).sum(1)
    third = np.searchsorted(np.quantile(entropy, [1 / 3, 2 / 3]), entropy)
    same = human.argmax(1) == proxy.argmax(1)
    return {
        "human votes": np.array(["", "unanimous", "two labels", "three labels", "four", "five"])[different],
        "proxy entropy": np.array(["low third", "middle third", "high third"])[third],
        "first choices": np.where(same, "humans and proxies agree", "humans and proxies differ"),
    }


def outcome(held: Array) -> np.ndarray:
    share = held / np.maximum(held.sum(1, keepdims=True), 1.0)
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(1)
    return np.array(["low", "medium", "high"])[np.searchsorted(np.array([0.4, 0.8]), entropy)]


class Report:
    """Prints results and stores them."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}

    def table(self, name: str, rows: list[dict[str, object]]) -> None:
        """Print a table as Markdown, and store it."""
        self.kept[name] = rows
        print(f"\n## {name}")
        heads = list(dict.fromkeys(key for row in rows for key in row))
        print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        for row in rows:
            cells = [row.get(head, "") for head in heads]
            print("| " + " | ".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells) + " |")


def gap(name: str, first: Losses, second: Losses, groups: np.ndarray) -> dict[str, object]:
    difference = paired(first, second, groups)
    return {"comparison": name, "difference": difference.mean, "low": difference.low, "high": difference.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, k = 3, audio-visual proxies, shuffled ones")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    corpus = Corpus(Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "tabulatedVotes.csv")
    seeds = range(1 if arguments.quick else arguments.seeds)
    ks = (3,) if arguments.quick else (1, 2, 3, 4, 5)
    started = time.perf_counter()
    report = Report()
    sources = {"audio-visual": {"audio-visual": corpus.audio_visual}}
    if not arguments.quick:
        sources["face"] = {"face": corpus.face}
        sources["both"] = {"audio-visual": corpus.audio_visual, "face": corpus.face}
    splits = {seed: corpus.split(seed, 5) for seed in seeds}
    results, chosen = run_all(corpus, splits, sources, ks)
    scored = {k: corpus.voice.sum(1) >= (8 if k < 5 else 9) for k in ks}
    groups = corpus.actors.rank("dense").to_numpy().astype(np.int64)
    say_scores(report, results, scored, floor(corpus, 0))
    estimated = np.nanmean([jsd_floor_of_votes(held[held.sum(1) > 0]).mean() for _, held in splits.values()])
    print(f"estimated from the held-out votes alone: {estimated:.4f}")
    report.table(
        "chosen by auto", [{"k": k, "proxies": p, "chosen": ", ".join(sorted(set(c)))} for (k, p), c in chosen.items()]
    )
    say_gaps(report, results, groups, scored)
    if 3 in ks:
        say_strata(report, corpus, splits, results, groups, scored[3])
        say_harm(report, corpus, splits, groups, scored[3], quick=arguments.quick)
    if 5 in ks:
        say_worth(report, corpus, splits, results, groups, sources)
    report.kept["seconds"] = round(time.perf_counter() - started, 1)
    print(f"\n{report.kept['seconds']} s")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report.kept, indent=1, default=float) + "\n", encoding="utf-8")


Results = dict[tuple[int, str, str], list[tuple[Losses, Losses]]]


def run_all(
    corpus: Corpus,
    splits: dict[int, tuple[dict[int, Array], Array]],
    sources: dict[str, dict[str, Array]],
    ks: Iterable[int],
) -> tuple[Results, dict[tuple[int, str], list[str]]]:
    """Every method at every k with every proxy, for each seed."""
    results: Results = {}
    chosen: dict[tuple[int, str], list[str]] = {}
    for seed, (kept, held) in splits.items():
        for k in ks:
            alone = corpus.counts(kept[k], {})

            def keep(proxies: str, method: str, mean: Array, k: int = k, held: Array = held) -> None:
                results.setdefault((k, proxies, method), []).append(losses(mean, held))

            keep("none", "raw votes", raw(alone))
            keep("none", "human", fitted(Human)(alone))
            keep("none", "human-only mixture (auto)", auto(alone, seed, chosen.setdefault((k, "none"), [])))
            for name, proxies in sources.items():
                if k == 5 and name != "audio-visual":
                    continue
                counts = corpus.counts(kept[k], proxies)
                keep(name, "pool", fitted(Pool)(counts))
                keep(name, "weighted, tuned", fitted(Weighted)(counts))
                keep(name, "dirichlet", fitted(Dirichlet)(counts))
                keep(name, "mixture, generative, 16 classes", fitted(lambda seed=seed: Mixture(16, seed=seed))(counts))
                keep(name, "gated, 16 classes, penalty .001", fitted(lambda seed=seed: Gated(16, seed=seed))(counts))
                keep(name, "auto", auto(counts, seed, chosen.setdefault((k, name), [])))
                keep(name, "supervised (ceiling)", ceiling(corpus, counts, k, seed))
            print(f"seed {seed}, k = {k} done", flush=True)
    return results, chosen


def say_scores(report: Report, results: Results, scored: dict[int, np.ndarray], lowest: float) -> None:
    rows: list[dict[str, object]] = []
    for (k, proxies, method), parts in sorted(
        results.items(), key=lambda item: (item[0][0], item[0][1] != "none", item[0][1])
    ):
        nll, jsd_ = (average(part[i] for part in parts) for i in (0, 1))
        keep = scored[k]
        sure = method != "raw votes" or "(infinite)"
        rows.append(
            {
                "k": k,
                "proxies": proxies,
                "method": method,
                "NLL": nll.loss[keep].sum() / nll.votes[keep].sum() if sure is True else sure,
                "JSD2": float(jsd_.loss[keep].mean()),
            }
        )
    report.table("log loss a held-out vote and JSD (base 2)", rows)
    report.kept["floor"] = lowest
    print(f"\nfloor: the JSD of truths drawn from a fit to four votes drawn from them is {lowest:.4f}")


def masked(losses_: Losses, keep: np.ndarray) -> Losses:
    return Losses(losses_.loss * keep, losses_.votes * keep)


def say_gaps(report: Report, results: Results, groups: np.ndarray, scored: dict[int, np.ndarray]) -> None:
    rows = []
    for k, proxies, method in results:
        if method != "auto":
            continue
        keep = scored[k]
        for i, unit in ((0, "NLL"), (1, "JSD2")):
            mine = masked(average(part[i] for part in results[k, proxies, method]), keep)
            for other, of in (
                ("human-only mixture (auto)", "none"),
                ("weighted, tuned", proxies),
                ("pool", proxies),
                ("mixture, generative, 16 classes", proxies),
                ("supervised (ceiling)", proxies),
            ):
                theirs = masked(average(part[i] for part in results[k, of, other]), keep)
                rows.append(
                    {"k": k, "proxies": proxies, "unit": unit} | gap(f"auto minus {other}", mine, theirs, groups)
                )
    report.table("paired differences, 95 % intervals over actors", rows)


def say_strata(
    report: Report,
    corpus: Corpus,
    splits: dict[int, tuple[dict[int, Array], Array]],
    results: Results,
    groups: np.ndarray,
    keep: np.ndarray,
) -> None:
    rows = []
    for proxies in dict.fromkeys(p for k, p, m in results if k == 3 and m == "auto"):
        proxy = {"audio-visual": corpus.audio_visual, "face": corpus.face}.get(
            proxies, corpus.audio_visual + corpus.face
        )
        every: dict[tuple[str, str], list[tuple[Losses, Losses]]] = {}
        for number, (kept, held) in enumerate(splits.values()):
            mine = results[3, proxies, "auto"][number][0]
            theirs = results[3, proxies, "weighted, tuned"][number][0]
            cuts = observable(kept[3], proxy) | {"held-out entropy (outcome)": outcome(held)}
            for kind, strata in cuts.items():
                for stratum in np.unique(strata[keep]):
                    rows_in = keep & (strata == stratum)
                    every.setdefault((kind, str(stratum)), []).append((masked(mine, rows_in), masked(theirs, rows_in)))
        for (kind, stratum), parts in every.items():
            first, second = (average(part[i] for part in parts) for i in (0, 1))
            row: dict[str, object] = {
                "proxies": proxies,
                "strata": kind,
                "stratum": stratum,
                "clips": int(first.votes.sum() / HELD_OUT),
            }
            rows.append(row | {"auto NLL": first.mean} | gap("auto minus weighted, tuned", first, second, groups))
    report.table("by stratum at k = 3", rows)


def say_harm(
    report: Report,
    corpus: Corpus,
    splits: dict[int, tuple[dict[int, Array], Array]],
    groups: np.ndarray,
    keep: np.ndarray,
    *,
    quick: bool,
) -> None:
    view = corpus.audio_visual
    constant = np.zeros_like(view)
    constant[:, 4] = 10.0
    rows = []
    harms: dict[str, list[dict[str, Losses]]] = {}
    for seed, (kept, held) in splits.items():
        rng = generator(seed, "harm")
        shuffled = view[rng.permutation(len(view))]
        cases = {"shuffled": {"p": shuffled}}
        if not quick:
            cases |= {
                "constant": {"p": constant},
                "adversarial (labels permuted)": {"p": view[:, [3, 0, 5, 1, 2, 4]]},
                "random votes": {"p": rng.multinomial(10, np.full(6, 1 / 6), size=len(view)).astype(float)},
                "duplicated": {"p": view, "q": view},
                "every vote entered four times": {"p": 4 * view},
                "audio-visual beside shuffled": {"p": view, "q": shuffled},
            }
        alone = losses(auto(corpus.counts(kept[3], {}), seed), held)[0]
        for case, proxies in cases.items():
            counts = corpus.counts(kept[3], proxies)
            posteriors = {
                "auto": auto(counts, seed),
                "gated, 16 classes, penalty .001": fitted(lambda seed=seed: Gated(16, seed=seed))(counts),
                "mixture, generative, 16 classes": fitted(lambda seed=seed: Mixture(16, seed=seed))(counts),
                "weighted, tuned": fitted(Weighted)(counts),
                "pool": fitted(Pool)(counts),
            }
            harms.setdefault(case, []).append(
                {"alone": alone, **{m: losses(p, held)[0] for m, p in posteriors.items()}}
            )
    for case, parts in harms.items():
        alone = masked(average(part["alone"] for part in parts), keep)
        for method in parts[0]:
            if method != "alone":
                mine = masked(average(part[method] for part in parts), keep)
                rows.append(
                    {"proxies": case, "NLL": mine.mean} | gap(f"{method} minus human-only mixture", mine, alone, groups)
                )
    report.table("harm at k = 3", rows)


def say_worth(
    report: Report,
    corpus: Corpus,
    splits: dict[int, tuple[dict[int, Array], Array]],
    results: Results,
    groups: np.ndarray,
    sources: dict[str, dict[str, Array]],
) -> None:
    rows = []
    keep = corpus.voice.sum(1) >= 9
    rows_in = np.flatnonzero(keep)

    def part(k: int, proxies: str, method: str) -> Losses:
        averaged = average(result[0] for result in results[k, proxies, method])
        return Losses(averaged.loss[rows_in], averaged.votes[rows_in])

    curve = {k: part(k, "none", "human-only mixture (auto)") for k in (1, 2, 3, 4, 5)}
    report.table(
        "human-only learning curve, clips with nine votes or more",
        [{"k": k, "NLL": point.mean} for k, point in curve.items()],
    )
    entropy = observable(splits[0][0][3], corpus.audio_visual)["proxy entropy"][rows_in]
    for name in sources:
        for k in (1, 2, 3, 4):
            worth: dict[str, Worth] = worth_in_votes(
                curve, part(k, name, "auto"), groups[rows_in], strata=list(entropy)
            )
            for stratum, of_stratum in worth.items():
                rows.append(
                    {
                        "proxies": name,
                        "k": k,
                        "stratum": stratum,
                        "worth": in_words(of_stratum, k),
                        "reads": of_stratum.votes,
                        "low": of_stratum.low,
                        "high": of_stratum.high,
                    }
                )
    report.table("worth of the proxies in human votes (strata: thirds of proxy entropy)", rows)


if __name__ == "__main__":
    main()
