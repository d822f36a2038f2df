"""A chat server that listens: loud, lively speech sounds angry or happy to it, soft speech sad. Prints its port.

It takes what OpenAI's chat completions take, hears the recording that is sent, and draws a label from those that the
question offers, by the request's seed and temperature. It ends when its stdin closes.
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import soundfile


def loudness(sound: str) -> float:
    samples, _ = soundfile.read(io.BytesIO(base64.b64decode(sound)), dtype="float32")
    return float(20 * np.log10(np.sqrt(np.mean(np.square(samples))) + 1e-6))


def answer(asked: dict[str, Any], child: int) -> str:
    parts = [part for turn in asked["messages"] for part in turn["content"] if isinstance(turn["content"], list)]
    sounds = [part["input_audio"]["data"] for part in parts if part["type"] == "input_audio"]
    text = " ".join(part["text"] for part in parts if part["type"] == "text")
    labels = re.findall(r"\b(angry|disgust|fear|happy|neutral|sad)\b", text)
    if not labels or not sounds:
        return f"text {asked.get('seed', 0) + child}"
    level = loudness(sounds[0])
    liking = {"angry": level + 22, "happy": level + 23, "sad": -level - 26, "neutral": 1.0}
    chance = random.Random(f"{asked.get('seed', random.random())} {child}")
    heat = max(asked.get("temperature", 1.0), 1e-3) * 4
    weights = [np.exp(min(liking.get(label, -2.0), 20) / heat) for label in labels]
    return chance.choices(labels, weights)[0]


class Listener(BaseHTTPRequestHandler):
    """Answers POST /v1/chat/completions."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the name that http.server calls
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not asked.get("messages"):  # a trial of how a wrong request is refused
            self.reply(400, {"error": {"message": "messages: field required", "code": 400}})
            return
        choices = [
            {"index": n, "message": {"role": "assistant", "content": answer(asked, n)}, "finish_reason": "stop"}
            for n in range(asked.get("n", 1))
        ]
        used = {"prompt_tokens": 120, "completion_tokens": 2 * len(choices)}
        self.reply(200, {"model": asked["model"], "choices": choices, "usage": used})

    def reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
