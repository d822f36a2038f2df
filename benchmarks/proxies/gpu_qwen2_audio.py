"""Utterances and votes a second on one GPU: Qwen2-Audio-7B's shapes, random weights, our transformers engine.

Cases: 1, 10 and 20 votes an utterance, by sampling one imposed code, by sampling four free tokens, and by scoring that
many label orders exactly. "Share" is our engine's speed over the bare model's: for codes and scores the bare model runs
one forward pass over the same prompts (what any answer costs at least); for free tokens it runs transformers' own
generate() with num_return_sequences. The bare model gets its inputs ready-made; ours starts from samples and text.

    python benchmarks/proxies/gpu_qwen2_audio.py [--utterances 256] [--batch 16] [--seconds 5] [--rounds 3]
    python benchmarks/proxies/gpu_qwen2_audio.py --tiny     (a small model on a CPU: tries the script, proves nothing)
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers as tf

from alm_proxies.engines.engine import Audio, Question, Request, Sampling, Turn
from alm_proxies.engines.transformers import Transformers
from alm_proxies.engines.turns import conversation_of
from alm_proxies.models import tiny
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.chat_inputs import ChatInputs

LABELS = ("angry", "contempt", "disgust", "fearful", "happy", "neutral", "sad", "surprised", "other")
CODES = tuple("ABCDEFGHI")
FULL = {
    "text": {
        "vocab_size": 156_032,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 8192,
    },
    "audio": {"encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "d_model": 1280},
}
TINY = {
    "text": {
        "vocab_size": 512,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
    },
    "audio": {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 128, "d_model": 64},
}


def random_model(shapes: dict[str, dict[str, int]], device: str) -> AudioLM:
    """The model, created on its device, and inputs with a smaller vocabulary."""
    processor = tiny.processor_for("qwen2_audio")
    tokenizer = processor.tokenizer
    ends = {"bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = tf.Qwen2AudioConfig(
        audio_config=tf.Qwen2AudioEncoderConfig(num_mel_bins=128, **shapes["audio"]).to_dict(),
        text_config=tf.Qwen2Config(**shapes["text"], **ends, tie_word_embeddings=False).to_dict(),
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if device == "cpu" else torch.bfloat16)
    try:
        with torch.device(device):
            model = tf.Qwen2AudioForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config = tf.GenerationConfig(**ends, pad_token_id=tokenizer.pad_token_id)
    return AudioLM(model.eval(), ChatInputs(processor, "qwen2_audio"), "random Qwen2-Audio")


def question(clip: Audio, order: int) -> Question:
    """A listener's question with the labels in one of many orders."""
    places = np.random.default_rng(order).permutation(len(LABELS))
    shown = " ".join(f"{code}) {LABELS[place]}" for code, place in zip(CODES, places, strict=True))
    code_of = {LABELS[place]: code for code, place in zip(CODES, places, strict=True)}
    text = f"Which emotion does the speaker express? {shown}. Answer with one letter."
    return Question((Turn("user", (clip, text)),), tuple(code_of[label] for label in LABELS))


def requests_for(case: str, clips: list[Audio], votes: int) -> list[Request]:
    """One request per utterance."""
    requests = []
    for number, clip in enumerate(clips):
        name, seeds = f"{number}", tuple(range(votes))
        if case == "score":
            questions = tuple(question(clip, order) for order in range(votes))
            requests.append(Request(name, name, "score", questions))
        elif case == "code":
            requests.append(Request(name, name, "sample", (question(clip, 0),), seeds, Sampling(max_tokens=1), True))
        else:
            requests.append(Request(name, name, "sample", (question(clip, 0),), seeds, Sampling(max_tokens=4)))
    return requests


def ours(lm: AudioLM, requests: list[Request], batch: int) -> float:
    """Seconds of our engine for all requests."""

    async def run() -> float:
        engine = Transformers(lm, batch=batch)
        started = time.perf_counter()
        replies = await asyncio.gather(*(engine.ask(request) for request in requests))
        seconds = time.perf_counter() - started
        await engine.close()
        failed = [reply.failure for reply in replies if reply.failure is not None]
        if failed:
            raise SystemExit(f"failed: {failed[0]}")
        return seconds

    return asyncio.run(run())


def bare(lm: AudioLM, case: str, clips: list[Audio], votes: int, batch: int) -> float:
    """Seconds of the model alone: a forward pass, or generate() for free tokens; inputs are prepared before."""
    ready: list[dict[str, Any]] = []
    for start in range(0, len(clips), batch):
        asked = [conversation_of(question(clip, 0), 16_000) for clip in clips[start : start + batch]]
        inputs = lm.inputs.batch(asked)
        ready.append(
            {
                name: value.to(lm.device, lm.dtype) if value.is_floating_point() else value.to(lm.device)
                for name, value in inputs.items()
            }
        )
    wait(lm)
    started = time.perf_counter()
    with torch.inference_mode():
        for inputs in ready:
            if case == "free":
                lm.model.generate(
                    **inputs,
                    do_sample=True,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=4,
                    min_new_tokens=4,
                    num_return_sequences=votes,
                )
            else:
                lm.model.get_output_embeddings()(lm.model.model(**inputs).last_hidden_state[:, -1])
    wait(lm)
    return time.perf_counter() - started


def wait(lm: AudioLM) -> None:
    """Wait until the GPU has finished."""
    if lm.device.type == "cuda":
        torch.cuda.synchronize()


def median(run: Callable[[], float], rounds: int) -> float:
    """The median of a few runs after a warm-up."""
    run()
    return statistics.median(run() for _ in range(rounds))


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true")
    chosen = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() and not chosen.tiny else "cpu"
    if device == "cpu" and not chosen.tiny:
        raise SystemExit("No GPU here. Try the script with --tiny.")
    lm = random_model(TINY if chosen.tiny else FULL, device)
    size = sum(weight.numel() for weight in lm.model.parameters())
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {tf.__version__}, {size / 1e9:.2f} G weights, {lm.dtype}")
    print(f"{chosen.utterances} clips of {chosen.seconds:g} s, {chosen.batch} at once, median of {chosen.rounds}")
    chance = np.random.default_rng(0)
    length = int(16_000 * chosen.seconds)
    clips = [Audio((0.1 * chance.standard_normal(length)).astype(np.float32), 16_000) for _ in range(chosen.utterances)]
    for case in ("code", "free", "score"):
        for votes in (1, 10, 20):
            requests = requests_for(case, clips, votes)
            mine = median(lambda requests=requests: ours(lm, requests, chosen.batch), chosen.rounds)
            alone = median(lambda case=case, votes=votes: bare(lm, case, clips, votes, chosen.batch), chosen.rounds)
            print(
                f"{case:5} {votes:2} votes: {len(clips) / mine:8.1f} utterances/s "
                f"{votes * len(clips) / mine:9.1f} votes/s, "
                f"bare {len(clips) / alone:8.1f} utterances/s, share {alone / mine:.2f}",
                flush=True,
            )
    if device == "cuda":
        print(f"most memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
