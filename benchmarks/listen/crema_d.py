"""CREMA-D for the listen benchmarks: features of the recordings, sparse votes in draws, held-out votes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "fusion"))
from crema_votes import LABELS, Corpus

from alm_proxies.estimators.counts import Array
from alm_proxies.estimators.estimator import Posterior
from alm_proxies.estimators.trials import Interval
from alm_proxies.seeds import generator
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.stages.fuse.stage import fuse
from alm_proxies.stages.listen.hear import hear
from alm_proxies.stages.listen.relabel import relabelling
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.tables import About, AnnotatorCard, Labels, Utterances, Votes
from alm_proxies.training.folds import Fitted, Material, assign_folds, cross_fit
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import Index

LOCKED = ("1009", "1019", "1029", "1031", "1039", "1049", "1059", "1069", "1079", "1089")
"""Actors that were never used to choose anything."""
FOLDS = 5
Kept = dict[str, Array]
"""Of every clip of one draw: actor, held-out votes, summed log loss of each kind of label; what else is kept."""


@dataclass(frozen=True)
class Listening:
    """What was listened to: rows of the corpus, their votes, held-out votes, folds, and the fitted listener."""

    rows: Index
    kept: Array
    held: Array
    folds: dict[str, int]
    material: Material
    fitted: Fitted


class Recordings:
    """The corpus and a vector of features for every clip."""

    def __init__(self, data: Path, settings: ListenSettings, folder: Path) -> None:
        self.corpus = Corpus(data / "crema_d" / "tabulatedVotes.csv")
        frame = pl.read_csv(data / "crema_d" / "tabulatedVotes.csv", infer_schema_length=None, null_values=["NA"])
        frame = frame.rename({frame.columns[0]: "row"}).filter(pl.col("row") < 200_000).sort("row")
        names = frame["fileName"].to_list()
        self.actors = np.array([name[:4] for name in names])
        there = {path.stem: path for path in (data / "crema_d" / "AudioWAV").iterdir()}
        table = pl.DataFrame({"utterance_id": self.corpus.clips, "audio": [str(there[name]) for name in names]})
        utterances = Utterances.of(table.with_columns(speaker=pl.Series(self.actors)))
        self.features = hear(utterances, settings, folder, quiet=False)[0].rows

    def sample(self, size: int | None, seed: int) -> Index:
        """All rows, or a seeded sample of clips of that size."""
        everything = np.arange(len(self.actors))
        if size is None:
            return everything
        return np.sort(generator(seed, "listen sample", size).choice(everything, size, replace=False))

    def listen(
        self, k: int, seed: int, rows: Index, *, rounds: int = 2, shuffled: str = "", head: HeadSettings | None = None
    ) -> Listening:
        """A listener on k votes a clip; shuffled "over all" or "within speakers": clips get other clips' features."""
        kept, held = self.corpus.split(seed, 3)
        actors = self.actors[rows]
        folds = assign_folds(actors.tolist(), FOLDS, seed)
        features = self.features[rows]
        chance = generator(seed, "listen shuffle")
        if shuffled == "over all":
            features = features[chance.permutation(len(rows))]
        elif shuffled:
            order = np.arange(len(rows))
            for actor in np.unique(actors):
                own = np.flatnonzero(actors == actor)
                order[own] = chance.permutation(own)
            features = features[order]
        fold = np.array([folds[actor] for actor in actors.tolist()], dtype=np.int64)
        material = Material(LABELS, features, kept[k][rows], fold)
        fitted = cross_fit(
            material, head or HeadSettings(), rounds=rounds, seed=seed, relabel=relabelling(material, seed)
        )
        return Listening(rows, kept[k][rows], held[rows], folds, material, fitted)

    def fused(self, rows: Index, kept: Array, seed: int, shares: Array | None, folds: dict[str, int]) -> Array:
        """The package's fuse with default settings, of human votes and the listener's votes."""
        votes = self.votes(rows, kept, shares, folds)
        labels = fuse(votes, FuseSettings(seed=seed), utterances=self.corpus.utterances).labels
        return self.posterior(rows, labels).mean

    def votes(self, rows: Index, kept: Array, shares: Array | None, folds: dict[str, int]) -> Votes:
        """The human votes of some rows and, where there are shares, the listener's."""
        ids = np.array(self.corpus.clips)[rows]
        row, label = np.nonzero(kept)
        times = kept[row, label].astype(int)
        human = {"utterance_id": ids[np.repeat(row, times)], "label": np.array(LABELS)[np.repeat(label, times)]}
        frame = pl.DataFrame(human).with_columns(annotator=pl.lit("crema_d/crowd"), source=pl.lit("human"))
        frame = frame.with_columns(draw=pl.int_range(pl.len(), dtype=pl.Int32).over("utterance_id"), weight=1.0)
        if shares is None:
            return Votes.of(frame, about=About(taxonomy=LABELS))
        safe = np.maximum(shares, 1e-6)
        safe /= safe.sum(1, keepdims=True)
        votes = {"utterance_id": ids.repeat(len(LABELS)), "label": np.tile(LABELS, len(ids))}
        proxy = pl.DataFrame(votes).with_columns(annotator=pl.lit("listener"), source=pl.lit("proxy"))
        proxy = proxy.with_columns(draw=pl.lit(0, pl.Int32), weight=pl.Series(safe.ravel()))
        card = AnnotatorCard(digest="0", elicit="score", trained_on_these_votes="out_of_fold", folds=folds)
        about = About(taxonomy=LABELS, annotators={"listener": card})
        return Votes.of(pl.concat([frame.with_columns(weight=pl.lit(1.0)), proxy], how="diagonal"), about=about)

    def posterior(self, rows: Index, labels: Labels) -> Posterior:
        """Means and concentrations of some rows."""
        ids = pl.DataFrame({"utterance_id": np.array(self.corpus.clips)[rows]})
        joined = ids.join(labels.frame, on="utterance_id", maintain_order="left")
        mean = joined.select([f"p_{label}" for label in LABELS]).to_numpy()
        return Posterior(mean, joined["concentration"].to_numpy())


def log_loss(shares: Array, held: Array) -> float:
    """Nats a held-out vote."""
    return float(-(held * np.log(np.maximum(shares, 1e-9))).sum() / held.sum())


def sums(shares: Array, held: Array) -> Array:
    """The summed log loss of every clip's held-out votes."""
    return np.asarray(-(held * np.log(np.maximum(shares, 1e-9))).sum(1))


def write(path: Path, kept: Kept) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.npz")
    np.savez(partial, **kept)
    partial.rename(path)


def read(path: Path) -> Kept:
    with np.load(path) as file:
        return dict(file)


def shown(interval: Interval) -> str:
    return f"{interval.estimate:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"
