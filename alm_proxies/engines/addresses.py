"""Server addresses: which are valid."""

from __future__ import annotations

from urllib.parse import urlsplit


def address_fault(address: str) -> str | None:
    """The reason why a text is not a server address, without repeating a password; None if it is one."""
    if any(not character.isprintable() or character.isspace() for character in address):
        return "it contains a space, a line break or another character that is not allowed in an address"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return (
            "its port is not a number from 1 to 65535"
            if "port" in str(error).lower()
            else "its host is not a valid name"
        )
    if parts.scheme not in ("http", "https") or host is None:
        return "it is not an http address; write http://host:port/v1"
    if port == 0:
        return "its port is not a number from 1 to 65535"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return "it contains a user, password or query; put the key into an environment variable and name it in key_from"
    if ":" in host:
        return None
    if not host.isascii():
        return "its host contains non-ASCII letters; write it in punycode (xn--...)"
    labels = host.rstrip(".").split(".")
    if len(host) > 253 or any(not 0 < len(label) <= 63 or label.strip("-_") == "" for label in labels):
        return "its host is not a valid name"
    if any(not (letter.isalnum() or letter in "-_") for label in labels for letter in label):
        return "its host is not a valid name"
    return None
