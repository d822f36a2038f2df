"""A web server with the faults of real ones, in a thread: what it does depends on the first part of the path."""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import soundfile


def tone(pitch: float = 220.0, seconds: float = 0.5) -> bytes:
    """A WAV file with a tone."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * pitch * times), 16_000, format="WAV")
    return buffer.getvalue()


@dataclass
class Web:
    """The server's files and what was asked of it."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by method and path."""
    sent: Counter[str] = field(default_factory=Counter)
    """Whole bodies by path."""
    together: int = 0
    most_together: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def put(self, path: str, content: bytes) -> str:
        """A file under /<fault>/<name>; its address."""
        self.files[path.rpartition("/")[2]] = content
        return self.url(path)


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(_Handler):
        held = web

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            """Whoever asked has gone."""

    server = Server(("127.0.0.1", 0), Handler)
    web.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: Web

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        web = self.held
        path = urlsplit(self.path).path
        _, fault, *_ = (*path.split("/"), "")
        web.asked[f"{self.command} {path}"] += 1
        content = web.files.get(path.rpartition("/")[2])
        do: Callable[[bytes, bool, int], None] | None = getattr(self, f"_{fault.replace('-', '_')}", None)
        if content is None and fault not in ("endless", "huge", "drip", "redirect"):
            self._status(404)
        elif do is None:
            self._whole(content or b"", head)
        else:
            do(content or b"", head, web.asked[f"{self.command} {path}"])

    def _whole(self, content: bytes, head: bool, *more: tuple[str, str]) -> None:
        mark = f'"{hashlib.md5(content).hexdigest()}"'
        if self.headers.get("if-none-match") == mark:
            self._status(304, ("etag", mark))
            return
        self._status(200, ("etag", mark), ("content-length", str(len(content))), *more)
        if not head:
            self.held.sent[urlsplit(self.path).path] += 1  # before it is sent: a test may look as soon as it has it all
            self.wfile.write(content)

    def _status(self, status: int, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        names = {name for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if status not in (200, 304) and "content-length" not in names:
            self.send_header("content-length", "0")
        self.end_headers()

    def _break(self) -> None:
        """Close the connection at once, with a reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    # Faults, by the first part of the path.

    def _ok(self, content: bytes, head: bool, count: int) -> None:
        self._whole(content, head)

    def _slow(self, content: bytes, head: bool, count: int) -> None:
        web = self.held
        web.together += 1
        web.most_together = max(web.most_together, web.together)
        time.sleep(0.2)
        web.together -= 1
        self._whole(content, head)

    def _cut(self, content: bytes, head: bool, count: int) -> None:
        self._status(200, ("etag", '"cut"'), ("content-length", str(len(content))))
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def _reset_once(self, content: bytes, head: bool, count: int) -> None:
        if count > 1:
            self._whole(content, head)
            return
        self._status(200, ("etag", '"x"'), ("content-length", str(len(content))))
        self.wfile.write(content[: len(content) // 2])
        self._break()

    def _too_much(self, content: bytes, head: bool, count: int) -> None:
        self._status(200, ("etag", '"much"'), ("content-length", str(len(content) - 4_000)))
        self.wfile.write(content)
        self.close_connection = True

    def _no_length(self, content: bytes, head: bool, count: int) -> None:
        self.protocol_version = "HTTP/1.0"
        self.send_response(200)
        self.send_header("etag", '"same"')
        self.end_headers()
        self.wfile.write(content)
        self.held.sent[self.path] += 1
        self.close_connection = True

    def _endless(self, content: bytes, head: bool, count: int) -> None:
        self._status(200, ("etag", '"e"'), ("transfer-encoding", "chunked"))
        while True:
            self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")

    def _huge(self, content: bytes, head: bool, count: int) -> None:
        self._status(200, ("etag", '"h"'), ("content-length", str(10**13)))
        if not head:
            self.wfile.write(bytes(65536))
        self.close_connection = True

    def _drip(self, content: bytes, head: bool, count: int) -> None:
        """A header that never ends."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            self.wfile.write(b"x")
            time.sleep(0.05)

    def _chunked(self, content: bytes, head: bool, count: int) -> None:
        self._status(200, ("last-modified", "Sat, 28 Nov 2026 12:00:00 GMT"), ("transfer-encoding", "chunked"))
        for start in range(0, len(content), 1000):
            block = content[start : start + 1000]
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")
        self.held.sent[self.path] += 1

    def _gzip(self, content: bytes, head: bool, count: int) -> None:
        packed = gzip.compress(content)
        self._status(200, ("etag", '"g"'), ("content-encoding", "gzip"), ("content-length", str(len(packed))))
        self.wfile.write(packed)

    def _bomb(self, content: bytes, head: bool, count: int) -> None:
        packed = gzip.compress(bytes(8_000_000))
        self._status(200, ("etag", '"b"'), ("content-encoding", "gzip"), ("content-length", str(len(packed))))
        self.wfile.write(packed)

    def _no_head(self, content: bytes, head: bool, count: int) -> None:
        if head:
            self._status(405)
        else:
            self._whole(content, head)

    def _denied(self, content: bytes, head: bool, count: int) -> None:
        self._status(403)

    def _user(self, content: bytes, head: bool, count: int) -> None:
        if self.headers.get("authorization") == "Basic YW5uOm9wZW4uc2VzYW1l":  # ann:open.sesame
            self._whole(content, head)
        else:
            self._status(401)

    def _busy_once(self, content: bytes, head: bool, count: int) -> None:
        if count == 1:
            self._status(503, ("retry-after", "1"))
        else:
            self._whole(content, head)

    def _busy(self, content: bytes, head: bool, count: int) -> None:
        self._status(503, ("retry-after", "600"))

    def _loop(self, content: bytes, head: bool, count: int) -> None:
        self._status(302, ("location", self.path))

    def _redirect(self, content: bytes, head: bool, count: int) -> None:
        self._status(302, ("location", parse_qs(urlsplit(self.path).query)["to"][0]))
