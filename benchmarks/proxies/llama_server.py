"""A real llama-server with a tiny Qwen2-Audio: how far its label probabilities are from transformers'; with the
annotator that comes with the package: what the probe finds with and without its ears, and whether annotate completes.

Needs a built llama-server and llama.cpp's source tree (the sdist of llama-cpp-python holds one in vendor/), and a
Python for its converter (numpy, torch, transformers, sentencepiece, pyyaml: .venv-vllm has them).

    python benchmarks/proxies/llama_server.py --server BIN --source LLAMA_CPP --python .venv-vllm/bin/python
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import alm_proxies
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines import chat_api
from alm_proxies.engines.engine import Audio, Question, Turn
from alm_proxies.engines.registry import OpenAIServe, open_engine
from alm_proxies.engines.turns import conversation_of
from alm_proxies.models import tiny
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.families import save
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.stages.simulate.stage import SimulateSettings, simulate

EMBEDDED = Path(alm_proxies.__file__).parent / "embedded"
CODES = ("A", "B", "C")
ASKED = "Which emotion? A) angry B) happy C) sad"
# The converter knows published vocabularies by a hash, and names of convolutions up to the number of layers.
CONVERT = """
import sys
sys.path[:0] = [sys.argv[1] + "/gguf-py", sys.argv[1]]
import conversion.base as base
names = base.gguf.get_tensor_name_map
base.gguf.get_tensor_name_map = lambda arch, blocks: names(arch, max(blocks, 4))
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
import convert_hf_to_gguf
del sys.argv[1]
convert_hf_to_gguf.main()
"""
ANNOTATOR = """
name = "llama"
engine = "openai"
model = "tiny"
prompt = "listener"
votes = 6
answer = "words"
serve = {{ base_urls = ["{url}"] }}
"""


def clip(number: int) -> Audio:
    generator = np.random.default_rng(number)
    tone = 0.3 * np.sin(2 * np.pi * generator.uniform(100, 3000) * np.arange(16_000) / 16_000)
    noisy = tone + 0.05 * generator.standard_normal(tone.size)
    return Audio((np.rint(noisy * 32768) / 32768).astype(np.float32), 16_000)


def padded(clip: Audio) -> Audio:
    """The clip and silence, 30 s in total."""
    return Audio(np.pad(clip.samples, (0, 480_000 - len(clip.samples))), clip.rate)


def question(clip: Audio) -> Question:
    return Question((Turn("system", ("You listen.",)), Turn("user", (clip, ASKED))), CODES)


def checkpoint(folder: Path, clips: Sequence[Audio]) -> Path:
    """A tiny Qwen2-Audio with a different code for each clip; no words around the audio, as in llama-server."""
    tiny.build(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("Audio: <|", "<|").replace("<|audio_eos|>\\n", "<|audio_eos|>"))
    lm = AudioLM.load(folder, device="cpu")
    with torch.no_grad():
        lm.model.get_output_embeddings().weight.mul_(0.1)
    save(lm.model, folder)
    tiny.answer_with(folder, [conversation_of(question(padded(clip)), 16_000) for clip in clips], CODES)
    return folder


def converted(model: Path, source: Path, python: Path) -> list[str]:
    """The options with the model's two GGUF files."""
    options = []
    for option, more in (("--model", ()), ("--mmproj", ("--mmproj",))):
        target = model.with_suffix(f".{option[2:]}.gguf")
        command = [str(python), "-c", CONVERT, str(source), str(model), "--outtype", "f32", *more]
        subprocess.run([*command, "--outfile", str(target)], check=True, capture_output=True)
        options += [option, str(target)]
    return options


@contextmanager
def llama_server(program: Path, options: Sequence[str]) -> Iterator[str]:
    """The address of a running server, including /v1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port), "--alias", "tiny", "--jinja", "--parallel", "4"]
    command = [str(program), *options, *where, "--ctx-size", "8192", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        if not any("listening on" in line for line in process.stdout):
            raise SystemExit("llama-server did not start")
        reading = threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True)
        reading.start()
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            reading.join()


def first_token_scores(url: str, clip: Audio) -> tuple[NDArray[np.float64], int]:
    """log P of every first token from the server, and the number of prompt tokens."""
    fields = {"temperature": 0.0, "max_tokens": 1, "logprobs": True, "top_logprobs": 448}
    body = chat_api.body("tiny", question(clip), fields)
    request = urllib.request.Request(url + "/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        response = json.load(answer)
    scores = np.full(448, np.nan)
    for entry in response["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        scores[entry["id"]] = entry["logprob"]
    return scores, int(response["usage"]["prompt_tokens"])


@torch.inference_mode()
def by_transformers(lm: AudioLM, clip: Audio) -> tuple[NDArray[np.float64], int]:
    inputs = lm.inputs.batch([conversation_of(question(clip), 16_000)])
    return lm.model(**inputs).logits[0, -1].log_softmax(-1).double().numpy(), inputs["input_ids"].shape[1]


async def abilities(url: str) -> str:
    engine = await open_engine("tiny", OpenAIServe(base_urls=(url,)))
    await engine.close()
    return str(engine.abilities)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--server", "--source", "--python"):
        parser.add_argument(name, type=Path, required=True)
    chosen = parser.parse_args()
    clips = [clip(number) for number in range(3)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = checkpoint(folder / "tiny", clips)
        lm = AudioLM.load(model, device="cpu")
        options = converted(model, chosen.source, chosen.python)
        single = [*options, "--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off"]
        for label, settings in (("its defaults", options), ("32-bit caches, no flash attention", single)):
            with llama_server(chosen.server, settings) as url:
                print(label)
                for number, own_clip in enumerate(clips):
                    got, tokens = first_token_scores(url, own_clip)
                    for heard, message in ((own_clip, "the clip"), (padded(own_clip), "the clip and silence")):
                        want, mine = by_transformers(lm, heard)
                        print(
                            f"clip {number}: {tokens} prompt tokens; transformers with {message}: {mine}, "
                            f"largest difference {np.nanmax(np.abs(got - want)):.3f}"
                        )
        options = converted(Path(shutil.copytree(EMBEDDED, folder / "embedded")), chosen.source, chosen.python)
        corpus = simulate(folder / "sim", SimulateSettings(utterances=12))
        with llama_server(chosen.server, options[:2]) as url:
            print(f"without a projector: {asyncio.run(abilities(url))}")
        with llama_server(chosen.server, options) as url:
            (folder / "a.toml").write_text(ANNOTATOR.format(url=url))
            print(f"with a projector: {asyncio.run(abilities(url))}")
            lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0, "collapse": 1.0}, "injection": 0})
            annotated = annotate(corpus.utterances, [Annotator.read(folder / "a.toml")], folder / "out", lenient)
        statuses = annotated.votes.frame["status"].value_counts().sort("status").rows()
        print(f"annotate complete: {annotated.complete}, {len(annotated.votes.frame)} votes: {dict(statuses)}")


if __name__ == "__main__":
    main()
