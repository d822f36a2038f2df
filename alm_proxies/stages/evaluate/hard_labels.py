"""The section of an evaluation about hard labels, and what each of their measures is over."""

from __future__ import annotations

from alm_proxies.measures.bootstrap import Paired
from alm_proxies.measures.hard_labels import UNDECIDED, WITH_TIES, decided
from alm_proxies.printable import counted
from alm_proxies.report.drawing import listed
from alm_proxies.report.page import P_VALUE, Block, Cell, Column, Section, Table, Text
from alm_proxies.stages.evaluate.measured import Measured, pairs_of

_TITLES = {"macro_f1_with_ties": "Macro-F1 with ties", "uar_with_ties": "UAR with ties"}
_MEANINGS = {
    "macro_f1_with_ties": "Mean F1 score over all labels; a tie counts in equal parts for each of its labels.",
    "uar_with_ties": "Mean recall over the labels that occur; a tie counts in equal parts for each of its labels.",
}
_RULE = (
    "With ties, every utterance counts: where m labels tie it belongs to each of them by 1/m, and a prediction of one "
    "of them is correct by 1/m, so no prediction of a tie is more than 1/m correct."
)


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
    table, over = Table.of(columns, rows), Text(f"{_over(measured)} {_RULE}")
    return Section("As hard labels", words, (table, over, *_with_ties(measured)))


def _with_ties(measured: Measured) -> list[Block]:
    """The measures that count ties, each minus that of the baseline, and the differences of all other pairs."""
    comparison = measured.comparison
    columns = [Column("Prediction")]
    for measure, title in _TITLES.items():
        against = Column(f"{title}, minus {comparison.baseline}", 3, signed=True)
        columns += [Column(title, 3, _MEANINGS[measure]), against, P_VALUE]
    rows: list[list[Cell]] = []
    for name in comparison.methods:
        cells: list[Cell] = [name]
        for measure in WITH_TIES:
            score, less = comparison.held_out[name].interval(measure), measured.less_baseline(name, measure)
            cells += [score, *_difference(less)]
        rows.append(cells)
    p_values = (
        "The p-value of a difference is the share of swaps of the two predictions, speaker by speaker, that give one "
        "at least as large."
    )
    blocks: list[Block] = [Table.of(columns, rows, p_values)]
    pairs: list[list[Cell]] = [
        [*pair, *(cell for measure in WITH_TIES for cell in _difference(measured.with_ties[pair][measure]))]
        for pair in pairs_of(comparison)
    ]
    if pairs:
        columns = [Column("First"), Column("Second")]
        for title in _TITLES.values():
            columns += [Column(f"{title}, first minus second", 3, signed=True), P_VALUE]
        blocks.append(Table.of(columns, pairs, "Predictions in pairs, with ties", folded=True))
    return blocks


def _difference(paired: Paired | None) -> list[Cell]:
    return [None, None] if paired is None else [paired.difference, paired.p_value]


def _over(measured: Measured) -> str:
    """What each measure is over: utterances with a tie or no label are counted, labels that do not occur are named."""
    labels, counts = measured.labels, measured.comparison.test.counts
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
            "leave such ties out, the other measures count them."
        )
    if measured.without_label:
        without = counted(measured.without_label, "more utterance has", "more utterances have")
        parts.append(
            f"{without} held-out votes, but none for a label: no measure of labels counts them, as no "
            "prediction could be right. To score such votes, read the corpus with a taxonomy that has a label for them."
        )
    return " ".join(parts)
