"""What batches of similar length would save in encoding clips by a frozen encoder, against one clip at a time.

python benchmarks/training/frozen_batches.py --model WHISPER_TINY_FOLDER: sizes, CPU time and the largest difference.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from study_design import LOCKBOX

from alm_proxies.audio.clip import Clip, open_clip
from alm_proxies.models.encoder import Encoder
from alm_proxies.models.speech_model import statistics_of
from alm_proxies.training.batches import bounded_parts


def encoded(encoder: Encoder, clips: list[Clip], most: int, padding: float) -> tuple[np.ndarray, float]:
    """The statistics of clips sorted by length, `most` at once, and the CPU time."""
    started, rows = time.process_time(), []
    for part in bounded_parts([len(clip.samples) for clip in clips], padding, most):
        with torch.inference_mode():
            hidden = encoder(encoder.prepare([clip.samples for clip in clips[part]]))
            rows.append(statistics_of(hidden.states, hidden.mask).numpy())
    return np.concatenate(rows), time.process_time() - started


def main() -> None:
    """Print a line for each size of batches."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--padding", type=float, default=0.1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d" / "AudioWAV"
    paths = [path for path in sorted(folder.iterdir()) if path.name[:4] not in LOCKBOX]
    chosen = np.random.default_rng(0).permutation(len(paths))[: given.clips]
    encoder = Encoder.load(given.model, device="cpu")
    clips = sorted((open_clip(paths[place], rate=encoder.rate) for place in chosen), key=lambda clip: len(clip.samples))
    encoded(encoder, clips[:20], 1, 0.0)
    alone, seconds = encoded(encoder, clips, 1, 0.0)
    print(f"1: {1000 * seconds / len(clips):.1f} ms of CPU a clip; largest statistic {np.abs(alone).max():.1f}")
    for most in (4, 16):
        together, took = encoded(encoder, clips, most, given.padding)
        away = np.abs(together - alone)
        share = (away / np.maximum(np.abs(alone), 1)).max()
        print(f"{most}: {took / seconds:.2f} of that; differs by {away.max():.1e}, relative to 1 or more {share:.1e}")


if __name__ == "__main__":
    main()
