"""Probed abilities are cached for a day by server, model and version, so that they are paid for once; for ten minutes
where the server failed meanwhile, as what it failed at may work later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from typing import Any, get_type_hints

from alm_proxies import cache
from alm_proxies.engines.engine import Abilities
from alm_proxies.engines.faults import FaultError
from alm_proxies.files import digest_of

DAY = 24 * 3600.0
_UNSURE = 600.0
_SECONDS = 3.0
_MANY = 1e6
_STABLE = ("id", "root", "owned_by", "max_model_len")
"""Fields of a model's description by the server that do not change between requests."""
Get = Callable[[str, float], Awaitable[bytes]]


async def key_of(get: Get, addresses: tuple[str, ...], assumed: Abilities) -> str | None:
    """The cache key of the abilities of these servers; None if one of them does not list the model.

    It contains the servers' version (`/version` of vLLM) and their description of the model; both requests are free.
    """
    versions = await asyncio.gather(*(_version(get, address, assumed.model) for address in addresses))
    if any(version is None for version in versions):
        return None
    return digest_of(["abilities 1", list(addresses), json.loads(json.dumps(asdict(assumed))), versions])


def recall(key: str | None, assumed: Abilities) -> Abilities | None:
    """The cached abilities, if they are readable and not too old.

    Abilities that are not probed (whether audio stays on this machine, how many requests at once) come from `assumed`.
    """
    if key is None:
        return None
    cached = cache.read_json("abilities", key, seconds=DAY)
    if cached is None:
        cached = cache.read_json("abilities", _unsure(key), seconds=_UNSURE)
    names = {field.name for field in fields(Abilities)}
    if not isinstance(cached, dict) or set(cached) != names:
        return None
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in cached.items()}
    if not all(_fits(values[name], hint) for name, hint in get_type_hints(Abilities).items()):
        return None
    here = {name: getattr(assumed, name) for name in ("engine", "model", "local", "in_flight", "tries")}
    return Abilities(**{**values, **here})


def remember(key: str | None, abilities: Abilities, *, sure: bool = True) -> None:
    """Cache abilities; not `sure`: the server failed during the probe."""
    if key is not None:
        cache.write_json("abilities", key if sure else _unsure(key), asdict(abilities))


def window(key: str | None) -> float | None:
    """How many requests at once each of these servers was sent at the end of the last run, if that is no day ago."""
    cached = cache.read_json("abilities", digest_of([key, "window"]), seconds=DAY) if key is not None else None
    if isinstance(cached, bool) or not isinstance(cached, int | float) or not 1.0 <= cached < _MANY:
        return None
    return float(cached)


def remember_window(key: str | None, requests: float | None) -> None:
    """Cache it, if it is known."""
    if key is not None and requests is not None:
        cache.write_json("abilities", digest_of([key, "window"]), requests)


def forget(key: str | None) -> None:
    """Delete cached abilities that turned out to be wrong."""
    if key is not None:
        cache.forget("abilities", key)
        cache.forget("abilities", _unsure(key))


def _unsure(key: str) -> str:
    return digest_of([key, "unsure"])


async def _version(get: Get, address: str, model: str) -> list[Any] | None:
    base = address.rstrip("/")
    listed, version = await asyncio.gather(
        _asked(get, base + "/models"), _asked(get, base.removesuffix("/v1") + "/version")
    )
    try:
        models = json.loads(listed or b"")["data"]
        own = [{name: entry.get(name) for name in _STABLE} for entry in models if entry.get("id") == model]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not own:
        return None
    return [own, (version or b"").decode("utf-8", "replace")[:200]]


async def _asked(get: Get, address: str) -> bytes | None:
    try:
        return await get(address, _SECONDS)
    except FaultError:
        return None


def _fits(value: object, hint: object) -> bool:
    """Whether a value from a file has the type of its field."""
    text = str(hint)
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if text.startswith("tuple"):
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    if "float" in text:
        return value is None or (isinstance(value, float | int) and not isinstance(value, bool))
    return isinstance(value, str)
