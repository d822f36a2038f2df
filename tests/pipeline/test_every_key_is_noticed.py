"""A finished stage runs again if any key of a user's file changes, unless the key is marked as changing nothing.

A key without a value that it could be changed to fails here, so that a new key cannot be forgotten.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import polars as pl
import pytest
from pydantic import BaseModel

from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import PromptFile
from alm_proxies.cards import Card
from alm_proxies.errors import AlmProxiesError
from alm_proxies.pipeline.perform import Task
from alm_proxies.pipeline.task import State
from alm_proxies.plugins import plugins
from alm_proxies.settings import CHANGES_NOTHING, PLACE, marks_of, models_in
from alm_proxies.stages.registry import STAGES, stage_of
from alm_proxies.tables import Labels, Utterances, Votes

Path_ = tuple[str, ...]
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything that settings can name; *_2 has other content."""
    folder = tmp_path_factory.mktemp("keys")
    ids = [f"mine/{number}" for number in range(4)]
    Utterances.of(pl.DataFrame({"utterance_id": ids, "corpus": "mine"})).write(folder / "utterances.parquet")
    frame = pl.DataFrame({"utterance_id": ids, "annotator": "r", "label": ["happy", "sad", "sad", "happy"]})
    votes = Votes.of(frame, taxonomy=LABELS)
    for name, labels in (("labels", [0.5, 0.5, 0, 0, 0, 0]), ("labels_2", [0, 0.5, 0.5, 0, 0, 0])):
        shares = {f"p_{label}": share for label, share in zip(LABELS, labels, strict=True)}
        frame = pl.DataFrame({"utterance_id": ids}).with_columns(**{key: pl.lit(x) for key, x in shares.items()})
        Labels.of(frame, taxonomy=LABELS).write(folder / f"{name}.parquet")
    votes.write(folder / "votes.parquet")
    for number, name in enumerate(("", "_2")):
        (folder / f"corpus{name}").mkdir()
        shutil.copy(folder / "utterances.parquet", folder / f"corpus{name}")
        votes.write(folder / f"corpus{name}" / "votes.parquet")
        if number:
            Votes.of(votes.frame.head(2), about=votes.about).write(folder / "corpus_2" / "votes.parquet")
        header = "fileName,A,D,F,H,N,S,numResponses,agreement,emoVote,meanEmoResp,meanAcousticResp"
        rows = [f'1001_DFA_ANG_XX,{8 - number},{number},0,0,0,0,8,1,A,"50","50"']
        (folder / f"crema{name}").mkdir()
        (folder / f"crema{name}" / "tabulatedVotes.csv").write_text("\n".join([header, *rows]))
        (folder / f"table{name}.csv").write_text(f"utterance_id,annotator,label\na,r{number},happy\n")
        (folder / f"folds{name}.csv").write_text(f"speaker,fold\ns,{number}\n")
        (folder / f"sounds{name}").mkdir()
        (folder / f"sounds{name}" / f"a{name}.wav").write_bytes(b"RIFF")
        (folder / f"model{name}").mkdir()
        (folder / f"model{name}" / "weights.bin").write_bytes(bytes([number]) * 9)
        (folder / f"cards{name}").mkdir()
        (folder / f"cards{name}" / "mine.md").write_text(card(licence=f"CC{number}"))
        (folder / f"prompt{name}.toml").write_text(toml(PROMPT | {"before": f"Listen {number}."}))
        (folder / f"annotator{name}.toml").write_text(toml(ANNOTATOR | {"model": f"m{number}"}))
    return folder


@dataclass(frozen=True)
class Case:
    """Settings of a stage with all keys of one kind, and the values to change them to."""

    verb: str
    settings: dict[str, Any] = field(default_factory=dict)
    block: dict[str, Any] | None = None
    others: dict[str, Any] = field(default_factory=dict)
    """Values of keys that no rule can change; `@x` is the path x in the folder."""


_PROXY = {"corpus": "mine", "as": "proxy:p", "trained_on_these_votes": "out_of_fold", "folds": "@folds.csv"}
_SOURCE = {
    "recordings": "@sounds",
    "corpus": "other", "map": {"Puzzled": "sad"}, "split": "folds:2", "as": "proxy:q", "folds": "@folds_2.csv",
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
    "layers": [1], "concentration_half": 2.0, "augment": [{"effect": "gain"}], "auxiliary": ["pitch_level"],
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


def in_place(value: Any, folder: Path) -> Any:
    """A value with the paths of a folder in it."""
    if isinstance(value, str):
        return str(folder / value[1:]) if value.startswith("@") else value
    if isinstance(value, dict):
        return {key: in_place(inner, folder) for key, inner in value.items()}
    return [in_place(inner, folder) for inner in value] if isinstance(value, list | tuple) else value


def task_of(case: Case, place: Path, settings: dict[str, Any], block: dict[str, Any] | None) -> Task:
    needs = {"utterances": "utterances.parquet", "votes": "votes.parquet", "labels": "labels.parquet", "model": "model"}
    inputs = {need.name: [str(place / needs[need.name])] for need in stage_of(case.verb).needs if need.name in needs}
    blocks = [in_place(block, place)] if block is not None else []
    settings = in_place(settings, place)
    return Task(case.verb, str(place / "out"), settings, blocks, inputs, labels=list(LABELS), beside=str(place))


def leaves(model: type[BaseModel], values: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, Any, Any, bool]]:
    """Every key of a model: its path, its field, its value, and whether it is marked as changing nothing."""
    for name, declared in model.model_fields.items():
        key = declared.alias or name
        inner, value = next(models_in(declared.annotation), None), values[key]
        nothing = CHANGES_NOTHING in marks_of(declared)
        if inner is not None and isinstance(value, dict):
            yield from ((p, f, v, nothing or n) for p, f, v, n in leaves(inner, value, (*path, key)))
        else:
            yield (*path, key), declared, value, nothing


def changed(path: Path_, declared: Any, value: Any, others: dict[str, Any]) -> list[Any]:
    """Other values of a key: the listed one, or several by rule, of which the first valid one is used."""
    for name in (".".join(path), path[-1]):
        if name in others:
            return [others[name]]
    parts = (declared.annotation, *get_args(declared.annotation))
    literal = next((part for part in parts if get_origin(part) is Literal), None)
    if literal is not None:
        return [choice for choice in get_args(literal) if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value + 2, 2 * value]
    if isinstance(value, float):
        return [value / 2 if value else 0.5, 1.0, 2.0]
    if isinstance(value, str) and value:
        return [value + "x"]
    if isinstance(value, list | tuple) and value and all(isinstance(item, int | float) for item in value):
        return [[value[0] / 2 if isinstance(value[0], float) else value[0], *value[1:-1], value[-1] + 1]]
    return [3, 0.5, "x", ["x"]]


def put(values: dict[str, Any], path: Path_, other: Any) -> dict[str, Any]:
    copied = json.loads(json.dumps(values))
    inner = copied
    for part in path[:-1]:
        inner = inner[part]
    if isinstance(other, dict) and "*" in other:
        return dict(other["*"])
    if isinstance(other, dict) and path[-1] in other:  # a change of several keys that only go together
        inner.update(other)
    else:
        inner[path[-1]] = other
    return dict(copied)


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


ANNOTATOR: dict[str, Any] = {
    "name": "one", "engine": "scripted", "model": "m", "prompt": "prompt.toml", "serve": {"answers": "a.csv"},
    "cross": {"temperature": [0.7], "focus": ["tone"]},
}  # fmt: skip
PROMPT: dict[str, Any] = {
    "describes": "x", "elicits": "label", "system": "You hear speech.", "before": "Listen.",
    "after": "{{ choices }} {% if focus %}{{ focus }}{% endif %} {% for x in turns %}{{ x.transcript }}{% endfor %}",
    "turns": 2,
    "focus": {"tone": "Mind the tone.", "words": "Mind the words."}, "requires": [], "scale": [0.0, 1.0],
}  # fmt: skip
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


def toml(values: dict[str, Any]) -> str:
    """Values as TOML."""
    return "\n".join(f"{key} = {_toml(value)}" for key, value in values.items() if value is not None) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ "
            + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items() if inner is not None)
            + " }"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


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


def card(**values: Any) -> str:
    values_of_card: dict[str, Any] = {
        "name": "mine", "title": "Mine", "licence": "CC", "use": "w", "may_leave": True, "why": "It is mine.",
        "votes": "one", "taxonomy": "crema6", "scales": {"valence": [1, 5]}, "columns": {"label": "heard"},
        "constants": {"language": "en"}, "files": {"a.csv": "train"}, "citation": "x", "source": "y", **values,
    }  # fmt: skip
    return f"+++\n{toml(values_of_card)}+++\nText.\n"


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
