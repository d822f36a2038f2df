"""Connections to servers, on which a response can never be taken for that of another request.

A connection carries a second request only if its response can be identified: the server repeats the random number of
the request (as vLLM does, in the id of its responses). All other servers get a new connection for every request, so
that an unrequested response is never read.
Requests go directly to a server (direct.py), or by httpx where the environment names proxies. A client holds one
connection: httpx goes through all connections of a pool for every request, which takes most of the time per vote with
512 connections in one pool.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.request import getproxies

import httpx

from alm_proxies.engines.direct import CONNECT_SECONDS, Address, Answered, Body, DirectConnection
from alm_proxies.engines.faults import FaultError
from alm_proxies.errors import SettingsError
from alm_proxies.files import refuse_irregular
from alm_proxies.log import LOG
from alm_proxies.machine import open_files
from alm_proxies.uris import is_loopback

_ONE = httpx.Limits(max_connections=None, max_keepalive_connections=1)
"""One connection is kept; a second is allowed, so that a cancelled request does not block the next."""
_TIMEOUT = httpx.Timeout(None, connect=CONNECT_SECONDS)
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


_OTHER_FILES = 32
"""Files that are open beside the connections: the ledger, and recordings that are read ahead."""


def connections_at_once(wanted: int) -> int:
    """The number of connections, of those `wanted`, for which the system allows enough open files."""
    allowed = max(1, min(wanted, open_files(wanted + _OTHER_FILES) - _OTHER_FILES))
    if allowed < wanted:
        LOG.warning("%d requests at once instead of %d: the system allows no more open files", allowed, wanted)
    return allowed


class Connection(Protocol):
    """A connection for one request at a time, which is opened when it is needed."""

    sent: bool
    """Whether a part of the last request was sent: one that fails before costs nothing."""

    async def ask(
        self, method: str, address: Address, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answered:
        """The response to a request; raises httpx.TransportError where there is none, FaultError where it is bad."""
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...


class ProxiedConnection:
    """A connection through the proxies that the environment names, which httpx handles."""

    def __init__(self, verify: ssl.SSLContext) -> None:
        self.sent = False
        self._client = httpx.AsyncClient(trust_env=True, timeout=_TIMEOUT, limits=_ONE, verify=verify)

    async def ask(
        self, method: str, address: Address, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answered:
        """The response to a request."""
        self.sent = False
        extensions = {"trace": self._follow}
        request = httpx.Request(method, address.url, headers=headers, content=body, extensions=extensions)
        response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            content = Body(response.status_code, response.headers, most)
            async for chunk in response.aiter_raw():
                if content.add(chunk):
                    break
        except httpx.HTTPError as error:
            raise FaultError("cut_body", f"the response was cut off ({type(error).__name__})") from None
        finally:
            await response.aclose()
        return Answered(response.status_code, response.headers, content.content())

    async def aclose(self) -> None:
        """Close it."""
        await self._client.aclose()

    async def _follow(self, event: str, details: Mapping[str, Any]) -> None:
        """Called by httpx with every step of a request; CONNECT is one to the proxy alone."""
        if event.endswith("send_request_headers.started") and details["request"].method != b"CONNECT":
            self.sent = True


class Connections:
    """One connection per concurrent request; those whose responses can be identified are kept open."""

    def __init__(self, headers: Mapping[str, str], *, trust_env: bool) -> None:
        self._headers = dict(headers) | {"accept": "*/*", "user-agent": "alm-proxies"}
        self._verify = _certificates(trust_env)
        self._proxied = trust_env and any(name != "no" for name in getproxies())
        self._clients: set[Connection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._spare: list[Connection] = []
        """Clients without an open connection."""
        self._kept: defaultdict[str, list[Connection]] = defaultdict(list)
        """Clients with an open connection, to addresses that repeat the number of a request."""
        self._repeats: set[str] = set()
        self._silent: set[str] = set()
        self._addresses: dict[str, Address] = {}
        self._reached: set[bytes] = set()
        """Hosts and ports from which a response has come."""
        self._first, self._numbers = secrets.token_hex(8), count()
        """Halves of the number of a request: the first is unique to this process, the second to the request."""
        self._spare.append(self._client())  # refuses an invalid proxy before the first request

    async def post(self, address: str, body: bytes, seconds: float, *, most: int, kept: bool = True) -> Answered:
        """The response to a POST with any status, within `seconds` and `most` bytes; otherwise a FaultError.

        `kept` is false for requests whose responses never repeat the number.
        """
        if kept and address not in self._silent:
            return await self._numbered(address, body, seconds, most)
        return await self._alone("POST", self._address(address), body, seconds, most)

    async def get(self, address: str, seconds: float, *, most: int) -> Answered:
        """The response to a GET, likewise."""
        return await self._alone("GET", self._address(address), None, seconds, most)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self._clients), *self._closing)

    async def _numbered(self, address: str, body: bytes, seconds: float, most: int) -> Answered:
        """A request with a number, on a connection that is kept if the response repeats it."""
        place, kept, number = self._address(address), self._kept[address], f"{self._first}{next(self._numbers):016x}"
        used = bool(kept)
        client = kept.pop() if kept else self._any_client()
        headers = self._headers | {"x-request-id": number}
        if address not in self._repeats:
            headers["connection"] = "close"
        try:
            answered = await self._ask(client, "POST", place, headers, body, seconds, most)
        except BaseException:
            self._drop(client)
            raise
        repeated = number.encode() in answered.content or number in answered.headers.get("x-request-id", "")
        if "connection" in headers:
            self._spare.append(client)
        elif repeated and address in self._repeats:
            self._kept[address].append(client)
        else:
            self._drop(client)
        if answered.status == 200 and not repeated:
            self._repeats.discard(address)
            self._silent.add(address)
            for other in self._kept.pop(address, []):
                self._drop(other)
        elif answered.status == 200 and address not in self._silent:
            self._repeats.add(address)
        if used and not repeated and answered.status < 400:
            raise FaultError("reset", "a response arrived that belongs to no request", paid=answered.status == 200)
        if used and not repeated and not _asked_again(answered.status):
            # A refusal without a number may belong to another request, so this one is repeated on another connection.
            return await self._alone("POST", place, body, seconds, most)
        return answered

    async def _alone(self, method: str, place: Address, body: bytes | None, seconds: float, most: int) -> Answered:
        """A request on a connection of its own."""
        client, headers = self._any_client(), self._headers | {"connection": "close"}
        try:
            answered = await self._ask(client, method, place, headers, body, seconds, most)
        except BaseException:
            self._drop(client)
            raise
        self._spare.append(client)
        return answered

    async def _ask(
        self,
        client: Connection,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        body: bytes | None,
        seconds: float,
        most: int,
    ) -> Answered:
        try:
            async with asyncio.timeout(seconds):
                answered = await client.ask(method, address, headers, body, most)
        except TimeoutError:
            paid = client.sent
            raise FaultError("timeout", f"no complete response within {seconds:.0f} s", paid=paid) from None
        except httpx.TransportError as error:
            fault = _no_answer(error, is_loopback(str(address.url)), address.name in self._reached)
            fault.paid = fault.paid and client.sent
            raise fault from None
        self._reached.add(address.name)
        return answered

    def _address(self, text: str) -> Address:
        return self._addresses.get(text) or self._addresses.setdefault(text, Address.of(text))

    def _any_client(self) -> Connection:
        return self._spare.pop() if self._spare else self._client()

    def _client(self) -> Connection:
        try:
            client: Connection = (ProxiedConnection if self._proxied else DirectConnection)(self._verify)
        except ImportError:
            name = _named_in(_PROXIES, "socks")
            raise SettingsError(
                f"{name} names a SOCKS proxy, which needs the package 'socksio'",
                fix="Install it with: pip install 'httpx[socks]'; or unset the variable.",
            ) from None
        except (httpx.InvalidURL, ValueError) as error:
            name = _named_in(_PROXIES, "")
            raise SettingsError(
                f"the proxy address in {name} is not valid ({type(error).__name__})",
                fix="Write it as http://host:port, or unset the variable.",
            ) from None
        self._clients.add(client)
        return client

    def _drop(self, client: Connection) -> None:
        """Close a client, because more may arrive on its connection."""
        self._clients.discard(client)
        task = asyncio.get_running_loop().create_task(client.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _asked_again(status: int) -> bool:
    """Whether a response with this status is a fault after which the request is tried again anyway."""
    return status in (408, 429) or status >= 500


def _no_answer(error: httpx.TransportError, local: bool, reached: bool) -> FaultError:
    """The fault of a request without a response, by the underlying error.

    Where a server has been `reached` before, a TLS connection that fails is one that broke.
    """
    beneath: BaseException | None = error
    while beneath is not None:
        if isinstance(beneath, ssl.SSLCertVerificationError):
            return FaultError("no_trust", f"its certificate is not trusted ({beneath.verify_message})")
        if isinstance(beneath, ssl.SSLError):
            return FaultError("reset" if reached else "no_trust", f"the TLS connection failed ({beneath.reason})")
        if isinstance(beneath, socket.gaierror):
            return FaultError("unreachable", "the host name cannot be resolved")
        beneath = beneath.__cause__ or beneath.__context__
    if isinstance(error, httpx.ProxyError):
        return FaultError("unreachable", f"the proxy in {_named_in(_PROXIES, '')} refuses the connection")
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        proxy = _named_in(_PROXIES, "")
        through = f"; requests go through the proxy in {proxy}" if os.environ.get(proxy) and not local else ""
        return FaultError("unreachable", f"no server answers ({type(error).__name__}{through})")
    if isinstance(error, httpx.RemoteProtocolError) and "illegal" in str(error):
        return FaultError("reset", "the response is not HTTP")
    return FaultError("reset", f"the connection broke ({type(error).__name__})")


def _certificates(trust_env: bool) -> ssl.SSLContext:
    named, folder = (os.environ.get(name) if trust_env else None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    try:
        if not named:
            return _read_certificates(trust_env, folder)
        refuse_irregular(named)  # reading a pipe would never end
        file = Path(named).stat()
        return _read_certificates(trust_env, named, file.st_ino, file.st_size, file.st_mtime_ns)
    except OSError as error:
        place = "SSL_CERT_FILE" if named else "SSL_CERT_DIR" if os.environ.get("SSL_CERT_DIR") else "the system"
        reason = error.strerror or type(error).__name__
        raise SettingsError(
            f"the certificates of {place} cannot be read ({reason})",
            fix="Name a file of certificates in PEM form, or unset the variable.",
        ) from None


@lru_cache(maxsize=8)
def _read_certificates(trust_env: bool, *_place_and_content: str | int | None) -> ssl.SSLContext:
    """The certificates of a place, read once for all connections of this process: a system's take 25 milliseconds."""
    context = httpx.create_ssl_context(trust_env=trust_env)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _named_in(names: tuple[str, ...], word: str) -> str:
    """The name of the environment variable, in any case; its value is not shown, because it may contain a password."""
    spelled = [spelling for name in names for spelling in (name, name.lower())]
    return next((name for name in spelled if word in os.environ.get(name, "") != ""), names[0])
