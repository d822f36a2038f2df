"""CREMA-D balanced: shares, effective sizes, drift by effect and strength: python benchmarks/balance/crema_d.py DATA

Targets are the shares of all voice votes. Drift is what the machine drift check of `balance` measures: a listener on
measured features, trained in folds of actors, hears a changed clip and the clip as it was.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.audio.effects import EFFECTS
from alm_proxies.audio.measured import DIGEST, measuring
from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.strength import effect_at
from alm_proxies.audio.vectors import vectors_of
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.drift import WIDTH, controls_of, drift_check, heard_after, rejected
from alm_proxies.stages.balance.settings import BalanceSettings, Copies, Generated, Reference
from alm_proxies.stages.balance.stage import balance
from alm_proxies.tables import Labels, Utterances

LABELS = {"A": "angry", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
STRENGTHS = (0.25, 0.5, 1.0)


def corpus(data: Path, clips: int) -> tuple[Labels, Utterances]:
    """Labels of a random sample of clips: the shares of voice votes, with half a vote spread over the labels."""
    there = {path.stem: str(path) for path in (data / "crema_d" / "AudioWAV").iterdir()}
    frame = pl.read_csv(data / "crema_d" / "tabulatedVotes.csv", infer_schema_length=None, null_values=["NA"])
    frame = frame.rename({frame.columns[0]: "row"}).filter(pl.col("row") < 200_000).sort("fileName")
    frame = frame.filter(pl.col("fileName").is_in(list(there)))
    chosen = np.sort(generator(0, "clips").permutation(frame.height)[:clips]).tolist()
    frame = frame[chosen]
    people = pl.read_csv(data / "crema_d" / "VideoDemographics.csv").select(
        pl.col("ActorID").cast(pl.String).alias("speaker"), pl.col("Sex").str.to_lowercase().alias("gender")
    )
    votes = frame.select(*LABELS).to_numpy().astype(np.float64) + 0.5 / len(LABELS)
    shares = votes / votes.sum(1, keepdims=True)
    ids = [f"crema_d/{name}" for name in frame["fileName"]]
    labels = pl.DataFrame(
        {"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS.values())}}
    )
    about = pl.DataFrame(
        {
            "utterance_id": ids,
            "corpus": "crema_d",
            "audio": [there[name] for name in frame["fileName"]],
            "speaker": frame["fileName"].str.slice(0, 4),
            "transcript": frame["fileName"].str.slice(5, 3),
            "split": "train",
        }
    ).join(people, on="speaker", how="left")
    return Labels.of(labels, taxonomy=tuple(LABELS.values())), Utterances.of(about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=2_000)
    parser.add_argument("--changed", type=int, default=150)
    parser.add_argument("--features", type=Path, default=Path(tempfile.gettempdir()) / "alm-proxies-balance-features")
    parser.add_argument("--methods", nargs="*", help="weights, copies, reference: only these, and no drift")
    sizes = parser.parse_args()
    labels, utterances = corpus(sizes.data, sizes.clips)
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in {
            "weights, uniform": BalanceSettings(),
            "weights, square_root": BalanceSettings(classes="square_root"),
            "weights, uniform within ambiguity": BalanceSettings(within=True),
            "copies, size 1": BalanceSettings(copies=Copies(size=1.0)),
            "copies, size 1.5": BalanceSettings(copies=Copies(size=1.5)),
            "copies, size 2": BalanceSettings(copies=Copies(size=2.0)),
            "reference, ratio .2": BalanceSettings(method="reference", reference=Reference(ratio=0.2)),
            "reference, ratio .3": BalanceSettings(method="reference", reference=Reference(ratio=0.3)),
        }.items():
            if sizes.methods and name.split(",")[0] not in sizes.methods:
                continue
            balanced = balance(labels, utterances, Path(folder), settings.model_copy(update={"examples": 0}))
            shares = [share for share in balanced.metrics["shares"] if share["kind"] == "classes"]
            before, after = ([f"{share[key]:.3f}" for share in shares] for key in ("before", "after"))
            copies = balanced.metrics.get("copies")
            parts = f"; {copies['items']} items, worst {100 * copies['worst_error']:.2f} points" if copies else ""
            size, largest = balanced.metrics["effective_size"], balanced.metrics["largest_weight"]
            reference = balanced.metrics.get("reference")
            parts += f"; {reference['items']} items fill up rare classes" if reference else ""
            worst = max(abs(share["after"] - share["wanted"]) for share in balanced.metrics["shares"])
            shown = f"{' '.join(before)} -> {' '.join(after)}; effective {size:.0f} of {balanced.metrics['utterances']}"
            parts += f"; furthest from a wanted share {100 * worst:.1f} points"
            print(f"{name}: {shown}, largest {largest:.1f}{parts}", flush=True)
    if sizes.methods:
        return
    ids = labels.frame["utterance_id"].to_list()
    sounds = Sounds(utterances, stage="balance")
    vectors = vectors_of(ids, sounds, measuring("balance"), width=WIDTH, digest=DIGEST, folder=sizes.features)
    targets = labels.distributions()
    speakers = utterances.frame["speaker"].to_list()
    drift = drift_check(vectors.rows, vectors.known, targets, speakers, seed=0)
    print(f"threshold {drift.threshold:.4f} nats", flush=True)
    sentences = list(zip(speakers, utterances.frame["transcript"], strict=True))
    for control in controls_of(drift, ids, sounds, targets, sentences, seed=0, count=sizes.changed):
        print(f"control {control.name}: {control.rate:.2f} of {control.tried}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for whose in ("same", "compatible"):
            settings = BalanceSettings(generated=Generated(size=0.1, speaker=whose, controls=1), examples=0)
            figures = balance(labels, utterances, Path(folder), settings).metrics
            size, made_items = figures["effective_size"], figures["generated"]
            kept = f"{made_items['items']} of {made_items['tried']} mixed items kept"
            print(f"generated, {whose} speaker: {kept}; effective {size:.0f} of {figures['utterances']}", flush=True)
    rows = np.sort(generator(0, "changed").permutation(np.flatnonzero(drift.fold >= 0))[: sizes.changed]).tolist()
    for name in EFFECTS:
        parts = []
        for strength in STRENGTHS:
            effects = [effect_at(name, strength, generator(0, name, ids[row])) for row in rows]
            d = rejected(drift, rows, list(heard_after([ids[row] for row in rows], sounds, effects, seed=0)))
            parts.append(f"{strength}: median {np.median(d):.4f}, above {np.mean(d > drift.threshold):.2f}")
        print(f"{name} {'; '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
