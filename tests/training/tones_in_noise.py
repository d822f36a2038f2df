from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
from forked import TORCH, Forked

from alm_proxies.about import About
from alm_proxies.audio.clip import Clip
from alm_proxies.models.audio_lm import Asked, AudioLM
from alm_proxies.models.tiny import Hearing
from alm_proxies.tables import Labels, Utterances
from alm_proxies.training.settings import AlmSettings, ChangeSettings, NewModel, TrainSettings

LABELS = ("angry", "neutral", "sad")
FAMILIES = ("qwen2_audio", "audioflamingo3", "glmasr")
"""Audio language models whose processors need nothing beyond the test environment."""
HERTZ = {"angry": 2400.0, "neutral": 900.0, "sad": 250.0}

SHORT = Hearing(places=100)
"""Windows of two seconds, longer than any of the recordings; of 30 seconds nearly all would be padding."""

TINY_ALM = AlmSettings(
    new=NewModel(hidden=64, layers=1, audio_hidden=64, audio_layers=1, vocabulary=640),
    answer="words",
    label_orders=2,
    window_epochs=1,
    window=0.5,
    change=ChangeSettings(gain=0.5, bands=4, frames=5, shift=2),
)
TINY = TrainSettings(recipe="alm", alm=TINY_ALM, epochs=3, batch=6, learning_rate=4e-3, seed=3)


def recordings(folder: Path, count: int = 36) -> tuple[Utterances, Labels]:
    """Tones in noise, one pitch a label, of different lengths; every fourth is for development."""
    chance = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    names, seconds, meant = [], [], []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        length = float(chance.uniform(0.6, 1.1))
        time = np.arange(int(length * 16_000)) / 16_000
        tone = 0.2 * np.sin(2 * np.pi * HERTZ[label] * chance.uniform(0.95, 1.05) * time)
        soundfile.write(folder / f"{number:03d}.wav", tone + 0.005 * chance.standard_normal(time.size), 16_000)
        names.append(f"{number:03d}")
        seconds.append(length)
        meant.append(label)
    about = About(taxonomy=LABELS, roots={"tones": str(folder)})
    utterances = pl.DataFrame(
        {
            "utterance_id": [f"tones/{name}" for name in names],
            "corpus": "tones",
            "audio": [f"{name}.wav" for name in names],
            "split": ["development" if number % 4 == 3 else "train" for number in range(count)],
        }
    )
    shares = {f"p_{label}": [0.8 if label == likely else 0.1 for likely in meant] for label in LABELS}
    labels = pl.DataFrame({"utterance_id": utterances["utterance_id"], **shares})
    return Utterances.of(utterances, about=about), Labels.of(labels, about=about)


_IN_ITS_OWN_PROCESS = """
import json, sys
from alm_proxies.stages.train.stage import train
from alm_proxies.models.tiny import Hearing
from alm_proxies.tables import Labels, Utterances
from alm_proxies.training.settings import TrainSettings
folder = sys.argv[1]
settings = TrainSettings.model_validate(json.loads(sys.argv[2]))
labels, utterances = Labels.read(folder + "/labels.parquet"), Utterances.read(folder + "/utterances.parquet")
train(labels, utterances, folder + "/out", settings)
"""


def kill_after_an_epoch(utterances: Utterances, labels: Labels, folder: Path, settings: TrainSettings) -> None:
    """Train into the sub-folder out in a process of its own, which is killed (-9) after the first epoch."""
    utterances.write(folder / "utterances.parquet")
    labels.write(folder / "labels.parquet")
    script = folder / "train.py"
    script.write_text(_IN_ITS_OWN_PROCESS)
    with Forked(script, folder, json.dumps(settings.model_dump(mode="json")), imported=TORCH) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(f"epoch 1/{settings.epochs}: loss"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL, "".join(lines)


def settings_for(base: Path, **changes: Any) -> TrainSettings:
    alm = {"lora": {"rank": 4, "alpha": 8.0, "rate": 0.005}, **changes.pop("alm", {})}
    given = {"recipe": "alm", "name": "adapted", "model": str(base), "alm": alm, "epochs": 2, "batch": 9, "seed": 1}
    return TrainSettings.model_validate(given | changes)


def tone(label: str) -> Clip:
    time = np.arange(14_000) / 16_000
    noise = 0.005 * np.random.default_rng(5).standard_normal(time.size)
    return Clip((0.2 * np.sin(2 * np.pi * HERTZ[label] * time) + noise).astype(np.float32), 16_000)


def log_p(lm: AudioLM) -> np.ndarray[Any, Any]:
    asked = [Asked([("user", [tone(label).samples, "A or B or C?"])], ("A", "B", "C")) for label in LABELS]
    return np.concatenate(lm.score([[question] for question in asked]))
