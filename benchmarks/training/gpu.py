"""On a GPU: the recipes `encoder` and `alm` at full size, as `train` runs them, on recordings of noise.

WavLM-Large (315 M weights, fine-tuned whole) and Qwen2-Audio-7B with LoRA on all matrices of the language model, bf16,
random weights of the real shapes, so nothing is downloaded. The speed, the padding and the waiting are those that
`train` writes to its metrics.jsonl, at the end of the epochs after the first (medians); the first epoch decodes every
recording. MFU = operations of the utterances' own tokens (padding and recomputation do not count) / (time x peak):
6 x weights x tokens where all weights learn, 4 where an adapter does, 2 for a frozen audio encoder.
Goals: MFU .45, waiting under .03. Peaks (dense bf16): H100 and H200 989e12, A100 312e12.

    python benchmarks/training/gpu.py [--shape wavlm-large|qwen2-audio-lora] [--batch 32] [--peak 989e12]
    python benchmarks/training/gpu.py --tiny     (small models on a CPU: tries the script, proves nothing)
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
import torch
import transformers as tf

from alm_proxies.about import About
from alm_proxies.stages.train.stage import train
from alm_proxies.tables import Labels, Utterances
from alm_proxies.training.alm_question import asked_prompt, asker_of
from alm_proxies.training.run_log import read_lines
from alm_proxies.training.settings import AlmSettings, LoraSettings, TrainSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "proxies"))
from gpu_qwen2_audio import FULL, TINY, random_model

LABELS = ("angry", "happy", "neutral", "sad")
RATE, SHORTEST, LONGEST = 16_000, 2.0, 6.0
WAVLM = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
WAVLM_TINY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
    "conv_dim": (32,) * 7,
}  # fmt: skip
FRAMES_A_SECOND, TOKENS_A_SECOND = 50, 25

Shape = tuple[dict[str, Any], Callable[[float], float]]
"""What `train` gets, and the operations that training on a clip of some seconds takes."""


def recordings(folder: Path, count: int) -> tuple[Utterances, Labels, float]:
    """Clips of noise of 2 to 6 s with random shares, one in sixteen for development; their mean duration."""
    chance = np.random.default_rng(0)
    seconds = chance.uniform(SHORTEST, LONGEST, count)
    for number, length in enumerate(seconds):
        soundfile.write(folder / f"{number}.wav", 0.1 * chance.standard_normal(int(length * RATE)), RATE)
    about = About(taxonomy=LABELS, roots={"noise": str(folder)})
    rows = {
        "utterance_id": [f"noise/{number}" for number in range(count)],
        "corpus": "noise",
        "audio": [f"{number}.wav" for number in range(count)],
        "split": ["development" if number % 16 == 0 else "train" for number in range(count)],
        "duration": seconds,
    }
    shares = chance.dirichlet(np.ones(len(LABELS)), count)
    labels = {"utterance_id": rows["utterance_id"], **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}}
    trained = [number for number in range(count) if number % 16]
    tables = Utterances.of(pl.DataFrame(rows), about=about), Labels.of(pl.DataFrame(labels), about=about)
    return *tables, float(seconds[trained].mean())


def wavlm_large(folder: Path, *, tiny: bool) -> Shape:
    """A WavLM in which every weight learns."""
    sizes = WAVLM_TINY if tiny else WAVLM
    config = tf.WavLMConfig(**sizes, feat_extract_norm="layer", do_stable_layer_norm=True, layerdrop=0.0)
    model = tf.WavLMModel(config)
    model.save_pretrained(folder)
    tf.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    weights = sum(weight.numel() for weight in model.encoder.parameters())
    return {"recipe": "encoder"}, lambda seconds: 6.0 * weights * FRAMES_A_SECOND * seconds


def qwen2_audio_lora(folder: Path, *, tiny: bool) -> Shape:
    """A Qwen2-Audio with an adapter of its language model."""
    lm = random_model(TINY if tiny else FULL, "cuda" if torch.cuda.is_available() else "cpu")
    lm.save(folder)
    settings = {"recipe": "alm", "alm": AlmSettings(lora=LoraSettings(rank=8, alpha=16.0), merge=False)}
    asker = asker_of(TrainSettings.model_validate({**settings, "model": str(folder)}), LABELS)
    prompt = len(asked_prompt(asker, lm, answers=True).prompts[0])
    inner = lm.model.model
    words = inner.language_model.get_input_embeddings().weight.numel()
    language = sum(weight.numel() for weight in inner.language_model.parameters()) - words
    hearing = sum(weight.numel() for weight in inner.audio_tower.parameters())

    def operations(seconds: float) -> float:
        tokens = TOKENS_A_SECOND * seconds + prompt
        return 4.0 * language * tokens + 2.0 * hearing * FRAMES_A_SECOND * seconds

    return settings, operations


SHAPES = {"wavlm-large": wavlm_large, "qwen2-audio-lora": qwen2_audio_lora}


def measured(shape: str, given: argparse.Namespace) -> dict[str, Any]:
    """Train for some epochs; what the lines of its log say."""
    with tempfile.TemporaryDirectory() as parent:
        wavs, model, out = (Path(parent) / name for name in ("wavs", "model", "out"))
        wavs.mkdir()
        utterances, labels, seconds = recordings(wavs, given.clips)
        settings, operations = SHAPES[shape](model, tiny=given.tiny)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        chosen = {
            "model": str(model), "epochs": given.epochs, "batch": given.batch, "threads": given.threads, "warmup": 0.1,
            "precision": "float32" if given.tiny else "bf16", "gradient_checkpointing": given.checkpointing,
            "patience": given.epochs,
        }  # fmt: skip
        train(labels, utterances, out, TrainSettings.model_validate({**chosen, **settings}), quiet=not given.loud)
        lines = read_lines(out)
    ends = [
        [line for line in lines if line["kind"] == "step" and line["epoch"] == epoch][-1]
        for epoch in range(1, given.epochs + 1)
    ]
    later = {
        name: statistics.median(line[name] for line in ends[1:])
        for name in ("samples_per_second", "waiting", "padding")
    }
    memory = [line["most_memory_gib"] for line in lines if "most_memory_gib" in line]
    return {
        "shape": shape,
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "seconds_a_clip": round(seconds, 2),
        "samples_per_second": round(later["samples_per_second"], 1),
        "mfu": round(operations(seconds) * later["samples_per_second"] / given.peak, 3),
        "waiting": round(later["waiting"], 3),
        "padding": round(later["padding"], 3),
        "memory_gib": round(memory[-1], 1) if memory else None,
        "first_epoch": {name: round(ends[0][name], 3) for name in ("samples_per_second", "waiting")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(SHAPES), action="append")
    parser.add_argument("--clips", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--peak", type=float, default=989e12)
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again, which saves memory")
    parser.add_argument("--loud", action="store_true", help="show the progress of the training")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    if not torch.cuda.is_available() and not given.tiny:
        raise SystemExit("No GPU here. Try the script with --tiny.")
    if given.tiny:
        given.clips, given.batch, given.epochs = min(given.clips, 48), min(given.batch, 8), min(given.epochs, 2)
    for shape in given.shape or SHAPES:
        print(json.dumps(measured(shape, given)), flush=True)


if __name__ == "__main__":
    main()
