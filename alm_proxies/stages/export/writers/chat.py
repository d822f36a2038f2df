"""ms_swift, llama_factory: chats that ask for the emotion, for trainers of audio language models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alm_proxies.measures.resampling import whole_copies
from alm_proxies.seeds import generator
from alm_proxies.stages.export.items import Items, by_split_name
from alm_proxies.stages.export.settings import ChatSettings
from alm_proxies.stages.export.writers.manifests import VALID, paths
from alm_proxies.stages.export.writers.reported import without_a_chat, without_weights
from alm_proxies.tables import Finding


def ms_swift(items: Items, folder: Path) -> list[Finding]:
    """For each split: answers drawn by share, shares as floats, and shares as a decision."""
    findings = without_weights(items, "*_multi_label.jsonl and *_decision.jsonl")
    for split, part in by_split_name(items, VALID):
        findings += without_a_chat(part, _copies(part), f"{split}_text.jsonl")
        for kind, lines in (("text", _texts(part)), ("multi_label", _floats(part)), ("decision", _decisions(part))):
            with (folder / f"{split}_{kind}.jsonl").open("w", encoding="utf-8") as stream:
                stream.writelines(f"{line}\n" for line in lines)
    return findings


def llama_factory(items: Items, folder: Path) -> list[Finding]:
    """For each split a list of chats, and dataset_info.json with their columns."""
    entries: dict[str, Any] = {}
    findings: list[Finding] = []
    for split, part in by_split_name(items, VALID):
        file = f"{items.settings.name}_{split}.json"
        findings += without_a_chat(part, _copies(part), file)
        (folder / file).write_text("[\n" + ",\n".join(_texts(part)) + "\n]\n", encoding="utf-8")
        tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        columns = {"messages": "messages", "audios": "audios"}
        entries[f"{items.settings.name}_{split}"] = {
            "file_name": file, "formatting": "sharegpt", "columns": columns, "tags": tags,
        }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps(entries, indent=2, ensure_ascii=False), encoding="utf-8")
    return findings


def question(items: Items) -> str:
    """The question of every chat."""
    settings = items.settings if isinstance(items.settings, ChatSettings) else ChatSettings()
    return settings.prompt.replace("{labels}", ", ".join(items.labels))


def _texts(items: Items) -> Iterator[str]:
    """One chat per copy, with its answer drawn by the shares; the number of copies follows the weight."""
    rows = np.repeat(np.arange(len(items)), _copies(items))
    draws = generator(items.settings.seed, "export", "text").random(len(rows))
    passed = np.cumsum(items.shares, axis=1)[rows] <= draws[:, None]
    answers = np.minimum(passed.sum(1), len(items.labels) - 1)
    files = _quoted_files(items)
    chats = [
        _json([{"role": "user", "content": f"<audio>{question(items)}"}, {"role": "assistant", "content": label}])
        for label in items.labels
    ]
    for row, answer in zip(rows.tolist(), answers.tolist(), strict=True):
        yield f'{{"messages": {chats[answer]}, "audios": [{files[row]}]}}'


def _copies(items: Items) -> NDArray[np.int64]:
    """The number of chats of every item."""
    start = float(generator(items.settings.seed, "export", "copies").random())
    return whole_copies(items.frame["weight"].to_numpy(), start)


def _floats(items: Items) -> Iterator[str]:
    chat = _json([{"role": "user", "content": f"<audio>{question(items)}"}])
    for file, shares in zip(_quoted_files(items), _rounded(items), strict=True):
        yield f'{{"messages": {chat}, "audios": [{file}], "label": {shares}}}'


def _decisions(items: Items) -> Iterator[str]:
    chat = _json([{"role": "user", "content": "<audio>"}])
    asked = _json({"questions": [question(items)], "kinds": ["choice"], "options": [list(items.labels)]})[1:-1]
    for file, shares in zip(_quoted_files(items), _rounded(items), strict=True):
        yield f'{{"messages": {chat}, "audios": [{file}], {asked}, "target_probs": [{shares}]}}'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _quoted_files(items: Items) -> list[str]:
    return [_json(path) for path in paths(items)]


def _rounded(items: Items) -> list[str]:
    """The shares of every item as a JSON list."""
    return [repr(shares) for shares in np.round(items.shares, 6).tolist()]
