"""The page of a run of listen: its scores against human votes, the exchange test, early stopping, the folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import which_count
from alm_proxies.compare.sections import LOG_LOSS
from alm_proxies.files import canonical_json
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import IT_TAKES, Paired, interval_by_speaker, paired_by_speaker
from alm_proxies.measures.exchange import exchange
from alm_proxies.measures.ranges import range_of, range_of_difference
from alm_proxies.printable import counted
from alm_proxies.report.charts import Curves, Line, Series
from alm_proxies.report.page import P_VALUE, Cell, Column, Figure, Page, Section, Table, Text
from alm_proxies.report.simulated import simulated_words
from alm_proxies.settings import deciding
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.tables import Finding, Utterances, Votes
from alm_proxies.training.folds import Fitted, Material

Array = NDArray[np.float64]


def page_of(
    material: Material,
    fitted: Fitted,
    ids: pl.Series,
    utterances: Utterances,
    votes: Votes,
    settings: ListenSettings,
    findings: Sequence[Finding],
    by_speaker: bool,
) -> tuple[Page, float]:
    """The page of one run, and the listener's gain over the class shares in nats per vote."""
    held = _held_out(ids, votes)
    joined = ids.to_frame("utterance_id").join(
        utterances.frame.select("utterance_id", "speaker"), on="utterance_id", how="left", maintain_order="left"
    )
    speakers = _codes(joined, "speaker" if by_speaker else "utterance_id")
    prior = material.votes.sum(0) + 1.0
    prior /= prior.sum()
    judged, own = (held, False) if held.any() else (material.votes, True)
    rows = np.flatnonzero(judged.any(1))
    shares = np.tile(prior, (len(ids), 1))
    scores = [_loss(predictions, judged, rows, speakers) for predictions in fitted.rounds]
    alone = _loss(shares, judged, rows, speakers)
    gaps = [_less(predictions, shares, judged, rows, speakers) for predictions in fitted.rounds]
    verdict = gaps[-1]
    if not by_speaker and joined["speaker"].null_count() <= 0.5 * len(ids):  # known, but too few for folds of speakers
        verdict = _less(fitted.rounds[-1], shares, judged, rows, _codes(joined, "speaker"))
    unit = "speakers" if by_speaker else "utterances"
    which = "their own votes, which the models that predict them have not seen" if own else "held-out human votes"
    page = Page(
        kind="Listener",
        headline=_headline(verdict),
        summary=(
            f"A head on {_what(settings)} was trained on the human votes of this corpus, for each of {material.folds} "
            f"folds on the {unit} of the others, and votes on "
            f"{counted(len(ids), 'utterance')}. Scored against {which}."
        ),
        figures=(
            Figure(f"{scores[-1].estimate:.3f}", "nats: log loss per vote", f"class shares: {alone.estimate:.3f}"),
            Figure(f"{len(material.teaching()):,}", "utterances learned from"),
            Figure(str(settings.rounds), "round" if settings.rounds == 1 else "rounds"),
        ),
        sections=(
            _score_section(scores, gaps, alone, which, unit),
            _exchange_section(fitted, material, held, speakers),
            _stopping(fitted, unit),
            _folds_section(material, fitted, by_speaker=by_speaker),
        ),
        made={"settings": canonical_json(deciding(settings)), "findings": str(len(findings))},
        notice=simulated_words(utterances),
    )
    return page, -gaps[-1].difference.estimate


def _codes(utterances: pl.DataFrame, column: str) -> Array:
    """A code for each speaker, or for each utterance; an utterance of an unknown speaker has its own."""
    named = utterances[column].fill_null(pl.lit("?") + utterances["utterance_id"])
    return named.rank("dense").to_numpy().astype(np.float64)


def _headline(gap: Paired) -> str:
    """Whether the listener is better than the class shares, if its speakers are enough to judge it."""
    if not gap.can_be_judged:
        return f"The listener and class shares: too few speakers to judge which predicts human votes better; {IT_TAKES}"
    if not gap.is_significant:
        return "The listener predicts human votes not significantly better than the class shares"
    nats, which = gap.difference.estimate, "better" if gap.difference.estimate < 0 else "worse"
    return f"The listener predicts human votes by {abs(nats):.3f} nats per vote {which} than the class shares"


def _what(settings: ListenSettings) -> str:
    if settings.recipe == "features":
        return "measured prosody and spectra (no pretrained weights)"
    return f"the frozen encoder {settings.model}"


def _held_out(ids: pl.Series, votes: Votes) -> Array:
    labels = votes.taxonomy
    frame = votes.frame.filter(which_count("held_out")).select("utterance_id", "label", "weight")
    place = ids.to_frame("utterance_id").with_row_index("row")
    known = frame.join(place, on="utterance_id", how="inner")
    total = np.zeros((len(ids), len(labels)))
    label = known["label"].cast(pl.Enum(labels)).to_physical().to_numpy()
    np.add.at(total, (known["row"].to_numpy(), label), known["weight"].to_numpy())
    return total


def _loss(shares: Array, votes: Array, rows: NDArray[np.int64], speakers: Array) -> Interval:
    columns = np.stack([_summed_loss(shares, votes, rows), votes[rows].sum(1)], axis=1)
    return interval_by_speaker(columns, speakers[rows]).within(*range_of("nll_per_vote"))


def _less(first: Array, second: Array, votes: Array, rows: NDArray[np.int64], speakers: Array) -> Paired:
    """The log loss of the first minus that of the second, on the same votes."""
    total = votes[rows].sum(1)
    mine, theirs = (_summed_loss(shares, votes, rows) / total for shares in (first, second))
    within = range_of_difference("nll_per_vote")
    return paired_by_speaker(mine, theirs, speakers[rows], weights=total, within=within)


def _summed_loss(shares: Array, votes: Array, rows: NDArray[np.int64]) -> Array:
    """The log loss of all votes on each of the rows."""
    loss: Array = -(votes * np.log(np.maximum(shares, 1e-9))).sum(1)[rows]
    return loss


def _score_section(
    scores: Sequence[Interval], gaps: Sequence[Paired], alone: Interval, which: str, unit: str
) -> Section:
    rows: list[list[Cell]] = [["class shares", alone, None, None]]
    rows += [
        [f"listener, round {place}", score, gap.difference, gap.p_value]
        for place, (score, gap) in enumerate(zip(scores, gaps, strict=True), 1)
    ]
    columns = [Column("Prediction"), LOG_LOSS, Column("Log loss, minus class shares", signed=True), P_VALUE]
    lead = f"Scored against {which}, with 95 % intervals over {unit}; p-values of a sign-flip test over {unit}."
    return Section("Against human votes", lead, (Table.of(columns, rows),))


def _exchange_section(fitted: Fitted, material: Material, held: Array, speakers: Array) -> Section:
    title = "Exchange test"
    lead = (
        "A clip's own fitted votes and its held-out votes are alike for a model that saw neither, so it predicts "
        "both equally well. A gap above 0 would mean leakage of a clip's own votes into its prediction."
    )
    both = material.votes.any(1) & held.any(1)
    if not both.any():
        fix = (
            "No utterance has both fitted and held-out votes, so the test cannot be made: hold some votes out in read."
        )
        return Section(title, lead, (Text(fix, "notice"),))
    tests = [exchange(shares, material.votes, held, speakers) for shares in fitted.rounds]
    rows: list[list[Cell]] = [
        [f"round {number}", test.gap, test.p_value, test.utterances] for number, test in enumerate(tests, 1)
    ]
    gap = Column(
        "Gap",
        3,
        "Log score of a clip's own fitted votes minus that of its held-out votes, in nats per vote.",
        signed=True,
    )
    table = Table.of([Column("Round"), gap, Column("p, one-sided", chance=True), Column("Utterances")], rows)
    return Section(title, f"{lead} Round {len(tests)}: {tests[-1].words()}.", (table,))


def _stopping(fitted: Fitted, unit: str) -> Section:
    at = tuple(float(epoch) for epoch in range(1, fitted.curves.shape[1] + 1))
    lines = [Line(Series.of(f"other {unit}", "fused", np.nanmean(fitted.curves, 0)), at)]
    alt = f"Log loss per vote of {unit} outside the training, by epoch"
    chart = Curves("stopping", "Early stopping", "epochs", "log loss per vote (nats)", lines, alt=alt)
    lead = f"Early stopping uses the votes of inner folds: of other {unit} than those trained on or predicted."
    return Section("Early stopping", lead, (chart,))


def _folds_section(material: Material, fitted: Fitted, *, by_speaker: bool) -> Section:
    rows: list[list[Cell]] = []
    for fold in range(material.folds):
        here = material.fold == fold
        votes = material.votes[here]
        loss = None
        if votes.any():
            loss = float(-(votes * np.log(np.maximum(fitted.shares[here], 1e-9))).sum() / votes.sum())
        temperature = fitted.models[fold].temperature
        rows.append([fold, int(here.sum()), float(votes.sum()), fitted.epochs[fold], temperature, loss])
    named = {"Fold": 0, "Utterances": 0, "Votes": 0, "Epochs": 0, "Temperature": 2, "Log loss of its votes": 3}
    columns = [Column(name, digits) for name, digits in named.items()]
    lead = "Nothing that predicts a fold was computed from a vote of it. "
    if by_speaker:
        lead += (
            "Folds include all speakers with recordings, with votes or without: deleting all votes of a speaker "
            "changes nothing of what is predicted for the speaker's fold."
        )
    else:
        lead += (
            "The folds are of utterances, not of speakers: a model may have learned from other utterances of the same "
            "speaker, so its votes are better here than on new speakers."
        )
    return Section("Folds", lead, (Table.of(columns, rows),))
