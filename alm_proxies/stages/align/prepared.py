"""The votes of a report, prepared once: by side, as ballots and as counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.annotators.cells import cells_of, label_orders
from alm_proxies.ballots import Array, Ballots, Counting, Index, is_rater
from alm_proxies.compare.material import Material
from alm_proxies.estimators.counts import Counts, counts_of, refuse_other_utterances
from alm_proxies.files import canonical_json
from alm_proxies.measures.tally import Tally
from alm_proxies.tables import About, Labels, Utterances, Votes

Cell = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The votes of one side, or of one proxy."""

    ballots: Ballots
    tally: Tally

    @classmethod
    def of(cls, ballots: Ballots) -> Side:
        """These ballots with their tally."""
        return cls(ballots, Tally.of(ballots))

    @property
    def counts(self) -> Array:
        """Votes for each label, utterances x labels."""
        return self.tally.counts


@dataclass(frozen=True, slots=True, eq=False)
class Raters:
    """The human votes of raters with known names, a row for each vote."""

    names: tuple[str, ...]
    rows: Index
    """The utterance of every vote."""
    raters: Index
    """Its rater's place among the names."""
    votes: Array
    held_out: NDArray[np.bool_]

    @classmethod
    def of(cls, fit: Ballots, held_out: Ballots) -> Raters:
        """The votes of both sides whose raters are known."""
        sides = (fit, held_out)
        known = tuple(str(name) for name in sorted({name for side in sides for name in side.names}) if is_rater(name))
        place = {name: number for number, name in enumerate(known)}
        raters = [np.array([place.get(name, -1) for name in side.names] or [-1])[side.annotators] for side in sides]
        own = [number >= 0 for number in raters]
        return cls(
            names=known,
            rows=np.concatenate([side.rows[kept] for side, kept in zip(sides, own, strict=True)]),
            raters=np.concatenate([number[kept] for number, kept in zip(raters, own, strict=True)]),
            votes=np.concatenate([side.vectors[kept] for side, kept in zip(sides, own, strict=True)]),
            held_out=np.repeat([False, True], [int(kept.sum()) for kept in own]),
        )

    def of_fit(self) -> Raters:
        """The same without held-out votes."""
        kept = ~self.held_out
        return Raters(self.names, self.rows[kept], self.raters[kept], self.votes[kept], self.held_out[kept])


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """All that the measures of the report are taken from."""

    material: Material
    """Its proxies are those that count in the labels, or all of them if none does."""
    fit: Side
    """Human votes of the fit."""
    held_out: Array
    """Counts of the held-out human votes."""
    people: Side
    """All human votes, of the fit and held out, for describing humans, not for scoring."""
    proxy: Side
    """Votes of the proxies that count."""
    proxies: dict[str, Side]
    """Every proxy on its own, by name."""
    counts: Counts
    """All votes of the fit, as estimators take them."""
    counted: Counts
    """The same without the proxies that do not count."""
    account: dict[str, Any]
    """What the labels state of their fit; empty if they state nothing."""
    dropped: dict[str, str]
    """By proxy: why its votes do not count in the labels."""
    raters: Raters
    """The votes of known raters, held-out ones too."""
    raters_of_fit: Raters
    cells: dict[str, list[Cell]]
    """The factors of each cell of each annotator; an annotator without a card is one cell."""
    both: NDArray[np.bool_]
    """Whether an utterance has both human votes and votes of proxies that count."""
    votes: Votes


def prepare(material: Material, votes: Votes, utterances: Utterances, counting: Counting) -> Prepared:
    """The votes of the material by side; estimators count them as `counting` states. `votes` are those of its ids."""
    account = _account_in(material.table)
    dropped = {
        annotator: proxy["why"]
        for proxy in account.get("proxies", [])
        if not proxy["counts"]
        for annotator in proxy["annotators"]
    }
    every = material.proxy
    material = replace(material, proxy=_that_count(every, dropped))
    people = Side.of(_together(material.human, material.held_out))
    proxy = Side.of(material.proxy)
    raters = Raters.of(material.human, material.held_out)
    raters_of_fit = raters.of_fit()
    cells = _cells(votes.about)
    refuse_other_utterances(pl.Series(material.ids, dtype=pl.String), utterances)
    counts = counts_of(
        votes, merge=counting.merge, utterances=utterances, columns=counting.columns, consensus=counting.consensus
    )
    return Prepared(
        material=material,
        fit=Side.of(material.human),
        held_out=material.held_out.counts(),
        people=people,
        proxy=proxy,
        proxies={name: Side.of(every.of(name)) for name in every.names},
        counts=counts,
        counted=counts.without(dropped),
        account=account,
        dropped=dropped,
        raters=raters,
        raters_of_fit=raters_of_fit,
        cells=cells,
        both=(people.counts.sum(1) > 0) & (proxy.counts.sum(1) > 0),
        votes=votes,
    )


def _account_in(labels: Labels) -> dict[str, Any]:
    maker = labels.about.made_by
    account: dict[str, Any] = {} if maker is None else json.loads(canonical_json(maker.fitted))  # as a file keeps it
    return account


def _cells(about: About) -> dict[str, list[Cell]]:
    cards = about.annotators
    cells_by_name: dict[str, list[Cell]] = {}
    for name, card in cards.items():
        head = {"model": card.model or name, "prompt": card.prompt or "", "elicitation": card.elicit}
        cross = card.cross or {}
        orders = label_orders(len(about.taxonomy), _count(cross.get("label_orders")))
        cells = cells_of(_values(cross.get("temperature")) or (1.0,), _values(cross.get("focus")), orders)
        cells_by_name[name] = [
            {**head, "temperature": f"{cell.temperature:g}", "focus": cell.focus or "", "label order": str(cell.order)}
            for cell in cells
        ]
    return cells_by_name


def _values(value: object) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else ()


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def _that_count(proxy: Ballots, dropped: dict[str, str]) -> Ballots:
    """The votes of the proxies that count in the labels; of all proxies if none does."""
    kept = np.array([name not in dropped for name in proxy.names], dtype=np.bool_)
    if kept.all() or not kept.any():
        return proxy
    place = np.cumsum(kept) - 1
    some = proxy.where(kept[proxy.annotators])
    return replace(
        some,
        annotators=place[some.annotators].astype(np.int64),
        names=tuple(name for name, there in zip(proxy.names, kept, strict=True) if there),
    )


def _together(fit: Ballots, held_out: Ballots) -> Ballots:
    return replace(
        fit,
        rows=np.concatenate([fit.rows, held_out.rows]),
        vectors=np.concatenate([fit.vectors, held_out.vectors]),
        annotators=np.concatenate([fit.annotators, held_out.annotators]),
        draws=np.concatenate([fit.draws, held_out.draws]),
    )
