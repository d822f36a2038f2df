"""What hearing clips at their own length saves: our transformers model beside transformers' own padding to 30 s.

Two models on one CPU thread: the embedded annotator, and the shapes of Qwen2-Audio-7B with an eighth of their widths,
random weights. "Padded" is one forward pass of the bare model over the processor's own inputs and the prompt, "ours" is
`AudioLM.score` of one label order, from samples and text as well. Medians of rounds in turn.

    python benchmarks/proxies/padding.py FOLDER [--clips 40] [--rounds 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gpu_qwen2_audio import CODES, FULL, LABELS, random_model
from numpy.typing import NDArray

from alm_proxies.audio.clip import open_clip
from alm_proxies.models.audio_lm import Asked, AudioLM
from alm_proxies.models.chat_inputs import Conversation

EMBEDDED = Path(__file__).resolve().parents[2] / "alm_proxies" / "embedded"
PROMPT = "Which emotion? " + " ".join(f"{code}) {label}" for code, label in zip(CODES, LABELS, strict=True))


def eighth() -> AudioLM:
    """Qwen2-Audio-7B's layers and heads with an eighth of the widths."""
    text = FULL["text"] | {"hidden_size": 512, "intermediate_size": 1376, "vocab_size": 512}
    return random_model({"text": text, "audio": FULL["audio"] | {"encoder_ffn_dim": 640, "d_model": 160}}, "cpu")


def padded(lm: AudioLM, talk: Conversation) -> NDArray[np.float64]:
    """The last logits of the bare model on the processor's own inputs."""
    with torch.inference_mode():
        logits = lm.model(**lm.inputs.batch([talk])).logits[0, -1].double().log_softmax(-1)
    return np.array([float(logits[lm.inputs.answer(code)[0]]) for code in CODES])


def ours(lm: AudioLM, talk: Conversation) -> NDArray[np.float64]:
    """The same through our model."""
    return np.asarray(lm.score([[Asked(talk, CODES)]])[0][0])


def timed(ask: Callable[[AudioLM, Conversation], NDArray[np.float64]], lm: AudioLM, talks: list[Conversation]) -> float:
    """Seconds of processor time a clip."""
    started = time.process_time()
    for talk in talks:
        ask(lm, talk)
    return (time.process_time() - started) / len(talks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="A folder of recordings.")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = [open_clip(path) for path in sorted(options.folder.iterdir())[: options.clips]]
    talks: list[Conversation] = [[("user", [clip.samples, PROMPT])] for clip in clips]
    print(f"{len(clips)} clips of {np.mean([clip.duration for clip in clips]):.1f} s")
    for name, lm in {"embedded": AudioLM.load(EMBEDDED, device="cpu"), "an eighth of Qwen2-Audio-7B": eighth()}.items():
        far = max(np.abs(padded(lm, talk) - ours(lm, talk)).max() for talk in talks[:5])
        rounds = [[timed(ask, lm, talks) for ask in (padded, ours)] for _ in range(options.rounds)]
        theirs, own = np.median(rounds, axis=0)
        print(f"{name}: padded {theirs * 1000:.0f} ms a clip, ours {own * 1000:.0f} ms, {theirs / own:.1f} times "
              f"as fast; log-probabilities within {far:.0e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
