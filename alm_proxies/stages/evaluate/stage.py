"""evaluate: compare the predictions of several models by held-out human votes, with intervals and p-values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alm_proxies.arguments import checked
from alm_proxies.printable import counted
from alm_proxies.shown import Shown
from alm_proxies.stages.evaluate.settings import EvaluateSettings
from alm_proxies.tables import Findings, Labels, Utterances, Votes

if TYPE_CHECKING:
    from alm_proxies.report.page import Page

__all__ = ["EvaluateSettings", "Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Shown):
    """The result of evaluate: metrics as plain values, the report page, and findings."""

    metrics: dict[str, Any]
    page: Page
    findings: Findings
    left_out: int = 0
    """Utterances with held-out votes that are not scored."""

    @property
    def counts(self) -> dict[str, float]:
        """The number of utterances scored, and of those with held-out votes that are not."""
        return {"utterances": self.metrics["utterances"], "left_out": self.left_out}

    @property
    def line(self) -> str:
        """The result in one sentence."""
        scores = ", ".join(
            f"{name} {'infinite' if (loss := values['nll_per_vote']['value']) is None else f'{loss:.3f}'}"
            for name, values in self.metrics["methods"].items()
        )
        return f"log loss per held-out vote over {counted(self.metrics['utterances'], 'utterance')}: {scores}"


@checked
def evaluate(
    predictions: Mapping[str, Labels],
    votes: Votes,
    utterances: Utterances,
    settings: EvaluateSettings | None = None,
    *,
    truth: Labels | None = None,
    fused: Labels | None = None,
) -> Evaluation:
    """Compare predictions by held-out human votes: one common test set, paired differences, intervals over speakers.

    Predictions for speakers that a model was trained on are left out and counted. The class shares of the human votes
    that are not held out are scored beside the models. `truth` adds the distances to the true distributions of a
    simulated corpus, paired and within strata, and makes the JSD floor that of the truth. `fused`, fused labels of the
    test utterances by a fit that has not seen the votes that are scored, adds the balanced-population estimate: the
    scores where every label has the same share.
    """
    from alm_proxies.compare.plain import with_reasons
    from alm_proxies.measures.hard_labels import WITH_TIES
    from alm_proxies.measures.held_out import TO_TRUTH
    from alm_proxies.report.simulated import simulated_words
    from alm_proxies.stages.evaluate.balanced import balanced_metrics, balanced_of, balanced_section
    from alm_proxies.stages.evaluate.measured import measure
    from alm_proxies.stages.evaluate.metrics import metrics_of
    from alm_proxies.stages.evaluate.page import page_of
    from alm_proxies.stages.evaluate.truth import to_truth_metrics

    settings = settings or EvaluateSettings()
    measured = measure(predictions, votes, utterances, settings, truth)
    balanced = balanced_of(measured.comparison, votes, utterances, fused, seed=settings.seed)
    measured = replace(measured, findings=(*measured.findings, *balanced.findings))
    section = balanced_section(balanced, measured.comparison)
    page = page_of(measured, predictions, settings, simulated_words(utterances), section)
    estimate = balanced_metrics(balanced, measured.comparison.methods)
    reasons = {"balanced_population_estimate": balanced.reason or "", "to_truth": "no truth is given"}
    for distance in TO_TRUTH:
        within = ("to_truth/methods/*", "to_truth/within/*/*/*")
        reasons |= {f"{path}/{distance}_less_baseline": "it is the baseline" for path in within}
    reasons |= {f"methods/*/{name}_less_baseline": "it is the baseline" for name in WITH_TIES}
    metrics = with_reasons(
        {
            **metrics_of(measured),
            "to_truth": to_truth_metrics(measured.comparison),
            "balanced_population_estimate": estimate,
        },
        reasons,
    )
    return Evaluation(metrics, page, Findings.gather(measured.findings, "evaluate"), measured.left_out)
