"""A chat server for the benchmarks, in a separate process: one letter per draw, after a log-normal wait or at once.

With `numbered` it repeats the number of each request in the id of its answer, as vLLM does, so that `annotate` keeps
its connections; other servers get a new connection for every question.

python benchmarks/proxies/chat_server.py MEDIAN_SECONDS [numbered]      prints its port; ends when its stdin closes
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from functools import lru_cache
from itertools import count

SPREAD = 0.3
LETTERS = "ABCDEFG"
NUMBER = "x" * 32
"""A placeholder for the number of a request."""
OFFERED = json.dumps({"data": [{"id": "m", "object": "model"}]}).encode()


@lru_cache(maxsize=256)
def answer_of(first: int, draws: int) -> bytes:
    """A complete response with a number of draws, whose letters begin at an offset."""
    choices = [
        {
            "index": draw,
            "message": {"role": "assistant", "content": LETTERS[(first + draw) % len(LETTERS)]},
            "finish_reason": "stop",
        }
        for draw in range(draws)
    ]
    used = {"prompt_tokens": 200, "completion_tokens": draws}
    body = json.dumps({"id": NUMBER, "model": "fixed", "choices": choices, "usage": used}).encode()
    return response(200, body)


def response(status: int, body: bytes) -> bytes:
    """A response with its head."""
    head = b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


class Chat(asyncio.Protocol):
    """Reads each request to its end, and answers it."""

    numbers = count()

    def __init__(self, median: float, numbered: bool) -> None:
        self.median = median
        self.numbered = numbered
        self.number = NUMBER.encode()
        self.held = bytearray()
        self.end = b""
        self.missing = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the request is complete."""
        self.end = (self.end + data)[-400:]
        if self.missing < 0:
            self.held += data
            end = self.held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.held[:end]).lower()
            if head.startswith(b"get "):
                self.held.clear()
                self.transport.write(response(200, OFFERED) if b"/models " in head else response(404, b"{}"))
                return
            if self.numbered and (match := re.search(rb"x-request-id: *(\w{32})", head)):
                self.number = match[1]
            start = head.index(b"content-length:") + 15
            length = int(head[start : head.find(b"\r\n", start) if b"\r\n" in head[start:] else len(head)])
            self.missing = length - (len(self.held) - end - 4)
            self.held.clear()
        else:
            self.missing -= len(data)
        if self.missing <= 0:
            self.missing = -1
            if self.median:
                wait = self.median * random.lognormvariate(0, SPREAD)
                asyncio.get_running_loop().call_later(wait, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        """Write the response if the connection is open."""
        if not self.transport.is_closing():
            several = re.search(rb'"n": ?(\d+)', self.end)
            answer = answer_of(next(self.numbers) % len(LETTERS), int(several[1]) if several else 1)
            self.transport.write(answer.replace(NUMBER.encode(), self.number, 1))
        self.end = b""


async def main(median: float, numbered: bool) -> None:
    """Serve until stdin closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Chat(median, numbered), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    random.seed(0)
    asyncio.run(main(float(sys.argv[1]), sys.argv[2:] == ["numbered"]))
