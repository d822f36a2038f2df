"""Human votes as counts: which count, primary and secondary labels merged once, the draws where a vote is shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from alm_proxies.tables import About, Finding

Array = NDArray[np.float64]
Draws = tuple[NDArray[np.int64], Array]


class Merge(BaseModel):
    """How secondary labels count: an utterance's counts are votes * (primary * P + secondary * S).

    P are the shares of the primary labels; S the mean over the raters who named any of their secondary labels, each
    rater's list sharing mass 1 (arXiv 2606.27536). An utterance without secondary labels keeps P.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    primary: float = Field(1.0, gt=0, le=1)
    """Share of the primary labels."""
    secondary: float = Field(0.0, ge=0, lt=1)
    """Share of the secondary labels; the two sum to 1 (0.9 and 0.1 are usual)."""

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(self.primary + self.secondary - 1) > 1e-9:
            raise ValueError(f"primary and secondary sum to {self.primary + self.secondary:g}, not 1")
        return self


class Counting(BaseModel):
    """What an estimator is given of the votes: fuse is told it, and its labels say it to whoever compares with them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    merge: Merge = Merge()
    """How primary and secondary labels of one rater count."""
    consensus: bool = False
    """Count published consensus labels (annotator "corpus/consensus") as votes."""
    columns: tuple[str, ...] = ()
    """Numeric columns of the utterances (duration, prosody) that may steer the gate beside the proxies."""


def counting_of(labels: About) -> Counting | None:
    """How fuse counted the votes behind labels; None where the labels do not say."""
    made_by = labels.made_by
    if made_by is None or made_by.stage != "fuse":
        return None
    try:
        return Counting.model_validate({name: made_by.settings[name] for name in Counting.model_fields})
    except (ValueError, KeyError, TypeError):  # written by another version
        return None


def summed(place: NDArray[np.int64], weight: Array, size: int) -> Array:
    """The weights summed by place: 0 .. size - 1."""
    return np.bincount(place, weights=weight, minlength=size).astype(np.float64, copy=False)


def human_counts(
    votes: pl.DataFrame, n: int, labels: Sequence[str], merge: Merge
) -> tuple[Array, Draws | None, list[Finding]]:
    """Counts (utterances x labels) of rows u, label, weight, draw, secondary; the draws if any shares its mass."""
    k = len(labels)
    row, label, weight = (votes[name].to_numpy() for name in ("u", "label", "weight"))
    primary = summed(row * k + label, weight, n * k).reshape(n, k)
    named = votes.with_row_index("vote").filter(pl.col("secondary").list.len() > 0) if votes.height else votes
    shared = bool((weight < 1.0 - 1e-9).any()) if len(weight) else False
    if not named.height or not merge.secondary:
        findings = []
        if named.height:
            message = "human votes name secondary labels, which are not used"
            fix = "Set merge = { primary = 0.9, secondary = 0.1 } to use them."
            findings.append(Finding("fuse", "secondary", message, fix=fix, count=named.height))
        vectors = np.eye(k)[label] * weight[:, None] if shared else None
        return primary, None if vectors is None else _draws(votes, vectors), findings
    each = named.select("vote", "secondary").explode("secondary")
    known = each.filter(pl.col("secondary").is_in(list(labels)))
    outside = each.height - known.height
    place = known["vote"].to_numpy().astype(np.int64)
    second = np.zeros((votes.height, k))
    np.add.at(second, (place, known["secondary"].cast(pl.Enum(labels)).to_physical().to_numpy()), 1.0)
    total = second.sum(1, keepdims=True)
    second = weight[:, None] * np.divide(second, total, out=np.zeros_like(second), where=total > 0)
    cast = primary.sum(1)
    naming = summed(row, weight * (total[:, 0] > 0), n)
    share = np.where(naming > 0, merge.primary, 1.0)
    scale = merge.secondary * np.divide(cast, naming, out=np.zeros(n), where=naming > 0)
    vectors = np.eye(k)[label] * (weight * share[row])[:, None] + second * scale[row, None]
    merged = np.stack([summed(row, vectors[:, j], n) for j in range(k)], axis=1)
    findings = []
    if outside:
        message = "secondary labels outside the taxonomy, left out"
        findings.append(Finding("fuse", "secondary_out_of_vocabulary", message, count=outside))
    return merged, _draws(votes, vectors), findings


def _draws(votes: pl.DataFrame, vectors: Array) -> Draws:
    keys = votes.select("u", "annotator", "draw")
    distinct = keys.unique().sort("u", "annotator", "draw")
    place = keys.join(distinct.with_row_index("d"), on=["u", "annotator", "draw"], how="left", maintain_order="left")
    d = place["d"].to_numpy().astype(np.int64)
    made = np.stack([summed(d, column, distinct.height) for column in vectors.T], axis=1)
    return distinct["u"].to_numpy().astype(np.int64), np.asarray(made)
