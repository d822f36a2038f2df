"""The figures of the embedded annotator on actors that nothing was learned from.

Log loss a vote (nats) and JSD (bits) of the class shares of the training actors, of the Whisper head
trained on the same actors, and of the annotator; the share of the gap between the first two that the annotator closes,
with a bootstrap interval over actors; and how many human votes of a clip, smoothed with the class shares, are as good
on four held-out votes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from embedded_real import Teacher, pooled
from embedded_speech import CORPUS, LABELS, Array, Cells, Clips

from alm_proxies.measures.divergence import jsd_base2
from alm_proxies.seeds import generator
from alm_proxies.tables import About, Utterances
from alm_proxies.training.heads import log_loss

HELD_OUT = 4
MOST = 4
DRAWS = 20
BOOTSTRAPS = 10_000
Figures = dict[str, float | list[float] | str | int]


@dataclass(frozen=True, slots=True)
class Scores:
    """Summed log loss and number of votes of every actor, for each guess."""

    loss: dict[str, Array]
    votes: Array


def table_of(clips: Clips) -> Utterances:
    """The clips as utterances."""
    columns = {"utterance_id": [f"{CORPUS}/{name}" for name in clips.names], "audio": list(map(str, clips.paths))}
    frame = pl.DataFrame(columns).with_columns(corpus=pl.lit(CORPUS), speaker=pl.Series(clips.actors.tolist()))
    return Utterances.of(frame, about=About(taxonomy=LABELS))


def figures_of_actors(
    clips: Clips, cells: Cells, teacher: Teacher, class_shares: Array, hear: Callable[[Utterances], pl.DataFrame]
) -> Figures:
    """All figures of clips of actors that nothing was learned from."""
    answers = heard_about(clips, hear)
    guesses = {
        "class_shares": np.broadcast_to(class_shares, clips.votes.shape),
        "whisper_head": teacher.about(pooled(cells), clips.actors.tolist()),
        "embedded": answers,
    }
    shares = clips.votes / clips.votes.sum(1, keepdims=True)
    figures: Figures = {"clips": len(clips.names), "actors": len(set(clips.actors.tolist()))}
    for name, guess in guesses.items():
        figures[f"nll_{name}"] = log_loss(guess, clips.votes)
        figures[f"jsd_{name}"] = float(jsd_base2(shares, guess).mean())
        figures[f"plurality_{name}"] = float((guess.argmax(1) == clips.votes.argmax(1)).mean())
    scores = by_actor(clips, guesses)
    everyone = np.arange(len(scores.votes))
    figures["gap_closed"] = gap_closed(scores, everyone)
    rng = generator(0, "embedded figures")
    drawn = [gap_closed(scores, rng.choice(everyone, len(everyone))) for _ in range(BOOTSTRAPS)]
    figures["gap_closed_interval"] = [float(value) for value in np.quantile(drawn, [0.025, 0.975])]
    return figures | worth(clips, answers, class_shares)


def against(
    clips: Clips, hear: Callable[[Utterances], pl.DataFrame], before: Callable[[Utterances], pl.DataFrame]
) -> Figures:
    """Log loss a vote less that of other weights, on the same clips, with a bootstrap interval over actors."""
    guesses = {"embedded": heard_about(clips, hear), "before": heard_about(clips, before)}
    scores = by_actor(clips, guesses)
    less = scores.loss["embedded"] - scores.loss["before"]
    rng = generator(0, "embedded against")
    rows = rng.integers(len(less), size=(BOOTSTRAPS, len(less)))
    drawn = less[rows].sum(1) / scores.votes[rows].sum(1)
    return {
        "nll": log_loss(guesses["before"], clips.votes),
        "difference": float(less.sum() / scores.votes.sum()),
        "difference_interval": [float(value) for value in np.quantile(drawn, [0.025, 0.975])],
    }


def heard_about(clips: Clips, hear: Callable[[Utterances], pl.DataFrame]) -> Array:
    """The distribution of every clip, in their order."""
    ids = pl.DataFrame({"utterance_id": [f"{CORPUS}/{name}" for name in clips.names]})
    heard = ids.join(hear(table_of(clips)), on="utterance_id", how="left", maintain_order="left")
    answers: Array = heard.select(LABELS).to_numpy()
    return answers


def by_actor(clips: Clips, guesses: dict[str, Array]) -> Scores:
    """Summed log losses of each actor's votes."""
    actors = np.unique(clips.actors)
    loss = {
        name: np.array([_summed(guess[clips.actors == actor], clips.votes[clips.actors == actor]) for actor in actors])
        for name, guess in guesses.items()
    }
    return Scores(loss, np.array([clips.votes[clips.actors == actor].sum() for actor in actors]))


def gap_closed(scores: Scores, actors: np.ndarray) -> float:
    """Share of the gap from the class shares to the Whisper head that the annotator closes, over some actors."""
    prior, ours, ceiling = (
        scores.loss[name][actors].sum() / scores.votes[actors].sum()
        for name in ("class_shares", "embedded", "whisper_head")
    )
    return float((prior - ours) / (prior - ceiling))


def worth(clips: Clips, answers: Array, class_shares: Array) -> Figures:
    """Human votes a clip that are as good on held-out votes: k votes + a x class shares, with the best a for each k."""
    enough = np.flatnonzero(clips.votes.sum(1) >= HELD_OUT + MOST)
    losses = {k: np.zeros(len(_STRENGTHS)) for k in range(MOST + 1)}
    ours = 0.0
    for draw in range(DRAWS):
        rng = generator(draw, "embedded worth")
        kept, held = _split(clips.votes[enough], rng)
        ours += log_loss(answers[enough], held) / DRAWS
        for k, counts in kept.items():
            for place, strength in enumerate(_STRENGTHS):
                guess = counts + strength * class_shares
                losses[k][place] += log_loss(guess / guess.sum(1, keepdims=True), held) / DRAWS
    curve = [float(losses[k].min()) for k in range(MOST + 1)]
    votes = float(np.interp(-ours, [-loss for loss in curve], np.arange(MOST + 1)))
    return {
        "worth_clips": len(enough),
        "worth_embedded_nll": ours,
        "worth_human_nll": curve,
        "worth_votes": votes,
    }


_STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _split(votes: Array, rng: np.random.Generator) -> tuple[dict[int, Array], Array]:
    held = np.zeros_like(votes)
    kept = {k: np.zeros_like(votes) for k in range(MOST + 1)}
    for row, counts in enumerate(votes.astype(int)):
        order = rng.permutation(np.repeat(np.arange(len(LABELS)), counts))
        np.add.at(held[row], order[:HELD_OUT], 1.0)
        for k, sums in kept.items():
            np.add.at(sums[row], order[HELD_OUT : HELD_OUT + k], 1.0)
    return kept, held


def _summed(guess: Array, votes: Array) -> float:
    return float(-(votes * np.log(np.maximum(guess, 1e-6))).sum())
