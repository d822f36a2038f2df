"""The data of a report: one row per utterance, and every human, held-out and proxy vote as a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import Array, Ballots, Side, ballots_of
from alm_proxies.compare.strata import Words, groups_of, has_speaker, speakers_of
from alm_proxies.errors import InputError
from alm_proxies.seeds import generator
from alm_proxies.table_checks import refuse_no_rows
from alm_proxies.tables import Finding, Labels, Utterances, Votes

_SIDES: tuple[Side, ...] = ("human", "held_out", "proxy")


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Fused labels with the votes of the same utterances; `groups` maps a column's name to one value per utterance."""

    labels: tuple[str, ...]
    table: Labels
    ids: Words
    human: Ballots
    held_out: Ballots
    proxy: Ballots
    fused: Array
    concentration: Array
    concentration_gain: Array
    speakers: Words | None
    has_speaker: NDArray[np.bool_]
    """Whether the speaker of each utterance is known."""
    groups: dict[str, Words]
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        return len(self.ids)


def material_of(
    labels: Labels,
    known: pl.Series,
    votes_on: Callable[[pl.Series], Votes],
    utterances: Utterances,
    *,
    at_most: int,
    seed: int,
    consensus: bool = False,
) -> tuple[Material, Votes]:
    """The utterances of `labels` with their votes, and these votes; above `at_most`, a random sample of them.

    `known` are the utterances with votes, in any order; `votes_on` gives the votes on some of them, so that only those
    of the sample are held. Published consensus labels count as votes only with `consensus`.
    """
    chosen, findings = _chosen(labels, known, at_most=at_most, seed=seed)
    votes = votes_on(chosen.frame["utterance_id"])
    return _with_votes(chosen, votes, utterances, findings, consensus=consensus), votes


def refuse_other_labels(labels: Labels, taxonomy: tuple[str, ...]) -> None:
    """Raise for votes with another taxonomy than the labels."""
    if labels.taxonomy != taxonomy:
        raise InputError(
            f"the labels' taxonomy is {', '.join(labels.taxonomy)}, the votes' is {', '.join(taxonomy)}",
            where="labels",
            fix="Give the votes that these labels were fused from.",
        )


def _chosen(labels: Labels, known: pl.Series, *, at_most: int, seed: int) -> tuple[Labels, list[Finding]]:
    """The labels of the utterances that have votes (`known`), by id; above `at_most`, a random sample of them."""
    refuse_no_rows(labels.frame, "labels")
    both = labels.frame.filter(pl.col("utterance_id").is_in(known.implode())).sort("utterance_id")
    if not both.height:
        raise InputError("no utterance has both a label and a vote", where="labels", fix="Check --votes.")
    findings = []
    if missing := len(labels) - both.height:
        fix = "Give every votes file that these labels were fused from."
        findings.append(Finding.of("no_votes", "labels of utterances without votes", fix, count=missing))
    if others := len(known) - both.height:
        findings.append(Finding.of("no_label", "utterances with votes but without a label", count=others))
    if both.height > at_most:
        chosen = np.sort(generator(seed, "sample of a report").choice(both.height, at_most, replace=False))
        message = f"the report uses a random sample of {at_most:,} of {both.height:,} utterances"
        findings.append(Finding.of("sampled", message, "Raise at_most to use more.", count=both.height - at_most))
        both = both[chosen]
    return Labels(both, labels.about), findings


def _with_votes(
    labels: Labels, votes: Votes, utterances: Utterances, findings: Sequence[Finding], *, consensus: bool
) -> Material:
    """Labels that are sorted by id with their votes; `votes` may have others too."""
    ids = labels.frame["utterance_id"]
    sides = {side: ballots_of(votes, ids, side, consensus=consensus) for side in _SIDES}
    speakers = speakers_of(ids, utterances)
    groups, more = groups_of(ids, utterances)
    return Material(
        labels=labels.taxonomy,
        table=labels,
        ids=ids.to_numpy().astype(np.str_),
        fused=labels.frame.select([f"p_{label}" for label in labels.taxonomy]).to_numpy(),
        concentration=labels.frame["concentration"].fill_null(np.nan).to_numpy(),
        concentration_gain=labels.frame["concentration_gain"].to_numpy(),
        speakers=speakers,
        has_speaker=has_speaker(ids, utterances),
        groups=groups,
        findings=(*findings, *more),
        human=sides["human"],
        held_out=sides["held_out"],
        proxy=sides["proxy"],
    )
