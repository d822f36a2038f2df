import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alm_proxies.annotators.replies import read_reply, without_reasoning
from alm_proxies.annotators.stated import schema
from alm_proxies.annotators.wording import AnswerFormat
from alm_proxies.taxonomy import TAXONOMIES

MSP = TAXONOMIES["msp8"]
WORDS = AnswerFormat("label", MSP)
CODES = AnswerFormat("label", MSP, tuple("ABCDEFGH"))
FOUR = AnswerFormat("label", ("angry", "happy", "neutral", "sad"))
TAXONOMY = st.one_of(
    st.sampled_from(list(TAXONOMIES.values())),
    st.lists(st.from_regex(r"[a-z]{3,9}( [a-z]{3,9})?", fullmatch=True), min_size=2, max_size=9, unique=True).map(
        tuple
    ),
)


def label_of(text: str, asked: AnswerFormat = WORDS) -> str | None:
    reading = read_reply(text, asked)
    return reading.shares[0][0] if reading.status == "ok" else None


@pytest.mark.parametrize("labels", TAXONOMIES.values(), ids=TAXONOMIES.keys())
def test_every_label_of_every_taxonomy_reads_back_as_word_and_as_code(labels: tuple[str, ...]) -> None:
    codes = tuple("ABCDEFGHIJ"[: len(labels)])
    for code, label in zip(codes, labels, strict=True):
        for text in (label, label.upper(), f" {label}.\n", f'"{label}"', f"**{label}**"):
            assert label_of(text, AnswerFormat("label", labels)) == label
        for text in (
            code,
            code.lower(),
            f"({code})",
            f"{code}.",
            f"{code}: {label}",
            f"{code}) {label}",
            f"{code}. {label}",
        ):
            assert label_of(text, AnswerFormat("label", labels, codes)) == label


@settings(deadline=None)
@given(TAXONOMY, st.data())
def test_an_exact_label_is_read_without_a_stated_text(labels: tuple[str, ...], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(labels))
    reading = read_reply(label, AnswerFormat("label", labels))
    assert (reading.status, reading.shares, reading.stated) == ("ok", ((label, 1.0),), None)


@settings(max_examples=400, deadline=None)
@given(
    st.text(),
    st.sampled_from(["label", "primary_secondary", "distribution", "attributes"]),
    st.booleans(),
    st.sampled_from(["stop", "length", "content_filter", ""]),
)
def test_any_text_has_a_reading_whose_shares_sum_to_one(text: str, elicits: str, coded: bool, finish: str) -> None:
    reading = read_reply(text, AnswerFormat(elicits, MSP, CODES.codes if coded else None, (1.0, 7.0)), finish)  # type: ignore[arg-type]
    assert (reading.status == "ok") == bool(reading.shares or reading.attributes)
    if reading.shares:
        assert sum(share for _, share in reading.shares) == pytest.approx(1.0)
    assert reading.status == "ok" or reading.kind


_FRAGMENTS = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        '"',
        ":",
        ",",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "not",
        "happy",
        "sad",
        "NaN",
        "1e999",
    ]
    + [
        "primary",
        "secondary",
        "valence",
        "-1",
        "100",
        "\ud800",
        "\x00",
        "```json",
        "```",
        "A",
        "I'm sorry, but I can't help",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_FRAGMENTS, max_size=30).map(" ".join), st.sampled_from(["label", "primary_secondary", "distribution"]))
def test_any_jumble_of_reply_parts_has_a_reading(text: str, elicits: str) -> None:
    assert read_reply(text, AnswerFormat(elicits, MSP)).status in ("ok", "refused", "unparsable", "out_of_vocabulary")  # type: ignore[arg-type]


def test_deep_json_and_huge_numbers_are_unparsable_and_do_not_raise() -> None:
    asked = AnswerFormat("distribution", MSP)
    for text in ("{" * 5000, '{"a":' * 100_000, '{"sad": 1' + "0" * 6000 + "}", '{"sad": 1e999}', '{"sad": NaN}'):
        assert read_reply(text, asked).status == "unparsable"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("not happy, sad", "sad"),
        ("Sad, not happy.", "sad"),
        ("The speaker sounds sad.", "sad"),
        ("The emotion is happiness", "happy"),
        ("anything but happy. Angry!", "angry"),
        ("sad rather than angry", "sad"),
        ("not happy", None),
        ("The speaker isn't happy", None),
        ("I would not say that the speaker sounds happy", None),
        ("neither happy nor sad", None),
        ("happy or sad", None),
        ("happy?", None),
        ("is she happy? I wonder", None),
        ("happy, sad", None),
        ("sad and jealous", None),
        ("not only sad", None),
        ("happy would be wrong", None),
        ("unhappy", None),
        ("non-angry", None),
        ("A", None),
        ("banana", None),
    ],
)
def test_prose_gives_a_label_only_if_it_asserts_exactly_one(text: str, label: str | None) -> None:
    assert label_of(text) == label


@settings(deadline=None)
@given(st.sampled_from(MSP), st.sampled_from(MSP))
def test_a_negated_label_is_never_the_answer(denied: str, label: str) -> None:
    assume(denied != label)
    assert label_of(f"not {denied}, {label}") == label
    assert label_of(f"not {denied}") is None
    assert label_of(f"{label}, not {denied}") == label


@pytest.mark.parametrize("text", ["frustrated", "The speaker sounds frustrated.", "Jealousy", "excited"])
def test_an_emotion_outside_the_taxonomy_is_counted_with_its_words(text: str) -> None:
    reading = read_reply(text, FOUR)
    assert (reading.status, reading.stated) == ("out_of_vocabulary", text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "As an AI language model I have no ears, so happy or sad is all the same.",
        "I cannot determine the emotion of the speaker from this clip, perhaps happy.",
        "I can't hear the recording.",
        "No audio was provided. Please attach the audio file.",
        "I’m unable to identify emotions such as happy.",
    ],
)
def test_refusals_are_refused_and_not_read_for_labels(text: str) -> None:
    assert read_reply(text, WORDS).status == "refused"
    assert read_reply(text, AnswerFormat("distribution", MSP)).status == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "She can't continue, she sounds sad.",
        "Sad: a woman who cannot answer.",
        "The speaker is unable to respond, sad.",
        "He didn't hear the question. He is sad.",
    ],
)
def test_what_the_speaker_cannot_do_is_no_refusal(text: str) -> None:
    assert label_of(text) == "sad"


@pytest.mark.parametrize("text", ["Asked about the speaker I cannot answer, sad.", "She is sad, but I can't judge."])
def test_a_refusal_may_mention_the_speaker(text: str) -> None:
    assert read_reply(text, WORDS).status == "refused"


def test_a_text_that_the_server_marks_as_a_refusal_is_refused_whatever_it_says() -> None:
    reading = read_reply("Happy or sad: not for me to say.", WORDS, "refusal")
    assert (reading.status, reading.kind, reading.stated) == ("refused", "declined", "Happy or sad: not for me to say.")


def test_a_filtered_reply_is_refused_and_a_cut_one_unparsable_even_when_it_begins_like_a_label() -> None:
    assert read_reply("sad", WORDS, "content_filter").status == "refused"
    assert (read_reply("sad", WORDS, "length").status, read_reply("sad", WORDS, "length").kind) == ("unparsable", "cut")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>maybe happy</think>\nsad", "sad"),
        ("maybe happy</think>sad", "sad"),
        ("<think>happy, no</think><think>hm</think> sad", "sad"),
        ("<think>it must be happy", ""),
        ("[THINK]happy[/THINK]sad", "sad"),
        ("<think>a</think><answer>sad</answer>", "sad"),
        ("<|channel|>analysis<|message|>happy<|end|><|start|>assistant<|channel|>final<|message|>sad", "sad"),
    ],
)
def test_reasoning_is_taken_out_before_reading(text: str, answer: str) -> None:
    assert without_reasoning(text) == answer
    assert label_of(text) == (answer or None)


def test_a_code_that_contradicts_its_label_is_no_answer() -> None:
    assert label_of("B: sad", CODES) == "sad"
    assert label_of("A: sad", CODES) is None
    assert label_of("B) The speaker sounds sad.", CODES) == "sad"
    assert label_of("B. happy or sad", CODES) is None
    assert label_of("happy", CODES) == "happy"
    assert label_of("A sad speaker.", CODES) == "sad"


@pytest.mark.parametrize("between", ["\n", "\n\nThe voice is ", " — ", " (", ", ", "; ", " ["])
def test_a_code_and_the_words_behind_it_count_only_if_they_agree(between: str) -> None:
    assert label_of(f"B{between}sad", CODES) == "sad"
    assert label_of(f"A{between}sad", CODES) is None


@pytest.mark.parametrize(
    "text",
    [
        "C sad",
        "B happy",
        "A sad",
        "C because she sounds sad",
        "sad (C)",
        "happy: B",
        "Sad. C",
        "The voice is sad (C).",
        "The answer is C, sad",
        "Option C: sad",
        "The emotion is B (happy).",
        "Answer: B or C",
        "Answer: B\nAnswer: C",
        "She sounds happy.\nAnswer: B",
        "Answer: B?",
        '{"answer": "B", "reason": "a happy voice"}',
        '{"C": "sad"}',
        "sad (not B)",
        '{"answer": "B", "reason": "not sad"}',
        '{"B": "wrong"}',
        "B is wrong, sad",
        "Option B is incorrect: sad",
        "B does not fit. The voice is sad.",
        "The voice is sad, Option B is wrong",
    ],
)
def test_a_code_beside_words_that_are_against_it_is_no_vote(text: str) -> None:
    reading = read_reply(text, CODES)
    assert (reading.status, reading.kind, reading.shares) == ("unparsable", "code_against_words", ())


@pytest.mark.parametrize(
    "text",
    [
        "Answer: B",
        "**Answer:** B",
        "The final answer is (B).",
        "Option B",
        "Final Answer: The final answer is $\\boxed{B}$",
        "The voice is slow.\nAnswer: B",
        "The emotion is B (sad).",
        "B sad",
        "sad (B)",
        '{"answer": "B"}',
        'I think {"emotion": "B", "reason": "a low voice"}',
        'I think {"emotion": "sad"}',
        "sad, definitely not (C)",
        "sad, not C",
        "not C: sad",
        "C is wrong, sad",
        "Option C is incorrect: sad",
        "C doesn't fit. The voice is sad.",
        "B is not happy: sad",
        '{"B": "yes", "C": "no"}',
    ],
)
def test_an_announced_code_is_read_where_nothing_is_against_it(text: str) -> None:
    assert label_of(text, CODES) == "sad"


@pytest.mark.parametrize(
    "text",
    ["The answer is not B", "Not B", "I would exclude these:\nOption B", '{"speaker": "B"}', "the answer is a", "B?"],
)
def test_a_letter_that_may_mean_something_else_is_no_vote(text: str) -> None:
    assert read_reply(text, CODES).status == "unparsable"
    assert read_reply("Answer: B", WORDS).status == "unparsable"


def test_codes_that_are_words_too_are_words_before_other_words() -> None:
    assert label_of("A happy speaker", CODES) == "happy"
    assert label_of("I am happy", AnswerFormat("label", MSP, tuple("IABCDEFG"))) == "happy"
    assert label_of("Speaker B sounds happy", CODES) == "happy"


def test_a_stated_distribution_is_validated_and_normalised() -> None:
    asked = AnswerFormat("distribution", FOUR.labels)
    assert read_reply('{"angry": 10, "happy": 20, "neutral": 30, "sad": 40}', asked).shares == (
        ("angry", 0.1),
        ("happy", 0.2),
        ("neutral", 0.3),
        ("sad", 0.4),
    )
    assert read_reply('```json\n{"angry": "50%", "sad": "50%"}\n```', asked).shares == (("angry", 0.5), ("sad", 0.5))
    assert read_reply('{"A": 1, "D": 0}', AnswerFormat("distribution", FOUR.labels, tuple("DCBA"))).shares == (
        ("sad", 1.0),
    )
    for text, kind in [
        ('{"angry": 10, "happy": 20}', "sum"),
        ("{}", "sum"),
        ('{"angry": -10, "happy": 110}', "negative"),
        ('{"angry": 50, "angry": 50}', "key_twice"),
        ('{"happy": 50, "joy": 50}', "label_twice"),
        ('{"angry": true, "happy": 0}', "not_a_number"),
        ('{"angry": 100, "banana": 3}', "no_label"),
        ('{"angry": 100} {"angry": 100}', "several_objects"),
        ("angry", "no_json"),
    ]:
        assert (read_reply(text, asked).status, read_reply(text, asked).kind) == ("unparsable", kind)
    assert read_reply('{"angry": 60, "jealous": 40}', asked).status == "out_of_vocabulary"


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=8, max_size=8).filter(any), st.booleans())
def test_stated_shares_come_back_in_taxonomy_order_whatever_the_codes(counts: list[int], coded: bool) -> None:
    total = sum(counts)
    asked = AnswerFormat("distribution", MSP, tuple("HGFEDCBA") if coded else None)
    keys = asked.codes or MSP
    reading = read_reply(json.dumps({key: count / total for key, count in zip(keys, counts, strict=True)}), asked)
    expected = [(label, pytest.approx(count / total)) for label, count in zip(MSP, counts, strict=True) if count]
    assert list(reading.shares) == expected


@settings(deadline=None)
@given(st.floats(1, 7), st.floats(1, 7), st.floats(1, 7))
def test_attributes_are_mapped_from_the_prompts_scale_to_0_to_1(v: float, a: float, d: float) -> None:
    asked = AnswerFormat("attributes", (), None, (1.0, 7.0))
    reading = read_reply(json.dumps({"valence": v, "Arousal": a, "dominance": d}), asked)
    assert reading.attributes == pytest.approx(((v - 1) / 6, (a - 1) / 6, (d - 1) / 6))


def test_attributes_outside_the_scale_or_missing_are_unparsable() -> None:
    asked = AnswerFormat("attributes", (), None, (1.0, 7.0))
    assert read_reply('{"valence": 8, "arousal": 1, "dominance": 1}', asked).kind == "outside_scale"
    assert read_reply('{"valence": 4, "arousal": 1}', asked).kind == "attribute_missing"
    assert read_reply('{"valence": 4, "activation": 1, "dominance": 1}', asked).status == "ok"


def test_a_second_object_or_a_key_twice_in_another_spelling_is_no_rating() -> None:
    asked = AnswerFormat("attributes", (), None, (1.0, 7.0))
    first, second = '{"valence": 7, "arousal": 7, "dominance": 7}', '{"valence": 3, "arousal": 2, "dominance": 1}'
    for text, kind in [
        (f"{first}\n```json\n{second}\n```", "several_objects"),
        (f"```json\n{second}\n```\nor {first}", "several_objects"),
        ('{"valence": 3, "Valence": 5, "arousal": 2, "dominance": 1}', "key_twice"),
    ]:
        assert (read_reply(text, asked).status, read_reply(text, asked).kind) == ("unparsable", kind)
    assert read_reply(f"The set {{low, high}}:\n```json\n{second}\n```", asked).status == "ok"
    pair = AnswerFormat("primary_secondary", MSP)
    assert read_reply('{"primary": "sad", "Primary": "happy", "secondary": []}', pair).kind == "key_twice"


def test_primary_and_secondary_labels_are_kept_apart() -> None:
    asked = AnswerFormat("primary_secondary", MSP, CODES.codes)
    reading = read_reply('{"primary": "A", "secondary": ["B", "A", "B", "jealous"]}', asked)
    assert (reading.shares, reading.secondary) == ((("angry", 1.0),), ("sad",))
    assert reading.stated is not None
    assert read_reply('{"primary": "sad", "secondary": "angry, fear"}', asked).secondary == ("angry", "fear")
    assert read_reply('{"primary": "jealous", "secondary": []}', asked).status == "out_of_vocabulary"
    assert read_reply('{"primary": ["A"], "secondary": []}', asked).kind == "wrong_form"


def test_the_schema_admits_what_is_read() -> None:
    asked = AnswerFormat("distribution", FOUR.labels, tuple("ABCD"))
    assert schema(asked)["required"] == ["A", "B", "C", "D"]
    assert schema(AnswerFormat("attributes", (), None, (1, 7)))["properties"]["arousal"] == {
        "type": "number",
        "minimum": 1,
        "maximum": 7,
    }
