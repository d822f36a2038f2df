"""train: labels and utterances in, a folder with a trained model out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alm_proxies.tables import Findings, Labels, Utterances, Votes
from alm_proxies.training.settings import TrainSettings

__all__ = ["TrainSettings", "Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model's folder, one row of scores an epoch, and what was left out."""

    folder: Path
    epochs: pl.DataFrame
    """epoch, loss in training, and cross-entropy of the development labels and its part that no model could avoid."""
    findings: Findings


def train(
    labels: Labels,
    utterances: Utterances,
    folder: str | Path,
    settings: TrainSettings,
    *,
    votes: Votes | None = None,
    quiet: bool = False,
) -> Trained:
    """Train on the labels of the utterances of split train (or of none); development is only looked at.

    Targets are the distributions of `labels`, rows weigh as their weight says. Run again in the same folder, it goes
    on after the last whole epoch and ends with the same model. With `votes`, utterances whose every human
    vote is held out are not trained on.
    """
    from alm_proxies.training.alm import train_alm

    model, epochs, found = train_alm(labels, utterances, Path(folder), settings, votes=votes, quiet=quiet)
    return Trained(model, epochs, Findings.gather(found))
