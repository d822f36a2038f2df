"""Cases of servers: what one utterance's answer may be without harm to the run, its bill, or another's vote."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
from hostile_server import ANSWERS, Asked, Behave, Server, completion, head, serving, whole

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.errors import AlmProxiesError
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.stage import annotate
from alm_proxies.tables import Utterances, Votes

KEY = "sk-hostile-0123456789"
LABELS = ("angry", "happy", "sad", "neutral")
HOSTILE = 1
Case = Callable[[Path], None]


def corpus(folder: Path, clips: int = 4) -> Utterances:
    """Clips of 0.6, 0.7 ... seconds."""
    rows = []
    for number in range(clips):
        samples = 0.3 * np.random.default_rng(number).standard_normal(1600 * (number + 6))
        path = folder / f"{number}.wav"
        soundfile.write(path, samples.clip(-1, 1), 16_000, subtype="PCM_16")
        rows.append({"utterance_id": f"c/{number}", "corpus": "c", "audio": str(path)})
    return Utterances.of(pl.DataFrame(rows), taxonomy=LABELS)


def panel(server: Server, **more: Any) -> list[Annotator]:
    """One annotator that asks the server once, with a key."""
    serve = {"base_urls": [server.url], "key_from": "HOSTILE_KEY", "tries": 1, "try_seconds": 2.0}
    file = AnnotatorFile.model_validate(
        {"name": "one", "engine": "openai", "model": "m", "votes": 2, "serve": serve | more.pop("serve", {})}
        | {"price": {"million_tokens_in": 1.0, "million_tokens_out": 1.0}, "sampling": {"max_tokens": 8}}
        | more
    )
    return [Annotator.of(file)]


def harmless(
    behave: Behave,
    *,
    reads: str | None = None,
    most_sent: int | None = None,
    seconds: float = 15.0,
    ends: bool = False,
    **more: Any,
) -> Case:
    """The case of a server that behaves so about one clip: the others keep their votes, the bill its bounds.

    `reads` is the label that the hostile answer may be read as; `ends` where the job may end with one sentence.
    """

    def case(folder: Path) -> None:
        import os

        os.environ["HOSTILE_KEY"] = KEY
        with serving(behave, {HOSTILE}) as server:
            started = time.monotonic()
            settings = AnnotateSettings(stop={"after": 1000})
            try:
                annotated = annotate(corpus(folder), panel(server, **more), folder / "out", settings, quiet=True)
            except AlmProxiesError as error:
                assert ends, f"ended the job: {error}"
                assert "\n" not in str(error)
                assert KEY not in str(error)
                return
            took = time.monotonic() - started
        assert took < seconds, f"took {took:.1f} s"
        votes = Votes.read(folder / "out" / "votes.parquet")
        for row in votes.frame.iter_rows(named=True):
            number = int(row["utterance_id"].rpartition("/")[2])
            right = LABELS["ABCD".index(ANSWERS[number])]
            if number == HOSTILE:
                assert row["status"] != "ok" or row["label"] == (reads or right), row
            else:
                assert (row["status"], row["label"]) == ("ok", right), row
        assert 0.0 <= annotated.spent.price < 1.0, annotated.spent.price
        assert sum(votes.frame["weight"]) == 8.0
        for path in (folder / "out").iterdir():
            if path.suffix != ".lock":
                assert KEY.encode() not in path.read_bytes(), path.name
                assert path.stat().st_size < 3_000_000, f"{path.name} has {path.stat().st_size:,} bytes"

    return case


def answering(answer_of: Callable[[Asked], object], *, status: int = 200, extra: str = "") -> Behave:
    """A server that gives this answer."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(answer_of(asked), status, extra))

    return behave


def content(text: object, **more: Any) -> Behave:
    """A completion with this content."""
    return answering(lambda asked: completion(asked, text, **more))


def message(**fields: Any) -> Behave:
    """A completion with this message."""
    return answering(
        lambda asked: {"choices": [{"message": fields, "finish_reason": "stop"}] * int(asked.body.get("n", 1))}
    )


def usage(**counts: Any) -> Behave:
    """A completion with these counts."""
    return answering(lambda asked: completion(asked, usage=counts))


def raw(*parts: bytes, pause: float = 0.0, again: int = 1) -> Behave:
    """These bytes, and the end of the connection."""

    async def behave(_: Asked, writer: asyncio.StreamWriter) -> None:
        for _ in range(again):
            for part in parts:
                writer.write(part)
                await writer.drain()
                if pause:
                    await asyncio.sleep(pause)
        writer.transport.close()

    return behave


def bomb(coding: str, size: int) -> Behave:
    """A small body that becomes a large one."""
    text = b'{"choices": [{"message": {"content": "' + b"A" * size + b'"}}]}'
    packed = gzip.compress(text) if coding == "gzip" else zlib.compress(text)
    return raw(head(len(packed), extra=f"content-encoding: {coding}\r\n") + packed)


def extra_answer(delay: float, *, echo: bool = False) -> Behave:
    """The right answer, and another one that nobody asked for."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        number = f"x-request-id: {asked.headers.get('x-request-id', '')}\r\n" if echo else ""
        writer.write(whole(completion(asked), extra=number))
        stray = whole(completion(asked, "D"))
        if delay:
            asyncio.get_running_loop().call_later(delay, writer.write, stray)
        else:
            writer.write(stray)

    return behave


DEEP = 10_000
REPLIES: dict[str, Case] = {
    "content a list of parts": harmless(content([{"type": "text", "text": "B"}])),
    "content many parts": harmless(content([{"type": "text", "text": ""}, {"type": "text", "text": "B"}])),
    "content an integer": harmless(content(7)),
    "content a boolean": harmless(content(True)),
    "content a dictionary": harmless(content({"text": "B"})),
    "content a list of texts": harmless(content(["B"])),
    "content a nested list": harmless(content([[["B"]]])),
    "content half a letter": harmless(answering(lambda _: b'{"choices":[{"message":{"content":"\\ud83d"}}]}')),
    "content with a null letter": harmless(content("B\0"), reads="happy"),
    "content an escape sequence": harmless(content("\x1b[2J\x1b]0;x\x07")),
    "content 100,000 letters": harmless(content("B " * 50_000)),
    "choices empty": harmless(answering(lambda _: {"choices": []})),
    "choices null": harmless(answering(lambda _: {"choices": None})),
    "choices a dictionary": harmless(answering(lambda _: {"choices": {"0": 1}})),
    "too many choices": harmless(
        answering(lambda asked: completion(asked) | {"choices": completion(asked)["choices"] * 50})
    ),
    "no message": harmless(answering(lambda _: {"choices": [{}]})),
    "message null": harmless(answering(lambda _: {"choices": [{"message": None}]})),
    "finish a list": harmless(
        answering(lambda _: {"choices": [{"message": {"content": "B"}, "finish_reason": ["x"]}]})
    ),
    "finish 1 MB": harmless(
        answering(lambda _: {"choices": [{"message": {"content": "B"}, "finish_reason": "x" * 10**6}]})
    ),
    "index strange": harmless(answering(lambda _: {"choices": [{"index": "one", "message": {"content": "B"}}]})),
    "reasoning a number": harmless(message(content="B", reasoning_content=3)),
    "reasoning 1 MB": harmless(message(content="B", reasoning="x" * 10**6)),
    "refusal a dictionary": harmless(message(content=None, refusal={"a": 1})),
    "refusal": harmless(message(content=None, refusal="I will not.")),
    "model a list": harmless(answering(lambda asked: completion(asked, model=[1]))),
    "model 1 MB": harmless(answering(lambda asked: completion(asked, model="x" * 10**6))),
    "tool calls alone": harmless(message(content=None, tool_calls=[{"id": "1"}])),
    "a list": harmless(answering(lambda _: [1])),
    "a number": harmless(answering(lambda _: 1)),
    "null": harmless(answering(lambda _: None)),
    "nothing": harmless(answering(lambda _: b"")),
    "HTML": harmless(answering(lambda _: b"<html>busy</html>")),
    "no UTF-8": harmless(answering(lambda _: b'{"choices":[{"message":{"content":"\xff\xfe"}}]}')),
    "UTF-16": harmless(answering(lambda asked: json.dumps(completion(asked)).encode("utf-16"))),
    "two JSON values": harmless(answering(lambda asked: json.dumps(completion(asked)).encode() * 2)),
    "lists nested 10,000 deep": harmless(answering(lambda _: b'{"choices":' + b"[" * DEEP + b"]" * DEEP + b"}")),
    "dictionaries nested 10,000 deep": harmless(answering(lambda _: b'{"choices":' * DEEP + b"1" + b"}" * DEEP)),
    "deep where nobody reads": harmless(
        answering(lambda a: json.dumps(completion(a))[:-1].encode() + b',"x":' + b"[" * DEEP)
    ),
    "5,000 digits": harmless(
        answering(lambda a: json.dumps(completion(a))[:-1].encode() + b',"created":' + b"9" * 5000 + b"}")
    ),
    "server-sent events": harmless(
        answering(lambda asked: b"data: " + json.dumps(completion(asked)).encode() + b"\n\n")
    ),
    "an error in a 200": harmless(answering(lambda _: {"error": {"message": "no", "code": 3}})),
    "status 201": harmless(answering(completion, status=201)),
    "status 204": harmless(raw(head(None, 204))),
    "status 206": harmless(answering(completion, status=206)),
    "status 299": harmless(answering(completion, status=299)),
    "status 418": harmless(answering(lambda _: {"error": "teapot"}, status=418)),
    "status 599": harmless(answering(lambda _: {"error": "?"}, status=599)),
    "error nested 10,000 deep": harmless(answering(lambda _: b"[" * DEEP + b"]" * DEEP, status=500)),
    "error 5,000 digits": harmless(answering(lambda _: b'{"error":' + b"9" * 5000 + b"}", status=500)),
    "error details strange": harmless(
        answering(lambda _: {"error": {"details": [{"retryDelay": [1]}, 3]}}, status=429)
    ),
    "error an empty list": harmless(answering(lambda _: [], status=400)),
}


def counted(name: str, number: str, asked: Any) -> bytes:
    """A completion whose usage is a number that JSON does not have."""
    return json.dumps(completion(asked, usage={name: 77777})).replace("77777", number).encode()


COUNTS: dict[str, Case] = (
    {
        f"{name} {value!r:.40}": harmless(usage(**{name: value}))
        for name in ("prompt_tokens", "completion_tokens")
        for value in (-4000, -1, 10**9, 10**15, 10**30, 1e300, 0.5, "20", "many", True, None, [3], {"a": 1})
    }
    | {
        f"{name} {number}": harmless(answering(partial(counted, name, number)))
        for name in ("prompt_tokens", "completion_tokens")
        for number in ("Infinity", "-Infinity", "NaN", "1e999", "-1e999")
    }
    | {
        "usage a list": harmless(answering(lambda asked: completion(asked, usage=[1, 2]))),
        "usage a text": harmless(answering(lambda asked: completion(asked, usage="free"))),
        "usage missing": harmless(
            answering(lambda asked: {k: v for k, v in completion(asked).items() if k != "usage"})
        ),
    }
)
SIZES: dict[str, Case] = {
    "endless body": harmless(raw(head(None), *[b'{"x": "'], *[b"A" * 65536] * 600)),
    "endless chunks": harmless(
        raw(head(None, extra="transfer-encoding: chunked\r\n"), *[b"10000\r\n" + b" " * 65536 + b"\r\n"] * 600)
    ),
    "content length of 4 GB": harmless(raw(head(4 * 10**9), b"{")),
    "content length of 30 digits": harmless(raw(head(10**30), b"{")),
    "negative content length": harmless(raw(b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n{}")),
    "two content lengths": harmless(raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\n{}     ")),
    "gzip of 60 MB": harmless(bomb("gzip", 60_000_000)),
    "deflate of 60 MB": harmless(bomb("deflate", 60_000_000)),
    "gzip twice": harmless(
        answering(
            lambda a: gzip.compress(gzip.compress(json.dumps(completion(a)).encode())),
            extra="content-encoding: gzip, gzip\r\n",
        )
    ),
    "gzip cut": harmless(
        answering(lambda a: gzip.compress(json.dumps(completion(a)).encode())[:-9], extra="content-encoding: gzip\r\n")
    ),
    "gzip that is none": harmless(answering(completion, extra="content-encoding: gzip\r\n")),
    "gzip that is well": harmless(
        answering(lambda a: gzip.compress(json.dumps(completion(a)).encode()), extra="content-encoding: gzip\r\n")
    ),
    "brotli": harmless(answering(completion, extra="content-encoding: br\r\n")),
    "endless gzip of nothing": harmless(
        raw(head(None, extra="content-encoding: gzip\r\n"), *[gzip.compress(b"")] * 20_000)
    ),
    "error body of 40 MB": harmless(raw(head(None, 500), *[b"x" * 65536] * 600)),
    "header of 1 MB": harmless(raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10**6 + b"\r\n\r\n{}")),
    "100,000 headers": harmless(raw(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000 + b"\r\n{}")),
    "200,000 early hints": harmless(raw(b"HTTP/1.1 103 Early\r\n\r\n" * 200_000)),
}
STRAY: dict[str, Case] = {
    f"another answer {1000 * delay:.0f} ms later{', numbers repeated' if echo else ''}": harmless(
        extra_answer(delay, echo=echo), serve={"in_flight": 1, "tries": 3}
    )
    for delay in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
    for echo in (False, True)
} | {
    "redirect elsewhere": harmless(
        answering(lambda _: b"", status=302, extra="location: http://127.0.0.1:1/steal\r\n")
    ),
    "redirect to itself": harmless(answering(lambda _: b"", status=307, extra="location: /v1/chat/completions\r\n")),
    "redirect to a file": harmless(answering(lambda _: b"", status=301, extra="location: file:///etc/passwd\r\n")),
    "body longer than its length": harmless(raw(head(2) + b"{}" + whole({"choices": []}))),
    "no HTTP": harmless(raw(b"220 smtp ready\r\n")),
    "HTTP/0.9": harmless(raw(b'{"choices": []}')),
    "TLS alert": harmless(raw(b"\x15\x03\x01\x00\x02\x02\x28")),
    "switching protocols": harmless(raw(b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n")),
    "reset": harmless(raw()),
    "head alone": harmless(raw(head(100))),
    "half a head": harmless(raw(b"HTTP/1.1 200 OK\r\ncontent-le")),
}
WAITS: dict[str, Case] = {
    f"Retry-After {value!r:.30}": harmless(
        answering(lambda _: {"error": "busy"}, status=429, extra=f"retry-after: {value}\r\n"), seconds=20, ends=True
    )
    for value in ("31536000", "inf", "nan", "-5", "1e400", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT", "soon", "", "0")
} | {
    "a byte a moment": harmless(raw(head(1000), *[b" "] * 100, pause=0.05), seconds=20),
    "a head a byte a moment": harmless(raw(*[bytes([byte]) for byte in head(1000)], pause=0.05), seconds=20),
    "never": harmless(raw(*[b""] * 100, pause=0.1), seconds=20),
}


def spelled(spell: Callable[[str], str], where: str) -> Case:
    """The key repeated by the server, spelled in JSON, at one place of an answer."""

    def error_body(asked: Asked) -> bytes:
        text = spell(KEY)
        if where == "content":
            return json.dumps(completion(asked, "KEY")).replace("KEY", text).encode()
        if where == "reasoning":
            body = completion(asked)
            body["choices"][0]["message"]["reasoning"] = "KEY"
            return json.dumps(body).replace("KEY", text).encode()
        if where == "model":
            return json.dumps(completion(asked, model="KEY")).replace("KEY", text).encode()
        return json.dumps({"error": {"message": "wrong: KEY", "code": "KEY"}}).replace("KEY", text).encode()

    status = int(where) if where.isdigit() else 200
    return harmless(answering(error_body, status=status), ends=status == 401)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "all escaped": lambda key: "".join(f"\\u{ord(letter):04x}" for letter in key),
    "one letter escaped": lambda key: f"\\u{ord(key[0]):04x}" + key[1:],
    "capitals in escapes": lambda key: key[:-1] + f"\\u{ord(key[-1]):04X}",
}
KEYS: dict[str, Case] = {
    f"{name} in {where}": spelled(spell, where)
    for name, spell in SPELLINGS.items()
    for where in ("content", "reasoning", "model", "400", "401", "404", "403", "429", "500")
}
CLASSES = {
    "replies": REPLIES,
    "token counts": COUNTS,
    "sizes": SIZES,
    "answers to nobody's question, no HTTP, redirects": STRAY,
    "waiting for servers": WAITS,
    "keys": KEYS,
}
