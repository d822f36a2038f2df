"""The table of findings that every page shows."""

from __future__ import annotations

from collections.abc import Sequence

from alm_proxies.finding import Finding, in_words
from alm_proxies.finding_kinds import SEVERITIES
from alm_proxies.report.page import Cell, Table


def findings_table(findings: Sequence[Finding], *, utterances: bool = False) -> Table:
    """The findings as a table, most severe first, each with its fix; with the utterance that one is about on request.

    In a pipeline they name keys of its file where those of a command name flags.
    """
    rows: list[list[Cell]] = []
    for entry in sorted(map(in_words, findings), key=lambda finding: -SEVERITIES.index(finding.severity)):
        about: list[Cell] = [entry.utterance_id] if utterances else []
        kind = entry.kind.replace("_", " ")
        rows.append([entry.severity, kind, entry.placed, entry.fix or None, *about, entry.count])
    columns = ["Severity", "Kind", "Message", "What to do", *(["Utterance"] if utterances else []), "Count"]
    return Table.of(columns, rows, folded=utterances and len(rows) > _FOLDED)


_FOLDED = 12
"""A longer table with a row for each utterance is folded."""
