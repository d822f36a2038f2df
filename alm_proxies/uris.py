"""Addresses of files elsewhere (s3://bucket/a.wav, https://host/a.wav), which are shown without secrets."""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "http", "https")
"""The schemes of addresses that can be read."""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SPELLED_AS_PATH = re.compile(rf"({'|'.join(SCHEMES)}):/+(?=[^/])", re.IGNORECASE)
_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+)([^\s'\"<>|]+)")
_SECRET = re.compile(
    r"sig|.*signature.*|.*token.*|.*key(_?id)?|.*secret.*|.*passw(or)?d.*|pwd|auth.*|.*credential.*|policy|jwt|hmac"
    r"|session.*|x-(amz|goog|ms|oss|cos)-.*|googleaccessid",
    re.IGNORECASE,
)
"""Names of values in a query that grant access."""
HIDDEN = "***"
"""What is shown in place of a secret."""


def is_remote(text: str) -> bool:
    """Whether a text is an address and not a path; file:// is a path."""
    return _URI.match(text) is not None and not text.startswith("file://")


def remote_of(path: str | os.PathLike[str]) -> str | None:
    """The address that a path spells, or None: pathlib writes s3://bucket as s3:/bucket."""
    text = os.fspath(path)
    if is_remote(text):
        return text
    spelled = _SPELLED_AS_PATH.match(text)
    return None if spelled is None else f"{spelled[1]}://{text[spelled.end() :]}"


def scheme_of(uri: str) -> str:
    """The scheme, in lower case."""
    return uri.partition("://")[0].lower()


def name_of(uri: str) -> str:
    """The name of the file at an address, without the query of a web address."""
    return _path(uri).rpartition("/")[2]


def parent_of(uri: str) -> str:
    """The address of the folder that holds a file."""
    return _path(uri).rpartition("/")[0]


def has_secret(uri: str) -> bool:
    """Whether an address has a password, a key or a signature in it."""
    return without_secrets(uri) != uri


def without_secrets(uri: str) -> str:
    """The address without password, keys and signatures."""
    start, rest = uri[: uri.find(":")], re.sub("^:/+", "", uri[uri.find(":") :])
    slashes = uri[len(start) : len(uri) - len(rest)]
    return start + slashes + _cleaned(start.lower(), rest, hide=False)


def redacted(text: str) -> str:
    """Any text, with the secrets of all addresses in it hidden."""
    return _IN_TEXT.sub(_redacted, text) if ":/" in text else text


def is_loopback(address: str) -> bool:
    """Whether an address is on this machine: localhost, 127.0.0.0/8 or ::1. Any other name counts as remote."""
    host = _host(address)
    ip = _ip(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)


def is_inner(address: str) -> bool:
    """Whether an address is on this machine or in a private network, as far as it says so itself."""
    ip = _ip(_host(address))
    return is_loopback(address) or (ip is not None and not ip.is_global)


def _path(uri: str) -> str:
    return re.split(r"[?#]", uri)[0] if scheme_of(uri) in ("http", "https") else uri


def _redacted(match: re.Match[str]) -> str:
    return match[1] + _cleaned(match[1].partition(":")[0].lower(), match[2], hide=True)


def _cleaned(scheme: str, rest: str, *, hide: bool) -> str:
    """What follows the slashes of an address, with its secrets left out or hidden."""
    user, at, after = _split_user(rest)
    if at and (scheme in ("http", "https") or ":" in user):
        rest = f"{HIDDEN}@{after}" if hide else after
    before, mark, query = rest.partition("?")
    before = redacted(before) if hide else before
    if not mark:
        return before
    query, hash_, fragment = query.partition("#")
    kept = []
    for pair in query.split("&"):
        name, equals, _ = pair.partition("=")
        plain = parse_qsl(f"{name}=x", keep_blank_values=True)
        if not _SECRET.fullmatch(plain[0][0] if plain else name):
            kept.append(redacted(pair) if hide else pair)
        elif hide:
            kept.append(f"{name}{equals}{HIDDEN}")
    return before + ("?" + "&".join(kept) if kept else "") + hash_ + fragment


def _split_user(rest: str) -> tuple[str, str, str]:
    """User and password, the @ and what follows; a password may hold slashes that were not encoded."""
    ends = re.match(r"[^/?#]*@|[^/?#@:]+:(?!\d+/)[^?#@]*@", rest)
    return (rest[: ends.end() - 1], "@", rest[ends.end() :]) if ends else ("", "", rest)


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
