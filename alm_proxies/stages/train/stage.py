"""train: labels and utterances in, a folder with a trained model out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from alm_proxies.plugins import plugin
from alm_proxies.shown import Shown
from alm_proxies.stages.train.settings import TrainSettings
from alm_proxies.tables import Findings, Labels, Utterances, Votes

__all__ = ["TrainSettings", "Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained(Shown):
    """A trained model's folder, one row of scores an epoch, and what was left out."""

    folder: Path
    """Loads with models.trained.TrainedModel.load; the recipe alm's is a checkpoint that an annotator file names."""
    epochs: pl.DataFrame
    """epoch, the loss in training, and the scores of the development utterances."""
    findings: Findings

    @property
    def line(self) -> str:
        """How long it trained, and its best score on the development speakers."""
        epochs = len(self.epochs)
        if "nll_per_vote" not in self.epochs.columns or self.epochs["nll_per_vote"].drop_nulls().is_empty():
            return f"trained for {epochs} epochs"
        best = float(self.epochs["nll_per_vote"].drop_nulls().min())  # type: ignore[arg-type]  # it is a number
        return f"trained for {epochs} epochs, {best:.3f} nats a human vote of the development speakers at best"


def train(
    labels: Labels,
    utterances: Utterances,
    folder: str | Path,
    settings: TrainSettings,
    *,
    votes: Votes | None = None,
    quiet: bool = False,
) -> Trained:
    """Train on the labels of the utterances of split train (or of none), judged by those of split development.

    Targets are the distributions of `labels`, rows weigh as their weight says. Human votes that are not held out judge
    the development speakers, calibrate the model, and are the counts of the loss dirichlet_multinomial; utterances
    whose every human vote is held out are not trained on. Run again in the same folder, it goes on after the last whole
    checkpoint and ends with the same model. report.html in the folder shows how it went.
    """
    recipe = plugin("recipes", settings.recipe)
    if recipe.origin:  # somebody else's: it takes and gives what train does
        theirs: Trained = recipe.load()(labels, utterances, Path(folder), settings, votes=votes, quiet=quiet)
        return theirs
    if settings.recipe == "alm":
        from alm_proxies.training.alm import train_alm

        model, epochs, found = train_alm(labels, utterances, Path(folder), settings, votes=votes, quiet=quiet)
        return Trained(model, epochs, Findings.gather(found))
    if settings.recipe == "features":
        from alm_proxies.training.features import train_features as train_recipe
    else:
        from alm_proxies.training.recipes import train_encoder as train_recipe

    done = train_recipe(labels, utterances, Path(folder), settings, votes=votes, quiet=quiet)
    if done.file is not None:
        from alm_proxies.stages.train.page import page_of

        page = page_of(done.epochs, done.file, done.targets, settings, done.findings)
        page.write(Path(folder) / "report.html", pictures=False)
    return Trained(done.folder, done.epochs, Findings.gather(done.findings))
