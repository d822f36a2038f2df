"""Texts from outside cannot control a terminal or a page."""

import json

from hypothesis import given
from hypothesis import strategies as st

from alm_proxies.errors import InputError
from alm_proxies.printable import counted, in_speakers, printable, printable_json, printable_lines, sentence
from alm_proxies.progress import say

STEERING = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x200E, 0x2028, 0x202E, 0x2066, 0xFEFF, 0xE0041]))


@given(st.text())
def test_nothing_that_is_shown_steers(text: str) -> None:
    for shown in (printable(text), printable(STEERING + text)):
        assert not set(shown) & set(STEERING)
    assert not set(printable_lines(STEERING + text)) & (set(STEERING) - set("\t\n"))


def test_ordinary_text_is_shown_as_it_is() -> None:
    text = "Ärger, 怒り, حزين — “sad” 🙂"
    assert printable(text) == printable_lines(text) == text


@given(st.text())
def test_json_means_the_same(text: str) -> None:
    printed = printable_json(json.dumps([text, STEERING], ensure_ascii=False))
    assert json.loads(printed) == [text, STEERING]
    assert not set(printed) & set(STEERING)


def test_errors_and_progress_lines_are_shown_so(capsys) -> None:
    assert "\\x1b]0;title\\x07" in str(InputError("is none", where="a\x1b]0;title\x07.wav", fix="Rename\nit."))
    say("a\x1b[2Jb\rc\nd")
    assert capsys.readouterr().err == "a\\x1b[2Jb\\x0dc\\x0ad\n"


def test_speakers_are_counted_beside_utterances_of_unknown_ones() -> None:
    assert in_speakers(10, 0) == "10 speakers"
    assert in_speakers(1, 1) == "1 speaker (1 of the utterances is of unknown speakers)"
    assert in_speakers(1000, 9) == "1,000 speakers (9 of the utterances are of unknown speakers)"
    assert in_speakers(0, 9) == "unknown speakers"


def test_a_count_and_its_noun_agree_and_the_verb_with_them() -> None:
    assert [counted(number, "file") for number in (0, 1, 2, 4800)] == ["0 files", "1 file", "2 files", "4,800 files"]
    assert counted(1, "clip has", "clips have") == "1 clip has"
    assert counted(3, "clip has", "clips have") == "3 clips have"
    assert counted(0.9, "vote") == "1 vote"


def test_a_message_ends_with_one_full_stop_or_the_dots_of_a_list_that_breaks_off() -> None:
    assert sentence("it is missing", "Give it.") == sentence("it is missing.", "Give it.") == "it is missing. Give it."
    assert sentence("missing: 'a', 'b' ...", "Give them.") == "missing: 'a', 'b' ... Give them."
    assert sentence("missing: 'a' ...", aside=" (3 times)") == "missing: 'a' ... (3 times)."
    assert sentence("it is missing", None) == "it is missing."
    assert sentence("which is 'a'?", "Name it.") == "which is 'a'? Name it."
    assert str(InputError("missing: 'a' ...", fix="Give them.")) == "missing: 'a' ... Give them."
