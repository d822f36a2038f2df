"""Every key of an annotator or prompt file is noticed by the stage that reads it, or is marked as changing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keys_in_files import (
    ANNOTATOR,
    LABELS,
    PROMPT,
    Case,
    changed,
    leaves,
    put,
    task_of,
    toml,
)
from pydantic import BaseModel

from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import PromptFile
from alm_proxies.pipeline.task import State

OF_ANNOTATORS: dict[str, Any] = {
    "name": "two", "engine": "transformers", "model": "n", "revision": "abc", "knows": list(LABELS), "votes": 3,
    "trained_on": {"mine": ["mine/a"]},
    "measured": {"corpus": "elsewhere", "nll_per_vote": 1.0, "class_shares_nll_per_vote": 1.5},
    "prompt": "prompt_2.toml", "elicit": "score", "answer": "words", "constrain": True,
    "content_free": {"content_free": True, "elicit": "score", "prompt": "listener", "cross": {}},
    "sampling.top_k": 5, "cross.temperature": [0.7, 1.0], "cross.focus": ["words"], "serve": {"answers": "b.csv"},
    "price.audio_minute": 1.0, "price.million_tokens_in": 1.0, "price.million_tokens_out": 1.0,
    "price.currency": "EUR",
}  # fmt: skip


OF_PROMPTS: dict[str, Any] = {
    "elicits": "primary_secondary", "focus": {"tone": "Mind it.", "words": "Mind the words."},
    "requires": ["transcript"], "after": "{{ choices }} {% if focus %}{{ focus }}{% endif %}", "turns": 3,
}  # fmt: skip


def annotated(folder: Path, place: Path) -> str:
    return State(task_of(Case("annotate"), place, {"panel": [str(folder / "annotator.toml")]}, None)).digest


def written(folder: Path, annotator: dict[str, Any], prompt: dict[str, Any]) -> None:
    (folder / "annotator.toml").write_text(toml(annotator))
    (folder / "prompt.toml").write_text(toml(prompt))
    (folder / "prompt_2.toml").write_text(toml(PROMPT | {"system": "Something else."}))


def dumped(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    return model.model_validate(values).model_dump(mode="json", by_alias=True)


def test_every_key_of_an_annotator_file_is_noticed_or_marked(tmp_path: Path, place: Path) -> None:
    values = dumped(AnnotatorFile, ANNOTATOR)
    written(tmp_path, values, PROMPT)
    before = annotated(tmp_path, place)
    wrong = []
    for path, declared, value, nothing in leaves(AnnotatorFile, values):
        other = put(values, path, changed(path, declared, value, OF_ANNOTATORS)[0])
        if path == ("engine",):
            other["serve"] = {}
        written(tmp_path, other, PROMPT)
        if (annotated(tmp_path, place) != before) == nothing:
            wrong.append(".".join(path))
    assert not wrong


def test_the_number_of_votes_of_a_file_counts_only_where_the_section_does_not_say_it(
    tmp_path: Path, place: Path
) -> None:
    digests = set()
    for votes in (2, 3):
        written(tmp_path, ANNOTATOR | {"votes": votes}, PROMPT)
        panel = [str(tmp_path / "annotator.toml")]
        digests.add(State(task_of(Case("annotate"), place, {"panel": panel, "votes": 4}, None)).digest)
    assert len(digests) == 1


def test_every_key_of_a_prompt_file_is_noticed_or_marked(tmp_path: Path, place: Path) -> None:
    values = dumped(PromptFile, PROMPT)
    written(tmp_path, ANNOTATOR, values)
    before = annotated(tmp_path, place)
    wrong = []
    for path, declared, value, nothing in leaves(PromptFile, values):
        written(tmp_path, ANNOTATOR, put(values, path, changed(path, declared, value, OF_PROMPTS)[0]))
        if (annotated(tmp_path, place) != before) == nothing:
            wrong.append(".".join(path))
    assert not wrong
    unused = values | {"focus": {**PROMPT["focus"], "words": "Mind every word."}}
    written(tmp_path, ANNOTATOR, unused)
    assert annotated(tmp_path, place) == before, "a focus sentence that is not crossed changes no vote"
