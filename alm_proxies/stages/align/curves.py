"""Curves over the number of votes: saturation of proxy votes, and the reliability of ambiguity strata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_proxies.ballots import Array, Ballots, Index
from alm_proxies.compare.strata import Words
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import mean_by_speaker
from alm_proxies.measures.divergence import jsd_base2
from alm_proxies.measures.ranges import SHARE
from alm_proxies.printable import counted
from alm_proxies.report.charts import Curves, Dots, Line, Series
from alm_proxies.report.drawing import listed, number
from alm_proxies.report.page import Chart, Section
from alm_proxies.seeds import generator
from alm_proxies.stages.align.prepared import Prepared

REPEATS = 5
MOST_VOTES = 20
ALL_PROXIES, HUMAN = "all proxies", "human votes"
"""The names of the curves that are not of one proxy."""
_ROLES = ("proxy", "extra", "weighted", "pool", "other")
_POINTS = 4
"""The fewest points that a curve is fitted to."""
_ROUNDING = 1e-3
"""A fitted limit below 0 by less is 0."""
WITHIN = 0.1
"""A curve has saturated at the first number of votes within this share of its whole fitted drop."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """a - b exp(-c n), fitted by least squares; `spread` is the root mean square of the residuals."""

    a: float
    b: float
    c: float
    spread: float

    def __call__(self, n: float | Array) -> Array:
        """The fitted value at n votes."""
        return np.asarray(self.a - self.b * np.exp(-self.c * np.asarray(n, dtype=np.float64)), dtype=np.float64)

    @property
    def saturation(self) -> int | None:
        """The smallest number of votes with 90 % of the fitted fall from one vote to the limit; None above 1000."""
        votes = 1.0 - np.log(WITHIN) / self.c
        return int(np.ceil(votes - 1e-9)) if votes <= 1000 else None


@dataclass(frozen=True, slots=True)
class Curve:
    """The mean JSD (base 2) of n votes to a target for n = 1, 2 ..., on the same utterances at every n."""

    at: tuple[int, ...]
    values: tuple[Interval, ...]
    utterances: int
    fit: Exponential | None

    @property
    def not_fitted(self) -> str:
        """Why there is no fitted curve."""
        points = len(self.at)
        few = f"it has {counted(points, 'point')}, and a fit needs {_POINTS}"
        return f"no curve was fitted: {few if points < _POINTS else 'it does not fall towards a limit'}"


def curves_of(prepared: Prepared, *, seed: int) -> dict[str, Curve]:
    """Curves of all proxies that count together and of each, to held-out votes, or to all human votes without any."""
    held_out = bool(prepared.held_out.any())
    target = prepared.held_out if held_out else prepared.people.counts
    together = prepared.proxy.ballots
    speakers = prepared.material.speakers
    votes = {ALL_PROXIES: together}
    if len(together.names) > 1:
        votes |= {name: prepared.proxies[name].ballots for name in together.names}
    if held_out:
        votes[HUMAN] = prepared.fit.ballots
    by_name = {name: saturation(ballots, target, speakers, seed=seed) for name, ballots in votes.items()}
    return {name: curve for name, curve in by_name.items() if curve.at}


def trust_of(prepared: Prepared, *, seed: int) -> tuple[StratumTrust, ...]:
    """The reliability of thirds of ambiguity from the human votes of the fit and from the fused labels."""
    material = prepared.material
    share = material.fused
    entropy: Array = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return tuple(stratum_trust(material.human, prepared.held_out, entropy, material.speakers, seed=seed))


def saturation(ballots: Ballots, target: Array, speakers: Words | None, *, seed: int, most: int = MOST_VOTES) -> Curve:
    """JSD to the target of n = 1 ... N votes drawn without replacement, mean of five draws an utterance.

    N is the number of votes that at least half of the utterances with a target have; the others are left out, so
    that all points use the same utterances.
    """
    total = target.sum(1)
    sizes = np.where(total > 0, ballots.sizes(), 0)
    having = sizes[sizes > 0]
    if not len(having):
        return Curve((), (), 0, None)
    longest = int(min(most, np.sort(having)[len(having) // 2]))
    kept = sizes >= longest
    shares = target[kept] / total[kept, None]
    divergence = np.zeros((longest, int(kept.sum())))
    for repeat in range(REPEATS):
        running = np.zeros_like(target)
        order = _shuffled_rank(ballots, generator(seed, "saturation", repeat))
        for n in range(longest):
            np.add.at(running, ballots.rows[order == n], ballots.vectors[order == n])
            divergence[n] += jsd_base2(running[kept] / (n + 1), shares) / REPEATS
    names = None if speakers is None else speakers[kept]
    values = tuple(mean_by_speaker(row, names, seed=seed, within=SHARE) for row in divergence)
    at = tuple(range(1, longest + 1))
    return Curve(at, values, int(kept.sum()), exponential(at, [value.estimate for value in values]))


def exponential(at: tuple[int, ...], values: list[float]) -> Exponential | None:
    """The least-squares a - b exp(-c n), c in .01 ... 5; None for fewer than four points or a curve that does not fall
    to a limit of 0 or more.

    For a given c it is linear in a and b, so only c is searched: a grid, then golden section around its best.
    """
    if len(at) < _POINTS:
        return None
    n, y = np.asarray(at, dtype=np.float64), np.asarray(values, dtype=np.float64)

    def solve(log_c: float) -> tuple[float, float, float, float]:
        c = float(np.exp(log_c))
        design = np.stack([np.ones_like(n), -np.exp(-c * n)], axis=1)
        (a, b), *_ = np.linalg.lstsq(design, y, rcond=None)
        return float(np.square(design @ np.array([a, b]) - y).sum()), float(a), float(b), c

    grid = np.linspace(np.log(0.01), np.log(5.0), 60)
    best = int(np.argmin([solve(point)[0] for point in grid]))
    low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    ratio = (np.sqrt(5.0) - 1) / 2
    while high - low > 1e-7:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if solve(left)[0] < solve(right)[0] else (left, high)
    squares, a, b, c = solve((low + high) / 2)
    # rising, or without a limit that can be seen or that a divergence can have
    if b >= 0 or best == 0 or a < -_ROUNDING:
        return None
    return Exponential(a, b, c, float(np.sqrt(squares / len(n))))


@dataclass(frozen=True, slots=True)
class StratumTrust:
    """How often an utterance's third of ambiguity agrees with that of its held-out votes; chance is 1/3."""

    name: str
    agreement: Interval


def stratum_trust(
    human: Ballots, held_out: Array, fused_entropy: Array, speakers: Words | None, *, seed: int
) -> list[StratumTrust]:
    """The reliability of thirds of ambiguity from k = 1, 2 ... human votes and from the fused labels.

    Thirds are equal in number, by entropy; ties (three votes know only three entropies) are broken at random.
    """
    sizes, total = human.sizes(), held_out.sum(1)
    usable = (total >= 2) & (sizes > 0)
    if usable.sum() < 30:
        return []
    longest = int(min(MOST_VOTES, np.sort(sizes[usable])[usable.sum() // 2]))
    kept = usable & (sizes >= longest)
    names = None if speakers is None else speakers[kept]
    ballot = generator(seed, "thirds")
    truth = [thirds(_entropy(held_out[kept]), ballot) for _ in range(REPEATS)]
    trusts = []
    running = np.zeros_like(held_out)
    order = _shuffled_rank(human, generator(seed, "thirds", "order"))
    for k in range(1, longest + 1):
        np.add.at(running, human.rows[order == k - 1], human.vectors[order == k - 1])
        if k == 1:
            continue  # one vote has no entropy
        same = np.mean([thirds(_entropy(running[kept]), ballot) == third for third in truth], axis=0)
        trusts.append(StratumTrust(f"{k} human votes", mean_by_speaker(same, names, seed=seed, within=SHARE)))
    same = np.mean([thirds(fused_entropy[kept], ballot) == third for third in truth], axis=0)
    trusts.append(StratumTrust("fused labels", mean_by_speaker(same, names, seed=seed, within=SHARE)))
    return trusts


def thirds(values: Array, random: np.random.Generator) -> Index:
    """0, 1 or 2: the third of the utterances a value falls in, ties broken at random."""
    order = np.lexsort((random.random(len(values)), values))
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values))
    return place * 3 // max(1, len(values))


def _entropy(counts: Array) -> Array:
    p = counts / np.maximum(counts.sum(1, keepdims=True), 1e-300)
    return np.asarray(np.round(-(p * np.log(np.where(p > 0, p, 1.0))).sum(1), 12), dtype=np.float64)


def _shuffled_rank(ballots: Ballots, random: np.random.Generator) -> NDArray[np.int64]:
    """The position of every ballot in a random order of its utterance's ballots."""
    order = np.lexsort((random.random(len(ballots.rows)), ballots.rows))
    sizes = ballots.sizes()
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - starts[ballots.rows[order]]
    return rank


def saturation_section(by_name: Mapping[str, Curve], *, has_held_out: bool, shared: bool) -> Section | None:
    """The curves with the fitted one of all proxies; `shared`: the proxies give distributions, not single votes."""
    curve = by_name.get(ALL_PROXIES)
    if curve is None:
        return None
    target = "held-out human votes" if has_held_out else "human votes"
    human = by_name.get(HUMAN)
    chart = _saturation_chart(by_name, curve, target)
    if shared:
        return Section("How many proxy votes?", _shared_words(curve, human, target), (chart,))
    same = counted(curve.utterances, "utterance")
    lead = f"The divergence of n proxy votes from the {target}, the same {same} at every n."
    if curve.fit is not None and curve.fit.saturation is not None:
        lead += (
            f" It reaches 90 % of its fitted fall after {curve.fit.saturation} "
            f"vote{'s' if curve.fit.saturation != 1 else ''}. The rest is the proxies' bias and the noise of few "
            "human votes; more votes of the same proxies reduce neither."
        )
    if human is not None:
        n = min(human.at[-1], curve.at[-1])
        pair = human.values[n - 1].estimate, curve.values[n - 1].estimate
        lead += f" With {n} on each side it is {number(pair[0])} for human and {number(pair[1])} for proxy votes."
    return Section("How many proxy votes?", lead, (chart,))


def _shared_words(curve: Curve, human: Curve | None, target: str) -> str:
    lead = (
        "These proxies give distributions, not single votes, so one of them cannot be compared with one human vote. "
        f"With {curve.at[-1]} for each utterance their divergence from the {target} is "
        f"{number(curve.values[-1].estimate)}"
    )
    if human is None:
        return f"{lead}."
    return (
        f"{lead}, that of {human.at[-1]} human vote{'s' if human.at[-1] != 1 else ''} "
        f"{number(human.values[-1].estimate)}; JSD favours smooth distributions over a few votes."
    )


def _saturation_chart(by_name: Mapping[str, Curve], curve: Curve, target: str) -> Chart:
    shown = {name: each for name, each in by_name.items() if name != HUMAN}
    lines = [
        Line(Series(name, role, each.values), tuple(map(float, each.at)), _fitted(each))
        for (name, each), role in zip(shown.items(), _ROLES, strict=False)
    ]
    if (human := by_name.get(HUMAN)) is not None:
        lines.append(Line(Series("human votes of the fit", "human", human.values), tuple(map(float, human.at))))
    stop, alt, note = None, "Divergence by the number of proxy votes.", ""
    others = list(shown)[len(_ROLES) :]
    if curve.fit is not None:
        alt = f"Divergence falls from {number(curve.values[0].estimate)} towards {number(curve.fit.a)}."
        note = (
            f"Dotted: {number(curve.fit.a)} + {number(-curve.fit.b)} exp(−{number(curve.fit.c, 2)} n) for all proxies, "
            f"with residuals of {number(curve.fit.spread, 4)} (root mean square)."
        )
        if curve.fit.saturation is not None:
            stop = (f"90 % of the fall at {curve.fit.saturation}", float(curve.fit.saturation))
    if others:
        note += f" Not drawn, but in the metrics: {listed(others)}."
    return Curves(
        "saturation",
        f"Divergence of n votes from the {target}",
        "votes per utterance",
        f"JSD to {target} (base 2)",
        lines,
        alt=alt,
        note=note.strip(),
        stop=stop,
    )


def _fitted(curve: Curve) -> tuple[tuple[float, float], ...]:
    if curve.fit is None:
        return ()
    at = np.linspace(curve.at[0], curve.at[-1], 80)
    return tuple(zip(at.tolist(), curve.fit(at).tolist(), strict=True))


def trust_section(trust: Sequence[StratumTrust]) -> Section | None:
    """Agreement of thirds of ambiguity with those of the held-out votes; None if too few utterances have both."""
    if not trust:
        return None
    series = [Series("same third as the held-out votes", "human", [stratum.agreement for stratum in trust])]
    chart = Dots(
        "trust",
        "Agreement of the third of ambiguity with that of the held-out votes",
        "share of utterances",
        [stratum.name for stratum in trust],
        series,
        alt="; ".join(f"{stratum.name}: {100 * stratum.agreement.estimate:.0f} %" for stratum in trust)
        + "; chance 33 %.",
        reference=("chance", 1 / 3),
    )
    lead = (
        "Ambiguity strata are often formed from a few votes. How often does an utterance's third of ambiguity agree "
        "with that of its held-out votes, which are few themselves? Chance is 1/3."
    )
    return Section("How reliable are ambiguity strata?", lead, (chart,))
