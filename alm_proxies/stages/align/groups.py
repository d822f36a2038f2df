"""The section by group: whether any group gets worse labels."""

from __future__ import annotations

import math

import numpy as np

from alm_proxies.compare.comparison import Comparison
from alm_proxies.compare.material import Material
from alm_proxies.compare.rivals import FUSED
from alm_proxies.compare.sections import gain_chart
from alm_proxies.compare.strata import speaker_count
from alm_proxies.measures.agreement import EqualVotes
from alm_proxies.printable import in_speakers
from alm_proxies.report.drawing import listed
from alm_proxies.report.page import Block, Cell, Column, Section, Table
from alm_proxies.stages.align.agreement import OF_DISTRIBUTIONS
from alm_proxies.stages.align.worth import CONCENTRATION_GAIN

FEWEST_SPEAKERS = 8
"""Groups with fewer known speakers are shown and not judged."""


def groups_section(
    material: Material,
    scores: Comparison | None,
    equal: dict[str, dict[str, EqualVotes]],
    *,
    has_proxies: bool,
    uses_proxies: bool,
) -> Section | None:
    """The scores of every group, and the agreement within it; None without groups."""
    groups = list(material.groups)
    if not groups:
        return None
    audit = _audit_table(material, scores) if scores is not None else None
    table = _group_table(material, scores, equal, uses_proxies=uses_proxies) if has_proxies else None
    blocks: list[Block] = [block for block in (audit, table) if block is not None]
    inside = {title: scores.within.get(title, {}) for title in groups} if scores is not None else {}
    if scores is not None and any(inside.values()):
        blocks.insert(0, gain_chart("groups", "The same by group", scores, inside))
    lead = f"By {listed(groups)}: whether any group gets worse labels. Intervals are wide for groups with few speakers."
    return Section("By group", lead, tuple(blocks)) if blocks else None


def _group_table(
    material: Material, comparison: Comparison | None, within: dict[str, dict[str, EqualVotes]], *, uses_proxies: bool
) -> Table:
    """Every group: agreement of humans with humans and with proxies, the gain, the concentration_gain of its labels."""
    rows: list[list[Cell]] = []
    for title, values in material.groups.items():
        for value in sorted({str(word) for word in values}):
            members = values == value
            equal = within.get(title, {}).get(value)
            scores = comparison.within.get(title, {}).get(value) if comparison else None
            by_name = {score.method: score for score in scores or ()}
            gain = by_name[FUSED].gain if FUSED in by_name else None
            rows.append(
                [
                    f"{title}: {value}",
                    int(members.sum()),
                    equal.agreement.human_human if equal else None,
                    equal.agreement.human_proxy if equal else None,
                    *([gain.difference if gain else None] if comparison else []),
                    *([float(material.concentration_gain[members].mean())] if uses_proxies else []),
                ]
            )
    columns = [
        Column("Group"),
        Column("Utterances"),
        Column("Two humans agree", 2, "The probability that two human votes agree."),
        Column("Human and proxy agree", 2, f"The probability that a human and a proxy vote agree. {OF_DISTRIBUTIONS}"),
    ]
    if comparison:
        hint = "Log loss, paired on the same held-out votes; below zero is better."
        columns.append(Column("Fused labels minus human votes alone", 3, hint, signed=True))
    if uses_proxies:
        columns.append(Column("concentration_gain", 1, CONCENTRATION_GAIN))
    return Table.of(columns, rows)


def _audit_table(material: Material, comparison: Comparison) -> Table | None:
    """The fused labels within every group, with intervals; groups of fewer than eight known speakers are not judged."""
    rows: list[list[Cell]] = []
    scored = np.isin(material.ids, comparison.test.ids)
    some_unknown = material.speakers is not None and not material.has_speaker[scored].all()
    for title, groups in material.groups.items():
        for value, scores in comparison.within.get(title, {}).items():
            fused = next((score for score in scores if score.method == FUSED), None)
            if fused is None or fused.gain is None:
                continue
            rows_of = (groups == value) & scored
            names = None if material.speakers is None else material.speakers[rows_of]
            known, unknown = speaker_count(names, material.has_speaker[rows_of])
            change = fused.gain.difference
            if not math.isfinite(change.estimate):
                verdict = "not judged: the log loss is infinite"
            elif known < FEWEST_SPEAKERS:
                verdict = f"not judged: {in_speakers(known, unknown) if known else 'speakers are not known'}"
            elif change.is_below_zero:
                verdict = "better than human votes alone"
            else:
                verdict = "worse than human votes alone" if change.is_above_zero else "no significant difference"
            size = [fused.utterances, known or None, *([unknown] if some_unknown else [])]
            rows.append([f"{title}: {value}", *size, fused.nll, fused.jsd, change, verdict])
    columns = [
        Column("Group"),
        Column("Utterances"),
        Column("Speakers", 0, "The known ones; a group is judged by them."),
        *([Column("Of unknown speakers", 0, "Utterances whose speaker is not known.")] if some_unknown else []),
        Column("Fused labels' log loss", 3, "Log loss in nats a held-out vote; ambiguous speech has more by itself."),
        Column("Fused labels' JSD", 3, "Base 2, to the shares of held-out votes."),
        Column("Minus human votes alone", 3, "Log loss, paired on the same votes; below zero is better.", signed=True),
        Column("Verdict"),
    ]
    caption = f"Fused labels by group; fewer than {FEWEST_SPEAKERS} known speakers are shown and not judged"
    return Table.of(columns, rows, caption) if rows else None
