"""CREMA-D's tabulated votes as a corpus: the three modalities, seeded splits, and scores of held-out votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.estimators.counts import Array, Counts, counts_of
from alm_proxies.estimators.trials import Losses
from alm_proxies.seeds import generator
from alm_proxies.tables import Utterances, Votes

LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")
HELD_OUT = 4


class Corpus:
    """Vote counts of the three modalities, and the actor of each clip."""

    def __init__(self, table: Path) -> None:
        frame = pl.read_csv(table, infer_schema_length=None, null_values=["NA"])
        frame = frame.rename({frame.columns[0]: "row"}).with_columns(clip=pl.col("row") % 100_000).sort("clip")
        parts = [frame.filter(pl.col("row") // 100_000 == modality) for modality in (1, 2, 3)]
        if any(not part["clip"].equals(parts[0]["clip"]) for part in parts):
            raise SystemExit("the three modalities do not hold the same clips")
        self.voice, self.face, self.audio_visual = (
            part.select("A", "D", "F", "H", "N", "S").to_numpy().astype(np.float64) for part in parts
        )
        self.clips = [f"crema_d/{clip:06d}" for clip in parts[0]["clip"]]
        self.actors = parts[0]["fileName"].str.slice(0, 4)
        names = self.actors.to_list()
        self.utterances = Utterances.of(pl.DataFrame({"utterance_id": self.clips, "speaker": names}))

    def split(self, seed: int, most: int) -> tuple[dict[int, Array], Array]:
        """The first k = 1 .. most votes of every clip, and four others held out if it has eight or more."""
        rng = generator(seed, "split")
        held = np.zeros_like(self.voice)
        kept = {k: np.zeros_like(self.voice) for k in range(1, most + 1)}
        for i, row in enumerate(self.voice.astype(int)):
            votes = rng.permutation(np.repeat(np.arange(len(LABELS)), row))
            if len(votes) >= 8:
                np.add.at(held[i], votes[:HELD_OUT], 1.0)
                votes = votes[HELD_OUT:]
            for k, counts in kept.items():
                np.add.at(counts[i], votes[:k], 1.0)
        return kept, held

    def counts(self, human: Array, proxies: dict[str, Array]) -> Counts:
        """The votes in the package's own tables, like those of a user."""
        frames = [self._frame(human, "crema_d/crowd", "human")]
        frames += [self._frame(counts, name, "proxy") for name, counts in proxies.items()]
        votes = Votes.of(pl.concat(frames), taxonomy=LABELS)
        return counts_of(votes, utterances=self.utterances)

    def _frame(self, counts: Array, annotator: str, source: str) -> pl.DataFrame:
        row, label = np.nonzero(counts)
        times = counts[row, label].astype(int)
        ids = np.array(self.clips)[np.repeat(row, times)]
        labels = np.array(LABELS)[np.repeat(label, times)]
        columns = {"utterance_id": ids, "annotator": annotator, "source": source, "label": labels}
        return pl.DataFrame(columns)


def losses(mean: Array, held: Array) -> tuple[Losses, Losses]:
    """Log loss per held-out vote, and Jensen-Shannon divergence (base 2) to their shares, for each clip."""
    votes = held.sum(1)
    nll = -(held * np.log(np.maximum(mean, 1e-12))).sum(1)
    return Losses(nll, votes), Losses(np.where(votes > 0, jsd(mean, held), 0.0), (votes > 0).astype(float))


def jsd(mean: Array, held: Array) -> Array:
    """Jensen-Shannon divergence, base 2, of each row to the shares of its held-out votes."""
    share = held / np.maximum(held.sum(1, keepdims=True), 1.0)
    middle = np.maximum(0.5 * (mean + share), 1e-300)

    def divergence(p: Array) -> Array:
        divergences: Array = (p * np.log2(np.maximum(p, 1e-300) / middle)).sum(1)
        return divergences

    return 0.5 * divergence(mean) + 0.5 * divergence(share)
