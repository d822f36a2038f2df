"""Probed abilities are cached for a day by server, model and version, so that they are paid for once."""

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
_SECONDS = 3.0
_STABLE = ("id", "root", "owned_by", "max_model_len")
"""Fields of a model's description by the server that do not change between requests."""
Get = Callable[[str, float], Awaitable[bytes]]


async def key_of(get: Get, addresses: tuple[str, ...], supposed: Abilities) -> str | None:
    """The name of what is known about these servers; None where one of them does not even answer what it offers.

    The version is what they say it is (`/version` of vLLM), and what they say of the model: asking costs nothing.
    """
    found = await asyncio.gather(*(_version(get, address, supposed.model) for address in addresses))
    if any(version is None for version in found):
        return None
    return digest_of(["abilities 1", list(addresses), json.loads(json.dumps(asdict(supposed))), found])


def recall(key: str | None, supposed: Abilities) -> Abilities | None:
    """The abilities kept under a name, if they are not older than a day and can be read.

    What is decided here and not tried out (whether audio stays on this machine, how much at once) is kept as it is.
    """
    if key is None:
        return None
    found = cache.read_json("abilities", key, seconds=DAY)
    names = {field.name for field in fields(Abilities)}
    if not isinstance(found, dict) or set(found) != names:
        return None
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    if not all(_fits(values[name], hint) for name, hint in get_type_hints(Abilities).items()):
        return None
    here = {name: getattr(supposed, name) for name in ("engine", "model", "local", "in_flight", "tries")}
    return Abilities(**{**values, **here})


def remember(key: str | None, abilities: Abilities) -> None:
    """Cache abilities."""
    if key is not None:
        cache.write_json("abilities", key, asdict(abilities))


def forget(key: str | None) -> None:
    """Delete cached abilities that turned out to be wrong."""
    if key is not None:
        cache.forget("abilities", key)


async def _version(get: Get, address: str, model: str) -> list[Any] | None:
    try:
        offered = json.loads(await get(address.rstrip("/") + "/models", _SECONDS))["data"]
        own = [{name: one.get(name) for name in _STABLE} for one in offered if one.get("id") == model]
    except (FaultError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not own:
        return None
    try:
        version = (await get(address.rstrip("/").removesuffix("/v1") + "/version", _SECONDS)).decode(
            "utf-8", "replace"
        )[:200]
    except FaultError:
        version = ""
    return [own, version]


def _fits(value: object, hint: object) -> bool:
    """Whether a value read from a file is of the kind its field holds."""
    text = str(hint)
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if text.startswith("tuple"):
        return isinstance(value, tuple) and all(isinstance(one, str) for one in value)
    if "float" in text:
        return value is None or (isinstance(value, float | int) and not isinstance(value, bool))
    return isinstance(value, str)
