"""The results as plain values for --json: named as in the report, what is not known is null."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from alm_proxies.about import AnnotatorCard
from alm_proxies.compare.rivals import FUSED
from alm_proxies.stages.align.proxies import account_in
from alm_proxies.stages.align.results import Results


def metrics_of(results: Results) -> dict[str, Any]:
    """Every figure of the report."""
    material = results.material
    made: dict[str, Any] = {
        "utterances": len(material),
        "human_votes": len(material.human.rows),
        "held_out_votes": len(material.held_out.rows),
        "proxy_votes": len(material.proxy.rows),
        "proxy_annotators": material.proxy.names,
        "taxonomy": material.labels,
        "mean_concentration_gain_by_the_fusion": float(material.concentration_gain.mean()),
        "fitted": account_in(material.table) or None,
        "proxies": {
            one.name: {
                "votes": one.votes,
                "utterances": one.utterances,
                "counts": one.counts,
                "why": one.why,
                "lowers_log_loss_by": one.adds,
                "beside": one.beside,
                "label_shares": one.shares,
                "confusion_human_by_proxy": one.confusion,
                "agreement_at_one_vote": one.equal,
            }
            for one in results.proxies
        },
        "label_shares": results.shares,
        "corpus_shares": results.corpus_shares,
        "confusion_human_by_proxy": results.confusion,
        "human_agreement": results.people,
        "agreement_at_equal_votes": results.equal,
        "agreement_within": results.equal_within,
        "alt_tests": [{**plain(test), "win_rate": test.win_rate, "passed": test.passed} for test in results.alt_tests],
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
            name: {"dirichlet_multinomial_nll": one.strength, "ambiguity": one.ambiguity}
            for name, one in results.recovered.items()
        },
        "within_thirds_by_what_cuts": {
            by: {
                third: {name: {"nll": nll, "less_baseline": gain} for name, (nll, gain) in methods.items()}
                for third, methods in thirds.items()
            }
            for by, thirds in results.halved.items()
        },
        "cannot": {name: str(error) for name, error in results.cannot.items()},
    }
    if results.learning is not None and results.learning.worth:
        learned = results.learning
        made["worth_in_human_votes"] = {
            name: {
                **dict(zip(("votes", "low", "high"), learned.votes(name), strict=True)),
                "concentration_gain": learned.concentration_gain[name],
            }
            for name in learned.worth
        }
        made["concentration_per_human_vote"] = learned.strength_per_vote
    if results.scores is not None:
        found = results.scores
        made["scores"] = {"overall": found.overall, "within": found.within, "against_fused": found.against(FUSED)}
        made["every_score"] = {name: one.scores.to_dicts() for name, one in found.held_out.items()}
        made["reliability"] = {name: one.reliability for name, one in found.held_out.items()}
        made["reliability_bins"] = found.reliability
        made["concentration"] = {name: one.concentration for name, one in found.held_out.items()}
    whole: dict[str, Any] = plain(made)
    return whole


def _injected(card: AnnotatorCard | None) -> dict[str, Any]:
    """Whether a proxy is given transcripts, and what an injected one did to its votes; None is not known."""
    told = None if card is None or card.told is None else "transcript" in card.told
    measured = None if card is None or card.injected is None else card.injected.model_dump()
    return {"told_transcripts": told, "measured": measured}


def plain(value: Any) -> Any:
    """Dataclasses, arrays and tuples as dictionaries and lists; infinite as "inf", not a number as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.name != "findings"}
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | tuple | list):
        return [plain(one) for one in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    return value.item() if isinstance(value, np.generic) else value
