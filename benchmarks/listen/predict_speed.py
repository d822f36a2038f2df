"""Seconds a clip that predict takes on one core, from file to calibrated distribution, and how many of them decode.

A head is trained for one epoch above a frozen encoder, and one on measured prosody, on 200 clips of CREMA-D; both then
predict others, and say their evidence. Processor time is what counts on a machine that is shared; the wall clock stands
beside it. One thread for torch and one for decoding.

    OMP_NUM_THREADS=1 ALM_PROXIES_TEST_DATA=DATA python benchmarks/listen/predict_speed.py --model M --folder FOLDER
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import torch

from alm_proxies.audio.recipe import Sounds
from alm_proxies.stages.predict.stage import PredictSettings, predict
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances
from alm_proxies.training.loading import load_trained
from alm_proxies.training.settings import TrainSettings

LABELS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
LEARNED = 200


def tables(data: Path, count: int) -> tuple[Utterances, Labels]:
    """Clips of all actors, and the acted emotion as a label: what is learned does not matter here."""
    paths = sorted((data / "crema_d" / "AudioWAV").iterdir())
    chosen = paths[:: len(paths) // (count + LEARNED)][: count + LEARNED]
    parts = [path.stem.split("_") for path in chosen]
    ids = [f"crema_d/{path.stem}" for path in chosen]
    frame = pl.DataFrame({"utterance_id": ids, "corpus": "crema_d", "audio": [str(path) for path in chosen]})
    shares = {f"p_{name}": [0.1 + 0.4 * (part[2] == acted) for part in parts] for acted, name in LABELS.items()}
    total = pl.sum_horizontal(shares.keys())
    labels = pl.DataFrame({"utterance_id": ids, **shares}).with_columns(pl.col(shares.keys()) / total)
    return Utterances.of(frame.with_columns(speaker=pl.Series([part[0] for part in parts]))), Labels.of(
        labels, taxonomy=list(LABELS.values())
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="Where the two models are kept.")
    parser.add_argument("--clips", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    utterances, labels = tables(Path(os.environ["ALM_PROXIES_TEST_DATA"]), given.clips)
    taught, asked = utterances.frame.head(LEARNED), Utterances.of(utterances.frame.tail(given.clips))
    sounds = Sounds(asked, stage="predict")
    clips = [sounds.open(name).clip for name in asked.frame["utterance_id"]]
    seconds = sum(clip.duration for clip in clips if clip is not None) / len(clips)
    print(f"{len(clips)} clips of {seconds:.2f} s on average\n\n| recipe | | processor s a clip | wall s a clip |")
    print("|---" * 4 + "|")
    for recipe, stated in (("encoder", {"model": given.model, "freeze": True}), ("features", {})):
        settings = TrainSettings.model_validate({"recipe": recipe, "epochs": 1, "threads": 1, **stated})
        done = train(labels, Utterances.of(taught), given.folder / f"{recipe}_{given.clips}", settings, quiet=True)
        model = load_trained(done.folder, device="cpu")
        predict(model, Utterances.of(asked.frame.head(4)), quiet=True)
        for evidence in (False, True):
            settings_of_predict = PredictSettings(threads=1, device="cpu", evidence=evidence)
            with TemporaryDirectory() as cache:  # so that no features are found in it
                os.environ["XDG_CACHE_HOME"] = cache
                wall, processor = time.perf_counter(), time.process_time()
                predict(model, asked, settings_of_predict, quiet=True)
                took = [(time.process_time() - processor) / len(clips), (time.perf_counter() - wall) / len(clips)]
            output = "with evidence" if evidence else "distributions"
            print(f"| {recipe} | {output} | {took[0]:.3f} | {took[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
