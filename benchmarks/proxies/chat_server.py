"""A chat server for the benchmarks, in a process of its own: one fixed answer after a log-normal wait, or at once.

python benchmarks/proxies/chat_server.py MEDIAN_SECONDS        prints its port; ends when its stdin closes
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

SPREAD = 0.3
BODY = json.dumps(
    {
        "model": "fixed",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 1},
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


class Chat(asyncio.Protocol):
    """Counts bytes to the end of each request, and answers."""

    def __init__(self, median: float) -> None:
        self.median = median
        self.held = bytearray()
        self.missing = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the whole request is here."""
        if self.missing < 0:
            self.held += data
            end = self.held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.held[:end]).lower()
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
        """Write it, if somebody is still there."""
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main(median: float) -> None:
    """Serve until stdin closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Chat(median), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    random.seed(0)
    asyncio.run(main(float(sys.argv[1])))
