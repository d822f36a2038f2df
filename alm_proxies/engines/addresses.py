"""Server addresses: which are valid, and which are on this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(address: str) -> bool:
    """Whether an address is on this machine: localhost, 127.0.0.0/8 or ::1. Any other name counts as remote."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_fault(address: str) -> str | None:
    """Why a text is no server address, in words that never repeat a password; None if it is one."""
    if any(not character.isprintable() or character.isspace() for character in address):
        return "it holds a space, a line break or another character that no address can hold"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return "its port is no number from 1 to 65535" if "port" in str(error).lower() else "its host is no valid name"
    if parts.scheme not in ("http", "https") or host is None:
        return "it is no http address; write http://host:port/v1"
    if port == 0:
        return "its port is no number from 1 to 65535"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return (
            "it holds a user, a password or a query; put the key into an environment variable and name it in key_from"
        )
    if ":" in host:
        return None
    if not host.isascii():
        return "its host holds letters outside ASCII; write it in punycode (xn--...)"
    labels = host.rstrip(".").split(".")
    if len(host) > 253 or any(not 0 < len(label) <= 63 or label.strip("-_") == "" for label in labels):
        return "its host is no valid name"
    if any(not (letter.isalnum() or letter in "-_") for label in labels for letter in label):
        return "its host is no valid name"
    return None
