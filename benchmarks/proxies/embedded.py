"""Make the embedded annotator, and measure it.

    python benchmarks/proxies/embedded.py make --crema-d FOLDER --teacher FOLDER [--first FOLDER]  simulate, train, ship
    python benchmarks/proxies/embedded.py choose --crema-d FOLDER --teacher FOLDER     without six actors, ships nothing
    python benchmarks/proxies/embedded.py measure                                      the simulated crowds
    python benchmarks/proxies/embedded.py judge --crema-d FOLDER --teacher FOLDER --emodb FOLDER    unheard people

`make` follows pipelines/embedded.toml and pipelines/training/embedded.toml to a model of synthetic speech, which then
grows and learns from CREMA-D's actors beside it (embedded_real.py, taught by the Whisper tiny.en encoder in FOLDER),
copies the model into the package and names its weights and its actors. The lockbox and the development actors are left
out. With `--first` the first half is not trained: the model in that folder is taken. `choose` leaves six more actors
out and prints their figures: settings are chosen by them. Killed, both go on where they were.

`measure` annotates with the shipped file through the annotate stage, on test speakers of crowd 0 (2000 utterances, the
demo's crowd) and of the crowd that it learned from. Printed for each: JSD (base 2) and NLL (nats) of
the true distributions for (a) the class prior of the votes on the training speakers, (b) the regression on prosody
relative to the speaker, fitted to those votes, (c) the annotator, which knows one clip and nothing of the speaker, (d)
what the crowd that it learned from would say itself; which share of the gap a - b it closes; and how often each label
comes first.

`judge` writes into embedded_results.json what the shipped weights make of the development actors and of EMO-DB, with
`--before FOLDER` beside other weights. The lockbox was opened once, for weights of two generations ago, and stays
closed; that opening is kept in the same file.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simulate"))
from embedded_figures import Figures, against, figures_of_actors, table_of
from embedded_real import Sources, hear_people, heard_by, prior, student_of, teach
from embedded_speech import CORPUS, DEVELOPMENT, Hearing, crema_d, real_speech
from embedded_training import Plan
from regression import fitted, prosody
from sklearn.preprocessing import StandardScaler

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_file, read_text, shipped, write_json, write_text
from alm_proxies.measures.divergence import jsd_base2, nll_per_vote
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.settings import read_settings
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.stages.simulate.cues import CUES, LABELS
from alm_proxies.stages.simulate.listeners import true_distribution
from alm_proxies.stages.simulate.stage import PARAMETERS, Corpus, SimulateSettings, simulate
from alm_proxies.stages.train.stage import TrainSettings, train
from alm_proxies.tables import About, Findings, Labels, Utterances, Votes

PACKAGE = Path(__file__).resolve().parents[2] / "alm_proxies" / "embedded"
RESULTS = Path(__file__).with_name("embedded_results.json")
DEMO = SimulateSettings(utterances=2000, seed=1)
LETTERS = {"W": "angry", "E": "disgust", "A": "fear", "F": "happy", "N": "neutral", "T": "sad", "L": "bored"}


def settings(folder: Path) -> tuple[SimulateSettings, TrainSettings]:
    """What pipelines/embedded.toml and pipelines/training/embedded.toml say."""
    corpus = read_pipeline("embedded", folder).runs[0].settings("simulate")
    assert corpus is not None
    return corpus, read_settings(shipped("pipelines", "training/embedded.toml"), TrainSettings)


def vote_shares(votes: Votes) -> Labels:
    """The share of each label among an utterance's own few votes: no smoothing, no truth."""
    sparse = votes.frame.filter(~pl.col("held_out"))
    shares = [(pl.col("label") == label).mean().alias(f"p_{label}") for label in votes.taxonomy]
    return Labels.of(sparse.group_by("utterance_id").agg(shares), about=votes.about)


def synthetic_speech(folder: Path) -> Corpus:
    """The simulated corpus, read if it is there already."""
    speech, _ = settings(folder)
    tables = [folder / "speech" / f"{name}.parquet" for name in ("utterances", "votes", "truth")]
    if not all(path.exists() for path in tables):
        return simulate(folder / "speech", speech)
    return Corpus(Utterances.read(tables[0]), Votes.read(tables[1]), Labels.read(tables[2]), Findings.gather([]))


def make(folder: Path, data: Path, teacher: Path, first: Path | None, *, choosing: bool) -> None:
    """Simulate, train on synthetic speech unless a model that has is given, train on real speech too, and copy the
    model beside its annotator file; when `choosing`, train without six actors and copy nothing.
    """
    started = time.monotonic()
    corpus = synthetic_speech(folder)
    start = first or folder / "training" / "model"
    if not start.exists():
        trained = train(vote_shares(corpus.votes), corpus.utterances, folder / "training", settings(folder)[1])
        print(trained.epochs)
    learned = folder / ("choosing" if choosing else "learned")
    if not (learned / "made.json").exists():
        workers = ["-m", "torch.distributed.run", "--nproc-per-node", str(Plan().workers)]
        options = ["--folder", folder, "--crema-d", data, "--teacher", teacher, "--first", start]
        options += ["--choosing"] if choosing else []
        subprocess.run([sys.executable, *workers, __file__, "people", *map(str, options)], check=True)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")
    if not choosing:
        ship(learned)


def ship(learned: Path) -> None:
    """Copy the model into the package, and name its weights and actors there."""
    for path in sorted((learned / "model").iterdir()):
        shutil.copyfile(path, PACKAGE / path.name)
    print(f"revision {name_weights(PACKAGE)}")
    name_actors(PACKAGE, json.loads(read_text(learned / "made.json"))["trained_on"])
    size = sum(path.stat().st_size for path in PACKAGE.iterdir())
    print(f"{PACKAGE}: {size / 1e6:.2f} MB")


def people(folder: Path, data: Path, teacher: Path, start: Path, *, choosing: bool) -> None:
    """The second half of `make`, in one of its processes."""
    where = Sources(folder, data, teacher, start, PACKAGE / "annotator.toml")
    hear_people(where, synthetic_speech(folder), Plan(), choosing=choosing)


def name_weights(folder: Path) -> str:
    """Write the digest of the weights in a folder into its annotator file, as their revision."""
    revision, path = digest_file(folder / "model.safetensors"), folder / "annotator.toml"
    text, places = re.subn(r'(?m)^revision = "[^"]*"', f'revision = "{revision}"', read_text(path))
    if places != 1:
        raise SettingsError(f"names its weights {places} times", where=str(path), fix='Write revision = "" once.')
    write_text(path, text)
    return revision


def name_actors(folder: Path, trained_on: dict[str, list[str]]) -> None:
    """Write the corpora and speakers of the training into the annotator file."""
    path = folder / "annotator.toml"
    value = ", ".join(f"{corpus} = {json.dumps(speakers)}" for corpus, speakers in trained_on.items())
    text, places = re.subn(r"(?m)^trained_on = .*$", f"trained_on = {{ {value} }}", read_text(path))
    if places != 1:
        raise SettingsError(f"has {places} lines of trained_on", where=str(path), fix="Write trained_on = {} once.")
    write_text(path, text)


def answers(utterances: Utterances, seed: int = 0) -> pl.DataFrame:
    """The shipped annotator's probabilities, a row an utterance, through the annotate stage."""
    annotator = Annotator.read("embedded")
    with tempfile.TemporaryDirectory() as name:
        done = annotate(utterances, [annotator], name, AnnotateSettings(seed=seed))
    shares = [pl.col("weight").filter(pl.col("label") == label).sum().alias(label) for label in utterances.taxonomy]
    heard = done.votes.frame.filter(pl.col("status") == "ok").group_by("utterance_id").agg(*shares)
    total = pl.sum_horizontal(utterances.taxonomy)
    return heard.with_columns(pl.col(label) / total for label in utterances.taxonomy).sort("utterance_id")


def compare(corpus: Corpus, folder: Path, name: str, taught_by: int) -> None:
    """Print the figures of one corpus; `folder` holds its cues, which the crowd `taught_by` is asked about."""
    frame = corpus.utterances.frame
    train_rows, test = (frame["split"] == "train").to_numpy(), (frame["split"] == "test").to_numpy()
    x = prosody(corpus)
    x = StandardScaler().fit(x[train_rows]).transform(x)
    voted = vote_shares(corpus.votes).frame.sort("utterance_id")
    assert voted["utterance_id"].equals(frame["utterance_id"])
    shares = voted.select(f"p_{label}" for label in corpus.truth.taxonomy).to_numpy()
    truth = corpus.truth.distributions()[test]
    regression = fitted(x[train_rows], shares[train_rows]).predict_proba(x[test])
    unseen = Utterances.of(frame.filter(pl.Series(test)), about=corpus.utterances.about)
    heard = answers(unseen).select(corpus.truth.taxonomy).to_numpy()
    cues = pl.read_parquet(folder / PARAMETERS).join(unseen.frame.select("utterance_id"), on="utterance_id", how="semi")
    guesses = {
        "class prior": np.tile(shares[train_rows].mean(0), (len(truth), 1)),
        "prosody regression": regression,
        "embedded annotator": heard,
        f"crowd {taught_by} itself": true_distribution(cues.sort("utterance_id").select(CUES).to_numpy(), taught_by),
        "truth": truth,
    }
    far = {guess: float(jsd_base2(truth, shares).mean()) for guess, shares in guesses.items()}
    loss = {guess: float(nll_per_vote(shares, truth).mean()) for guess, shares in guesses.items()}
    print(f"{name}: {len(truth)} utterances of {unseen.frame['speaker'].n_unique()} unseen speakers")
    for guess in guesses:
        print(f"  {guess:18} JSD {far[guess]:.4f} bits   cross-entropy {loss[guess]:.4f} nats")
    prior, rival, ours = (far[guess] for guess in ("class prior", "prosody regression", "embedded annotator"))
    print(f"  share of the gap prior - regression closed: {(prior - ours) / (prior - rival):.0%} in JSD")
    for guess in ("prosody regression", "embedded annotator", "truth"):
        first = np.bincount(guesses[guess].argmax(1), minlength=len(LABELS))
        print(f"  {guess:18} first: {', '.join(f'{label} {n}' for label, n in zip(LABELS, first, strict=True))}")


def emodb(folder: Path, hear: Callable[[Utterances], pl.DataFrame]) -> Figures:
    """How often it names the acted emotion of EMO-DB, and how far its distribution is from that label."""
    paths = sorted((folder / "wav").glob("*.wav"))
    rows = [(f"emodb/{path.stem}", "emodb", str(path), path.stem[:2], LETTERS[path.stem[5]]) for path in paths]
    table = pl.DataFrame(rows, schema=["utterance_id", "corpus", "audio", "speaker", "intended"], orient="row")
    left_out = len(table.filter(pl.col("intended") == "bored"))
    table = table.filter(pl.col("intended") != "bored")
    labels = list(LABELS)
    heard = hear(Utterances.of(table, about=About(taxonomy=LABELS)))
    joined = heard.join(table, on="utterance_id")
    guess = joined.select(labels).to_numpy()
    intended = np.array([labels.index(label) for label in joined["intended"]])
    truth = np.eye(len(labels))[intended]
    prior = truth.mean(0)
    hit = guess.argmax(1) == intended
    recall = np.mean([hit[intended == k].mean() for k in range(len(labels))])
    base = np.tile(prior, (len(intended), 1))
    return {
        "recordings": len(intended),
        "left_out": left_out,
        "accuracy": float(hit.mean()),
        "largest_class": float(prior.max()),
        "mean_recall": float(recall),
        "nll": float(nll_per_vote(guess, truth).mean()),
        "nll_class_shares": float(nll_per_vote(base, truth).mean()),
        "jsd": float(jsd_base2(truth, guess).mean()),
        "jsd_class_shares": float(jsd_base2(truth, base).mean()),
        "mean_answer": [float(share) for share in guess.mean(0)],
    }


def some_speakers(corpus: Corpus, train_speakers: int = 75, test_speakers: int = 20) -> Corpus:
    """All utterances of the first N speakers of each split."""
    frame = corpus.utterances.frame
    names = {split: frame.filter(pl.col("split") == split)["speaker"].unique().sort() for split in ("train", "test")}
    kept = [*names["train"][:train_speakers], *names["test"][:test_speakers]]
    rows = frame.filter(pl.col("speaker").is_in(kept))
    ids = pl.col("utterance_id").is_in(rows["utterance_id"].implode())
    return replace(
        corpus,
        utterances=Utterances.of(rows, about=corpus.utterances.about),
        votes=Votes.of(corpus.votes.frame.filter(ids), about=corpus.votes.about),
        truth=Labels.of(corpus.truth.frame.filter(ids), about=corpus.truth.about),
    )


def measure(folder: Path) -> None:
    """The figures of the CARD on simulated speech."""
    speech, _ = settings(folder)
    taught_by = speech.crowd
    compare(simulate(folder / "crowd-0", DEMO), folder / "crowd-0", "crowd 0", taught_by)
    compare(some_speakers(synthetic_speech(folder)), folder / "speech", f"crowd {taught_by}", taught_by)


def judge(folder: Path, data: Path, teacher: Path, recordings: Path, before: Path | None) -> None:
    """Write the figures of the shipped weights on the development actors, beside other weights, and on EMO-DB."""
    learned = folder / "learned"
    training = json.loads(read_text(learned / "made.json"))
    if training["weights"] != digest_file(PACKAGE / "model.safetensors"):
        raise SettingsError("are not the weights that were made last", where=str(PACKAGE), fix="Run make first.")
    everyone = crema_d(data)
    known, clips = everyone.only(training["trained_on"][CORPUS]), everyone.only(DEVELOPMENT)
    rows = np.arange(len(known.names))
    heads = teach(known, None, rows, training["plan"]["seed"], learned)
    student = student_of(Sources(folder, data, teacher, PACKAGE, PACKAGE / "annotator.toml"))
    hear = partial(heard_by, student)
    hearing = Hearing(student.lm.inputs.processor.feature_extractor, teacher, folder / "heard")
    cells = real_speech(everyone, hearing, folder / "heard").of(everyone.of(DEVELOPMENT))
    figures: dict[str, Any] = {
        "made": training,
        "development": figures_of_actors(clips, cells, heads, prior(known, rows)[0], hear),
    }
    some = Utterances.of(table_of(clips).frame.gather_every(40), about=About(taxonomy=LABELS))
    columns = [frame.sort("utterance_id").select(LABELS).to_numpy() for frame in (hear(some), answers(some))]
    figures["annotate_difference"] = float(np.abs(columns[0] - columns[1]).max())
    kept = json.loads(read_text(RESULTS))
    if before is not None:
        other = student_of(Sources(folder, data, teacher, before, PACKAGE / "annotator.toml"))
        weights = digest_file(before / "model.safetensors")
        kept["against"] = {"weights": weights} | against(clips, hear, partial(heard_by, other))
    figures["emodb"] = emodb(recordings, hear)
    write_json(RESULTS, figures | {name: kept[name] for name in ("against", "lockbox_opened") if name in kept})
    print(read_text(RESULTS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("message", choices=("make", "choose", "people", "measure", "judge"))
    parser.add_argument("--folder", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--crema-d", type=Path, help="Folder with tabulatedVotes.csv and AudioWAV.")
    parser.add_argument("--teacher", type=Path, help="Folder of the Whisper tiny.en encoder.")
    parser.add_argument("--emodb", type=Path)
    parser.add_argument("--first", type=Path, help="Folder of a model that has learned from synthetic speech.")
    parser.add_argument("--before", type=Path, help="Folder of other weights to compare with.")
    parser.add_argument("--choosing", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    where = options.folder, options.crema_d, options.teacher
    if options.message == "measure":
        measure(options.folder)
    elif options.message == "judge":
        judge(*where, options.emodb, options.before)
    elif options.message == "people":
        people(*where, options.first, choosing=options.choosing)
    else:
        make(*where, options.first, choosing=options.message == "choose")


if __name__ == "__main__":
    main()
