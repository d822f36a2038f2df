"""train: train a model on label distributions and write its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from alm_proxies.alone import alone_in, is_mine, locked_for_stages, locks_for_all
from alm_proxies.arguments import checked
from alm_proxies.ballots import with_shares_of_votes
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.plugins import Plugin, plugin
from alm_proxies.shown import Shown
from alm_proxies.stages.train.ahead import refuse_effects
from alm_proxies.stages.train.settings import STAGE, TrainSettings
from alm_proxies.tables import Finding, Findings, Labels, Utterances, Votes, combine

__all__ = ["TrainSettings", "Trained", "train"]


@dataclass(frozen=True, slots=True, repr=False)
class Trained(Shown):
    """The result of train: the model's folder, one row of scores per epoch, and findings."""

    folder: Path
    """The folder for load_trained and predict, with model.json; with the recipe alm, one with an annotator file, which
    load_trained takes too if the model has a head. A plug-in's recipe has to leave one of the two."""
    epochs: pl.DataFrame
    """epoch (recipe features: pass), the loss in training, and the scores of the development utterances."""
    findings: Findings
    counts: Mapping[str, float] = field(default_factory=dict)
    """The number of recordings, and of those left out since they could not be used."""
    unit: str = "epoch"
    """What a row of `epochs` is: a pass with the recipe features, which does three for each of its setting `epochs`."""

    @property
    def line(self) -> str:
        """The number of epochs, and the log loss of the one that is kept on the development speakers."""
        count = len(self.epochs)
        epochs = f"{count} {self.unit if count == 1 else {'epoch': 'epochs', 'pass': 'passes'}[self.unit]}"
        if "nll_per_vote" not in self.epochs.columns or self.epochs["nll_per_vote"].drop_nulls().is_empty():
            return f"trained for {epochs}"
        by = "score" if "score" in self.epochs.columns else "nll_per_vote"  # attributes count in the score too
        kept = self.epochs.drop_nulls("nll_per_vote").sort(by, nulls_last=True, maintain_order=True)
        best = float(kept["nll_per_vote"][0])
        return f"trained for {epochs}, {best:.3f} nats a human vote of the development speakers at best"


@checked
def train(
    labels: Labels,
    utterances: Utterances,
    folder: str | Path,
    settings: TrainSettings,
    *,
    votes: Votes | None = None,
    quiet: bool = False,
) -> Trained:
    """Train on the labels of the utterances of split train (or without a split), with early stopping on split
    development.

    Targets are the distributions of `labels`, with their weights; with targets = votes the plain shares of the human
    votes. Human votes that are not held out are used for early
    stopping and calibration on the development speakers, and for the loss dirichlet_multinomial; utterances with
    held-out human votes only are not used for training. Run again in the same folder, it resumes after the last
    complete checkpoint with the same result. report.html in the folder shows the training.
    """
    recipe = plugin("recipes", settings.recipe)
    refuse_effects(settings)
    findings: list[Finding] = []
    if settings.targets == "votes":
        labels, findings = with_shares_of_votes(_used(labels, utterances), votes, utterances)
    elif votes is not None and _fused_alone(labels):
        message = (
            "the labels are fused from human votes alone, so they are drawn to common labels, and a model learns that"
        )
        findings = [Finding.of("drawn_to_common", message, "Set targets = votes, or fuse with a listener's votes.")]
    if recipe.origin:  # a third party's recipe with the same arguments and result
        with _locked(Path(folder)):
            theirs = recipe.load()(labels, utterances, Path(folder), settings, votes=votes, quiet=quiet)
        if not isinstance(theirs, Trained):
            message = f"it gave {type(theirs).__name__}, not Trained(folder, epochs, findings)"
            raise SettingsError(message, where=f"the recipe {recipe.name!r}", fix=f"Correct {recipe.target}.")
        findings += _not_left_behind(recipe, theirs.folder)
        return replace(theirs, findings=combine(Findings.gather(findings, STAGE.verb), theirs.findings))
    if settings.recipe == "alm":
        from alm_proxies.training.alm import train_alm as train_recipe
    elif settings.recipe == "features":
        from alm_proxies.training.features import train_features as train_recipe
    else:
        from alm_proxies.training.recipes import train_encoder as train_recipe

    with _locked(Path(folder)):
        done = train_recipe(labels, utterances, Path(folder), settings, votes=votes, quiet=quiet)
    if done.file is not None:
        from alm_proxies.stages.train.page import page_of

        page = page_of(done.epochs, unit_of(settings), done.file, done.targets, settings, done.findings)
        page.write(Path(folder) / "report.html", pictures=False)
    used = len(done.targets.train) + len(done.targets.development)
    counts = {"recordings": used + done.lost, "left_out": done.lost}
    gathered = Findings.gather([*findings, *done.findings], STAGE.verb)
    return Trained(done.folder, done.epochs, gathered, counts, unit_of(settings))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other trainings, once: a recipe may call train for its own folder."""
    fix = "Wait for it, stop it, or choose another folder."
    lock = alone_in(folder, "training", fix) if locks_for_all() and not is_mine(folder) else nullcontext()
    with lock, locked_for_stages(folder):
        yield


def _not_left_behind(recipe: Plugin, folder: Path) -> list[Finding]:
    """The finding for a folder of a plug-in's recipe that neither predict nor annotate can take."""
    from alm_proxies.models.trained import ANNOTATOR, FILE, MODEL, read_trained

    try:
        read_trained(folder)
    except InputError as error:
        if any((place / ANNOTATOR).is_file() for place in (folder, folder / MODEL)):
            return []
        message = f"the recipe {recipe.name!r} of {recipe.origin} left no usable {FILE} behind ({error.message})"
        fix = (
            f"predict refuses it: let {recipe.target} save its model with save_trained of alm_proxies.models.trained, "
            f"or write an {ANNOTATOR} for annotate."
        )
        return [Finding.of("no_model", message, fix, where=str(folder))]
    return []


def unit_of(settings: TrainSettings) -> str:
    """What a row of the scores is: the recipe features does three passes for each of its `epochs`, and lists these."""
    return "pass" if settings.recipe == "features" else "epoch"


def _used(labels: Labels, utterances: Utterances) -> Labels:
    """The labels without those of utterances of other splits than train and development."""
    others = utterances.frame.filter(~pl.col("split").is_in(["train", "development"]))["utterance_id"]
    return Labels(labels.frame.filter(~pl.col("utterance_id").is_in(others.implode())), labels.about)


def _fused_alone(labels: Labels) -> bool:
    """Whether these are labels of fuse to which no proxy contributed."""
    made_by = labels.about.made_by
    fused = made_by is not None and made_by.stage in ("fuse", "balance")
    return fused and not labels.frame["proxy_votes"].sum() and labels.frame["human_votes"].sum() > 0
