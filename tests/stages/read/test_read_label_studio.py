"""Label Studio's reader on made-up exports in its shape."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.errors import AlmProxiesError, InputError, SettingsError
from alm_proxies.stages.read.formats.label_studio import LabelStudioSource
from alm_proxies.stages.read.settings import ReadSettings
from alm_proxies.stages.read.stage import Corpus, read
from tests.stages.read.corpora import annotation, label_studio, sound

GIVEN = {
    "label": "emotion",
    "secondary": "secondary",
    "ratings": {"dominance": "power"},
    "scales": {"valence": (1, 7), "dominance": (1, 7)},
}


def _read(path: Path, **given: object) -> Corpus:
    source = LabelStudioSource.model_validate({"source": path, "corpus": "mine", **given})
    return read(source, ReadSettings(taxonomy="crema6"))


def _counts(corpus: Corpus) -> dict[str, int]:
    return dict(corpus.findings.frame.group_by("kind").agg(pl.col("count").sum()).iter_rows())


def test_annotations_are_votes_of_the_people_who_made_them(tmp_path: Path) -> None:
    corpus = _read(label_studio(tmp_path), **GIVEN)
    votes = corpus.votes.frame.sort("utterance_id", "annotator", "draw", "label", nulls_last=True)
    by_id = votes.select("utterance_id", "annotator", "draw", "label", "weight").rows()
    kim = next(name for _, name, *_ in by_id if name.startswith("mine/rater-"))
    assert by_id == [
        ("mine/a ü", "mine/rater2", 0, "happy", 1.0),
        ("mine/a ü", "mine/rater2", 1, "happy", 1.0),
        ("mine/a ü", "mine/rater3", 0, None, 1.0),
        ("mine/a ü", "mine/rater7", 0, "angry", 0.5),
        ("mine/a ü", "mine/rater7", 0, "sad", 0.5),
        ("mine/b2", kim, 0, "neutral", 1.0),
    ]
    first = votes.row(0, named=True)
    assert np.allclose([first["valence"], first["dominance"]], [5 / 6, 3.5 / 6])
    assert first["secondary"] == ["sad", "happy"]
    assert first["lead_time"] == 3.2
    assert "kim@example.org" not in str(votes.to_dicts())


def test_what_brings_no_vote_or_may_be_biased_is_counted(tmp_path: Path) -> None:
    counts = _counts(_read(label_studio(tmp_path), **GIVEN))
    assert counts["no_vote"] == 2  # a skip, and an annotation without an answer
    assert counts["out_of_vocabulary"] == 1
    assert counts["answered_again"] == 1
    assert counts["saw_prediction"] == 1
    assert counts["no_votes"] == 1  # the task that nobody annotated
    assert counts["columns_not_taken"] == 1  # a comment


def test_annotations_of_whom_nothing_is_known_are_a_crowds_and_not_one_raters(tmp_path: Path) -> None:
    answers = [annotation(n, None, ["happy" if n else "sad"]) for n in range(3)]
    corpus = _read(label_studio(tmp_path, [{"id": 1, "data": {"audio": "a.wav"}, "annotations": answers}]))
    assert corpus.votes.frame.select("annotator", "draw").rows() == [("mine/crowd", n) for n in range(3)]
    assert "answered_again" not in _counts(corpus)


def test_an_answer_for_each_region_replaces_none_before_it(tmp_path: Path) -> None:
    answer = annotation(1, 2, ["happy"], valence=6)
    answer["result"] = [*annotation(1, 2, ["sad"], valence=2)["result"], *answer["result"]]  # type: ignore[misc]
    path = label_studio(tmp_path, [{"id": 1, "data": {"audio": "a.wav"}, "annotations": [answer]}])
    corpus = _read(path, scales={"valence": (1, 7)})
    votes = corpus.votes.frame.sort("label")
    assert votes.select("label", "weight").rows() == [("happy", 0.5), ("sad", 0.5)]
    assert np.allclose(votes["valence"], 1 / 6)
    counts = _counts(corpus)
    assert (counts["several_labels"], counts["columns_not_taken"]) == (1, 1)


def test_tasks_describe_their_utterances(tmp_path: Path) -> None:
    people = _read(label_studio(tmp_path), **GIVEN).utterances.frame.sort("utterance_id")
    assert people["utterance_id"].to_list() == ["mine/a ü", "mine/b2", "mine/c"]
    assert people["audio"].to_list() == ["set1/a ü.wav", "s3://bucket/b.wav", "/data/upload/1/c.wav"]
    assert people["speaker"].to_list() == ["mine/anna", None, None]
    assert people["gender"].to_list() == ["female", None, None]
    assert people["split"].to_list() == [None, "development", None]
    assert people["transcript"].to_list() == [None, "made up", None]


def test_recordings_are_found_in_a_folder_of_their_own(tmp_path: Path) -> None:
    for name in ("a ü", "b", "c"):
        sound(tmp_path / "sounds" / f"{name}.wav")
    people = _read(label_studio(tmp_path), **GIVEN, recordings=tmp_path / "sounds").utterances.frame
    assert people.sort("utterance_id")["audio"].to_list() == ["a ü.wav", "b.wav", "c.wav"]


def test_several_controls_need_the_name_of_one(tmp_path: Path) -> None:
    tasks: list[dict[str, object]] = [
        {
            "id": 1,
            "data": {"audio": "a.wav"},
            "annotations": [
                {"completed_by": 1, "result": [
                    {"from_name": name, "type": "choices", "value": {"choices": ["happy"]}} for name in ("one", "two")
                ]}
            ],
        }
    ]  # fmt: skip
    path = label_studio(tmp_path, tasks)
    with pytest.raises(SettingsError, match="2 Choices controls"):
        _read(path)
    with pytest.raises(SettingsError, match="no answered Choices control 'tow'") as refused:
        _read(path, label="tow")
    assert "two" in refused.value.fix
    assert _read(path, label="two").votes.frame["label"].to_list() == ["happy"]


def test_ratings_without_a_scale_are_refused_with_both_ways_to_state_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="scale of valence") as refused:
        _read(label_studio(tmp_path), label="emotion")
    assert "--scales valence=1:5" in refused.value.fix
    assert "card" in refused.value.fix


def test_two_tasks_of_one_utterance_must_agree(tmp_path: Path) -> None:
    def task(number: int, speaker: str) -> dict[str, object]:
        data = {"audio": "a.wav", "speaker": speaker}
        return {"id": number, "data": data, "annotations": [annotation(1, number, ["sad"])]}

    corpus = _read(label_studio(tmp_path / "a", [task(1, "x"), task(2, "x")]))
    assert len(corpus.utterances) == 1
    assert len(corpus.votes) == 2
    with pytest.raises(InputError, match="describe it differently"):
        _read(label_studio(tmp_path / "b", [task(1, "x"), task(2, "y")]))


@pytest.mark.parametrize(
    "content", ["{}", "[]", "[1]", '[{"id": 1}]', '[{"data": {}, "emotion": "happy"}]', "nonsense"]
)
def test_other_exports_are_refused_with_the_right_one_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError) as refused:
        _read(tmp_path / "x.json")
    assert refused.value.fix


def test_damaged_exports_never_end_in_a_traceback(tmp_path: Path) -> None:
    path = label_studio(tmp_path)
    whole = json.loads(path.read_text())
    rng = np.random.default_rng(3)
    odd: list[object] = [None, 3, "x", [], {}, [1], {"a": 1}, True]

    def damaged(value: object) -> object:
        if rng.random() < 0.04:
            return odd[int(rng.integers(len(odd)))]
        if isinstance(value, dict):
            return {key: damaged(item) for key, item in value.items()}
        return [damaged(item) for item in value] if isinstance(value, list) else value

    for _ in range(150):
        path.write_text(json.dumps(damaged(whole)))
        with suppress(AlmProxiesError):  # anything else fails the test
            _read(path, **GIVEN)
