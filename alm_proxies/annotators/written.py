"""Annotator files written by alm-proxies: TOML with only the settings that differ from their defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alm_proxies.annotators.annotator_file import AnnotatorFile


def annotator_text(file: AnnotatorFile, comment: str) -> str:
    """The text of an annotator file, after a comment of one line."""
    stated = file.model_dump(mode="json", exclude_defaults=True)
    tables = {name: value for name, value in stated.items() if isinstance(value, Mapping)}
    lines = [f"# {comment}"]
    lines += [f"{name} = {_value(value)}" for name, value in stated.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(inner)}' for key, inner in value.items())} }}"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _text(key)


def _text(text: str) -> str:
    """A basic string of TOML: JSON's, with the one character that TOML does not allow escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
