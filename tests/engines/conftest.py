from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alm_proxies.engines.engine import Audio, Question, Request, Turn


@dataclass(frozen=True)
class FaultServer:
    """The address of the fault server."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def seen(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/seen") as answer:
            return dict(json.load(answer))


@pytest.fixture(scope="session")
def fault_server() -> Iterator[FaultServer]:
    program = Path(__file__).with_name("fault_server.py")
    process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield FaultServer(int(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address without a server, reserved during the test."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture(scope="session")
def clip() -> Audio:
    time = np.arange(8_000) / 16_000
    return Audio((0.2 * np.sin(2 * np.pi * 300 * time)).astype(np.float32), 16_000)


ORDERS = ("Which emotion? A) angry B) happy C) sad", "Which emotion is it? A) sad B) angry C) happy, or none")


def sixteen_bit(number: int, seconds: float = 1.0) -> Audio:
    """A clip that differs for every number, with values that a 16-bit file holds exactly."""
    generator = np.random.default_rng(number)
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * generator.uniform(100, 3000) * time) + 0.05 * generator.standard_normal(time.size)
    return Audio((np.rint(tone * 32768) / 32768).astype(np.float32), 16_000)


@pytest.fixture(scope="session")
def clips() -> list[Audio]:
    return [sixteen_bit(number) for number in range(3)]


def question_about(clip: Audio, order: str = ORDERS[0], choices: tuple[str, ...] = ("A", "B", "C")) -> Question:
    return Question((Turn("system", ("You listen.",)), Turn("user", (clip, order))), choices)


@pytest.fixture(scope="session")
def ask_about() -> Callable[..., Question]:
    return question_about


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, clips: list[Audio]) -> Path:
    """A tiny Qwen2-Audio that answers A to the first clip, B to the second and C to the third.

    Its own sampling defaults are as narrow as possible.
    """
    from alm_proxies.engines.turns import conversation_of
    from alm_proxies.models import tiny

    folder = tiny.build(tmp_path_factory.mktemp("checkpoint") / "tiny")
    tiny.answer_with(folder, [conversation_of(question_about(clip), 16_000) for clip in clips], ("A", "B", "C"))
    defaults = folder / "generation_config.json"
    narrow = {"do_sample": True, "top_k": 1, "top_p": 0.01, "temperature": 0.1, "repetition_penalty": 3.0}
    defaults.write_text(json.dumps(json.loads(defaults.read_text()) | narrow))
    return folder


@pytest.fixture(scope="session")
def scores_by_transformers() -> Callable[[Path], Callable[[Request], NDArray[np.float64]]]:
    """Scores of a request from one forward pass per choice in transformers: the reference for every engine."""
    import torch

    from alm_proxies.engines.turns import conversation_of
    from alm_proxies.models.audio_lm import AudioLM

    def loaded(folder: Path) -> Callable[[Request], NDArray[np.float64]]:
        lm = AudioLM.load(folder, device="cpu")

        def scores(request: Request) -> NDArray[np.float64]:
            rows = []
            for question in request.questions:
                answers = [list(lm.inputs.answer(choice)) for choice in question.choices]
                if any(len(answer) > 1 for answer in answers):
                    answers = [[*answer, lm.inputs.end_of_turn] for answer in answers]
                row = []
                for answer in answers:
                    inputs = lm.inputs.batch([conversation_of(question, 16_000)])
                    start = inputs["input_ids"].shape[1]
                    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([answer])], 1)
                    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
                    with torch.inference_mode():
                        log_p = lm.model(**inputs).logits[0, start - 1 : -1].log_softmax(-1)
                    row.append(sum(log_p[place, token].item() for place, token in enumerate(answer)))
                rows.append(row)
            return np.array(rows)

        return scores

    return loaded


@pytest.fixture(scope="session")
def by_transformers(
    checkpoint: Path, scores_by_transformers: Callable[[Path], Callable[[Request], NDArray[np.float64]]]
) -> Callable[[Request], NDArray[np.float64]]:
    """The reference scores of the tiny Qwen2-Audio."""
    return scores_by_transformers(checkpoint)
