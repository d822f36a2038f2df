"""listen: train a model on a corpus's own human votes and predict votes for the speakers it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from alm_proxies.about import About, AnnotatorCard, MadeBy
from alm_proxies.alone import WAIT, alone_in
from alm_proxies.arguments import checked
from alm_proxies.errors import InputError
from alm_proxies.files import digest_of, remove
from alm_proxies.printable import counted
from alm_proxies.settings import deciding
from alm_proxies.shown import Shown
from alm_proxies.stages.listen.settings import FEWEST, ListenSettings
from alm_proxies.tables import Finding, Findings, Utterances, Votes

if TYPE_CHECKING:
    from alm_proxies.ballots import Draws
    from alm_proxies.report.page import Page
    from alm_proxies.training.folds import Fitted, Material
    from alm_proxies.training.heads import Array, Floats, HeadModel, Index

STAGE = "listen"
_MOVED = 1000  # rows at once
_UNEVEN = 0.5
"""The share of the votes in one fold above which there is a finding."""


@dataclass(frozen=True, slots=True, repr=False)
class Listened(Shown):
    """The listener's votes, one `score` vote per utterance with a usable recording, its models, and findings."""

    votes: Votes
    models: tuple[HeadModel, ...]
    """One model per fold, trained on the votes of the others; it gave the votes of its fold's speakers. Each takes rows
    of features, as this run computed them.
    """
    page: Page
    findings: Findings
    gain: float
    """The gain over the class shares on human votes, in nats per vote."""
    recordings: int
    """The number of utterances, with those whose recording could not be used."""

    @property
    def counts(self) -> dict[str, float]:
        """The number of votes, of recordings, and of those left out."""
        votes = self.votes.frame["utterance_id"].n_unique()
        return {"votes": votes, "recordings": self.recordings, "left_out": self.recordings - votes}

    @property
    def line(self) -> str:
        """A summary in one line."""
        votes = self.counts["votes"]
        where = "ahead of" if self.gain >= 0 else "behind"
        return (
            f"{counted(votes, 'vote')} by {counted(len(self.models), 'model')}, {abs(self.gain):.3f} nats a vote "
            f"{where} the class shares"
        )


@checked
def listen(
    utterances: Utterances,
    votes: Votes,
    folder: str | Path,
    settings: ListenSettings | None = None,
    *,
    quiet: bool = False,
) -> Listened:
    """Cross-fitted votes: for each fold of speakers, a model is trained on the human votes of the other folds.

    Every speaker with a usable recording has a fold, with or without votes: so changing or deleting votes of a fold,
    even all of them, changes no byte of its predictions. Held-out votes and votes of other proxies are not used.
    `folder` gets votes.parquet, report.html and models/. Features are in the cache, by the content of the recordings,
    which makes a second run short; those of a corpus whose card forbids copies are in features/ of the folder.
    Finished trainings are in trainings/ of the folder until all are done: an interrupted run takes them again.
    models/fold-N.npz shows what gave each vote (HeadModel.load); for recordings outside the table, train a model on the
    fused labels, which is calibrated and which predict takes.
    """
    with alone_in(Path(folder), "listen", WAIT):
        return _listened(utterances, votes, Path(folder), settings or ListenSettings(), quiet)


def _listened(utterances: Utterances, votes: Votes, folder: Path, settings: ListenSettings, quiet: bool) -> Listened:
    from alm_proxies.stages.listen.hear import hear
    from alm_proxies.stages.listen.page import page_of
    from alm_proxies.stages.listen.relabel import relabelling
    from alm_proxies.training.folds import Material, cross_fit
    from alm_proxies.training.kept_fits import forget

    human, draws, findings = _human(utterances, votes)
    vectors, digest = hear(utterances, settings, folder / "features", quiet=quiet)
    findings += vectors.findings
    heard = np.flatnonzero(vectors.known)
    groups, by_speaker, folds, more = _folds(utterances, human, vectors.known, settings)
    findings += more
    material = Material(
        votes.taxonomy,
        _of_heard(vectors.rows, heard),
        human[heard],
        np.array([folds[group] for group in groups[heard].tolist()], dtype=np.int64),
        _draws_of(draws, heard, len(utterances)),
    )
    findings += _votes_in_folds(material)
    fitted = cross_fit(
        material,
        settings.head,
        rounds=settings.rounds,
        seed=settings.seed,
        relabel=relabelling(material, settings.seed),
        threads=settings.threads,
        quiet=quiet,
        keep=folder / "trainings",
    )
    ids = utterances.frame["utterance_id"].gather(heard)
    table = _votes(ids, fitted, votes, settings, digest, folds)
    _save(fitted.models, folder / "models")
    page, gain = page_of(material, fitted, ids, utterances, votes, settings, findings, by_speaker)
    table.write(folder / "votes.parquet")
    page.write(folder / "report.html", pictures=False)
    forget(folder / "trainings")
    return Listened(table, fitted.models, page, Findings.gather(findings, STAGE), gain, len(utterances))


def _of_heard(rows: Floats, heard: Index) -> Floats:
    """These rows alone, at the beginning of the same array, since two of a big corpus are too many."""
    for start in range(0, len(heard) if len(heard) < len(rows) else 0, _MOVED):
        some = heard[start : start + _MOVED]  # none of them lies before its new place
        rows[start : start + len(some)] = rows[some]
    return rows[: len(heard)]


def _save(models: Sequence[HeadModel], folder: Path) -> None:
    """Save the model of every fold, and remove those of an earlier listener with more folds."""
    for fold, model in enumerate(models):
        model.save(folder / f"fold-{fold}.npz")
    for path in folder.glob("fold-*.npz"):
        number = path.stem.removeprefix("fold-")
        if number.isdecimal() and int(number) >= len(models):
            remove(path)


def _human(utterances: Utterances, votes: Votes) -> tuple[Array, Draws | None, list[Finding]]:
    """The human votes of the fit, counted for each utterance of the table, the draws if any is shared, and findings."""
    from alm_proxies.ballots import not_fitted
    from alm_proxies.estimators.counts import counts_of, refuse_other_utterances
    from alm_proxies.estimators.estimator import nothing_to_learn

    human = Votes(votes.frame.filter(pl.col("source") == "human"), votes.about)
    if not human.frame.height or not votes.taxonomy:
        fix = "Give a votes file with human labels: a listener learns from them."
        raise InputError("there are no human label votes to learn from", where="votes", fix=fix)
    counts = counts_of(human, utterances=utterances)
    refuse_other_utterances(counts.utterances, utterances)
    if not counts.human.any():
        raise nothing_to_learn("the listener", not_fitted(human))
    place = {name: row for row, name in enumerate(counts.utterances)}
    rows = np.array([place.get(name, -1) for name in utterances.frame["utterance_id"]], dtype=np.int64)
    own = np.where(rows[:, None] >= 0, counts.human[rows], 0.0)
    findings = [Finding(STAGE, f.kind, f.message, f.fix, f.utterance_id, f.where, f.count) for f in counts.findings]
    others = int((~counts.utterances.is_in(utterances.frame["utterance_id"].implode())).sum())
    if others:
        fix = "Give the utterances table of these votes."
        findings.append(Finding(STAGE, "no_utterance", "utterances with votes are not in the table", fix, count=others))
    without = int((~own.any(1)).sum())
    if without:
        message = "utterances without human votes get votes, but are not used for training"
        findings.append(Finding(STAGE, "not_learned_from", message, count=without))
    return own, _draws_of(counts.draws, rows, len(counts)), findings


def _draws_of(draws: Draws | None, rows: Index, size: int) -> Draws | None:
    """The draws of other rows: `rows` has the row of each, of `size`; -1 = none."""
    if draws is None:
        return None
    place = np.full(size, -1, dtype=np.int64)
    there = rows >= 0
    place[rows[there]] = np.flatnonzero(there)
    row = place[draws[0]]
    order = np.argsort(row, kind="stable")[np.count_nonzero(row < 0) :]
    return row[order], draws[1][order]


def _folds(
    utterances: Utterances, human: Array, known: np.ndarray, settings: ListenSettings
) -> tuple[np.ndarray, bool, dict[str, int], list[Finding]]:
    """The group (speaker, or utterance) of every row, whether it is the speaker, and the fold of every group with
    features.

    Folds depend on which rows have features, never on votes, since otherwise deleting a vote could change the folds.
    """
    from alm_proxies.estimators.trained import FEWEST_SPEAKERS
    from alm_proxies.training.folds import assign_folds

    frame = utterances.frame
    teaching = int((human.any(1) & known).sum())
    if teaching < FEWEST:
        have = counted(teaching, "utterance has", "utterances have")
        message = f"only {have} both human votes and a recording that can be used"
        rated = int(human.any(1).sum())
        fix = (
            "have more rated." if rated < FEWEST else f"with votes: {rated:,}, with a recording: {int(known.sum()):,}; "
        )
        fix += "" if rated < FEWEST else "read the corpus again with --recordings FOLDER."
        raise InputError(message, where="votes", fix=f"A listener needs {FEWEST} or more: {fix}")
    findings = []
    lacking = int(frame["speaker"].is_null().to_numpy()[known].sum())
    named = pl.select(pl.coalesce(frame["speaker"], frame["utterance_id"])).to_series().to_numpy().astype(np.str_)
    by_speaker = lacking <= 0.5 * known.sum() and len(np.unique(named[known])) >= FEWEST_SPEAKERS
    if by_speaker and lacking:
        message = "utterances without a known speaker are each a group of their own"
        findings.append(Finding(STAGE, "unknown_speaker", message, "Give their speakers.", count=lacking))
    if not by_speaker:
        why = "are of fewer than three speakers" if lacking <= 0.5 * known.sum() else "have no speakers"
        message = (
            f"the utterances {why}, so folds are of utterances: a model may have been trained on other utterances of "
            "the same speaker, and the votes are better here than on new speakers"
        )
        findings.append(Finding(STAGE, "folds_of_utterances", message, "Give the speakers of the utterances."))
        named = frame["utterance_id"].to_numpy().astype(np.str_)
    return named, by_speaker, assign_folds(named[known].tolist(), settings.folds, settings.seed), findings


def _votes_in_folds(material: Material) -> list[Finding]:
    """Findings where folds hold no votes, or one holds most; refused where all are in one: nothing could predict it."""
    votes = material.votes_by_fold()
    voted, largest = int(np.count_nonzero(votes)), float(votes.max() / votes.sum())
    if voted < 2:
        message = f"all human votes are of the speakers of one of {material.folds} folds, so no model could predict it"
        fix = "Have more speakers rated, use another seed, or give only the rated speakers' utterances."
        raise InputError(message, where="votes", fix=fix)
    fix = "Have more speakers rated, or give only the rated speakers' utterances."
    findings = []
    if voted < material.folds:
        stopping = (
            "" if voted > 2 else "; votes of two folds cannot tell when training should stop: every epoch is done"
        )
        message = f"only {voted} of {material.folds} folds have human votes to learn from{stopping}"
        findings.append(Finding(STAGE, "folds_without_votes", message, fix, count=material.folds - voted))
    if largest > _UNEVEN:
        message = f"one fold holds {largest:.0%} of the human votes, so what predicts it learns from few"
        findings.append(Finding(STAGE, "folds_uneven", message, fix))
    return findings


def _votes(
    ids: pl.Series, fitted: Fitted, votes: Votes, settings: ListenSettings, digest: str, folds: dict[str, int]
) -> Votes:
    """One `score` vote per utterance: a row per label, with weights that sum to 1."""
    labels = votes.taxonomy
    shares = np.maximum(fitted.shares, 1e-6)
    shares /= shares.sum(1, keepdims=True)
    decides = deciding(settings)
    card = AnnotatorCard(
        digest=digest_of([decides, digest, folds]),
        source="proxy",
        engine="listen",
        model=_model_name(settings),
        revision=settings.revision,
        elicit="score",
        estimand="human votes",
        seed=settings.seed,
        context=(),
        trained_on_these_votes="out_of_fold",
        folds=folds,
    )
    frame = pl.DataFrame(
        {
            "utterance_id": ids.to_numpy().repeat(len(labels)),
            "annotator": settings.name,
            "source": "proxy",
            "draw": pl.Series(np.zeros(shares.size, dtype=np.int32)),
            "label": np.tile(np.array(labels, dtype=np.str_), len(ids)),
            "weight": shares.ravel(),
        }
    )
    made_by = MadeBy(stage=STAGE, settings_digest=digest_of(decides), settings=decides)
    about = About(taxonomy=labels, annotators={settings.name: card}, made_by=made_by)
    return Votes.of(frame, about=about, where="the listener's votes")


def _model_name(settings: ListenSettings) -> str:
    """The encoder's name; the last part of a folder's path, so that results do not depend on the path."""
    if settings.model is None:
        return settings.recipe
    return Path(settings.model).name if Path(settings.model).is_dir() else settings.model
