"""A chat server in a thread of its own that says whatever a case wants, byte for byte; it counts what it is asked."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Behave = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]
"""What is written for a question that is not answered well."""
ANSWERS = {0: "A", 1: "B", 2: "C", 3: "A"}
"""What is heard in the clip of 0.6, 0.7, 0.8 ... seconds."""


@dataclass(frozen=True)
class Asked:
    """One question: its body, its headers, and the number of the clip it is about (None = not one of the case's)."""

    body: dict[str, Any]
    headers: dict[str, str]
    clip: int | None

    @property
    def answer(self) -> str:
        """The right answer."""
        return "D" if self.clip is None else ANSWERS.get(self.clip, "D")


@dataclass
class Server:
    """Where it listens, and what it was asked."""

    port: int = 0
    questions: int = 0
    connections: int = 0
    sent: int = 0
    seen: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/v1"


def head(length: int | None, status: int = 200, extra: str = "") -> bytes:
    """The head of an answer."""
    size = "" if length is None else f"content-length: {length}\r\n"
    return f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{size}{extra}\r\n".encode()


def completion(asked: Asked, text: object = None, **more: Any) -> dict[str, Any]:
    """A proper answer, with one thing or another that is not."""
    count = int(asked.body.get("n", 1))
    words = asked.answer if text is None else text
    choices = [
        {"index": place, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
        for place in range(count)
    ]
    usage = {"prompt_tokens": 20, "completion_tokens": count}
    return {"id": "x", "model": "m", "choices": choices, "usage": usage} | more


def whole(content: object, status: int = 200, extra: str = "") -> bytes:
    """An answer with its head."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return head(len(body), status, extra) + body


def _asked(body: bytes, headers: dict[str, str]) -> Asked:
    request = json.loads(body)
    clip = None
    for turn in request["messages"]:
        for part in turn["content"] if isinstance(turn["content"], list) else []:
            if part.get("type") == "input_audio":
                samples = (len(base64.b64decode(part["input_audio"]["data"])) - 44) // 2
                clip = round(samples / 1600) - 6 if samples != 8000 else None
    return Asked(request, headers, clip)


async def _serve(
    server: Server, behave: Behave, hostile: set[int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    server.connections += 1
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:] if ":" in line
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if not lines[0].split(" ")[1].endswith("/chat/completions"):
                writer.write(whole({"error": {"message": "no such address"}}, 404))
                continue
            asked = _asked(body, headers)
            server.questions += 1
            server.seen.append(asked)
            if asked.clip in hostile:
                await behave(asked, writer)
            else:
                writer.write(whole(completion(asked)))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, OSError):
        pass
    finally:
        writer.transport.abort()


@contextmanager
def serving(behave: Behave, hostile: set[int]) -> Iterator[Server]:
    """A server that behaves so about the clips of these numbers, while the block lasts."""
    server, ready = Server(), threading.Event()
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(
            lambda reader, writer: _serve(server, behave, hostile, reader, writer), "127.0.0.1", 0
        )

    def work() -> None:
        asyncio.set_event_loop(loop)
        listener = loop.run_until_complete(start())
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        loop.run_forever()
        listener.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    loop.set_exception_handler(lambda *_: None)
    thread.start()
    ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
