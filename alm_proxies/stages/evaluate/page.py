"""The report page of an evaluation: models compared, significance, calibration and uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping

from alm_proxies import __version__
from alm_proxies.compare.ambiguity import halved_section, strength_section
from alm_proxies.compare.sections import LOG_LOSS, calibration_section, findings_section, held_out_section, roles_of
from alm_proxies.compare.strata import AGREEMENT, OBSERVABLE, OUTCOME, speaker_count
from alm_proxies.files import canonical_json
from alm_proxies.interval import FEWEST_TO_TEST, Interval
from alm_proxies.measures.bootstrap import IT_TAKES, Paired
from alm_proxies.printable import counted, in_speakers
from alm_proxies.report.charts import Curves, Heat, Line, Series
from alm_proxies.report.drawing import number, signed_number
from alm_proxies.report.page import P_VALUE, Block, Cell, Column, Figure, Page, Section, Table, Text
from alm_proxies.stages.evaluate.hard_labels import hard_labels_section
from alm_proxies.stages.evaluate.measured import SHARES, Measured
from alm_proxies.stages.evaluate.settings import EvaluateSettings
from alm_proxies.stages.evaluate.truth import to_truth_section
from alm_proxies.tables import ATTRIBUTES, Labels

PAIRS = "Pairwise comparison"
"""The title of the section on models in pairs."""
_FEW = f"too few speakers to judge which predicts held-out votes better; {IT_TAKES}"
_NOT_FINITE = "no difference of their log losses can be given, as one gives no probability to a label with votes"


def page_of(
    measured: Measured, predictions: Mapping[str, Labels], settings: EvaluateSettings, notice: str = "",
    balanced: Section | None = None,
) -> Page:  # fmt: skip
    """The page of an evaluation, with the section of the balanced-population estimate where there is one."""
    comparison = measured.comparison
    models = [name for name in comparison.methods if name != SHARES]
    strata = [AGREEMENT, *(name for name in comparison.within if name not in (*OBSERVABLE, OUTCOME))]
    lead = (
        "All predictions on the same utterances and votes. Class shares are one distribution for all utterances: the "
        "shares of the human votes that are not held out."
    )
    sections = [
        held_out_section(comparison, [name for name in strata if name in comparison.within], lead=lead),
        to_truth_section(comparison),
        balanced,
        _pairs(measured, models),
        halved_section(measured.halved, comparison),
        _conditions(measured),
        _ratings(measured, models),
        calibration_section(comparison, models, noun="prediction"),
        strength_section(measured.recovered, (SHARES,)),
        hard_labels_section(measured),
        _risk(measured, models),
        _confusion(measured, models),
    ]
    if (findings := findings_section(list(measured.findings))) is not None:
        sections.append(findings)
    headline, summary = _words(measured, models)
    made_by = {
        "Made by": f"alm-proxies {__version__}, evaluate, settings {canonical_json(settings.model_dump(mode='json'))}",
        "Taxonomy": ", ".join(measured.labels),
        **{f"Prediction {name}": _maker(predictions[name]) for name in models},
        "Intervals": "95 %, over speakers (utterances where speakers are not known); a t-interval under 20 speakers, "
        "none under three, which are too few; an interval ends where the values of its measure end",
    }
    return Page(
        "Evaluation",
        headline,
        summary,
        _figures(measured, models),
        tuple(section for section in sections if section is not None),
        made_by,
        notice,
    )


def _words(measured: Measured, models: list[str]) -> tuple[str, str]:
    comparison = measured.comparison
    ranked = sorted(models, key=lambda name: comparison.of(name).nll.estimate)
    best = ranked[0]
    test = comparison.test
    size = f"{counted(len(test), 'utterance')} with {counted(test.counts.sum(), 'held-out vote')}"
    if test.speakers is not None:
        size += f" of {in_speakers(*speaker_count(test.speakers, test.has_speaker))}"
    if len(ranked) == 1:
        gain = comparison.paired(best, SHARES)
        better = (
            "predicts held-out votes better than"
            if gain.is_significant and gain.difference.estimate < 0
            else ("predicts held-out votes worse than" if gain.is_significant else "is not significantly better than")
        )
        return (
            f"{best} {better} class shares" if gain.can_be_judged else f"{best} and class shares: {_why_none(gain)}",
            f"Scored on {size}. Its log loss is {_words_of(comparison.of(best).nll)} nats per vote; minus that of "
            f"class shares: {_words_of(gain.difference, signed=True)}, {_p(gain.p_value)}.",
        )
    second = ranked[1]
    gain = comparison.paired(best, second)
    if gain.is_significant:
        headline = f"{best} predicts held-out votes best"
    elif not gain.can_be_judged:
        headline = f"{best} and {second}: {_why_none(gain)}"
    else:
        headline = f"{best} has the lowest log loss, not significantly below {second}"
    return headline, (
        f"Scored on {size}. The log loss of {best} is {_words_of(comparison.of(best).nll)} nats per vote; minus that "
        f"of {second}, on the same votes: {_words_of(gain.difference, signed=True)}, {_p(gain.p_value)}."
    )


def _figures(measured: Measured, models: list[str]) -> tuple[Figure, ...]:
    comparison = measured.comparison
    best = min(models, key=lambda name: comparison.of(name).nll.estimate)
    score = comparison.of(best)
    figures = [
        Figure(number(score.nll.estimate, 3), f"log loss of {best}", "nats per held-out vote; lower is better"),
        Figure(
            number(comparison.of(SHARES).nll.estimate, 3),
            "log loss of class shares",
            "the baseline that a model has to beat",
        ),
        Figure(number(score.jsd.estimate, 3), f"JSD of {best}", "base 2, to the shares of held-out votes"),
    ]
    ambiguity = measured.recovered[best].ambiguity
    if ambiguity is not None:
        note = "of predicted and observed disagreement"
        if not math.isnan(ambiguity.rank_ceiling):
            note += f"; the true distribution would have {number(ambiguity.rank_ceiling, 2)}"
        name = f"rank correlation: ambiguity recovered by {best}"
        figures.append(Figure(number(ambiguity.rank_correlation.estimate, 2), name, note))
    return tuple(figures)


def _pairs(measured: Measured, models: list[str]) -> Section | None:
    if len(models) < 2:
        return None
    comparison = measured.comparison
    rows: list[list[Cell]] = []
    for place, first in enumerate(models):
        for second in models[place + 1 :]:
            nll, jsd = comparison.paired(first, second), comparison.paired(first, second, "jsd_base2")
            rows.append([first, second, nll.difference, nll.p_value, jsd.difference, _better(nll, first, second)])
    columns = [
        Column("First"), Column("Second"), Column("Log loss, first minus second", signed=True), P_VALUE,
        Column("JSD, first minus second", signed=True), Column("Better by log loss"),
    ]  # fmt: skip
    lead = "Paired differences on the same utterances; p-values of a sign-flip test over speakers (5 % level)."
    return Section(PAIRS, lead, (Table.of(columns, rows),))


def _conditions(measured: Measured) -> Section | None:
    if not measured.conditions:
        return None
    comparison = measured.comparison
    rows: list[list[Cell]] = []
    for plain, names in measured.conditions.items():
        rows.append([plain, "as recorded", comparison.of(plain).nll, None, None])
        for condition, name in names.items():
            nll, jsd = comparison.paired(name, plain), comparison.paired(name, plain, "jsd_base2")
            rows.append([plain, condition, comparison.of(name).nll, nll.difference, jsd.difference])
    columns = [
        Column("Prediction"), Column("Sound"), LOG_LOSS, Column("Log loss, minus as recorded", signed=True),
        Column("JSD, minus as recorded", signed=True),
    ]  # fmt: skip
    lead = (
        "The same model and utterances, with noise, telephone bandwidth or reverberation added to the audio. The "
        "raters heard the original recordings."
    )
    return Section("Degraded audio", lead, (Table.of(columns, rows),))


def _ratings(measured: Measured, models: list[str]) -> Section | None:
    scores = {name: measured.comparison.held_out[name] for name in models}
    rows: list[list[Cell]] = [
        [name, attribute, agreement, held_out.interval(f"rmse_{attribute}"), held_out.utterances(f"ccc_{attribute}")]
        for name, held_out in scores.items()
        for attribute in ATTRIBUTES
        if (agreement := held_out.interval(f"ccc_{attribute}")) is not None
    ]
    if not rows:
        return None
    columns = [
        Column("Prediction"), Column("Attribute"),
        Column("CCC", 3, "Concordance correlation with the mean of the held-out ratings; 1 is best."),
        Column("RMSE", 3, "Root mean squared error, on the scale from 0 to 1."),
        Column("Utterances", 0, "With a prediction and held-out ratings, whether or not a rater gave a label."),
    ]  # fmt: skip
    lead = "Arousal, valence and dominance against the mean of each utterance's held-out ratings."
    return Section("Ratings", lead, (Table.of(columns, rows),))


def _risk(measured: Measured, models: list[str]) -> Section:
    roles = roles_of(measured.comparison.methods)
    lines = []
    for name in models:
        risk = measured.recovered[name].risk
        values = tuple(Interval(value, math.nan, math.nan) for value in risk.risk)
        lines.append(Line(Series(name, roles[name], values), risk.coverage))
    title = "Votes missed by the most likely label, over the most confident predictions"
    areas = "; ".join(f"{name} {measured.recovered[name].risk.area:.3f}" for name in models)
    chart = Curves(
        "risk-coverage", title, "share of utterances kept", "share of votes missed", lines, alt=f"Mean risk: {areas}."
    )
    lead = "The gain from leaving the least confident predictions to a human; lower to the left is better."
    table = Table.of(
        [Column("Prediction"), Column("Mean risk")], [[n, measured.recovered[n].risk.area] for n in models]
    )
    return Section("Selective prediction", lead, (chart, table))


def _confusion(measured: Measured, models: list[str]) -> Section:
    blocks: list[Block] = [
        Text("Each row is the mean prediction, in per cent, on the utterances whose listeners vote for a label.")
    ]
    for place, name in enumerate(models):
        values = measured.recovered[name].confusion
        same = float(values.diagonal()[~(values.diagonal() != values.diagonal())].mean())
        alt = f"{name}: on average {100 * same:.0f} % of the prediction is the label that listeners vote for."
        blocks.append(
            Heat(
                f"confusion-{place}", name, list(measured.labels), list(measured.labels), values, row_title="listeners",
                column_title="prediction", alt=alt,
            )
        )  # fmt: skip
    return Section("Confusion of shares", "Which labels the models confuse with which.", tuple(blocks))


def _maker(labels: Labels) -> str:
    maker = labels.about.made_by
    if maker is None:
        return "not recorded"
    model = maker.settings.get("model")
    return f"{maker.stage}" + (f", model {model}" if model else "")


def _is_infinite(gain: Paired) -> bool:
    return not math.isfinite(gain.difference.estimate)


def _why_none(gain: Paired) -> str:
    """Why no verdict on the two is given."""
    return _NOT_FINITE if _is_infinite(gain) else _FEW


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {number(value, 3)}"


def _better(gain: Paired, first: str, second: str) -> str:
    """The better of two by log loss, or why none is."""
    if not gain.can_be_judged:
        return "not known" if _is_infinite(gain) else f"under {FEWEST_TO_TEST} speakers"
    if not gain.is_significant:
        return "not significant"
    return first if gain.difference.estimate < 0 else second


def _words_of(value: Interval, *, signed: bool = False) -> str:
    write = signed_number if signed else number
    if math.isnan(value.low):
        return write(value.estimate, 3)
    return f"{write(value.estimate, 3)} ({write(value.low, 3)} to {write(value.high, 3)})"
