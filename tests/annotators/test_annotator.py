from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.asking import Asking
from alm_proxies.annotators.cells import cells_of, label_orders
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.engines.engine import Audio
from alm_proxies.engines.registry import ScriptedServe
from alm_proxies.errors import SettingsError
from alm_proxies.files import shipped_folder
from alm_proxies.taxonomy import TAXONOMIES

MSP = TAXONOMIES["msp8"]
CLIP = Audio(np.zeros(1600, dtype=np.float32), 16_000)
CROSSED = {"temperature": [0.6, 0.8, 1.0], "focus": ["voice", "words"], "label_orders": 2}


def annotator_with(votes: int | None = None, **changes: Any) -> Annotator:
    values = {"name": "one", "engine": "scripted", "model": "m", "cross": CROSSED, **changes}
    return Annotator.of(AnnotatorFile.model_validate(values)).ready(changes.get("labels", MSP), votes)


def words_of(asking: Asking) -> list[str]:
    turns = [turn for question in asking.request.questions for turn in question.turns]
    return [part for turn in turns for part in turn.parts if isinstance(part, str)]


@settings(deadline=None)
@given(st.integers(2, 12))
def test_label_orders_are_a_balanced_latin_square(labels: int) -> None:
    orders = label_orders(labels, labels if labels % 2 == 0 else 2 * labels)
    places = Counter((label, place) for order in orders for place, label in enumerate(order))
    follows = Counter(pair for order in orders for pair in pairwise(order))
    assert orders[0] == tuple(range(labels))
    assert len(places) == labels**2
    assert len(follows) == labels * (labels - 1)
    assert len(set(places.values())) == len(set(follows.values())) == 1
    assert all(order in orders for order in [tuple(reversed(orders[0]))])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 4), st.integers(1, 4))
def test_any_number_of_first_cells_uses_every_value_about_equally_often(t: int, f: int, o: int) -> None:
    temperatures = [0.1 * n for n in range(t)]
    cells = cells_of(temperatures, [str(n) for n in range(f)], label_orders(4, o))
    assert len(set(cells)) == len(cells) == t * max(f, 1) * o
    for count in range(1, len(cells) + 1):
        for value in ("temperature", "focus", "order"):
            used = Counter(getattr(cell, value) for cell in cells[:count])
            possible = {getattr(cell, value) for cell in cells}
            assert max(used.values()) - min(used.get(cell_value, 0) for cell_value in possible) <= 2


def test_focus_and_temperature_are_not_confounded() -> None:
    pairs = Counter((cell.temperature, cell.focus) for cell in annotator_with().cells)
    assert set(pairs.values()) == {2}
    assert len(pairs) == 6


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.text(min_size=1, max_size=10))
def test_raising_votes_keeps_the_cell_and_the_seed_of_every_first_draw(few: int, more: int, utterance: str) -> None:
    fewer, other = annotator_with(few), annotator_with(few + more)
    for draw in range(few):
        (first,), (second,) = (
            annotator.askings(utterance, [draw], CLIP, PromptContext(), 7) for annotator in (fewer, other)
        )
        assert (first.asked, words_of(first)) == (second.asked, words_of(second))
        assert (first.request.seeds, first.request.sampling) == (second.request.seeds, second.request.sampling)
    assert fewer.digest == other.digest


def test_the_seed_of_a_draw_does_not_depend_on_which_draws_share_its_request() -> None:
    annotator = annotator_with(36)
    together = annotator.askings("u", range(36), CLIP, PromptContext(), 7)
    assert len(together) == 12
    assert all(len(asking.draws) == 3 for asking in together)
    seeds = {draw: s for asking in together for draw, s in zip(asking.draws, asking.request.seeds, strict=True)}
    alone = annotator.askings("u", [29], CLIP, PromptContext(), 7)[0]
    assert alone.request.seeds == (seeds[29],)
    assert len(set(seeds.values())) == 36


def test_draws_of_one_cell_share_a_request_whose_seeds_are_consecutive() -> None:
    asking = annotator_with(36).askings("u", range(36), CLIP, PromptContext(), 7)[0]
    assert asking.draws == (0, 12, 24)
    assert [s - asking.request.seeds[0] for s in asking.request.seeds] == [0, 1, 2]


def test_codes_belong_to_positions_so_each_order_gives_a_label_another_code() -> None:
    annotator = annotator_with(cross={"label_orders": 8}, votes=8)
    codes: dict[str, set[str]] = {label: set() for label in MSP}
    for asking in annotator.askings("u", range(8), CLIP, PromptContext(), 7):
        question, asked = asking.request.questions[0], asking.asked[0]
        assert asked.codes is not None
        for label, choice in zip(MSP, question.choices, strict=True):
            assert asked.labels[asked.codes.index(choice)] == label
            assert f"{choice}: {label}" in str(question.turns[-1].parts[-1])
            codes[label].add(choice)
    assert all(len(used) == 8 for used in codes.values())


def test_the_recording_comes_before_everything_that_varies() -> None:
    annotator = annotator_with(prompt="reference", cross={"focus": ["tone", "subtle"], "label_orders": 2})
    askings = annotator.askings("u", range(4), CLIP, PromptContext("Hello.", "a/1"), 7)
    heads = set()
    for asking in askings:
        parts = [part for turn in asking.request.questions[0].turns for part in turn.parts]
        place = parts.index(CLIP)
        heads.add(tuple(parts[:place]))
        assert len(parts) == place + 2
    assert len(heads) == 1


def test_a_score_asks_all_its_orders_in_one_request() -> None:
    annotator = annotator_with(elicit="score", cross={"label_orders": 8})
    (asking,) = annotator.askings("u", range(8), CLIP, PromptContext(), 7)
    assert len(asking.request.questions) == annotator.votes == 8
    assert asking.draws == tuple(range(8))


def test_the_digest_depends_only_on_settings_that_change_a_vote() -> None:
    digest = annotator_with().digest
    for same in ({"serve": {"faults": {}}}, {"price": {"audio_minute": 1.0}}, {"votes": 3}, {"name": "other"}):
        assert annotator_with(**same).digest == digest
    for other in (
        {"model": "n"},
        {"revision": "abc"},
        {"prompt": "context"},
        {"answer": "words"},
        {"sampling": {"top_p": 0.9}},
        {"cross": {**CROSSED, "label_orders": 4}},
        {"cross": {**CROSSED, "focus": ["voice"]}},
        {"too_long": "crop"},
        {"labels": MSP[:4]},
    ):
        changed: dict[str, Any] = dict(other)
        labels = changed.pop("labels", MSP)
        values = {"name": "one", "engine": "scripted", "model": "m", "cross": CROSSED, **changed}
        if values["prompt" if "prompt" in values else "name"] == "context":
            values["cross"] = {**CROSSED, "focus": ["voice", "change"]}
        assert Annotator.of(AnnotatorFile.model_validate(values)).ready(labels).digest != digest


def test_the_material_digest_depends_on_the_audio_and_the_context() -> None:
    listener, reference = annotator_with(), annotator_with(prompt="reference", cross={})
    context = PromptContext("Hello.", "a/1")
    assert listener.material("x", None, None, context) == listener.material("x", None, None, PromptContext())
    assert reference.material("x", None, None, context) != reference.material(
        "x", None, None, PromptContext("Bye.", "a/1")
    )
    assert listener.material("x", None, None, context) != listener.material("y", None, None, context)
    assert listener.material("x", None, None, context) != listener.material("x", 1.0, None, context)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "distribution", "cross": {}}, "which asks for a distribution"),
        ({"prompt": "attributes", "elicit": "state", "cross": {"label_orders": 2}}, "shows no labels"),
        ({"cross": {"focus": ["face"]}}, "There are: voice, words"),
        ({"elicit": "score"}, "does not depend on"),
        ({"elicit": "score", "cross": {"label_orders": 4}, "votes": 5}, "more than the 4 cells"),
        ({"constrain": True, "answer": "words"}, "not sampled by their probability"),
        ({"cross": {"label_orders": 9}}, "more than the 8 orders"),
        ({"serve": {"gpus": 2}}, "serve"),
        ({"prompt": "nothing"}, "there is no prompt 'nothing'"),
    ],
)
def test_contradicting_settings_are_refused_before_anything_is_asked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        annotator_with(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "path", sorted(shipped_folder("pipelines").glob("annotators/*.toml")), ids=lambda path: path.stem
)
def test_a_shipped_annotator_can_be_read_and_made_ready(path: Path) -> None:
    annotator = Annotator.read(path, taxonomy="msp8")
    assert annotator.askings("u", range(annotator.votes), CLIP, PromptContext(), 1)
    assert annotator.card(7).estimand


def test_a_users_own_prompt_is_found_next_to_the_annotator_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('elicits = "label"\nafter = "Pick:\\n{{ choices }}"')
    (tmp_path / "a.toml").write_text('name = "a"\nengine = "scripted"\nmodel = "m"\nprompt = "mine.toml"\n')
    annotator = Annotator.read(tmp_path / "a.toml", taxonomy="iemocap4")
    asking = annotator.askings("u", [0], CLIP, PromptContext(), 1)[0]
    assert asking.request.questions[0].turns[0].parts[-1] == "Pick:\nA: angry\nB: happy\nC: neutral\nD: sad"


def test_a_shipped_annotator_is_found_by_its_name_and_a_wrong_name_is_refused() -> None:
    assert Annotator.read("server_listener").name == "server-listener"
    with pytest.raises(SettingsError, match="Did you mean 'server_listener'"):
        Annotator.read("server_listner")


def test_a_table_of_answers_is_beside_the_annotator_file_or_else_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "annotators", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
    monkeypatch.chdir(here)
    path = beside / "one.toml"
    path.write_text('name = "one"\nengine = "scripted"\nmodel = "m"\nserve = { answers = "said.csv" }\n')

    def answers() -> Path:
        serve = Annotator.read(path).serve
        assert isinstance(serve, ScriptedServe)
        return Path(serve.answers)

    assert answers() == beside / "said.csv"  # where an error says that it is missing
    (here / "said.csv").write_text("utterance_id,text\nu,happy\n")
    assert answers().resolve() == here / "said.csv"
    (beside / "said.csv").write_text("utterance_id,text\nu,sad\n")
    assert answers() == beside / "said.csv"


def test_votes_depend_on_the_content_of_a_table_of_answers(tmp_path: Path) -> None:
    path = tmp_path / "said.csv"
    digests = []
    for text in ("happy", "sad", "happy"):
        path.write_text(f"utterance_id,text\nu,{text}\n")
        digests.append(annotator_with(serve={"answers": str(path)}).digest)
    assert digests[0] == digests[2] != digests[1]


def test_labels_that_are_codes_too_are_refused_where_a_reply_could_mean_either() -> None:
    letters = ("A", "D", "F", "H")
    for more in ({}, {"elicit": "state", "prompt": "distribution"}):
        file = AnnotatorFile.model_validate({"name": "a", "engine": "scripted", "model": "m", **more})
        with pytest.raises(SettingsError, match="the label 'A' is also one of the codes A to D"):
            Annotator.of(file).ready(letters)
    for more in ({"answer": "words"}, {"elicit": "score"}):
        file = AnnotatorFile.model_validate({"name": "a", "engine": "scripted", "model": "m", **more})
        assert Annotator.of(file).ready(letters).labels == letters
    assert Annotator.of(AnnotatorFile(name="a", engine="scripted", model="m")).ready(("N", "S")).labels == ("N", "S")
