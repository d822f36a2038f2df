"""The section of an evaluation about hard labels, and what each of their measures is over."""

from __future__ import annotations

from collections.abc import Sequence

from alm_proxies.compare.comparison import Comparison
from alm_proxies.measures.scores import UNDECIDED, decided
from alm_proxies.printable import counted
from alm_proxies.report.drawing import listed
from alm_proxies.report.page import Cell, Column, Section, Table, Text
from alm_proxies.stages.evaluate.measured import Measured


def hard_labels_section(measured: Measured) -> Section:
    """Accuracy, F1 and recall of the most likely label, with the labels and utterances that each is over."""
    comparison = measured.comparison
    rows: list[list[Cell]] = []
    for name, recovery in measured.recovered.items():
        scores = [comparison.held_out[name].score(measure) for measure in ("accuracy", "macro_f1", "uar")]
        rows.append([name, *scores, recovery.recall_over_votes, recovery.minor_recall])
    columns = [
        Column("Prediction"),
        Column("Accuracy", 3, "Share of utterances where the most likely label has most votes; ties are left out."),
        Column("Macro-F1", 3, "Mean F1 score over all labels; ties are left out."),
        Column("UAR", 3, "Unweighted average recall: mean recall over the labels that occur; ties are left out."),
        Column(
            "Recall over votes",
            3,
            "For each label, the share of its votes where it is the most likely label; mean over labels that have "
            "votes. Ties count.",
        ),
        Column(
            "Minor labels", 3, "Of the m labels with votes besides the first, the share among the m most likely ones."
        ),
    ]
    words = (
        "Hard labels discard most of the information in the votes. These measures are for comparison with other work."
    )
    return Section("As hard labels", words, (Table.of(columns, rows), Text(_over(comparison, measured.labels))))


def _over(comparison: Comparison, labels: Sequence[str]) -> str:
    """What each measure is over: the utterances with a tie are counted, and the labels that do not occur are named."""
    counts = comparison.test.counts
    most = decided(counts)
    ties = int((most == UNDECIDED).sum())
    absent = [label for place, label in enumerate(labels) if not (most == place).any()]
    voted = int((counts > 0).any(0).sum())
    parts = [
        f"Macro-F1 is a mean over all {counted(len(labels), 'label')}, UAR over the {len(labels) - len(absent)} that "
        f"are the most voted one of an utterance, recall over votes over the {voted} that have votes."
    ]
    if absent:
        parts.append(
            f"No utterance has most votes for {listed(absent, 'or')}: recall is not defined there, so UAR leaves "
            f"{'it' if len(absent) == 1 else 'them'} out, and macro-F1 counts an F1 of 0."
        )
    if ties:
        without = counted(ties, "utterance has", "utterances have")
        parts.append(
            f"{without} no single label with most votes (of {len(most):,}); accuracy, macro-F1 and UAR "
            "leave such ties out, recall over votes and minor labels count them."
        )
    return " ".join(parts)
