"""The results as plain values: named as in the table of metrics; what is not known is null, with a reason."""

from __future__ import annotations

import math
from typing import Any

from alm_proxies.about import AnnotatorCard
from alm_proxies.compare.plain import BEYOND, ENDS, INFINITE, plain, with_reasons
from alm_proxies.stages.align.results import Results


def metrics_of(results: Results) -> dict[str, Any]:
    """All metrics of the report."""
    why = _why(results)
    material = results.material
    agreement = results.agreement
    scored = results.scored
    metrics: dict[str, Any] = {
        "utterances": len(material),
        "human_votes": len(material.human.rows),
        "held_out_votes": len(material.held_out.rows),
        "proxy_votes": len(material.proxy.rows),
        "proxy_annotators": material.proxy.names,
        "taxonomy": material.labels,
        "mean_concentration_gain_by_the_fusion": float(material.concentration_gain.mean()),
        "fitted": results.prepared.account or None,
        "proxies": {
            each.name: {
                "votes": each.votes,
                "utterances": each.utterances,
                "counts": each.counts,
                "why": each.why,
                "lowers_log_loss_by": each.adds,
                "beside": each.beside,
                "label_shares": each.shares,
                "confusion_human_by_proxy": each.confusion,
                "agreement_at_one_vote": each.equal,
                "takes_off_class_shares": each.takes_off,
                "took_off_where_measured": _took_off(results.cards.get(each.name)),
                "cost": _cost(results.cards.get(each.name)),
            }
            for each in results.proxies
        },
        "label_shares": results.shares.labels,
        "corpus_shares": results.shares.corpus,
        "confusion_human_by_proxy": results.shares.confusion,
        "human_agreement": results.people,
        "human_agreement_without_held_out": results.people_of_fit,
        "agreement_at_equal_votes": agreement.equal,
        "agreement_within": agreement.within,
        "alt_tests": [
            {**plain(test), "win_rate": test.win_rate, "passed": test.passed} for test in agreement.alt_tests
        ],
        "saturation": {
            name: {**plain(curve), "saturated_at": curve.fit.saturation if curve.fit else None}
            for name, curve in results.curves.items()
        },
        "injected_transcripts": {name: _injected(card) for name, card in results.cards.items()},
        "variance": results.variance,
        "stratum_trust": results.trust,
        "learning": results.learning,
        "worth_in_human_votes": None,
        "concentration_per_human_vote": None,
        "scores": None,
        "recovered": {
            name: {"dirichlet_multinomial_nll": each.strength, "ambiguity": each.ambiguity}
            for name, each in (scored.recovered if scored else {}).items()
        },
        "within_thirds_by_what_cuts": {
            by: {
                third: {name: {"nll_per_vote": nll, "less_baseline": gain} for name, (nll, gain) in methods.items()}
                for third, methods in thirds.items()
            }
            for by, thirds in (scored.halved.scores if scored else {}).items()
        },
        "cannot": agreement.cannot,
    }
    if results.learning is not None and results.learning.worth:
        learned = results.learning
        metrics["concentration_per_human_vote"] = learned.strength_per_vote
    if results.uses_proxies and results.learning is not None and results.learning.worth:
        metrics["worth_in_human_votes"] = {
            name: {
                **dict(zip(("votes", "low", "high"), learned.votes(name), strict=True)),
                "beyond": learned.at[-1] - learned.given,
                "concentration_gain": learned.concentration_gain[name],
            }
            for name in learned.worth
        }
    if scored is not None:
        comparison = scored.comparison
        metrics["scores"] = {
            "overall": comparison.overall,
            "within": comparison.within,
            "against_fused": scored.behind,
            "alone": scored.alone.method,
        }
        columns = dict(zip(("value", "estimate"), ("level", "value"), strict=True))
        metrics["every_score"] = {
            name: each.scores.rename(columns).to_dicts() for name, each in comparison.held_out.items()
        }
        metrics["reliability"] = {name: each.reliability for name, each in comparison.held_out.items()}
        metrics["reliability_bins"] = comparison.reliability
        metrics["concentration"] = {name: each.concentration for name, each in comparison.held_out.items()}
    plain_metrics: dict[str, Any] = plain(metrics)
    return with_reasons(plain_metrics, why)


def _took_off(card: AnnotatorCard | None) -> float | None:
    return None if card is None or card.measured is None else card.measured.takes_off


def _why(results: Results) -> dict[str, str]:
    """Why a figure at the top is not known."""
    nothing = "no vote was held out" if not results.has_held_out else "the votes of the fit hold no human vote"
    few = "too few utterances have as many votes" if results.has_held_out else nothing
    without = "no proxy voted on an utterance with human votes" if results.has_proxies else "no proxy voted"
    pairs = "no utterance has two human votes and a proxy vote" if results.has_proxies else "no proxy voted"
    return (
        _without_ends(results)
        | _not_saturated(results)
        | {
            "scores": nothing,
            "learning": few,
            "worth_in_human_votes": "the labels rest on no proxies, or there is no learning curve",
            "concentration_per_human_vote": few,
            "agreement_at_equal_votes": pairs,
            "confusion_human_by_proxy": without,
            "corpus_shares": "too few utterances have proxy votes only",
            "variance": "too few utterances have two proxy votes",
            "human_agreement": "no utterance has two human votes",
            "human_agreement_without_held_out": "no utterance has two human votes in the fit",
            "fitted": "the labels do not say what was fitted",
            "worth_in_human_votes/*/votes": BEYOND,
            "worth_in_human_votes/*/low": BEYOND,
            "worth_in_human_votes/*/high": BEYOND,
            "learning/worth/*/votes": BEYOND,
            "learning/worth/*/low": BEYOND,
            "learning/worth/*/high": BEYOND,
            "learning/fused/value": INFINITE,
            "proxies/*/why": "it counts, or the labels do not say",
            "fitted/proxies/*/why": "it counts",
            "fitted/proxies/*/beside": "it was not tried",
            "fitted/proxies/*/lowers_log_loss_by": "it was not tried by itself",
            "proxies/*/beside": "it was not tried",
            "proxies/*/took_off_where_measured": "the proxy's annotator file or model does not state it",
            "proxies/*/cost": "the annotator file states no price, or the cost is not known",
            "proxies/*/lowers_log_loss_by": "it was not tried by itself",
            "injected_transcripts/*/measured": "it was not measured",
        }
    )


def _without_ends(results: Results) -> dict[str, str]:
    """Why the worth has no interval, where its stratum has too few speakers for one."""
    worths = {} if results.learning is None else results.learning.worth
    few = [name for name, worth in worths.items() if math.isnan(worth.low)]
    places = ("worth_in_human_votes", "learning/worth")
    return {f"{place}/{name}/{end}": ENDS for place in places for name in few for end in ("low", "high")}


def _not_saturated(results: Results) -> dict[str, str]:
    """Why a curve has no number of votes at which it has saturated."""
    reasons: dict[str, str] = {}
    for name, curve in results.curves.items():
        at = f"saturation/{name}/saturated_at"
        if curve.fit is None:
            reasons |= {at: curve.not_fitted, f"saturation/{name}/fit": curve.not_fitted}
        else:
            reasons[at] = "the fitted curve reaches it at no number of votes up to 1000"
    return reasons


def _cost(card: AnnotatorCard | None) -> dict[str, Any] | None:
    return None if card is None or card.cost is None else card.cost.model_dump()


def _injected(card: AnnotatorCard | None) -> dict[str, Any]:
    """Whether the proxy's prompt shows transcripts, and the effect of injected ones on its votes; None is unknown."""
    shows_transcripts = None if card is None or card.context is None else "transcript" in card.context
    measured = None if card is None or card.injected is None else card.injected.model_dump()
    return {"told_transcripts": shows_transcripts, "measured": measured}
