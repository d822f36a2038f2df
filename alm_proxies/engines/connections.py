"""Connections to servers, in pools so small that looking for a free connection costs next to nothing.

httpx goes through all connections of a pool for every request: at 512 in one pool that is most of what a vote costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from alm_proxies.engines.traffic import FaultError

_EACH = 16
"""Connections of a pool, at most."""


class Connections:
    """Enough connections for so many requests at once."""

    def __init__(self, headers: Mapping[str, str], *, in_flight: int, trust_env: bool) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_EACH)
        verify = httpx.create_ssl_context(trust_env=trust_env)
        pools = -(-in_flight // _EACH)
        self._clients = [
            httpx.AsyncClient(headers=dict(headers), trust_env=trust_env, timeout=None, limits=limits, verify=verify)
            for _ in range(pools)
        ]
        self._flying = [0] * pools

    async def post(self, address: str, body: bytes, seconds: float) -> httpx.Response:
        """The whole answer to one POST within `seconds`, whatever its status; what goes wrong is a FaultError."""
        place = self._flying.index(min(self._flying))
        self._flying[place] += 1
        try:
            async with asyncio.timeout(seconds):
                return await _post(self._clients[place], address, body)
        except TimeoutError:
            raise FaultError("timeout", f"no answer within {seconds:.0f} s") from None
        finally:
            self._flying[place] -= 1

    async def close(self) -> None:
        """Close them all."""
        await asyncio.gather(*(client.aclose() for client in self._clients))


async def _post(client: httpx.AsyncClient, address: str, body: bytes) -> httpx.Response:
    try:
        response = await client.send(client.build_request("POST", address, content=body), stream=True)
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
