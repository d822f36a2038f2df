"""One HTTP/1.1 connection to a server that is reached without a proxy, over asyncio and h11.

Most requests go this way, because the layers of httpx take more processor time than all the rest of a request.
What arrives is parsed at once and never held beyond its limit. Bytes that no request waits for end the connection.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import h11
import httpx

from alm_proxies.engines.bounds import BYTES_OF_AN_ERROR
from alm_proxies.engines.completions import malformed
from alm_proxies.engines.faults import FaultError
from alm_proxies.uris import is_loopback

CONNECT_SECONDS = 20.0
"""Timeout of a connection attempt in seconds; the response itself may take longer."""
_IDLE_SECONDS = 5.0
"""Seconds after which an idle connection is not used again, because the server may close it at that moment."""
_LONGEST_HEAD = 100 * 1024
_SECOND_ADDRESS = 0.25
"""Seconds until the next address of a host is tried beside the first."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One complete HTTP response, decompressed; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address, taken apart once."""

    url: httpx.URL
    host: str
    port: int
    secure: bool
    name: bytes
    """Host and port as the Host header has them."""
    target: bytes

    @classmethod
    def of(cls, text: str) -> Address:
        """The parts of an address."""
        url = httpx.URL(text)
        secure = url.scheme == "https"
        return cls(
            url, url.raw_host.decode("ascii"), url.port or (443 if secure else 80), secure, url.netloc, url.raw_path
        )


class Body:
    """The body of a response, decompressed, with at most `most` bytes before and after; an error body is truncated.

    gzip and deflate are accepted, although neither is requested.
    """

    def __init__(self, status: int, headers: Mapping[str, str], most: int) -> None:
        self._whole = status == 200
        self._most = most if self._whole else BYTES_OF_AN_ERROR
        self._content, self._arrived = bytearray(), 0
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "", "gzip", "x-gzip", "deflate"):
            raise malformed("the response uses a compression that was not requested")
        plain = coding in ("identity", "")
        self._inflate = None if plain else zlib.decompressobj(zlib.MAX_WBITS | 32)

    def add(self, chunk: bytes | bytearray) -> bool:
        """Add what has arrived; gives whether it is enough."""
        content, inflate, most = self._content, self._inflate, self._most
        self._arrived += len(chunk)
        try:
            content += chunk if inflate is None else inflate.decompress(chunk, most + 1 - len(content))
        except zlib.error:
            raise malformed("the response cannot be decompressed") from None
        if len(content) <= most and self._arrived <= most:
            return False
        if self._whole:
            raise malformed(f"the response is larger than {most:,} bytes, its upper bound")
        del content[most:]
        return True

    def content(self) -> bytes:
        """All of it."""
        if self._whole and self._inflate is not None and not self._inflate.eof:
            raise FaultError("cut_body", "the compressed response was cut off")
        return bytes(self._content)


class DirectConnection:
    """A connection that is opened for the first request, and again when it cannot be used for the next one."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        self.sent = False
        self._verify = verify
        self._stream: _Stream | None = None
        self._to: tuple[str, int, bool] | None = None

    async def ask(
        self, method: str, address: Address, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answered:
        """The response to a request; raises httpx.TransportError where there is none, FaultError where it is bad."""
        self.sent = False
        stream, to = self._stream, (address.host, address.port, address.secure)
        if stream is None or self._to != to or not stream.usable:
            await self.aclose()
            stream = self._stream = await self._connected(address)
            self._to = to
        self.sent = True
        try:
            return await stream.ask(method, address, headers, body, most)
        except BaseException:
            stream.abort()
            raise

    async def aclose(self) -> None:
        """Close it."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.abort()
            await stream.closed

    async def _connected(self, address: Address) -> _Stream:
        secure = self._verify if address.secure else None
        # addresses of this machine are refused at once; a race of several is not needed for them
        delay = None if is_loopback(str(address.url)) else _SECOND_ADDRESS
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, stream = await asyncio.get_running_loop().create_connection(
                    _Stream, address.host, address.port, ssl=secure, happy_eyeballs_delay=delay
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except (OSError, ssl.SSLError) as error:
            raise httpx.ConnectError(str(error)) from error
        return stream


class _Stream(asyncio.Protocol):
    """The bytes of one connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answered] | None = None
        """The response to the present request."""
        self._status, self._headers, self._most = 0, dict[str, str](), 0
        self._body: Body | None = None
        self._idle_since = self._loop.time()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def usable(self) -> bool:
        """Whether it can take a request."""
        transport, idle = self._transport, self._loop.time() - self._idle_since
        ready = self._http.our_state is h11.IDLE and idle < _IDLE_SECONDS
        return ready and transport is not None and not transport.is_closing()

    async def ask(
        self, method: str, address: Address, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answered:
        """Write a request, and wait for the response."""
        assert self._transport is not None
        self._most, self._body = most, None
        self._waiting = self._loop.create_future()
        lines = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        lines.append((b"Host", address.name))
        if body is not None:
            lines.append((b"Content-Length", b"%d" % len(body)))
        events: list[h11.Event] = [h11.Request(method=method, target=address.target, headers=lines)]
        events += [h11.Data(data=body)] if body else []
        for event in (*events, h11.EndOfMessage()):
            if part := self._http.send(event):
                self._transport.write(part)  # each alone, because the body is long and would be copied
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop; bytes that nobody waits for end the connection unread."""
        if self._waiting is None or self._waiting.done():
            self.abort()
            return
        self._parse(data)

    def eof_received(self) -> None:
        """Called by the event loop; it closes the connection."""
        if self._waiting is not None and not self._waiting.done():
            self._parse(b"")
            self._fail(httpx.RemoteProtocolError("the server closed the connection without a response"))

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self._fail(httpx.ReadError(str(error or "closed")))
        if not self.closed.done():
            self.closed.set_result(None)

    def _parse(self, data: bytes) -> None:
        """Read what has arrived; the response is complete with its last byte, or fails."""
        http = self._http
        try:
            http.receive_data(data)
            while (event := http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                    self._headers = _joined(event)
                    self._body = Body(event.status_code, self._headers, self._most)
                elif isinstance(event, h11.Data):
                    if self._body is not None and self._body.add(event.data):
                        self._finish(again=False)
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._finish(again=not http.trailing_data[0])
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    raise h11.RemoteProtocolError("the connection was closed within a response")
        except h11.RemoteProtocolError as error:
            self._fail(httpx.RemoteProtocolError(str(error)))
        except FaultError as fault:
            self._fail(fault)

    def _finish(self, *, again: bool) -> None:
        """Hand over the response; the connection is used again if nothing is left over and both sides agree."""
        assert self._body is not None
        http, waiting = self._http, self._waiting
        content = self._body.content()
        if again and http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            self._idle_since = self._loop.time()
        else:
            self.abort()
        if waiting is not None and not waiting.done():
            waiting.set_result(Answered(self._status, self._headers, content))

    def _fail(self, error: httpx.TransportError | FaultError) -> None:
        """End the present request; without the head of a response there is none, otherwise it was cut off."""
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        if self._body is not None and isinstance(error, httpx.TransportError):
            error = FaultError("cut_body", f"the response was cut off ({type(error).__name__})")
        waiting.set_exception(error)


def _joined(response: h11.Response) -> dict[str, str]:
    """The headers of a response; the values of a repeated one are joined, as HTTP defines it."""
    headers: dict[str, str] = {}
    for raw, value in response.headers:
        name, text = raw.decode("ascii"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers
