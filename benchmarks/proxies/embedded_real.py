"""The embedded annotator learns to hear people: the model of synthetic speech grows, and learns from CREMA-D as well.

The teacher is a head on the frozen Whisper tiny.en encoder, cross-fitted in folds of the actors that are learned from:
what it says about a clip does not depend on that actor's votes. None of its weights are in the result.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from embedded_speech import (
    CHOOSING,
    CORPUS,
    DEVELOPMENT,
    LABELS,
    Array,
    Cells,
    Clips,
    Floats,
    Hearing,
    crema_d,
    heard_once,
    real_speech,
    sources,
)
from embedded_speech import synthetic_speech as synthetic_cells
from embedded_training import ENCODER_DONE, Part, Plan, Student, asked, learn
from embedded_workers import rank
from study_design import LOCKBOX
from torch import distributed

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.engines.engine import Audio
from alm_proxies.engines.turns import conversation_of
from alm_proxies.files import digest_file, write_json
from alm_proxies.measures.divergence import jsd_base2, nll_per_vote
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.stages.simulate.stage import Corpus
from alm_proxies.tables import Utterances
from alm_proxies.training.folds import Material, assign_folds, cross_fit
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import HeadModel, log_loss

SYNTHETIC = {"train": 3000, "development": 300}
"""Clips of each split of the synthetic speech that are used beside real speech."""
NEW_LAYERS = 3
"""Layers that the audio encoder gets; at first they change nothing."""
OFTEN = (0.25, 0.2, 0.3, 0.25)
"""How often each version of the real clips is heard: the recordings, with other voices, and in pieces of strangers."""
ACTED = 2
"""Versions that still say what the actor said, so that the human votes are about them."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything is."""

    folder: Path
    data: Path
    """CREMA-D: tabulatedVotes.csv and AudioWAV."""
    teacher: Path
    """The Whisper encoder."""
    start: Path
    """The model that has learned from synthetic speech."""
    annotator: Path
    """The annotator file, with the prompt that is learned."""


def hear_people(where: Sources, corpus: Corpus, plan: Plan, *, choosing: bool) -> Path:
    """Train it without the actors who judge; when `choosing`, also without those by whom settings are chosen, whose
    figures are printed.
    """
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    started = time.monotonic()
    everyone = crema_d(where.data)
    known = everyone.only(sorted(set(everyone.actors.tolist()) - set(DEVELOPMENT)))
    actors = sorted(set(known.actors.tolist()) - (set(CHOOSING) if choosing else set()))
    refuse_lockbox(actors)
    folder = where.folder / ("choosing" if choosing else "learned")
    student = student_of(where, NEW_LAYERS)
    extractor = student.lm.inputs.processor.feature_extractor
    hearing = Hearing(extractor, where.teacher, where.folder / "heard")
    first = real_speech(everyone, hearing, where.folder / "heard").of(everyone.of(sorted(set(known.actors.tolist()))))
    versions = [first, *(real_speech(known, hearing, where.folder / "heard", v) for v in range(1, len(OFTEN)))]
    simulated, truth, shares = some_synthetic(corpus)
    synthetic = synthetic_cells(simulated, hearing, where.folder / "heard")
    rows = known.of(actors)
    teacher = teach(known, first, rows, plan.seed, folder)
    parts = parts_of(known, versions, rows, teacher, plan)
    learned = np.arange(len(shares) - len(truth))
    unseen = known.of(CHOOSING) if choosing else rows[:: max(1, len(rows) // 300)]
    for line in learn(student, parts, Part(synthetic, shares, learned, real=False), plan, folder):
        if rank() > 0:
            continue
        print(line, flush=True)
        if line == ENCODER_DONE:
            look(student, known, versions, rows, unseen, teacher, synthetic, truth)
    if rank() > 0:
        return folder / "model"
    look(student, known, versions, rows, unseen, teacher, synthetic, truth)
    student.lm.save(folder / "model")
    training = {
        "seconds": round(time.monotonic() - started),
        "processor_seconds": round(time.process_time()),
        "plan": asdict(plan),
        "start": digest_file(where.start / "model.safetensors"),
        "sources": sources(everyone, where.data, where.teacher),
        "trained_on": {CORPUS: actors},
        "weights": digest_file(folder / "model" / "model.safetensors"),
    }
    write_json(folder / "made.json", training)
    print(json.dumps(training, indent=1))
    return folder / "model"


def parts_of(clips: Clips, versions: Sequence[Cells], rows: np.ndarray, teacher: Teacher, plan: Plan) -> list[Part]:
    """Every version with the shares to learn for these rows; about pieces of clips only the teacher says something."""
    voted = targets_of(clips, versions[0], rows, teacher, plan)
    parts = []
    for number, (cells, often) in enumerate(zip(versions, OFTEN, strict=True)):
        taught = voted if number < ACTED else teacher.about(pooled(cells)[rows], clips.actors[rows].tolist())
        target = np.full(clips.votes.shape, np.nan)
        target[rows] = taught
        parts.append(Part(cells, target, rows, real=True, often=often))
    return parts


def targets_of(clips: Clips, cells: Cells, rows: np.ndarray, teacher: Teacher, plan: Plan) -> Array:
    """The shares to learn for these rows: those of human votes, mixed with the teacher's."""
    taught = teacher.about(pooled(cells)[rows], clips.actors[rows].tolist())
    human = clips.votes[rows] / clips.votes[rows].sum(1, keepdims=True)
    floor, loss = (log_loss(guess, clips.votes[rows]) for guess in (prior(clips, rows), taught))
    print(f"{len(rows)} clips to learn from; nats a vote: class shares {floor:.3f}, teacher {loss:.3f}")
    return np.asarray((1 - plan.teacher) * human + plan.teacher * taught)


def refuse_lockbox(actors: list[str]) -> None:
    """An error where an actor of the lockbox is among them."""
    if locked := set(actors) & set(LOCKBOX):
        raise SystemExit(f"actors of the lockbox would be learned from: {sorted(locked)}")


def asker_of(where: Sources) -> Annotator:
    """The annotator with its prompt in six orders of the labels."""
    asker = Annotator.read(where.annotator)
    cross = asker.file.cross.model_copy(update={"label_orders": len(LABELS)})
    return Annotator.of(asker.file.model_copy(update={"cross": cross}), where=asker.where, taxonomy=LABELS)


def student_of(where: Sources, layers: int = 0) -> Student:
    """The model at the start, with more layers, and the prompt in six orders of the labels."""
    lm = AudioLM.load(where.start, device="cpu")
    grow(lm.model, layers)
    asker = asker_of(where)
    silence = Audio(np.zeros(lm.inputs.rate, dtype=np.float32), lm.inputs.rate)
    questions = [asker.question(cell, silence, PromptContext()) for cell in asker.cells]
    prompts = [lm.inputs.tokens(lm.inputs.text(conversation_of(question, lm.inputs.rate))) for question in questions]
    answers = [lm.inputs.answer(label) for label in LABELS]
    if any(len(answer) != 1 for answer in answers):
        raise SystemExit("a label is not one token of this model")
    return Student(lm, tuple(map(tuple, prompts)), tuple(answer[0] for answer in answers))


def heard_by(student: Student, utterances: Utterances) -> pl.DataFrame:
    """The model's answers, a row an utterance; a clip has its own length here, which is many times faster than 30 s."""
    cells = heard_once(utterances, student.lm.inputs.processor.feature_extractor)
    answered, _ = asked(student, cells, np.arange(len(cells)))
    return utterances.frame.select("utterance_id").hstack(pl.DataFrame(answered, schema=list(LABELS)))


def grow(model: Any, layers: int) -> None:
    """Add layers to the end of the audio encoder which pass on what they are given."""
    tower = model.model.audio_tower
    for _ in range(layers):
        layer = copy.deepcopy(tower.layers[-1])
        with torch.no_grad():
            for last in (layer.self_attn.out_proj, layer.fc2):
                last.weight.zero_()
                last.bias.zero_()
        tower.layers.append(layer)
    for config in (tower.config, model.config.audio_config):
        config.encoder_layers = len(tower.layers)


def some_synthetic(corpus: Corpus) -> tuple[Utterances, Array, Array]:
    """Some clips of the train split, then some of development; the truth of the latter; shares of votes of all."""
    frame = corpus.utterances.frame
    rows = []
    for split, count in SYNTHETIC.items():
        own = frame.filter(pl.col("split") == split)
        rows.append(own.gather_every(max(1, len(own) // count)).head(count))
    table = pl.concat(rows)
    voted = [(pl.col("label") == label).mean().alias(label) for label in LABELS]
    shares = corpus.votes.frame.filter(~pl.col("held_out")).group_by("utterance_id").agg(voted)
    ids = table.select("utterance_id")
    known = ids.join(shares, on="utterance_id", how="left", maintain_order="left").select(LABELS).to_numpy()
    truth = rows[-1].select("utterance_id").join(corpus.truth.frame, on="utterance_id", maintain_order="left")
    columns = [f"p_{label}" for label in LABELS]
    return Utterances.of(table, about=corpus.utterances.about), truth.select(columns).to_numpy(), known


@dataclass(frozen=True, slots=True)
class Teacher:
    """Heads on the Whisper encoder, one for each fold of the actors that are learned from."""

    models: tuple[HeadModel, ...]
    folds: dict[str, int]

    def about(self, features: Floats, actors: Sequence[str]) -> Array:
        """A distribution of every clip: of the model without its actor's fold, or of all for an actor of no fold."""
        each = np.stack([model.predict(features) for model in self.models])
        fold = np.array([self.folds.get(actor, -1) for actor in actors])
        shares: Array = each.mean(0)
        for row in np.flatnonzero(fold >= 0):
            shares[row] = each[fold[row], row]
        return shares


def teach(clips: Clips, cells: Cells | None, rows: np.ndarray, seed: int, folder: Path) -> Teacher:
    """A head on the teacher's pooled layers, cross-fitted in folds of the actors of these rows; kept in the folder."""
    actors = clips.actors[rows].tolist()
    folds = assign_folds(actors, FOLDS, seed)
    paths = [folder / f"teacher-{number}.npz" for number in range(FOLDS)]
    if not all(path.exists() for path in paths):
        if cells is None:
            raise SystemExit(f"the teacher's heads are not in {folder}: run make first")
        fold = np.array([folds[actor] for actor in actors], dtype=np.int64)
        material = Material(LABELS, pooled(cells)[rows], clips.votes[rows], fold)
        head = HeadSettings()
        fitted = cross_fit(material, head, rounds=1, seed=seed, relabel=lambda _, shares: shares, threads=1)
        for path, model in zip(paths, fitted.models, strict=True):
            model.save(path)
    return Teacher(tuple(HeadModel.load(path) for path in paths), folds)


def pooled(cells: Cells) -> Floats:
    """The teacher's pooled layers of every clip."""
    if cells.pooled is None:
        raise SystemExit("these cells have no teacher")
    return cells.pooled


def prior(clips: Clips, rows: np.ndarray) -> Array:
    """The label shares of the votes of these rows, as a row of each."""
    shares = clips.votes[rows].sum(0) / clips.votes[rows].sum()
    return np.broadcast_to(shares, (len(rows), len(LABELS)))


def look(
    student: Student,
    clips: Clips,
    versions: Sequence[Cells],
    rows: np.ndarray,
    unseen: np.ndarray,
    teacher: Teacher,
    synthetic: Cells,
    truth: Array,
) -> None:
    """Print how development actors and development speakers of the synthetic speech are heard."""
    cells, votes, actors = versions[0], clips.votes[unseen], clips.actors[unseen].tolist()
    floor = log_loss(np.broadcast_to(prior(clips, rows)[0], votes.shape), votes)
    ceiling = log_loss(teacher.about(pooled(cells)[unseen], actors), votes)
    answered, headed = asked(student, cells, unseen)
    for name, shares in (("answer", answered), ("encoder's head", headed)):
        loss = log_loss(shares, votes)
        hit = (shares.argmax(1) == votes.argmax(1)).mean()
        print(f"  real, {name}: {loss:.3f} nats a vote, class shares {floor:.3f}, Whisper head {ceiling:.3f}: "
              f"{(floor - loss) / (floor - ceiling):.0%} of the gap; plurality {hit:.1%}", flush=True)  # fmt: skip
    for number, version in enumerate(versions):
        taught = teacher.about(pooled(version)[unseen], actors)
        far = [jsd_base2(taught, shares).mean() for shares in asked(student, version, unseen)]
        print(f"  version {number}: JSD to the teacher {far[0]:.4f}, encoder's head {far[1]:.4f}", flush=True)
    there = np.arange(len(synthetic) - len(truth), len(synthetic))
    answered, headed = asked(student, synthetic, there)
    mean = np.broadcast_to(truth.mean(0), truth.shape)
    for name, shares in (("prior", mean), ("answer", answered), ("encoder's head", headed)):
        print(f"  synthetic, {name}: JSD {jsd_base2(truth, shares).mean():.4f}, "
              f"NLL {nll_per_vote(shares, truth).mean():.4f}", flush=True)  # fmt: skip
