"""Shared code of the benchmarks with a real vLLM server: a tiny Qwen2-Audio whose answer depends on the audio."""

from __future__ import annotations

import sys
import urllib.request
from collections import Counter
from pathlib import Path

import polars as pl

from alm_proxies.about import About
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.audio.clip import open_clip
from alm_proxies.engines.engine import Audio
from alm_proxies.engines.turns import conversation_of
from alm_proxies.models import tiny
from alm_proxies.tables import Utterances
from alm_proxies.taxonomy import taxonomy_of

sys.path.append(str(Path(__file__).parents[2] / "tests" / "engines"))
from real_vllm import MODEL, vllm_server

__all__ = ["FILE", "MODEL", "checkpoint", "completions", "emodb", "vllm_server"]

FILE = """
name = "tiny-listener"
engine = "openai"
model = "{model}"
prompt = "listener"
votes = {votes}
constrain = true
sampling = {{ max_tokens = 2 }}
serve = {{ base_urls = ["{url}"], in_flight = {in_flight} }}
"""
"""An annotator file without its model, votes, address and in_flight."""

EMOTIONS = {"W": "angry", "L": "bored", "E": "disgust", "A": "fear", "F": "happy", "N": "neutral", "T": "sad"}


def emodb(wav: Path) -> Utterances:
    """EMO-DB's recordings as Utterances: speaker and intended emotion are in each file's name."""
    names = sorted(path.stem for path in wav.glob("*.wav"))
    frame = pl.DataFrame(
        {
            "utterance_id": [f"emodb/{name}" for name in names],
            "corpus": "emodb",
            "audio": [f"{name}.wav" for name in names],
            "speaker": [f"emodb/{name[:2]}" for name in names],
            "intended": [EMOTIONS[name[5]] for name in names],
            "language": "de",
        }
    )
    about = About(taxonomy=taxonomy_of("emodb7").labels, roots={"emodb": str(wav.resolve())})
    return Utterances.of(frame, about=about)


def checkpoint(folder: Path, annotator: Annotator, utterances: Utterances) -> Path:
    """A tiny checkpoint whose most likely code is correct for one recording of each intended label."""
    examples = utterances.frame.unique("intended", keep="first", maintain_order=True).sort("intended")
    root = Path(utterances.about.roots["emodb"])
    clips = [open_clip(root / name, rate=16_000) for name in examples["audio"]]
    questions = [
        annotator.question(annotator.cells[0], Audio(clip.samples, clip.rate), PromptContext()) for clip in clips
    ]
    texts = [str(part) for turn in questions[0].turns for part in turn.parts if not isinstance(part, Audio)]
    tiny.build(folder, sizes=tiny.Sizes(vocabulary=1024), words=texts)
    tiny.answer_with(folder, [conversation_of(question, 16_000) for question in questions], questions[0].choices)
    return folder


def completions(url: str) -> Counter[str]:
    """Number of answered chat completions by HTTP status, as counted by the server."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counts: Counter[str] = Counter()
    for line in lines:
        if line.startswith("http_requests_total{") and "chat/completions" in line:
            status = line.split('status="')[1].split('"')[0]
            counts[status] += int(float(line.rsplit(" ", 1)[1]))
    return counts
