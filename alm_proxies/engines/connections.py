"""Connections to servers: a client for each, so that looking for a free one costs nothing.

httpx goes through all connections of a pool for every request: at 512 in one pool that is most of what a vote costs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

import httpx

from alm_proxies.engines.traffic import FaultError

_ONE = httpx.Limits(max_connections=None, max_keepalive_connections=1)
"""One is kept; another may be made, so that one which a cancelled request left behind never stands in the way."""

_CONNECT_SECONDS = 20.0
"""When a machine that answers nothing at all, not even that nobody listens, is given up; the answer may take longer."""
_TIMEOUT = httpx.Timeout(None, connect=_CONNECT_SECONDS)


class Connections:
    """As many connections as there are requests at once, kept open; the one used last is used first again."""

    def __init__(self, headers: Mapping[str, str], *, trust_env: bool) -> None:
        self._headers = httpx.Headers(dict(headers) | {"accept": "*/*", "user-agent": "alm-proxies"})
        self._trust_env = trust_env
        self._verify = httpx.create_ssl_context(trust_env=trust_env)
        self._clients: list[httpx.AsyncClient] = []
        self._free: defaultdict[httpx.URL, list[httpx.AsyncClient]] = defaultdict(list)
        self._urls: dict[str, httpx.URL] = {}

    async def post(self, address: str, body: bytes, seconds: float) -> httpx.Response:
        """The whole answer to one POST within `seconds`, whatever its status; what goes wrong is a FaultError."""
        return await self._ask("POST", address, body, seconds)

    async def get(self, address: str, seconds: float) -> httpx.Response:
        """The same of a GET."""
        return await self._ask("GET", address, None, seconds)

    async def _ask(self, method: str, address: str, body: bytes | None, seconds: float) -> httpx.Response:
        url = self._urls.get(address) or self._urls.setdefault(address, httpx.URL(address))
        free = self._free[url]
        client = free.pop() if free else self._client()
        try:
            async with asyncio.timeout(seconds):
                return await _answer(client, httpx.Request(method, url, headers=self._headers, content=body))
        except TimeoutError:
            raise FaultError("timeout", f"no answer within {seconds:.0f} s") from None
        finally:
            free.append(client)

    async def close(self) -> None:
        """Close them all."""
        await asyncio.gather(*(client.aclose() for client in self._clients))

    def _client(self) -> httpx.AsyncClient:
        made = httpx.AsyncClient(trust_env=self._trust_env, timeout=_TIMEOUT, limits=_ONE, verify=self._verify)
        self._clients.append(made)
        return made


async def _answer(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        response = await client.send(request, stream=True)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise FaultError("unreachable", f"nobody answers ({type(error).__name__})") from None
    except httpx.TransportError as error:
        raise FaultError("reset", f"the connection broke ({type(error).__name__})") from None
    try:
        await response.aread()
    except httpx.HTTPError as error:
        raise FaultError("cut_body", f"the answer broke off ({type(error).__name__})") from None
    finally:
        await response.aclose()
    return response
