"""Make the embedded annotator, and measure it against the class prior and the prosody regression.

    python benchmarks/proxies/embedded.py make [--folder runs/embedded]        simulate, train, ship
    python benchmarks/proxies/embedded.py measure [--folder runs/embedded] [--emodb FOLDER]

`make` follows pipelines/embedded.toml and pipelines/training/embedded.toml, copies the model into the package and names
its weights in annotator.toml; killed, it goes on where it was. `measure` annotates with the shipped file through the
annotate stage, on test speakers of crowd 0 (2000 utterances, the demo's crowd) and of the crowd that it learned from.
Printed for each: Jensen-Shannon divergence (bits) and cross-entropy (nats) of the true distributions for (a) the class
prior of the votes on the training speakers, (b) the regression on prosody relative to the speaker, fitted to those
votes, (c) the annotator, which knows one clip and nothing of the speaker, (d) what the crowd that it learned from would
say itself; which share of the gap a - b it closes; and how often each label comes first.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simulate"))
from regression import fitted, prosody
from sklearn.preprocessing import StandardScaler

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_file, read_text, shipped, write_text
from alm_proxies.measures.divergence import jsd_base2, nll_per_vote
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.settings import read_settings
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.stages.simulate.cues import CUES, LABELS
from alm_proxies.stages.simulate.listeners import true_distribution
from alm_proxies.stages.simulate.stage import PARAMETERS, Corpus, SimulateSettings, simulate
from alm_proxies.stages.train.stage import TrainSettings, train
from alm_proxies.tables import About, Labels, Utterances, Votes

PACKAGE = Path(__file__).resolve().parents[2] / "alm_proxies" / "embedded"
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


def make(folder: Path) -> None:
    """Simulate, train, and copy the model beside its annotator file."""
    speech, training = settings(folder)
    started = time.monotonic()
    corpus = simulate(folder / "speech", speech)
    trained = train(vote_shares(corpus.votes), corpus.utterances, folder / "training", training)
    print(trained.epochs)
    minutes = [f"{seconds / 60:.0f}" for seconds in (time.monotonic() - started, time.process_time())]
    print(f"{minutes[0]} minutes in all, {minutes[1]} of processor time")
    for path in sorted(trained.folder.iterdir()):
        shutil.copyfile(path, PACKAGE / path.name)
    print(f"revision {name_weights(PACKAGE)}")
    size = sum(path.stat().st_size for path in PACKAGE.iterdir())
    print(f"{PACKAGE}: {size / 1e6:.2f} MB")


def name_weights(folder: Path) -> str:
    """Write the digest of the weights in a folder into its annotator file, as their revision."""
    revision, path = digest_file(folder / "model.safetensors"), folder / "annotator.toml"
    text, places = re.subn(r'(?m)^revision = "[^"]*"', f'revision = "{revision}"', read_text(path))
    if places != 1:
        raise SettingsError(f"names its weights {places} times", where=str(path), fix='Write revision = "" once.')
    write_text(path, text)
    return revision


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


def emodb(folder: Path) -> None:
    """Print how often it names the acted emotion of EMO-DB, and how far its distribution is from that label."""
    paths = sorted((folder / "wav").glob("*.wav"))
    rows = [(f"emodb/{path.stem}", "emodb", str(path), path.stem[:2], LETTERS[path.stem[5]]) for path in paths]
    table = pl.DataFrame(rows, schema=["utterance_id", "corpus", "audio", "speaker", "intended"], orient="row")
    left_out = len(table.filter(pl.col("intended") == "bored"))
    table = table.filter(pl.col("intended") != "bored")
    labels = list(LABELS)
    heard = answers(Utterances.of(table, about=About(taxonomy=LABELS)))
    joined = heard.join(table, on="utterance_id")
    guess = joined.select(labels).to_numpy()
    intended = np.array([labels.index(label) for label in joined["intended"]])
    one = np.eye(len(labels))[intended]
    prior = one.mean(0)
    hit = guess.argmax(1) == intended
    recall = np.mean([hit[intended == k].mean() for k in range(len(labels))])
    print(f"EMO-DB: {len(intended)} recordings ({left_out} of boredom left out)")
    print(f"  accuracy {hit.mean():.1%} (largest class {prior.max():.1%}), mean recall {recall:.1%} (chance 16.7%)")
    print(f"  JSD {jsd_base2(one, guess).mean():.3f} bits, NLL {nll_per_vote(guess, one).mean():.3f} nats")
    base = np.tile(prior, (len(intended), 1))
    print(f"  its own class shares: JSD {jsd_base2(one, base).mean():.3f}, NLL {nll_per_vote(base, one).mean():.3f}")
    print(f"  mean answer {dict(zip(labels, guess.mean(0).round(3).tolist(), strict=True))}")


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


def measure(folder: Path, recordings: Path | None) -> None:
    """All figures of the CARD."""
    speech, _ = settings(folder)
    taught_by = speech.crowd
    compare(simulate(folder / "crowd-0", DEMO), folder / "crowd-0", "crowd 0", taught_by)
    compare(some_speakers(simulate(folder / "speech", speech)), folder / "speech", f"crowd {taught_by}", taught_by)
    if recordings is not None:
        emodb(recordings)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("message", choices=("make", "measure"))
    parser.add_argument("--folder", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--emodb", type=Path)
    options = parser.parse_args()
    if options.message == "make":
        make(options.folder)
    else:
        measure(options.folder, options.emodb)


if __name__ == "__main__":
    main()
