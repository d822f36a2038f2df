"""Cards: shipped ones are complete, a user's card overrides them, invalid ones are refused with file, line and fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.cards import Card, card_of, how_to_allow, known_cards, may_leave, read_card, stays_because
from alm_proxies.errors import AlmProxiesError, SettingsError

GOOD = """+++
name = "mine"
title = "My corpus"
licence = "ask me"
may_leave = true
why = "it is mine"
votes = "5 friends"
taxonomy = ["angry", "happy"]
scales = { valence = [1, 5], arousal = [5, 1] }
+++
What it is.
"""
NAMED = [
    "crema_d",
    "dusha",
    "emodb",
    "emotionlines",
    "iemocap",
    "meld",
    "msp_face",
    "msp_improv",
    "msp_podcast",
    "ravdess",
    "sim",
    "whiser",
]


def test_every_named_corpus_has_a_card_and_every_card_is_whole() -> None:
    assert known_cards() == NAMED
    for name in NAMED:
        card = card_of(name)
        assert card.name == name
        assert card.text
        assert card.why
        assert card.use
        assert card.citation or name == "sim"


@pytest.mark.parametrize("corpus", ["iemocap", "msp_podcast", "whiser", "msp_face", "msp_improv", "meld"])
def test_restricted_corpora_stay_unless_the_users_file_names_them(corpus: str) -> None:
    assert not may_leave(corpus)
    assert "has to stay" in str(stays_because(corpus))
    assert not may_leave(corpus, named=["another"])
    assert may_leave(corpus, named=[corpus])


@pytest.mark.parametrize("corpus", ["crema_d", "sim", "emodb", "ravdess"])
def test_open_corpora_may_leave(corpus: str) -> None:
    assert may_leave(corpus)
    assert stays_because(corpus) is None


@pytest.mark.parametrize("corpus", ["never_heard_of", "", "../crema_d", "CREMA_D", "a/b", ".", "x\x00y"])
def test_a_corpus_without_a_card_stays_and_says_why(corpus: str) -> None:
    assert not may_leave(corpus)
    assert "no data card" in str(stays_because(corpus))


@pytest.mark.parametrize("corpus", ["My Sounds", "-x", "Hörproben (2)", "week.1"])
def test_a_folder_of_recordings_may_have_a_card_of_its_name(corpus: str, tmp_path: Path) -> None:
    assert f"({corpus}.md in" in how_to_allow(corpus, tmp_path)
    (tmp_path / f"{corpus}.md").write_text(GOOD.replace('"mine"', f'"{corpus}"'), encoding="utf-8")
    assert may_leave(corpus, folder=tmp_path)


def test_a_corpus_without_a_name_cannot_be_named() -> None:
    assert not may_leave("", named=[""])


def test_the_users_own_card_comes_before_the_shipped_one(tmp_path: Path) -> None:
    own = GOOD.replace('"mine"', '"iemocap"')
    (tmp_path / "iemocap.md").write_text(own, encoding="utf-8")
    assert card_of("iemocap", tmp_path).title == "My corpus"
    assert may_leave("iemocap", folder=tmp_path)
    assert not may_leave("iemocap")
    assert card_of("crema_d", tmp_path).taxonomy == "crema6"
    (tmp_path / "mine.md").write_text(GOOD, encoding="utf-8")
    assert set(known_cards(tmp_path)) == {*NAMED, "mine"}


def test_a_card_keeps_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    card = read_card(path)
    assert card.taxonomy == ("angry", "happy")
    assert card.scales == {"valence": (1.0, 5.0), "arousal": (5.0, 1.0)}
    assert card.text == "What it is."
    assert card.path == str(path)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("licence =", "license =", "line 4", "Did you mean 'licence'?"),
        ("may_leave = true", 'may_leave = "yes"', "line 5", "may_leave = 'yes'"),
        ("may_leave = true", "may_leave = 1", "line 5", "may_leave = 1"),
        ("may_leave = true\n", "", "front matter", "has no key 'may_leave'"),
        ('votes = "5 friends"', "votes = 5", "line 7", "votes = 5"),
        ("valence = [1, 5]", "valance = [1, 5]", "line 9", "scales.valance"),
        ("valence = [1, 5]", "valence = [1, 1]", "line 9", "two different ends"),
        ("valence = [1, 5]", "valence = [1, 5, 7]", "line 9", "scales.valence"),
        ('["angry", "happy"]', '["angry", "angry"]', "line 8", "twice"),
        ('["angry", "happy"]', '"iemocap5"', "line 8", "iemocap4"),
        ('name = "mine"', 'name = "yours"', "line 2", "yours.md"),
        ('why = "it is mine"', "why = it is mine", "line 6", "is not TOML"),
        ("+++\nname", "name", "line 1", "no front matter"),
        ('name = "mine"', 'name = "mine"\npath = "x"', "line 3", "unknown data-card key 'path'"),
    ],
)
def test_a_wrong_card_is_refused_with_file_line_and_mend(
    tmp_path: Path, old: str, new: str, line: str, words: str
) -> None:
    path = tmp_path / "mine.md"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_card(path)
    assert str(path) in str(caught.value.where)
    assert line in str(caught.value.where)
    assert words in str(caught.value)
    assert caught.value.fix


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=6))))
def test_only_our_errors_escape_from_random_cards(
    tmp_path_factory: pytest.TempPathFactory, data: bytes | tuple[int, bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "mine.md"
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        at, inserted = data
        path.write_bytes(GOOD[:at].encode() + inserted + GOOD[at + len(inserted) :].encode())
    outcome: Card | AlmProxiesError
    try:
        outcome = read_card(path)
    except AlmProxiesError as error:
        outcome = error
    assert isinstance(outcome, Card) or str(path) in str(outcome)
