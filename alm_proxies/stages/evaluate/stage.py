"""evaluate: compare the predictions of several models by held-out human votes, with intervals and p-values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alm_proxies.shown import Shown
from alm_proxies.stages.evaluate.settings import EvaluateSettings
from alm_proxies.tables import Findings, Labels, Utterances, Votes

if TYPE_CHECKING:
    from alm_proxies.report.page import Page

__all__ = ["EvaluateSettings", "Evaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation(Shown):
    """The result of evaluate: metrics as plain values, the report page, and findings."""

    metrics: dict[str, Any]
    page: Page
    findings: Findings

    @property
    def line(self) -> str:
        """The result in one sentence."""
        scores = ", ".join(
            f"{name} {values['nll_per_vote']['value']:.3f}" for name, values in self.metrics["methods"].items()
        )
        return f"log loss per held-out vote over {self.metrics['utterances']:,} utterances: {scores}"


def evaluate(
    predictions: Mapping[str, Labels],
    votes: Votes,
    utterances: Utterances,
    settings: EvaluateSettings | None = None,
    *,
    truth: Labels | None = None,
) -> Evaluation:
    """Compare predictions by held-out human votes: one common test set, paired differences, intervals over speakers.

    Predictions for speakers that a model was trained on are left out and counted. The class shares of the human votes
    that are not held out are scored beside the models. `truth` adds the distance to the true distributions of a
    simulated corpus.
    """
    from alm_proxies.report.simulated import simulated_words
    from alm_proxies.stages.evaluate.measured import measure
    from alm_proxies.stages.evaluate.metrics import metrics_of
    from alm_proxies.stages.evaluate.page import page_of

    settings = settings or EvaluateSettings()
    measured = measure(predictions, votes, utterances, settings, truth)
    page = page_of(measured, predictions, settings, simulated_words(utterances))
    return Evaluation(metrics_of(measured), page, Findings.gather(measured.findings, "evaluate"))
