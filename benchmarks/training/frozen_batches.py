"""What batches of similar length save in encoding clips by a frozen encoder, against one clip at a time.

python benchmarks/training/frozen_batches.py --model WHISPER_TINY_FOLDER: sizes, processor time (on a GPU: seconds) and
the largest difference. --model wavlm-large: random weights of that shape; without ALM_PROXIES_TEST_DATA clips of noise.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers as tf

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from study_design import LOCKBOX

from alm_proxies.audio.clip import RATE, Clip, open_clip
from alm_proxies.audio.vectors import bounded_parts
from alm_proxies.models.encoder import Encoder
from alm_proxies.models.speech_model import statistics_of

_WAVLM_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


def encoder_of(model: str, device: str) -> Encoder:
    """An encoder of a folder, or a WavLM-Large of random weights."""
    if model != "wavlm-large":
        return Encoder.load(model, device=device)
    with tempfile.TemporaryDirectory() as folder:
        config = tf.WavLMConfig(**_WAVLM_LARGE, feat_extract_norm="layer", do_stable_layer_norm=True)
        tf.WavLMModel(config).save_pretrained(folder)
        tf.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
        return Encoder.load(folder, device=device)


def clips_of(count: int, rate: int) -> list[Clip]:
    """Clips of CREMA-D without the ten actors that choose nothing, or of noise of 1 to 11 s; sorted by length."""
    chance, data = np.random.default_rng(0), os.environ.get("ALM_PROXIES_TEST_DATA")
    if data is None:
        sizes = (chance.uniform(1, 11, count) * RATE).astype(int)
        clips = [Clip(samples=(0.1 * chance.standard_normal(size)).astype(np.float32), rate=RATE) for size in sizes]
    else:
        folder = Path(data) / "crema_d" / "AudioWAV"
        paths = [path for path in sorted(folder.iterdir()) if path.name[:4] not in LOCKBOX]
        clips = [open_clip(paths[place], rate=rate) for place in chance.permutation(len(paths))[:count]]
    return sorted(clips, key=lambda clip: len(clip.samples))


def encoded(encoder: Encoder, clips: list[Clip], most: int, padding: float) -> tuple[np.ndarray, float]:
    """The statistics of clips sorted by length, `most` at once, and the time."""
    clock = time.process_time if encoder.device.type == "cpu" else time.perf_counter
    started, rows = clock(), []
    for part in bounded_parts([len(clip.samples) for clip in clips], padding, most):
        with torch.inference_mode():
            hidden = encoder(encoder.prepare([clip.samples for clip in clips[part]]))
            rows.append(statistics_of(hidden.states, hidden.mask).cpu().numpy())
    return np.concatenate(rows), clock() - started


def main() -> None:
    """Print a line for each size of batches."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--padding", type=float, default=0.2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    encoder = encoder_of(given.model, given.device)
    clips = clips_of(given.clips, encoder.rate)
    encoded(encoder, clips[:20], 1, 0.0)
    alone, seconds = encoded(encoder, clips, 1, 0.0)
    print(f"1: {1000 * seconds / len(clips):.1f} ms a clip; largest statistic {np.abs(alone).max():.1f}")
    for most in (4, 16):
        encoded(encoder, clips[-most:], most, given.padding)
        together, took = encoded(encoder, clips, most, given.padding)
        away = np.abs(together - alone)
        share = (away / np.maximum(np.abs(alone), 1)).max()
        print(f"{most}: {took / seconds:.2f} of that; differs by {away.max():.1e}, relative to 1 or more {share:.1e}")


if __name__ == "__main__":
    main()
