"""ms_swift, llama_factory: chats that ask for the emotion, for trainers of audio language models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alm_proxies.measures.resampling import whole_copies
from alm_proxies.seeds import generator
from alm_proxies.stages.export.items import Items, by_split_name
from alm_proxies.stages.export.settings import ChatSettings
from alm_proxies.stages.export.writers.manifests import VALID, write_lines


def ms_swift(items: Items, folder: Path) -> None:
    """For each split: answers drawn by share, shares as floats, and shares as a decision."""
    for split, part in by_split_name(items, VALID):
        write_lines(folder / f"{split}_text.jsonl", _texts(part, "messages", "role", "content", "user", "assistant"))
        write_lines(folder / f"{split}_multi_label.jsonl", _floats(part))
        write_lines(folder / f"{split}_decision.jsonl", _decisions(part))


def llama_factory(items: Items, folder: Path) -> None:
    """For each split a list of chats, and dataset_info.json with their columns."""
    entries: dict[str, Any] = {}
    for split, part in by_split_name(items, VALID):
        rows = list(_texts(part, "messages", "role", "content", "user", "assistant"))
        file = f"{items.settings.name}_{split}.json"
        (folder / file).write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
        tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        columns = {"messages": "messages", "audios": "audios"}
        entries[f"{items.settings.name}_{split}"] = {
            "file_name": file, "formatting": "sharegpt", "columns": columns, "tags": tags,
        }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(entries, indent=2, ensure_ascii=False), encoding="utf-8")


def question(items: Items) -> str:
    """The question of every chat."""
    settings = items.settings if isinstance(items.settings, ChatSettings) else ChatSettings()
    return settings.prompt.replace("{labels}", ", ".join(items.labels))


def _texts(items: Items, key: str, role: str, content: str, user: str, assistant: str) -> Iterator[dict[str, Any]]:
    """One chat per copy, with its answer drawn by the shares; the number of copies follows the weight."""
    rng = generator(items.settings.seed, "export", "text")
    asked = f"<audio>{question(items)}"
    shares = items.shares
    cumulated = np.cumsum(shares, axis=1)
    start = float(generator(items.settings.seed, "export", "copies").random())
    copies = whole_copies(items.frame["weight"].to_numpy(), start)
    for row, line in enumerate(items.frame.iter_rows(named=True)):
        for draw in rng.random(copies[row]):
            label = items.labels[min(int(np.searchsorted(cumulated[row], draw, side="right")), len(items.labels) - 1)]
            yield {
                key: [{role: user, content: asked}, {role: assistant, content: label}],
                "audios": [items.resolved(line["file"])],
            }


def _floats(items: Items) -> Iterator[dict[str, Any]]:
    for line, shares in zip(items.frame.iter_rows(named=True), items.shares, strict=True):
        yield {
            "messages": [{"role": "user", "content": f"<audio>{question(items)}"}],
            "audios": [items.resolved(line["file"])],
            "label": [round(float(share), 6) for share in shares],
        }


def _decisions(items: Items) -> Iterator[dict[str, Any]]:
    for line, shares in zip(items.frame.iter_rows(named=True), items.shares, strict=True):
        rounded = [round(float(share), 6) for share in shares]
        yield {
            "messages": [{"role": "user", "content": "<audio>"}],
            "audios": [items.resolved(line["file"])],
            "questions": [question(items)],
            "kinds": ["choice"],
            "options": [list(items.labels)],
            "target_probs": [rounded],
        }
