"""Sections on the fit behind the labels: the stack, and the proxies that count and those that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alm_proxies.estimators.names import page_name
from alm_proxies.report.charts import heat
from alm_proxies.report.drawing import listed, number, signed_number
from alm_proxies.report.page import Block, Cell, Column, Section, Table, Text
from alm_proxies.stages.align.proxies import ProxyAnnotator, account_in
from alm_proxies.stages.align.results import Results
from alm_proxies.stages.align.tables import cost_table

_MOST = 6
"""Maximum number of proxies with their own confusion matrix on the page."""


def fitted_section(results: Results) -> Section | None:
    """The methods with weights, classes and penalties, the gain of each proxy, and its cost; None if not stated."""
    account = account_in(results.material.table)
    costs = {name: card.cost for name, card in results.cards.items() if card is not None and card.cost is not None}
    if not account and not costs:
        return None
    blocks: list[Block] = [_methods(account)] if account else []
    if account and results.proxies:
        blocks.append(_proxies(results.proxies))
    if costs:
        blocks.append(cost_table(costs))
    lead = _lead(account) if account else "The labels do not state what was fitted."
    return Section("What was fitted", lead, tuple(blocks))


def each_proxy_section(results: Results) -> Section | None:
    """Each proxy that counts on its own; None with fewer than two, which other sections already show."""
    counted = [proxy for proxy in results.proxies if proxy.counts]
    if len(counted) < 2:
        return None
    blocks: list[Block] = [_side_by_side(counted)]
    blocks += _confusions(counted, results.material.labels, "counts") if len(counted) <= _MOST else []
    lead = "Each proxy that counts, compared with human votes on the same utterances."
    return Section("Proxy by proxy", lead, tuple(blocks))


def dropped_section(results: Results) -> Section | None:
    """The proxies that do not count in the labels, and why."""
    left = [proxy for proxy in results.proxies if not proxy.counts]
    if not left:
        return None
    why = listed([f"{proxy.name} ({proxy.why})" for proxy in left], "and")
    lead = f"The labels do not use {why}."
    if any(proxy.counts for proxy in results.proxies):
        lead += " The other sections leave their votes out."
    blocks: list[Block] = [_side_by_side(left)]
    blocks += _confusions(left, results.material.labels, "dropped") if len(left) <= _MOST else []
    return Section("Proxies that do not count", lead, tuple(blocks))


def _lead(account: Mapping[str, Any]) -> str:
    levels = account.get("levels")
    if not levels:
        chosen = account.get("chosen", account)
        size = f" of {chosen['classes']} classes" if chosen.get("classes") else ""
        name = page_name(chosen["method"])
        return f"The labels are those of {name}{size}, fitted to the human votes that are not held out."
    parts = [f"{number(100 * level['share'], 0)} % {level['level']}" for level in levels if level["share"] > 0]
    return (
        f"The labels are a stack: {listed(parts)}. Weights were learned from cross-validated human votes, in folds by "
        "speaker."
    )


def _methods(account: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    if not account.get("levels"):
        chosen = account.get("chosen", account)
        rows.append([page_name(chosen["method"]), 1.0, _sizes([chosen])])
        return Table.of([Column("Method"), Column("Weight", 2), Column("Classes and penalty")], rows)
    for level in account["levels"]:
        for method in level["methods"]:
            weight = level["share"] * method["weight"]
            rows.append([level["level"], page_name(method["method"]), weight, _sizes(method["members"])])
    columns = [
        Column("Level"),
        Column("Method"),
        Column("Weight", 2, "Weight in the stack for utterances with proxy votes; sizes of a method are averaged."),
        Column("Classes and penalty"),
    ]
    scales = listed([f"{number(level['strength_scale'], 2)} {level['level']}" for level in account["levels"]])
    return Table.of(columns, rows, f"Methods of the stack (strength beyond the votes themselves scaled by {scales})")


def _sizes(members: Sequence[Mapping[str, Any]]) -> str | None:
    sizes = []
    for member in members:
        parts = [f"{member['classes']} classes"] if member.get("classes") else []
        parts += [f"penalty {member['penalty']:g}"] if member.get("penalty") else []
        sizes += [", ".join(parts)] if parts else []
    return "; ".join(sizes) or None


def _proxies(proxies: Sequence[ProxyAnnotator]) -> Table:
    rows: list[list[Cell]] = [
        [proxy.name, "yes" if proxy.counts else "no", proxy.adds, proxy.beside, proxy.why] for proxy in proxies
    ]
    columns = [
        Column("Proxy"),
        Column("Counts"),
        Column(
            "Lowers the log loss by",
            3,
            "In nats per held-out vote (cross-validated); above zero the proxy helps.",
            signed=True,
        ),
        Column("Beside"),
        Column("Why not"),
    ]
    return Table.of(columns, rows, "Proxies")


def _side_by_side(proxies: Sequence[ProxyAnnotator]) -> Table:
    rows: list[list[Cell]] = []
    for proxy in proxies:
        more = max(proxy.shares, key=lambda row: row.difference.estimate, default=None)
        less = min(proxy.shares, key=lambda row: row.difference.estimate, default=None)
        rows.append(
            [
                proxy.name,
                proxy.votes,
                proxy.utterances,
                None if proxy.equal is None else proxy.equal.agreement.human_human,
                None if proxy.equal is None else proxy.equal.agreement.human_proxy,
                proxy.takes_off,
                None if more is None else f"{more.label} ({_signed(more.difference.estimate)})",
                None if less is None else f"{less.label} ({_signed(less.difference.estimate)})",
            ]
        )
    columns = [
        Column("Proxy"),
        Column("Votes"),
        Column("Utterances"),
        Column("Two humans agree", 2, "The chance that two human votes agree, on the utterances of this proxy."),
        Column("Human and proxy agree", 2, "The chance that a human vote and one of this proxy agree."),
        Column(
            "Takes off class shares",
            2,
            "The share of class shares' log loss that its votes alone take off; below zero they are worse than those.",
            signed=True,
        ),
        Column("Used most above humans"),
        Column("Used most below humans"),
    ]
    return Table.of(columns, rows)


def _signed(value: float) -> str:
    return f"{signed_number(100 * value, 0)} points"


def _confusions(proxies: Sequence[ProxyAnnotator], labels: Sequence[str], kind: str) -> list[Block]:
    words = "Each row gives the proxy's votes where a human votes for a label, in per cent, on one scale."
    charts = [
        heat(
            f"confusion-{kind}-{place}", proxy.name, labels, labels, proxy.confusion, row_title="human",
            column_title="proxy", alt=f"Votes of {proxy.name} where humans vote for a label.",
        )
        for place, proxy in enumerate(proxies)
        if proxy.confusion is not None
    ]  # fmt: skip
    return [Text(words), *charts]
