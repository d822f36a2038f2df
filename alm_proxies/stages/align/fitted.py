"""The section on the fit behind the labels: methods and weights, what each proxy added, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alm_proxies.about import AnnotatorCard, Cost
from alm_proxies.estimators.names import page_name
from alm_proxies.printable import in_money
from alm_proxies.report.drawing import listed, number
from alm_proxies.report.page import Block, Cell, Column, Section, Table
from alm_proxies.stages.align.proxies import ProxyAnnotator


def fitted_section(
    account: Mapping[str, Any],
    proxies: Sequence[ProxyAnnotator],
    cards: Mapping[str, AnnotatorCard | None],
    *,
    people: bool = True,
) -> Section | None:
    """The methods with weights, classes and penalties, the gain of each proxy, and its cost; None if not stated.

    `people`: whether the fit has any human vote.
    """
    costs = {name: card.cost for name, card in cards.items() if card is not None and card.cost is not None}
    if not account and not costs:
        return None
    blocks: list[Block] = [_methods(account)] if account else []
    if account and proxies:
        blocks.append(_proxies(proxies))
    if costs:
        blocks.append(_cost_table(costs))
    lead = _lead(account, people=people) if account else "The labels do not state what was fitted."
    return Section("What was fitted", lead, tuple(blocks))


def _lead(account: Mapping[str, Any], *, people: bool) -> str:
    levels = account.get("levels")
    if not levels:
        chosen = account.get("chosen", account)
        size = f" of {chosen['classes']} classes" if chosen.get("classes") else ""
        name = page_name(chosen["method"])
        if not people:
            return f"The labels are those of {name}{size}, from the proxies' votes alone: the fit has no human vote."
        return f"The labels are those of {name}{size}, fitted to the human votes that are not held out."
    parts = [f"{number(100 * level['share'], 0)} % {level['level']}" for level in levels if level["share"] > 0]
    if all(level["log_loss_left_out"] is None for level in levels):
        return f"The labels are a stack: {listed(parts)}. Too few utterances have human votes to learn its weights."
    return f"The labels are a stack: {listed(parts)}. Weights were learned from cross-validated human votes."


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


def _cost_table(costs: Mapping[str, Cost]) -> Table:
    """What the votes of each proxy have cost, with the currency of its prices."""
    rows: list[list[Cell]] = [
        [
            name,
            cost.votes,
            in_money(cost.price, cost.currency),
            in_money(cost.price / cost.votes, cost.currency),
            in_money(1000 * cost.price / cost.votes, cost.currency),
        ]
        for name, cost in costs.items()
        if cost.votes
    ]
    columns = [Column("Proxy"), Column("Votes paid"), Column("Cost"), Column("A vote"), Column("1,000 votes")]
    return Table.of(columns, rows, "Cost of the proxy votes, by the prices in the annotator files")
