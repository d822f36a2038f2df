import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wording import Wording

from alm_proxies.errors import SettingsError
from alm_proxies.taxonomy import (
    ANCHORS,
    TAXONOMIES,
    Meaning,
    anchors,
    canonical,
    distribution_of,
    from_unit,
    label_for,
    meanings,
    taxonomy_of,
    to_unit,
    vad_of,
)


def test_taxonomies_come_by_name_by_list_and_by_labels(wording: Wording) -> None:
    assert taxonomy_of("iemocap4").labels == ("angry", "happy", "neutral", "sad")
    assert taxonomy_of("x, y").labels == ("x", "y")
    assert taxonomy_of(TAXONOMIES["msp8"]).name == "msp8"
    with wording.refused(SettingsError):
        taxonomy_of("msp88")
    with wording.refused(SettingsError):
        taxonomy_of("a,b,a")
    with wording.refused(SettingsError):
        taxonomy_of(["a"])
    with wording.refused(SettingsError):
        taxonomy_of("a,outside")
    with wording.refused(SettingsError):
        taxonomy_of(["a", 3])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("word", "label"),
    [("Happiness", "happy"), ("hap", "happy"), ("H", "happy"), ("Excited", "excited"), ("exc", "excited")]
    + [("U", "surprise"), ("Surprised", "surprise"), ("FEA", "fear"), ("Frustration", "frustrated"), ("O", "other")],
)
def test_the_words_of_label_files_mean_one_label(word: str, label: str) -> None:
    assert canonical(word) == label


def test_a_small_letter_is_no_code() -> None:
    assert canonical("a") == "a"


def test_every_label_and_synonym_finds_its_own_label_in_every_taxonomy() -> None:
    for labels in TAXONOMIES.values():
        for label in labels:
            assert label_for(label, labels) == label
            assert label_for(label.upper(), labels) == label
    assert label_for("joy", ["joy", "anger"]) == "joy"
    assert label_for("happy", ["Joy", "Anger"]) == "Joy"
    assert label_for("bored", TAXONOMIES["msp8"]) is None


def test_a_map_merges_only_what_it_names_and_the_rest_is_unknown() -> None:
    mapped = meanings(
        ["Excited", "Frustration", "Happiness", "Concerned"],
        TAXONOMIES["iemocap4"],
        {"excited": "happy", "Frustration": "outside"},
    )
    assert mapped == {
        "Excited": Meaning("happy", "mapped"),
        "Frustration": Meaning(None, "outside"),
        "Happiness": Meaning("happy", "same"),
        "Concerned": Meaning(None, "unknown"),
    }


WORDS = ["Happy", "happy", "HAPPINESS", "joy", "Joy ", "Excited", "exc"]


def labels_of(words: list[str], mapping: dict[str, str]) -> list[str | None]:
    mapped = meanings(words, TAXONOMIES["iemocap4"], mapping)
    return [mapped[word].label for word in words]


@pytest.mark.parametrize("key", ["Joy", "joy", " JOY "])
def test_a_key_that_is_no_label_stands_for_that_very_word_alone(key: str) -> None:
    assert labels_of(WORDS, {key: "sad"}) == ["happy", "happy", "happy", "sad", "sad", None, None]
    assert labels_of(WORDS, {"excited": "happy"})[-2:] == ["happy", None]


@pytest.mark.parametrize("key", ["happy", "Happy", " HAPPY"])
def test_a_key_that_is_a_labels_name_stands_for_its_synonyms_too(key: str) -> None:
    assert labels_of(WORDS, {key: "sad"}) == ["sad"] * 5 + [None] * 2
    assert labels_of(WORDS, {key: "sad", "joy": "neutral"}) == ["sad"] * 3 + ["neutral"] * 2 + [None] * 2


def test_a_map_finds_a_word_however_its_accents_are_written() -> None:
    composed, apart = (unicodedata.normalize(form, "Überdruß") for form in ("NFC", "NFD"))
    assert meanings([apart], TAXONOMIES["crema6"], {composed: "disgust"})[apart].label == "disgust"
    assert meanings([composed], TAXONOMIES["crema6"], {apart: "disgust"})[composed].label == "disgust"


def test_a_map_that_says_what_holds_without_it_maps_nothing() -> None:
    mapped = meanings(["happy", "joy"], TAXONOMIES["iemocap4"], {"happy": "happy", "joy": "happy"})
    assert set(mapped.values()) == {Meaning("happy", "same")}


def test_two_spellings_of_a_key_that_disagree_are_refused(wording: Wording) -> None:
    with wording.refused(SettingsError):
        meanings(["joy"], TAXONOMIES["iemocap4"], {"joy": "happy", "JOY": "sad"})
    assert labels_of(["joy"], {"joy": "sad", "JOY": "sad"}) == ["sad"]


def test_a_map_to_no_label_is_refused_with_the_nearest_one(wording: Wording) -> None:
    with wording.refused(SettingsError):
        meanings(["x"], TAXONOMIES["iemocap4"], {"x": "hapy"})


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 1))
def test_scales_go_there_and_back(low: float, high: float, value: float) -> None:
    if abs(low - high) < 1e-3:
        return
    there = from_unit(np.array([value]), low, high)
    assert to_unit(there, low, high)[0] == pytest.approx(value, abs=1e-9)


def test_a_turned_scale_makes_more_of_less() -> None:
    assert to_unit(np.array([1.0, 5.0]), 5.0, 1.0).tolist() == [1.0, 0.0]
    assert not np.signbit(to_unit(np.array([5.0]), 5.0, 1.0)).any()
    with pytest.raises(SettingsError):
        to_unit(np.array([1.0]), 3.0, 3.0)


def test_a_sure_distribution_stands_at_its_anchor_and_comes_back_from_it() -> None:
    labels = TAXONOMIES["crema6"]
    points = vad_of(np.eye(6), labels)
    assert np.allclose(points, anchors(labels))
    assert (distribution_of(points, labels, width=0.05).argmax(1) == np.arange(6)).all()
    assert np.allclose(distribution_of(points, labels).sum(1), 1.0)


def test_labels_without_an_anchor_are_refused(wording: Wording) -> None:
    with wording.refused(SettingsError):
        anchors(TAXONOMIES["msp9"])
    assert all(0 <= value <= 1 for anchor in ANCHORS.values() for value in anchor)
