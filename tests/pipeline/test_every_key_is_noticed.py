"""A finished stage runs again if any key of a user's file changes, unless the key is marked as changing nothing.

A key without a value that it could be changed to fails here, so that a new key cannot be forgotten.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from keys_in_files import (
    Case,
    card,
    changed,
    in_place,
    leaves,
    put,
    task_of,
)
from pydantic import BaseModel

from alm_proxies.cards import Card
from alm_proxies.errors import AlmProxiesError
from alm_proxies.pipeline.task import State
from alm_proxies.plugins import plugins
from alm_proxies.settings import PLACE, marks_of
from alm_proxies.stages.registry import STAGES, stage_of

_PROXY = {
    "corpus": "mine", "as": "proxy:p", "trained_on_these_votes": "out_of_fold", "folds": "@folds.csv",
    "split": "speakers:.7,.1,.2", "keep_splits": "@splits.csv",
    "keep_held_out": "@votes.parquet",
}  # fmt: skip
_SOURCE = {
    "recordings": "@sounds",
    "corpus": "other", "map": {"Puzzled": "sad"}, "split": "folds:2", "as": "proxy:q", "folds": "@folds_2.csv",
    "keep_splits": "@splits_2.csv", "keep_held_out": "@corpus_2",
    "trained_on_these_votes": {"trained_on_these_votes": "no", "folds": None},
}  # fmt: skip
_CREMA = {"format": "crema_d", "source": "@crema", **_PROXY}
_TABLES = {"format": "tables", "source": "@corpus", **_PROXY}
_TABLE = {"format": "table", "source": "@table.csv", **_PROXY}
_TABLE_OTHERS = {
    **_SOURCE, "source": "@table_2.csv", "format": {"*": _TABLES}, "columns": {"label": "label"}, "groups": ["x"],
    "constants": {"annotator": "x"}, "counts": {"happy": "h"}, "probabilities": "p", "files": {"a.csv": "train"},
    "scales": {"valence": [1, 7]}, "encoding": "latin-1",
}  # fmt: skip
_ADAPTER = {"recipe": "alm", "model": "@model"}
_OF_TRAIN = {
    **{f"alm.{key}": {"*": {**_ADAPTER, "alm": {key: value}}} for key, value in (("weights", "all"), ("merge", True))},
    **{f"alm.lora.{key}": {"*": {**_ADAPTER, "alm": {"lora": {key: value}}}} for key, value in (
        ("rank", 4), ("alpha", 4.0), ("dropout", 0.5), ("targets", ["q_proj"]), ("rate", 0.5),
    )},
    "layers": [1], "concentration_half": 2.0, "auxiliary": ["pitch_level"],
    "augment": [{"effect": "gain", "between": {"decibels": [-6, 6]}}],
    "micro_batch": 4, "checkpoint_steps": 9, "tracker": "trackio", "revision": "abc",
    "curriculum.shares": [0.4, 0.6, 0.7, 0.85, 1.0],
    "curriculum.over": 3, "alm.new": {"*": {"recipe": "alm", "alm": {"new": {}}}},
    "alm.look_at": 3, "model": "@model_2",
}  # fmt: skip
_REFERENCE = {"method": "reference"}
CASES: tuple[Case, ...] = (
    Case("simulate", {}, None, {"votes": [3, 6], "speakers": 62}),
    Case("read", {"taxonomy": "crema6", "hold_out": {"keep": 3}}, _CREMA,
         {**_SOURCE, "source": "@crema_2", "format": {"*": _TABLES}}),
    Case("read", {"taxonomy": "crema6"}, _TABLES, {**_SOURCE, "source": "@corpus_2", "format": {"*": _TABLE}}),
    Case("read", {"taxonomy": "crema6"}, _TABLE, _TABLE_OTHERS),
    Case("annotate", {"panel": ["@annotator.toml"]}),
    Case("listen", {"recipe": "encoder", "model": "@model"}),
    Case("fuse", {}, None, {"classes": 4, "method": "human"}), Case("align"),
    Case("balance", {"classes": "@labels.parquet"}, None, {
        "method": {"*": _REFERENCE},
        **{f"reference.{key}": {"*": _REFERENCE | {"reference": {key: 1}}} for key in ("ratio", "augmented")},
        "reference.neighbours": {"*": _REFERENCE | {"reference": {"neighbours": 4}}},
    }),
    Case("balance", _REFERENCE, None, {
        **{f"{part}.{key}": {"*": {part: {key: value}}} for part, key, value in (
            ("cap", "utterance", 5.0), ("cap", "speaker", 0.5), ("copies", "size", 1.5),
            ("copies", "effects", ["gain"]),
            ("copies", "strength", 0.5), ("generated", "size", 0.5), ("generated", "neighbours", 6),
            ("generated", "speaker", "same"), ("generated", "controls", 50),
        )},
    }),
    Case("train", {"recipe": "encoder", "model": "@model"}, None, _OF_TRAIN),
    Case("train", {"recipe": "alm", "alm": {"new": {}, "prompt": "@prompt.toml"}}, None, {
        **_OF_TRAIN, "recipe": {"*": {"recipe": "features"}}, "alm.new.vocabulary": 2048, "alm.new.hidden": 256,
        "alm.new.layers": 3, "alm.new.encoder": "@model",
        "alm.new.audio_hidden": 256, "model": {"*": {"recipe": "alm", "model": "@model"}},
    }),
    Case("predict"), Case("evaluate"), Case("export", {"format": "csv"}, None, {"format": "jsonl"}),
    Case("export", {"format": "ms_swift"}, None, {"format": "llama_factory"}),
)  # fmt: skip
_LISTED = {case.block["format"] for case in CASES if case.block is not None}
CASES += tuple(  # readers whose keys beyond those of every reader can be changed by rule
    Case("read", {"taxonomy": "crema6"}, _TABLES | {"format": name}, {
        **_SOURCE, "source": "@corpus_2", "format": {"*": _TABLES}, "ratings": {"valence": "felt"},
        "scales": {"valence": [1, 7]}, "columns": {"speaker": "who"},
        "counts": {"happy": "h"}, "probabilities": "p", "groups": ["x"], "constants": {"annotator": "x"},
        "files": {"a.csv": "train"}, "encoding": "latin-1", "extract": "@out", "tables": ["x"], "scheme": "mood",
    })
    for name in plugins("readers")
    if name not in _LISTED
)  # fmt: skip
OTHERS: dict[str, Any] = {
    "taxonomy": "msp8", "cards": "@cards_2", "hold_out": {"keep": 2}, "hold_out.keep": 2, "hold_out.splits": ["test"],
    "panel": ["@annotator_2.toml"], "budget": 3.0, "limit": 5, "shard": "1/2", "injection": 3, "may_leave": ["mine"],
    "max_minutes": 5.0, "device": "cpu", "revision": "abc", "layers": [1], "model": "@model_2", "condition": "noise",
    "classes": "@labels_2.parquet", "groups": {"gender": "keep"}, "cap.utterance": 5.0, "cap.speaker": 0.5,
    "copies.size": 1.5, "evaluation.splits": ["test"], "generated.size": 0.5,
    "copies.effects": ["gain"], "splits": ["test"], "baseline": "x",
    "translate": ["labels"], "map": {"happy": "joy"}, "votes": 3, "columns": ["gender"], "consensus": True,
    "recipe": {"recipe": "features", "model": None}, "merge.primary": {"primary": 0.9, "secondary": 0.1},
    "merge.secondary": {"primary": 0.9, "secondary": 0.1}, "alm.prompt": "@prompt_2.toml", "read.folds": "@folds_2.csv",
}  # fmt: skip


def resolved(model: type[BaseModel], values: dict[str, Any], place: Path) -> dict[str, Any]:
    return model.model_validate(in_place(values, place)).model_dump(mode="json", by_alias=True)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.verb} {(case.block or case.settings).get('format', '')}"
)
def test_every_key_of_a_pipeline_section_is_noticed_or_marked(case: Case, place: Path) -> None:
    stage = stage_of(case.verb)
    model = stage.settings if stage.blocks == "combined" else stage.settings_for(case.settings)
    settings = resolved(model, case.settings, place)
    block = None if case.block is None else resolved(stage.settings_for(case.block), case.block, place)
    before = State(task_of(case, place, settings, block)).digest
    wrong = []
    keys = 0
    for kind, own, values in (("settings", model, settings), ("block", stage.block, block)):
        if own is None or values is None:
            continue
        if kind == "block":
            own = stage.settings_for(values)
        for path, declared, value, nothing in leaves(own, values):
            keys += 1
            for change in changed(path, declared, value, {**OTHERS, **case.others}):
                other = put(values, path, change)
                new = (settings, other) if kind == "block" else (other, block)
                try:
                    noticed = State(task_of(case, place, *new)).digest != before
                except (ValueError, AlmProxiesError) as error:
                    if "has no use for" in str(error):  # refused, so nobody believes that it counts
                        break
                    continue
                if noticed == nothing:
                    wrong.append(f"{'.'.join(path)} ({'marked' if nothing else 'not noticed'})")
                break
            else:
                wrong.append(f"{'.'.join(path)} = {value!r} needs a value here that it can be changed to")
    assert keys >= 3 or case.verb == "evaluate"
    assert not wrong


def test_the_cases_have_every_stage_and_every_reader() -> None:
    assert {case.verb for case in CASES} == set(STAGES)
    assert {case.block["format"] for case in CASES if case.block is not None} == set(plugins("readers"))


OF_CARDS: dict[str, Any] = {
    "title": "M", "licence": "MIT", "use": "z", "may_leave": False, "why": "No.", "votes": "two", "taxonomy": "msp8",
    "scales": {"valence": [1, 7]}, "columns": {"label": "l"}, "constants": {"language": "de"},
    "files": {"b.csv": "train"}, "citation": "z", "source": "z",
}  # fmt: skip


@pytest.mark.parametrize("verb", ["read", "align", "balance", "export"])
def test_every_key_of_a_data_card_is_noticed_where_cards_decide(verb: str, tmp_path: Path, place: Path) -> None:
    block = _TABLE | {"corpus": "mine"} if verb == "read" else None
    case = next(known for known in CASES if known.verb == verb)
    settings = case.settings | {"cards": str(tmp_path)}

    def digest(text: str) -> str:
        (tmp_path / "mine.md").write_text(text)
        return State(task_of(Case(verb), place, settings, block)).digest

    before = digest(card())
    keys = {key for key in Card.model_fields if key not in ("name", "text", "path")}  # name is the file's
    assert keys == set(OF_CARDS)
    assert [key for key, other in OF_CARDS.items() if digest(card(**{key: other})) == before] == []
    assert digest(card() + "More.") != before
    assert digest(card()) == before


CONTENT = (
    ("read", "table.csv", lambda text: text.replace("happy", "sad")),
    ("read", "folds.csv", lambda text: text + "t,2\n"),
    ("read", "splits.csv", lambda text: text + "t,train\n"),
    ("read", "votes.parquet", None),
    ("balance", "labels.parquet", None),
    ("listen", "model/weights.bin", None),
    ("train", "model/weights.bin", None),
    ("predict", "model/weights.bin", None),
    ("fuse", "votes.parquet", None),
)


@pytest.mark.parametrize(("verb", "name", "change"), CONTENT, ids=[f"{row[0]} {row[1]}" for row in CONTENT])
def test_the_content_of_a_table_or_model_that_is_named_is_noticed_and_its_place_is_not(
    verb: str, name: str, change: Callable[[str], str] | None, place: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    shutil.copytree(place, here)
    case = next(known for known in CASES if known.verb == verb and (known.block is None or known.block is _TABLE))

    def digest(folder: Path) -> str:
        return State(task_of(case, folder, case.settings, case.block)).digest

    before = digest(here)
    assert digest(place) == before, "the same in another place"
    path = here / name
    if change is not None:
        path.write_text(change(path.read_text()))
    elif path.suffix == ".bin":
        path.write_bytes(b"other weights")
    else:
        other = place / "labels_2.parquet" if "labels" in name else place / "corpus_2" / "votes.parquet"
        shutil.copy(other, path)
    assert digest(here) != before


def test_a_path_is_never_both_content_and_place() -> None:
    """A key with a path is not in the digest as text, so that the content of the path must be, or the key is marked."""
    for verb in STAGES:
        for path, declared, _, nothing in leaves(*_default(verb)):
            if PLACE in marks_of(declared) and not nothing:
                stage = stage_of(verb)
                assert stage.depends, f"{verb}.{'.'.join(path)} is a path, and {verb} depends on no content"


def _default(verb: str) -> tuple[type[BaseModel], dict[str, Any]]:
    model = stage_of(verb).settings
    values = {"recipe": "features"} if verb in ("train", "listen") else {}
    return model, model.model_validate(values).model_dump(mode="json", by_alias=True)


def test_the_settings_page_marks_what_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs"))
    from site_pages.settings_keys import page

    rows = [line for line in page().splitlines() if line.startswith("|")]
    marked = [line for line in rows if "Changes no result" in line]
    for key in ("budget", "price", "serve", "knows", "describes", "micro_batch", "may_leave"):
        assert any(f"`{key}`" in line for line in marked), key
    assert not any(f"`{key}`" in line for line in marked for key in ("prompt", "panel", "seed"))
