"""The page of a balance: shares before and after, classes by ambiguity, and the unevenness of the weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies import __version__
from alm_proxies.ambiguity import LEVELS
from alm_proxies.files import canonical_json
from alm_proxies.interval import Interval
from alm_proxies.printable import counted
from alm_proxies.report.charts import Bars, Heat, Series
from alm_proxies.report.findings import findings_table
from alm_proxies.report.page import Block, Cell, Column, Figure, Page, Section, Table, Text
from alm_proxies.stages.balance.weights import TOLERANCE, Balance, effective_size
from alm_proxies.stages.balance.wishes import Wish
from alm_proxies.tables import Finding, Labels

Array = NDArray[np.float64]

_TITLES = {"classes": "Classes", "ambiguity": "Ambiguity"}


def page_of(
    labels: Labels,
    wishes: Sequence[Wish],
    solution: Balance,
    findings: Sequence[Finding],
    settings: Mapping[str, Any],
    more: Sequence[Section] = (),
    added: Collection[str] = (),
) -> Page:
    """The page of balanced labels: `labels` are the balanced rows with their weights before.

    `more` has the sections on whole copies, if any; `added` the ids of generated items, which had no weight before.
    """
    count, size = len(labels), solution.effective_size
    worst = float(np.abs(solution.error).max(initial=0.0))
    missed = int(solution.missed.sum())
    if missed:
        headline = f"{missed} of {len(wishes)} wanted shares could not be reached"
    else:
        headline = f"All {len(wishes)} wanted shares are reached"
    items = len(set(added) & set(labels.frame["utterance_id"]))
    counted_rows = counted(count - items, "utterance") + (f" and {counted(items, 'generated item')}" if items else "")
    summary = (
        f"{counted_rows} {'was' if count == 1 else 'were'} weighted. With these weights they carry as much "
        f"information as {size:,.0f} equally "
        f"weighted ones ({size / count:.0%}); the largest weight is {solution.weights.max():.1f}, where the mean is 1."
    )
    figures = (
        Figure(f"{size:,.0f}", "effective sample size", f"of {counted_rows}"),
        Figure(f"{solution.weights.max():.1f}", "largest weight", "the mean is 1"),
        Figure(f"{100 * worst:.2f}", "points", "largest distance from a wanted share"),
    )
    sections = [
        *_share_sections(wishes, solution),
        _by_ambiguity(labels, solution, added),
        _weights(solution, settings),
        *more,
    ]
    if findings:
        sections.append(Section("Findings", "What was left out or could not be done.", (findings_table(findings),)))
    provenance = {"alm-proxies": __version__, "settings": canonical_json(dict(settings))}
    return Page("Balance", headline, summary, figures, tuple(sections), provenance)


def _share_sections(wishes: Sequence[Wish], solution: Balance) -> list[Section]:
    sections = []
    for kind in dict.fromkeys(wish.kind for wish in wishes):
        chosen = [
            (wish, float(after)) for wish, after in zip(wishes, solution.reached, strict=True) if wish.kind == kind
        ]
        names = [wish.name for wish, _ in chosen]
        before = Series("before", "other", tuple(_plain(wish.today) for wish, _ in chosen))
        after = Series("after", "fused", tuple(_plain(share) for _, share in chosen))
        title = _TITLES.get(kind, "Classes within ambiguity" if kind == "within" else f"Column {kind}")
        worst = max(abs(share - wish.target) for wish, share in chosen)
        lead = (
            "Every share is within a tenth of a point of its wanted value."
            if worst <= TOLERANCE
            else f"The largest distance from a wanted share is {100 * worst:.1f} points."
        )
        table = Table.of(
            [Column(title), Column("Before"), Column("Wanted"), Column("After")],
            [[wish.name, wish.today, wish.target, share] for wish, share in chosen],
            "Shares of all weight.",
        )
        blocks: list[Block] = [table]
        if kind != "within":
            alt = "; ".join(f"{wish.name} {wish.today:.1%} before, {share:.1%} after" for wish, share in chosen)
            name = "shares-" + "".join(c if c.isalnum() else "-" for c in kind)
            blocks.insert(0, Bars(name, f"{title}: shares before and after", "share", names, [before, after], alt=alt))
        sections.append(Section(title, lead, tuple(blocks)))
    return sections


def _by_ambiguity(labels: Labels, solution: Balance, added: Collection[str]) -> Section:
    shares = labels.distributions()
    levels = labels.frame["ambiguity"].to_numpy()
    old = np.where(labels.frame["utterance_id"].is_in(list(added)).to_numpy(), 0.0, labels.frame["weight"].to_numpy())
    old = old / old.sum()
    new = solution.weights / solution.weights.sum()
    names = [level for level in LEVELS if (levels == level).any()]
    blocks: list[Block] = []
    tables = {
        word: np.stack([weights[levels == name] @ shares[levels == name] for name in names], axis=1)
        for word, weights in (("before", old), ("after", new))
    }
    most = max(float(table.max()) for table in tables.values())
    for word, table in tables.items():
        alt = f"Share of all weight {word}, by label and ambiguity; the largest is {table.max():.1%}."
        blocks.append(
            Heat(
                f"classes-by-ambiguity-{word}", f"Share of all weight {word}, in per cent", list(labels.taxonomy),
                names, table, row_title="label", column_title="ambiguity", alt=alt, most=most,
            )
        )  # fmt: skip
    sizes: list[list[Cell]] = []
    for name in names:
        inside = levels == name
        sizes.append([name, int(inside.sum()), effective_size(old[inside]), effective_size(new[inside])])
    columns = [Column("Ambiguity"), Column("Utterances"), Column("Effective, before", 0), Column("Effective, after", 0)]
    blocks.append(Table.of(columns, sizes, "Effective sample size within each level of ambiguity."))
    return Section("Classes by ambiguity", "How much weight each label has at each level of ambiguity.", tuple(blocks))


def _weights(solution: Balance, settings: Mapping[str, Any]) -> Section:
    quantiles = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
    values = np.quantile(solution.weights, quantiles)
    rows: list[list[Cell]] = [[f"{100 * q:g} %", float(value)] for q, value in zip(quantiles, values, strict=True)]
    words = (
        "Weights are the inverse counts of most likely labels, generated items among them (method = reference). The "
        "effective sample size is (sum w)^2 / sum w^2."
        if settings.get("method") == "reference"
        else "Weights are those closest to the given ones, in Kullback-Leibler divergence, that reach the wanted "
        "shares (entropy balancing). The effective sample size is (sum w)^2 / sum w^2."
    )
    table = Table.of([Column("Quantile"), Column("Weight")], rows)
    return Section("Weights", "Distribution of the weights.", (Text(words), table))


def _plain(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)
