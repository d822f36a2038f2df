"""A chat server with faults on demand, in a separate process; standard library only.

A text part of a request may hold a JSON object: {"key": ..., "do": ["429", "reset", "ok"]}; the last such part counts.
The first try of a key meets the first thing to do, the second the second, and so on; the last stays. Without it all is
well.
The model's name says what kind of server it is:
    full      takes everything: n (children have seed + i), seeds, structured_outputs, JSON schemas, log-probabilities
    single    n is ignored, seeds hold
    unseeded  n works, seeds have no effect
    ignoring  takes every field and ignores forms, as servers do with guided_choice
    strict    answers 400 to fields that OpenAI does not have
    deaf      answers 400 to audio
    few       answers 400 to n above 4
    hiccups   answers every other request with 500, 429 or half a body
    absent    is not among the models it offers
    keyed     wants Authorization: Bearer sesame
and dialects.py has more: services as documented, who want that key too.
A thing to do that is "die" kills the server as kill -9 does, unless it was started with "lasting" behind its port.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
from collections import Counter
from typing import Any

import dialects

OPENAI_FIELDS = {
    "model", "messages", "temperature", "top_p", "max_tokens", "n", "seed", "logprobs", "top_logprobs",
    "response_format",
}  # fmt: skip
TRIES: Counter[str] = Counter()
SEEN: list[dict[str, Any]] = []
FLYING = {"now": 0, "most": 0}
HICCUPS = itertools.cycle(["500", "ok", "429", "ok", "cut", "ok"])


def head(status: int, length: int, extra: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n".encode()


def error(status: int, message: str, code: str = "", extra: str = "") -> bytes:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return head(status, len(body), extra) + body


def parts_of(asked: dict[str, Any]) -> list[dict[str, Any]]:
    content = [turn["content"] for turn in asked["messages"]]
    return [{"type": "text", "text": part} if isinstance(part, str) else part for turn in content for part in
            (turn if isinstance(turn, list) else [turn])]  # fmt: skip


def orders_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    for part in reversed(parts):
        try:
            order = json.loads(part["text"])
        except (KeyError, ValueError):
            continue
        if isinstance(order, dict):
            return order
    return {}


def text_for(asked: dict[str, Any], child: int) -> str:
    kind, seed = asked["model"], asked.get("seed")
    if kind in dialects.DIALECTS:
        labels = str(orders_of(parts_of(asked)).get("labels", "")).split()
        return dialects.text_for(asked, labels, child, random.random())
    if kind != "ignoring" and "structured_outputs" in asked:
        return str(asked["structured_outputs"]["choice"][0])
    if kind != "ignoring" and "response_format" in asked:
        properties = asked["response_format"]["json_schema"]["schema"]["properties"]
        return json.dumps({name: form.get("enum", [0])[0] for name, form in properties.items()})
    if asked.get("temperature") == 0 or asked.get("top_k") == 1:
        return "likeliest" if asked.get("repetition_penalty", 1.0) == 1.0 or kind == "ignoring" else "varied"
    if kind == "unseeded" or seed is None:
        return f"text {random.random()}"
    return f"seed {seed + child}"


def completion(asked: dict[str, Any]) -> dict[str, Any]:
    count = 1 if asked["model"] == "single" else int(asked.get("n", 1))
    top = [{"token": token, "logprob": -1.0 - place} for place, token in enumerate("ABCDE")]
    choices = [
        {
            "index": child,
            "message": {"role": "assistant", "content": text_for(asked, child)},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "A", "logprob": -1.0, "top_logprobs": top}]}
            if asked.get("logprobs")
            else None,
        }
        for child in range(count)
    ]
    each = min(2, asked.get("max_tokens") or asked.get("max_completion_tokens") or 2)
    usage = {"prompt_tokens": 10, "completion_tokens": each * count}
    response = {"model": asked["model"], "choices": choices, "usage": usage}
    return dialects.shaped(asked, response) if asked["model"] in dialects.DIALECTS else response


async def answer(writer: asyncio.StreamWriter, asked: dict[str, Any], headers: dict[str, str]) -> bool:
    """Write the response; False if the connection is to be reset."""
    parts = parts_of(asked)
    orders = orders_of(parts)
    key = str(orders.get("key", ""))
    todo = orders.get("do", ["ok"])
    act = todo[min(TRIES[key], len(todo) - 1)]
    TRIES[key] += 1
    SEEN.append({name: value for name, value in asked.items() if name != "messages"} | {"key": key})
    kind = asked["model"]
    if kind == "keyed" and headers.get("authorization") != "Bearer sesame":
        act = "401"
    if kind == "bankrupt":
        act = "quota"
    if kind == "prepaid":
        act = "402"
    if kind == "deaf" and any(part["type"] == "input_audio" for part in parts):
        act = "400"
    if kind == "few" and asked.get("n", 1) > 4:
        act = "n"
    if kind == "hiccups":
        act = next(HICCUPS)
    if kind == "absent":
        act = "404"
    if kind == "strict" and set(asked) - OPENAI_FIELDS:
        act = "400"
    refused = None
    if kind in dialects.DIALECTS:
        refused = dialects.refusal(asked, parts, headers) or (dialects.too_many(kind) if act == "429" else None)
    if refused is not None:
        status, content, extra = refused
        body = json.dumps(content).encode()
        writer.write(head(status, len(body), extra) + body)
    elif act == "die" and "lasting" not in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    elif act in ("ok", "die", "late"):
        await asyncio.sleep(1.0 if act == "late" else 0.0)
        body = json.dumps(completion(asked)).encode()
        writer.write(head(200, len(body)) + body)
    elif act in ("empty", "empty, counted", "filter, counted"):
        finish = "content_filter" if act.startswith("filter") else "stop"
        usage = {"prompt_tokens": 30, "completion_tokens": 1} if act.endswith("counted") else None
        body = json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": finish}], "usage": usage}).encode()
        writer.write(head(200, len(body)) + body)
    elif act == "refusal":
        message = {"content": None, "refusal": "I cannot judge voices."}
        body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
        writer.write(head(200, len(body)) + body)
    elif act == "filter":
        body = json.dumps({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}).encode()
        writer.write(head(200, len(body)) + body)
    elif act == "garbage":
        writer.write(head(200, 9) + b"<!doctype")
    elif act == "cut":
        writer.write(head(200, 1000) + b'{"choices": [')
        await writer.drain()
        return False
    elif act == "reset":
        return False
    elif act == "hang":
        await asyncio.sleep(3600)
    elif act == "429":
        writer.write(error(429, "slow down", extra="retry-after: 0.02\r\n"))
    elif act == "429 soon":
        writer.write(error(429, "slow down", extra="retry-after: 60\r\n"))
    elif act == "429 later":
        writer.write(error(429, "slow down", extra="retry-after: 3600\r\n"))
    elif act == "quota":
        writer.write(error(429, "You exceeded your current quota", "insufficient_quota"))
    elif act == "n":
        writer.write(error(400, "Invalid 'n': integer above maximum value. Expected a value <= 4."))
    elif act == "too long":
        writer.write(error(400, "This model's maximum context length is 10 tokens."))
    elif act == "bad audio":
        writer.write(error(400, "Failed to load audio: invalid or unsupported file."))
    elif act == "key in error":
        writer.write(error(500, f"upstream said: {headers.get('authorization')}"))
    else:
        writer.write(error(int(act), "as told"))
    await writer.drain()
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            _, path, _ = request[0].split(" ")
            headers = {
                line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in request[1:] if ":" in line
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if path == "/seen":
                content = json.dumps({"seen": SEEN, "tries": TRIES, "most": FLYING["most"]}).encode()
                writer.write(head(200, len(content)) + content)
                continue
            if path.endswith("/models"):
                content = json.dumps({"data": [{"id": "full"}, {"id": "single"}]}).encode()
                writer.write(head(200, len(content)) + content)
                continue
            if not path.endswith("/chat/completions"):
                writer.write(error(404, f"no {path}"))
                continue
            FLYING["now"] += 1
            FLYING["most"] = max(FLYING["most"], FLYING["now"])
            try:
                polite = await answer(writer, json.loads(body), headers)
            finally:
                FLYING["now"] -= 1
            if not polite:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.transport.abort()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int([*sys.argv, "0"][1]))
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()  # without waiting for connections that tests left open, as its context does from 3.12 on


if __name__ == "__main__":
    asyncio.run(main())
