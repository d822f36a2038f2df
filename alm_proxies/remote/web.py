"""Files at http and https addresses: with ETags, bounded in bytes and time, redirected only to where that is safe."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from netrc import NetrcParseError

import httpx

from alm_proxies.printable import counted
from alm_proxies.remote.fault import (
    CONNECT_SECONDS,
    MOST_BYTES,
    STALL_SECONDS,
    Deadline,
    FetchError,
    State,
    broken,
    denied,
    gone,
    out_of_time,
    too_large,
)
from alm_proxies.remote.waiting import wait_for
from alm_proxies.uris import is_inner, is_loopback

Sink = Callable[[bytes], None]
_REDIRECTS = 5
_AT_ONCE = 32
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_NOT_BY_HEAD = (400, 401, 403, 405, 501)
_CREDENTIALS = "Check that you may read it; a user and a password belong into ~/.netrc."
_AS_GIVEN = "Check the address, and the proxy and certificates that the environment names."
_clients: dict[tuple[int, bool], httpx.AsyncClient] = {}


def state(uri: str, deadline: Deadline) -> State:
    """What the server states about a file."""
    try:
        return wait_for(_state(uri, deadline))
    except TimeoutError:
        raise out_of_time(uri, deadline) from None


def download(uri: str, sink: Sink, known: State | None, deadline: Deadline) -> State | None:
    """Give the content to `sink`, and what the server states about it; None if it is still that of `known`."""
    try:
        return wait_for(_download(uri, sink, known, deadline))
    except TimeoutError:
        raise out_of_time(uri, deadline) from None


async def _state(uri: str, deadline: Deadline) -> State:
    async with asyncio.timeout(deadline.left):
        async with _answered("HEAD", uri, {}) as response:
            if response.status_code not in _NOT_BY_HEAD:
                _refuse_status(uri, response)
                return _stated(response)
        async with _answered("GET", uri, {}) as response:  # signed addresses and some servers allow nothing else
            _refuse_status(uri, response)
            return _stated(response)


async def _download(uri: str, sink: Sink, known: State | None, deadline: Deadline) -> State | None:
    headers = {}
    if known is not None:
        headers = {"if-none-match": known.mark} if known.mark else {"if-modified-since": known.changed}
    async with asyncio.timeout(deadline.left) as limit, _answered("GET", uri, headers) as response:
        if response.status_code == 304 and known is not None:
            return None
        _refuse_status(uri, response)
        stated = _stated(response)
        if stated.size is not None and stated.size > MOST_BYTES:
            raise too_large(uri, stated.size)
        deadline.allow(stated.size)
        limit.reschedule(asyncio.get_running_loop().time() + deadline.left)
        arrived = 0
        async for chunk in response.aiter_bytes():
            arrived += len(chunk)
            if arrived > MOST_BYTES:
                raise too_large(uri, arrived)
            sink(chunk)
        if stated.size is not None and arrived != stated.size:
            raise broken(uri, f"{counted(stated.size, 'byte was', 'bytes were')} announced and {arrived:,} arrived")
        return stated


@asynccontextmanager
async def _answered(method: str, uri: str, headers: dict[str, str]) -> AsyncGenerator[httpx.Response]:
    """The response, its body not read yet, after redirects."""
    try:
        client = _client(uri)
        request = client.build_request(method, uri, headers={"accept-encoding": "identity", **headers})
        for _ in range(_REDIRECTS + 1):
            response = await client.send(request, stream=True, auth=_user(), follow_redirects=False)
            try:
                if response.next_request is None:
                    yield response
                    return
            finally:
                await response.aclose()
            _refuse_redirect(uri, str(response.url), str(response.next_request.url))
            request, client = response.next_request, _client(str(response.next_request.url))
        raise FetchError("not_fetched", f"is redirected more than {_REDIRECTS} times", where=uri, fix=_AS_GIVEN)
    except httpx.HTTPError as error:
        raise _fault(uri, error) from None
    except (httpx.InvalidURL, ImportError, ValueError, OSError) as error:  # an address, a proxy, a file of certificates
        if isinstance(error, TimeoutError):
            raise
        message = f"cannot be asked for ({type(error).__name__})"
        raise FetchError("not_fetched", message, where=uri, fix=_AS_GIVEN) from None


def _client(uri: str) -> httpx.AsyncClient:
    """The client of this process, which uses the environment's proxy except for servers on this machine."""
    key = (os.getpid(), not is_loopback(uri))
    if key not in _clients:
        _clients[key] = httpx.AsyncClient(
            trust_env=key[1],
            timeout=httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE, keepalive_expiry=5.0),
            headers={"user-agent": "alm-proxies"},
        )
    return _clients[key]


def _user() -> httpx.Auth | None:
    """User and password by host, from ~/.netrc; nothing if there is no such file, or others may read it."""
    try:
        return httpx.NetRCAuth()
    except (OSError, NetrcParseError):
        return None


def _stated(response: httpx.Response) -> State:
    headers = response.headers
    plain = headers.get("content-encoding", "identity").strip().lower() in ("identity", "")
    length = headers.get("content-length", "")
    if (
        not length
        and "chunked" not in headers.get("transfer-encoding", "").lower()
        and response.request.method != "HEAD"
    ):
        return State("", None, "")  # where the file ends is not known, so that it may be cut off
    size = int(length) if plain and length.isascii() and length.isdigit() else None
    return State(headers.get("etag", ""), size, headers.get("last-modified", ""))


def _refuse_status(uri: str, response: httpx.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in (404, 410):
        raise gone(uri)
    if status in (401, 403):
        raise denied(uri, _CREDENTIALS)
    message = f"the server answers with HTTP {status}"
    if status in _PASSING:
        wait = response.headers.get("retry-after", "")
        raise broken(uri, message, after=float(wait) if wait.isascii() and wait.isdigit() else 0.0)
    raise FetchError("not_fetched", message, where=uri, fix="Check the address.")


def _refuse_redirect(uri: str, before: str, after: str) -> None:
    """Raise for a redirect that gives up encryption, or leads from outside into this machine or network."""
    if before.startswith("https:") and not after.startswith("https:"):
        message = "is redirected from https to an address without encryption"
    elif is_inner(after) and not is_inner(before):
        message = "is redirected to an address on this machine or in this network"
    else:
        return
    raise FetchError("not_fetched", message, where=uri, fix="Give the address that it should lead to.")


def _fault(uri: str, error: httpx.HTTPError) -> FetchError:
    """The error of a request without a whole response; texts of servers are not repeated."""
    beneath: BaseException | None = error
    while beneath is not None:
        if isinstance(beneath, ssl.SSLError):
            message = f"the connection is not trusted ({beneath.reason or type(beneath).__name__})"
            return FetchError("not_fetched", message, where=uri, fix=_AS_GIVEN)
        if isinstance(beneath, socket.gaierror):
            return broken(uri, "the host name cannot be resolved")
        beneath = beneath.__cause__ or beneath.__context__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return broken(uri, "no server answers")
    if isinstance(error, httpx.TimeoutException):
        return broken(uri, f"nothing arrived for {STALL_SECONDS:.0f} s")
    if isinstance(error, httpx.UnsupportedProtocol):
        return FetchError("not_fetched", "is redirected to an address that is not http", where=uri, fix=_AS_GIVEN)
    return broken(uri, f"the response was cut off ({type(error).__name__})")
