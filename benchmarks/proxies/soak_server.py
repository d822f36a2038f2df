"""The server of the soak: answers chat completions, fails at random in every known way, and keeps its own account.

For every utterance it counts the tokens that it generated (the least that may be booked) and, where the client cannot
know them, the most that it could suppose (the most that may be booked). The number of the utterance is in the first two
samples of its recording. The letters of an answer follow from its seed, so that an answer to another question shows.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import math
import random
import re
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

LETTERS = "ABCDEFG"
STRAY = "Z"
"""The letter of answers that nobody asked for."""
SECONDS, RATE = 0.2, 16_000
MEDIAN = 0.4
"""Seconds until an answer."""
PROBE = -1
"""The number that stands for recordings that are none of the corpus's."""
TRY_SECONDS = 3.0

BEFORE = ("429", "429 with Retry-After", "503", "reset", "redirect")
"""Faults before anything was generated."""
REFUSED = ("400 of the recording", "400 of a filter")
"""Refusals that another try does not change, so that the vote has failed or was refused."""
SOUND = ("content list", "fewer answers", "compressed")
"""What is unusual, but allowed, and has honest counts."""
GENERATED = (
    "500", "key repeated", "reset after generating", "cut body", "cut head", "no JSON", "no completion", "deep JSON",
    "choices null", "content number", "content dictionary", "empty", "usage negative", "usage huge", "usage infinite",
    "usage text", "usage missing", "body without end", "compressed 60 MB", "text of 12 MB", "header of 1 MB", "stalls",
    "a byte a moment", "two answers", "longer than it says", "204", "no UTF-8",
)  # fmt: skip
"""Faults after it has generated, so that it counts."""
YEAR = "Retry-After of a year"
"""The servers are given up at once, so that the run ends; rare."""
FAULTS = (*BEFORE, *REFUSED, *SOUND, *GENERATED)
EXACT = frozenset({"", "429", "429 with Retry-After", YEAR, "redirect", *REFUSED, *SOUND})
"""After these the client knows what it was charged for."""
LAST = frozenset(
    {"reset", "reset after generating", "cut body", "cut head", "body without end", "a byte a moment", "204"}
    | {"longer than it says"}
)
"""The connection ends with these."""
BOMB = gzip.compress(b'{"choices": [{"message": {"content": "' + b"A" * 60_000_000 + b'"}}]}')
FREE = frozenset({*BEFORE, *REFUSED, YEAR})


class Server:
    """Answers, fails and counts."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.calm = False
        """Whether it answers everything at once."""
        self.chance = random.Random(1)
        self.asked = Counter[str]()
        self.least: dict[int, list[int]] = {}
        """Tokens in and out that were generated, by utterance."""
        self.most: dict[int, list[int]] = {}
        """The most that can be booked for them."""
        self.exact: dict[str, tuple[int, str, tuple[int, int]]] = {}
        """By name of a try with honest counts: utterance, fault, and how many more tokens the client could suppose."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; a question that follows a stray answer on it can never be sure of its own."""
        doubtful = False
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                fault = await self.answer(head, body, writer, doubtful)
                if fault in LAST:
                    break
                doubtful = fault == "two answers"
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()

    async def answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter, doubtful: bool) -> str:
        """One answer, and the fault in it."""
        path = head.split(b" ", 2)[1].decode()
        if path.endswith("/models"):
            return await _send(writer, {"data": [{"id": "m", "object": "model"}]})
        if path.endswith("/count"):
            account = {"asked": dict(self.asked), "least": self.least, "most": self.most, "exact": self.exact}
            return await _send(writer, account)
        if path.endswith("/calm"):
            self.calm = True
            return await _send(writer, {})
        if not path.endswith("/chat/completions"):
            return await _send(writer, {"error": {"message": "no such address"}}, 404)
        fault = self.fault()
        self.asked[fault or "answered"] += 1
        question, number, prompt, limit = _question(body)
        count = int(question.get("n", 1))
        exact = (prompt, count) if fault not in FREE else (0, 0)
        bound = (limit, count * int(question.get("max_tokens", 16)) + 1 + count)
        _add(self.least.setdefault(number, [0, 0]), exact)
        _add(self.most.setdefault(number, [0, 0]), exact if fault in EXACT and not doubtful else bound)
        await asyncio.sleep(0.0 if self.calm else MEDIAN * self.chance.lognormvariate(0, 0.3))
        draws = [LETTERS[(int(question.get("seed", 0)) + place) % len(LETTERS)] for place in range(count)]
        name = re.search(rb"x-request-id: *(\w+)", head, re.IGNORECASE)
        mark = re.search(rb"x-try: *(\w+)", head, re.IGNORECASE)
        key = re.search(rb"authorization: *Bearer +(\S+)", head, re.IGNORECASE)
        reply = Reply(name[1].decode() if name else "", key[1].decode() if key else "", draws, prompt)
        if mark and fault in EXACT and not doubtful:
            self.exact[mark[1].decode()] = number, fault, (bound[0] - exact[0], bound[1] - exact[1])
        await self.reply(fault, reply, writer)
        return fault

    def fault(self) -> str:
        """How this request fails, or ""."""
        if self.calm or self.chance.random() >= self.share:
            return ""
        return YEAR if self.chance.random() < 0.005 else self.chance.choice(FAULTS)

    async def reply(self, fault: str, reply: Reply, writer: asyncio.StreamWriter) -> None:
        """Send the answer, or what the fault makes of it."""
        if fault in _STATUSES:
            status, message, extra = _STATUSES[fault]
            await _send(writer, {"error": message.replace("KEY", reply.key)}, status, extra)
            return
        if fault.startswith("reset"):
            writer.transport.abort()
            return
        if fault == "stalls":
            await asyncio.sleep(2 * TRY_SECONDS)
        if fault in ("body without end", "a byte a moment", "cut body", "cut head"):
            await _endless(fault, reply, writer)
            return
        content, extra = reply.content(fault), ""
        if fault.startswith("compressed"):
            content = BOMB if fault == "compressed 60 MB" else gzip.compress(content)
            extra = "content-encoding: gzip\r\n"
        if fault == "header of 1 MB":
            extra = "x: " + "y" * 10**6 + "\r\n"
        if fault == "204":
            writer.write(b"HTTP/1.1 204 X\r\n\r\n")
        else:
            await _send(writer, content, 200, extra)
        if fault in ("two answers", "longer than it says"):
            stray = Reply("", "", [STRAY] * len(reply.draws), 1).content("")
            await _send(writer, stray if fault == "two answers" else b"", 200)


class Reply:
    """A completion that is being made."""

    def __init__(self, name: str, key: str, draws: list[str], prompt: int) -> None:
        self.name, self.key, self.draws, self.prompt = name, key, draws, prompt

    def content(self, fault: str) -> bytes:
        """The body, with what is wrong in it."""
        choices = [
            {"index": place, "message": {"role": "assistant", "content": _said(fault, draw)}, "finish_reason": "stop"}
            for place, draw in enumerate(self.draws)
        ]
        usage: object = {"prompt_tokens": self.prompt, "completion_tokens": len(self.draws)}
        usage = _USAGES.get(fault, usage)
        completion: dict[str, Any] = {"id": f"chatcmpl-{self.name}", "model": "m", "choices": choices, "usage": usage}
        if fault == "fewer answers":
            completion["choices"] = choices[:1]
        text = json.dumps(completion)
        if fault in _BODIES:
            return _BODIES[fault](text).encode("utf-8")
        if fault == "no UTF-8":
            return text.encode().replace(b'"content": "', b'"content": "\xff\xfe')
        return text.encode()


_STATUSES: dict[str, tuple[int, str, str]] = {
    "429": (429, "busy", ""),
    "429 with Retry-After": (429, "busy", "retry-after: 0.3\r\n"),
    "500": (500, "broken", ""),
    "503": (503, "busy", ""),
    "redirect": (302, "", "location: http://127.0.0.1:1/elsewhere\r\n"),
    "400 of the recording": (400, "could not decode the audio", ""),
    "400 of a filter": (400, "content_filter", ""),
    "key repeated": (500, "wrong: KEY", ""),
    YEAR: (429, "busy", "retry-after: 31536000\r\n"),
}
_USAGES: dict[str, object] = {
    "usage negative": {"prompt_tokens": -4000, "completion_tokens": -4000},
    "usage huge": {"prompt_tokens": 10**12, "completion_tokens": 10**12},
    "usage text": {"prompt_tokens": "many", "completion_tokens": "20"},
    "usage missing": None,
}
_BODIES: dict[str, Callable[[str], str]] = {
    "usage infinite": lambda text: re.sub(r'"prompt_tokens": \d+', '"prompt_tokens": 1e999', text),
    "no JSON": lambda _: "<html>busy</html>",
    "no completion": lambda _: json.dumps({"choices": []}),
    "choices null": lambda _: json.dumps({"choices": None}),
    "deep JSON": lambda _: "[" * 10_000,
}


def _add(account: list[int], tokens: tuple[int, int]) -> None:
    account[0] += tokens[0]
    account[1] += tokens[1]


def _said(fault: str, letter: str) -> object:
    """The content of a message."""
    contents: dict[str, object] = {
        "empty": "",
        "content list": [{"type": "text", "text": letter}],
        "content number": 7,
        "content dictionary": {"text": letter},
        "text of 12 MB": letter,
    }
    return letter * 12_000_000 if fault == "text of 12 MB" else contents.get(fault, letter)


def _question(body: bytes) -> tuple[dict[str, Any], int, int, int]:
    """A question, its utterance's number, its tokens, and the most that a client can suppose them to be."""
    question = json.loads(body)
    number, text = PROBE, 0
    for turn in question["messages"]:
        parts = turn["content"] if isinstance(turn["content"], list) else [{"type": "text", "text": turn["content"]}]
        for part in parts:
            if part["type"] == "text":
                text += len(part["text"].encode())
                continue
            wav = base64.b64decode(part["input_audio"]["data"])
            if len(wav) == 44 + 2 * round(SECONDS * RATE):
                thousands, rest = struct.unpack_from("<hh", wav, 44)
                number = 1000 * thousands + rest
    return question, number, 150 + len(body) // 400 % 50, 2048 + text + math.ceil(100 * 0.5)


async def _endless(fault: str, reply: Reply, writer: asyncio.StreamWriter) -> None:
    """Bodies and heads that never become whole."""
    content = reply.content("")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if fault == "cut head":
        writer.write(head[:20])
    elif fault == "cut body":
        writer.write(head + b"content-length: %d\r\n\r\n" % len(content) + content[:40])
    elif fault == "body without end":
        writer.write(head + b'\r\n{"x": "')
        for _ in range(600):
            writer.write(b"A" * 65_536)
            await writer.drain()
    else:
        writer.write(head + b"content-length: 1000\r\n\r\n")
        for _ in range(round(20 * TRY_SECONDS)):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.1)
    await writer.drain()


async def _send(writer: asyncio.StreamWriter, value: object, status: int = 200, extra: str = "") -> str:
    """Write a whole answer; gives ""."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%s" % (status, extra.encode()))
    writer.write(b"content-length: %d\r\n\r\n" % len(content) + content)
    await writer.drain()
    return ""


async def main(share: float) -> None:
    """Print the port and serve until stdin ends."""
    server = Server(share)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=2**22, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
