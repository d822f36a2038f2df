"""The tables of the study, from the cells that are done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from scipy.stats import rankdata
from study_design import (
    ALL,
    AUDIO_VISUAL,
    AUTO,
    BOTH,
    HUMAN,
    LISTENER,
    LOCKBOX,
    POOLED,
    PRIMARY,
    Arm,
    blocks,
    cells,
    replicates,
)
from study_results import Results
from study_statistics import Contrast, benjamini_yekutieli, by_actor, contrast, holm
from study_targets import shares_of
from study_votes import LABELS, Array, Corpus, first_votes, proxy_votes, scored_votes

from alm_proxies.measures.calibration import reliability, thirds
from alm_proxies.measures.divergence import entropy_nats, jsd_base2
from alm_proxies.measures.recovered import dirichlet_multinomial, pair_disagreement

STRATA = ("low", "medium", "high")


class Report:
    """Scores of cells, each computed once."""

    def __init__(self, corpus: Corpus, results: Results) -> None:
        self.corpus, self.results, self.lines = corpus, results, results.lines()
        self.votes = cache(lambda seed: self._votes(seed))

    def _votes(self, seed: int) -> tuple[Array, Array]:
        """Stratum votes and scored votes; once the lockbox is open, of its actors alone."""
        apart, scored = scored_votes(self.corpus, seed)
        if self.corpus.opening is not None:
            others = ~np.isin(self.corpus.actors, LOCKBOX)
            apart[others], scored[others] = 0.0, 0.0
        return apart, scored

    def done(self, *arms: Arm) -> list[tuple[int, int]]:
        """The replicates in which all of these arms were run."""
        return [pair for pair in replicates() if all(self._key(arm, pair) in self.lines for arm in arms)]

    @staticmethod
    def _key(arm: Arm, pair: tuple[int, int]) -> str:
        return f"{arm.name}__p{pair[0]}_s{pair[1]}"

    def predicted(self, arm: Arm, pair: tuple[int, int]) -> Array:
        """A distribution for every clip, by the fold that scores it."""
        return self.results.predictions(self._key(arm, pair))

    def log_losses(self, arm: Arm, pair: tuple[int, int], which: np.ndarray | None = None) -> dict[str, float]:
        """Log loss a scored vote of every actor, over some clips."""
        votes = self.votes(pair[1])[1]
        if which is not None:
            votes = votes * which[:, None]
        losses = -(votes * np.log(np.maximum(self.predicted(arm, pair), 1e-6))).sum(1)
        return by_actor(losses, votes.sum(1), self.corpus.actors)

    def contrast(self, first: Arm, second: Arm, strata: Callable[[int], np.ndarray] | None = None) -> Contrast | None:
        """First less second over the replicates that both have; None where there is none."""
        pairs = self.done(first, second)
        if not pairs:
            return None
        which = [None if strata is None else strata(seed) for _, seed in pairs]
        losses = [
            [self.log_losses(arm, pair, some) for pair, some in zip(pairs, which, strict=True)]
            for arm in (first, second)
        ]
        return contrast(losses[0], losses[1])

    def scores(self, arm: Arm) -> list[str]:
        """One row of the table of scores: means over replicates."""
        rows = []
        for pair in self.done(arm):
            predicted, votes = self.predicted(arm, pair), self.votes(pair[1])[1]
            use = votes.any(1)
            p, held = predicted[use], votes[use]
            line = self.lines[self._key(arm, pair)]
            strengths = [value for value in line["concentrations"] if value is not None]
            strength = np.full(len(p), float(np.median(strengths)) if strengths else np.nan)
            weight = held.sum(1)
            compound = dirichlet_multinomial(held, p, strength)
            rows.append(
                [
                    float(np.mean(list(self.log_losses(arm, pair).values()))),
                    float((compound * weight).sum() / weight.sum()),
                    float(jsd_base2(p, shares_of(held)).mean()),
                    *classes(p, held),
                    reliability(p, held).error,
                    rank_correlation(p, held),
                ]
            )
        return [f"{value:.3f}" if np.isfinite(value) else "" for value in np.mean(rows, axis=0)]


def classes(p: Array, held: Array) -> tuple[float, float, float]:
    """Macro-F1 over all labels and unweighted average recall against the most voted label (clips without ties), and
    the share of each label's votes on clips where it is predicted, averaged over labels."""
    top = np.eye(p.shape[1])[p.argmax(1)]
    most = held == held.max(1, keepdims=True)
    clear = most.sum(1) == 1
    true, guess = most[clear].astype(float), top[clear]
    right = (true * guess).sum(0)
    f1 = 2 * right / np.maximum(true.sum(0) + guess.sum(0), 1e-12)
    recall = right / np.maximum(true.sum(0), 1e-12)
    return float(f1.mean()), float(recall.mean()), float(((held * top).sum(0) / held.sum(0)).mean())


def slopes(p: Array, held: Array) -> Array:
    """Of each label: the slope of held-out shares on predictions; above 1 predictions vary too little."""
    shares = shares_of(held)
    return np.array([np.cov(p[:, j], shares[:, j])[0, 1] / p[:, j].var(ddof=1) for j in range(p.shape[1])])


def slope_table(scored: Report) -> list[str]:
    """Whether predictions of an arm are drawn towards what is common."""
    rows = []
    for arm in dict.fromkeys(arm for block in blocks().values() for arm in block if scored.done(arm)):
        each = []
        for pair in scored.done(arm):
            votes = scored.votes(pair[1])[1]
            use = votes.any(1)
            each.append(slopes(scored.predicted(arm, pair)[use], votes[use]))
        mean = np.mean(each, axis=0)
        rows.append([arm.name, *(f"{slope:.2f}" for slope in mean)])
    return table(["arm: slope of held-out shares on predictions", *LABELS], rows)


def rank_correlation(p: Array, held: Array) -> float:
    """Of predicted with observed disagreement."""
    observed = pair_disagreement(held)
    known = np.isfinite(observed)
    ranks = [rankdata(uncertainty[known]) for uncertainty in (1.0 - np.square(p).sum(1), observed)]
    return float(np.corrcoef(*ranks)[0, 1])


def strata_by_votes(report: Report, level: int) -> Callable[[int], np.ndarray]:
    """Clips of one third by the entropy of the votes that were set apart for this."""

    def which(seed: int) -> np.ndarray:
        apart = report.votes(seed)[0]
        use = apart.any(1)
        chosen = np.zeros(len(apart), dtype=np.bool_)
        chosen[use] = thirds(np.round(entropy_nats(shares_of(apart[use])), 12)) == level
        return chosen

    return which


def strata_of_paper(report: Report, level: int) -> Callable[[int], np.ndarray]:
    """Clips of one third by rank of the papers' entropy: of all votes, over the log of the labels that occur."""
    votes = report.corpus.voice
    labels = np.maximum((votes > 0).sum(1), 2)
    ranks = rankdata(np.round(entropy_nats(shares_of(votes)) / np.log(labels), 12), method="ordinal")
    third = np.minimum((ranks - 1) * 3 // len(ranks), 2)
    return lambda seed: third == level


def shown(measured: Contrast) -> str:
    return f"{measured.estimate:+.4f} ({measured.low:+.4f} to {measured.high:+.4f})"


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table with an empty line before it and after it."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines), ""]


def report(corpus: Corpus, results: Results) -> list[str]:
    """Every table whose cells are there, and the cells that are missing."""
    scored = Report(corpus, results)
    planned = list(cells())
    lines = [f"{sum(cell.key in scored.lines for cell in planned)} of {len(planned)} cells have been run."]
    lines += primary(scored)
    lines += scores(scored)
    lines += slope_table(scored)
    lines += by_stratum(scored)
    lines += exploratory(scored)
    lines += doses(scored)
    lines += own_targets(scored)
    left = {name: sum(not scored.done(arm) for arm in arms) for name, arms in blocks().items()}
    lines += [
        "Arms without any replicate: " + (", ".join(f"{n} of {name}" for name, n in left.items() if n) or "none") + "."
    ]
    return lines


def primary(scored: Report) -> list[str]:
    """The five primary contrasts with Holm's p-values."""
    contrasts = [(name, a, b, scored.contrast(a, b)) for name, a, b in PRIMARY]
    known = [item for *_, item in contrasts if item is not None]
    adjusted = dict(zip([id(item) for item in known], holm([item.p_value for item in known]), strict=True))
    complete = len(known) == len(contrasts)
    rows = [
        [
            name, f"{a.name} - {b.name}", shown(item), f"{item.boot_low:+.4f} to {item.boot_high:+.4f}",
            f"{adjusted[id(item)]:.2g}" if complete else "", item.verdict, str(len(scored.done(a, b))),
        ]
        for name, a, b, item in contrasts if item is not None
    ]  # fmt: skip
    heads = ["primary contrast", "arms", "nats a vote (95 %, t)", "bootstrap", "p, Holm", "verdict", "replicates"]
    return table(heads, rows)


def scores(scored: Report) -> list[str]:
    """All scores of every arm."""
    arms = list(dict.fromkeys(arm for block in blocks().values() for arm in block if scored.done(arm)))
    rows = [[arm.name, str(len(scored.done(arm))), *scored.scores(arm)] for arm in arms]
    heads = [
        "arm",
        "replicates",
        "NLL",
        "DM",
        "JSD, base 2",
        "macro-F1",
        "UAR",
        "recall over votes",
        "ECE",
        "ambiguity, rank r",
    ]
    return table(heads, rows)


def by_stratum(scored: Report) -> list[str]:
    """Where augmenting helps: contrasts in thirds, by votes set apart and by the papers' cut."""
    pairs = [(POOLED, HUMAN), (AUTO, HUMAN), (LISTENER, AUTO), (AUDIO_VISUAL, HUMAN), (AUDIO_VISUAL, POOLED)]
    rows = []
    for first, second in pairs:
        for name, cut in (("votes set apart", strata_by_votes), ("papers' cut", strata_of_paper)):
            contrasts = [scored.contrast(first, second, cut(scored, level)) for level in range(3)]
            if all(item is not None for item in contrasts):
                rows.append(
                    [f"{first.name} - {second.name}", name, *(shown(item) for item in contrasts if item is not None)]
                )
    return table(["arms", "strata", *STRATA], rows)


def exploratory_pairs() -> list[tuple[Arm, Arm]]:
    """Every other contrast of the design: arms against the human votes and against what they are a change of."""
    pairs = []
    for name, arms in blocks().items():
        for arm in arms:
            if name in ("curricula", "balance"):
                pairs.append((arm, arm.source))
            elif name in ("equal budget", "unlabelled clips"):
                pairs.append((arm, replace(arm, k=1, labelled=1.0, unlabelled=False)))
                if arm.unlabelled:
                    pairs.append((arm, replace(arm, unlabelled=False)))
            elif arm.targets != "human" and arm != Arm("plurality", k=1):  # of one vote the two are the same
                pairs.append((arm, Arm("human", k=arm.k)))
            if name == "dose" and arm.targets == "auto":
                pairs.append((arm, Arm("auto", k=arm.k)))
    pairs += [(LISTENER, ALL), (AUDIO_VISUAL, AUTO), (LISTENER, AUDIO_VISUAL)]
    pairs += [(replace(BOTH, k=k), replace(proxy, k=k)) for k in (3, 1) for proxy in (LISTENER, AUDIO_VISUAL)]
    primaries = {pair for _, a, b in PRIMARY for pair in ((a, b), (b, a))}
    return [(a, b) for a, b in dict.fromkeys(pairs) if a != b and (a, b) not in primaries]


def exploratory(scored: Report) -> list[str]:
    """All other contrasts, with the p-values of Benjamini and Yekutieli over them."""
    contrasts = [(a, b, scored.contrast(a, b)) for a, b in exploratory_pairs()]
    known = [(a, b, item) for a, b, item in contrasts if item is not None]
    adjusted = benjamini_yekutieli([item.p_value for *_, item in known])
    rows = [
        [f"{a.name} - {b.name}", shown(item), f"{p:.2g}", item.verdict, str(len(scored.done(a, b)))]
        for (a, b, item), p in zip(known, adjusted, strict=True)
    ]
    return table(["exploratory contrast", "nats a vote (95 %, t)", "p, BY", "verdict", "replicates"], rows)


def doses(scored: Report) -> list[str]:
    """What damaged proxies are like: their divergence to all voice votes of a clip."""
    rows = []
    for arm in dict.fromkeys((AUDIO_VISUAL, *blocks()["dose"])):
        if arm.targets == "auto":
            jsd = jsd_base2(shares_of(proxy_votes(scored.corpus, arm, 0)), shares_of(scored.corpus.voice)).mean()
            rows.append([arm.damage, f"{arm.dose:g}", f"{jsd:.3f}"])
    return table(["damage", "dose", "JSD of the proxy to the human votes, base 2"], rows)


def own_targets(scored: Report) -> list[str]:
    """The papers' way: each model scored on targets of its own kind, beside the score on held-out human votes."""
    rows = []
    for arm in (HUMAN, POOLED, *(arm for arm in blocks()["dose"] if arm.targets == "pooled")):
        losses = []
        for pair in scored.done(arm):
            predicted, held = scored.predicted(arm, pair), scored.votes(pair[1])[1]
            use = held.any(1)
            own = first_votes(scored.corpus, arm.k, pair[1])
            if arm.proxy != "none":
                own = own + proxy_votes(scored.corpus, arm, pair[1])
            losses.append([float(jsd_base2(predicted[use], shares_of(votes[use])).mean()) for votes in (own, held)])
        if losses:
            rows.append([arm.name, *(f"{value:.3f}" for value in np.mean(losses, axis=0))])
    return table(["arm", "JSD on its own kind of targets", "JSD on held-out human votes"], rows)
