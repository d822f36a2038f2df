"""Sets to evaluate on: importance weights and a subset of recorded test utterances, in which labels are equally common.

Weights: entropy balancing of the labels' posterior means. Subset: the largest share f of the test utterances for which
weights of at most 1/f still reach the target; each utterance is in it with the chance f w_i, at most once, drawn
systematically with like utterances next to each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.measures.balanced_population import FEWEST_SPEAKERS, FEWEST_UTTERANCES
from alm_proxies.measures.resampling import whole_copies
from alm_proxies.printable import counted
from alm_proxies.report.page import Cell, Column, Section, Table
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.stages.balance.weights import TOLERANCE, balanced
from alm_proxies.tables import Finding, Labels, Utterances

Array = NDArray[np.float64]
COLUMN = "balanced_test"
"""The column of the utterances that says "yes" for those of the subset."""
_STARTS = 32
_HALVINGS = 12


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationSet:
    """Both tables with the weights and the subset, the figures, and the section of the page."""

    labels: Labels
    utterances: Utterances
    metrics: dict[str, Any]
    section: Section | None
    findings: list[Finding]


def evaluation_set(
    labels: Labels, utterances: Utterances, settings: BalanceSettings, why_not: str | None
) -> EvaluationSet:
    """Importance weights of the splits in `settings.evaluation`, and a subset of them, or a finding that says why not.

    Every speaker of the balanced splits is left out, and every generated item; both get the weight 0, and utterances of
    weight 0 keep it. `why_not` says why the labels are no posterior means, if they are none.
    """
    about = utterances.frame.select("utterance_id", "speaker", "split", "recipe")
    trained = about.filter(pl.col("split").is_null() | pl.col("split").is_in(list(settings.splits)))["speaker"]
    rows = labels.frame.join(about, on="utterance_id", how="inner", maintain_order="left")
    rows = rows.filter(pl.col("split").is_in(list(settings.evaluation.splits)) & (pl.col("weight") > 0))
    met = rows["speaker"].is_in(trained.drop_nulls().unique().implode()).fill_null(value=False)
    out = rows.filter(met | rows["recipe"].is_not_null())
    rows = rows.filter(~met & rows["recipe"].is_null())
    findings = []
    if out.height:
        message = (
            f"{counted(out.height, 'utterance')} of the evaluation set of training speakers or generated; weight 0"
        )
        findings.append(Finding("balance", "training_speaker", message, "Split by speaker.", count=out.height))
    shares = rows.select(f"p_{label}" for label in labels.taxonomy).to_numpy().astype(np.float64)
    target = np.full(len(labels.taxonomy), 1 / len(labels.taxonomy))
    reason = _too_few(rows) or why_not
    solution = None
    if reason is None:
        solution = balanced(shares, target)
        if not solution.met:
            reason = "no weights bring their mean to equal shares"
    if reason is not None or solution is None:
        message = f"no evaluation set is made: {reason}"
        findings.append(Finding("balance", "no_evaluation_set", message, "Give more test utterances, fused.", count=1))
        return EvaluationSet(labels, utterances, {"reason": reason}, None, findings)
    chosen = _subset(shares, target, settings.seed)
    weights = dict(zip(rows["utterance_id"], solution.weights.tolist(), strict=True))
    weights |= dict.fromkeys(out["utterance_id"], 0.0)
    new = pl.DataFrame({"utterance_id": list(weights), "_new": [float(value) for value in weights.values()]})
    frame = labels.frame.join(new, on="utterance_id", how="left", maintain_order="left")
    frame = frame.with_columns(weight=pl.coalesce("_new", "weight")).drop("_new")
    ids = rows["utterance_id"].filter(pl.Series(chosen))
    marked = pl.when(pl.col("utterance_id").is_in(ids.implode())).then(pl.lit("yes")).otherwise(pl.lit(None, pl.String))
    described = utterances.frame.with_columns(marked.alias(COLUMN))
    inside = shares[chosen].mean(0)
    metrics: dict[str, Any] = {
        "utterances": rows.height,
        "speakers": rows["speaker"].drop_nulls().n_unique(),
        "effective_size": solution.effective_size,
        "largest_weight": float(solution.weights.max()),
        "subset": int(chosen.sum()),
        "subset_worst_error": float(np.abs(inside - target).max()),
        "by_label": {
            label: {"before": float(before), "weighted": float(after), "subset": float(part)}
            for label, before, after, part in zip(
                labels.taxonomy, shares.mean(0), solution.reached, inside, strict=True
            )
        },
    }  # fmt: skip
    return EvaluationSet(
        Labels.of(frame, about=labels.about, where="labels"),
        Utterances.of(described, about=utterances.about, where="utterances"),
        metrics,
        _section(metrics),
        findings,
    )


def _too_few(rows: pl.DataFrame) -> str | None:
    speakers = rows["speaker"].drop_nulls().n_unique()
    if rows.height >= FEWEST_UTTERANCES and speakers >= FEWEST_SPEAKERS:
        return None
    return (
        f"{counted(rows.height, 'test utterance')} of {counted(speakers, 'speaker')} are too few; "
        f"{FEWEST_UTTERANCES} of {FEWEST_SPEAKERS} are needed"
    )


def _subset(shares: Array, target: Array, seed: int) -> NDArray[np.bool_]:
    """The largest subset with the wanted shares, each utterance at most once."""
    low, high = 0.0, 1.0
    weights = np.zeros(len(shares))
    for _ in range(_HALVINGS):
        size = 0.5 * (low + high)
        solution = balanced(shares, target, cap=1 / size)
        if solution.met and np.abs(solution.error).max() <= TOLERANCE:
            low, weights = size, np.minimum(solution.weights * size, 1.0)
        else:
            high = size
    order = np.lexsort((shares.max(1), shares.argmax(1)))
    rng = generator(seed, "balance", "balanced test")
    best, nearest = np.zeros(len(shares), dtype=np.bool_), np.inf
    for _ in range(_STARTS):
        chosen = np.zeros(len(shares), dtype=np.bool_)
        chosen[order] = whole_copies(weights[order], float(rng.random())) > 0
        worst = float(np.abs(shares[chosen].mean(0) - target).max()) if chosen.any() else np.inf
        if worst < nearest:
            best, nearest = chosen, worst
    return best


def _section(metrics: dict[str, Any]) -> Section:
    size, subset, away = metrics["effective_size"], metrics["subset"], 100 * metrics["subset_worst_error"]
    lead = (
        f"{metrics['utterances']:,} recorded test utterances of {metrics['speakers']:,} speakers, none of whom is in "
        f"the balanced splits. With importance weights they carry as much information as {size:,.0f} of equal weight; "
        f"{subset:,} of them are the balanced subset, whose shares are within {away:.1f} points of equal ones."
    )
    rows: list[list[Cell]] = [
        [label, share["before"], share["weighted"], share["subset"]] for label, share in metrics["by_label"].items()
    ]
    note = f'In the labels the weights stand as weight, in the utterances the subset as {COLUMN} = "yes".'
    columns = [Column("Label"), Column("As it is"), Column("With weights"), Column("Subset")]
    return Section("Evaluation set", lead, (Table.of(columns, rows, note),))
