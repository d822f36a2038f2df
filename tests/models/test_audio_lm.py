from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import chisquare
from transformers import AutoModelForMultimodalLM

from alm_proxies.errors import InputError, SettingsError
from alm_proxies.models import tiny
from alm_proxies.models.audio_lm import Asked, AudioLM, Draws
from alm_proxies.models.families import FAMILIES

NEEDS = {"granite_speech": ("torchaudio",), "qwen2_5_omni_thinker": ("torchvision", "PIL")}
WORDS = ("angry", "happy", "sad")
CODES = ("A", "B", "C")
ORDERS = ("Which emotion? A) angry B) happy C) sad", "Which emotion is it? A) sad B) angry C) happy, or none")


def talk(clip, text=ORDERS[0]):
    return [("system", ["You listen."]), ("user", [clip, text])]


def by_whole_passes(lm, conversation, choice, *, with_end):
    """The same log-probability without any cache, packing or padding: one pass over prompt and answer."""
    inputs = lm.inputs.batch([conversation])
    answer = [*lm.inputs.answer(choice), *([lm.inputs.end_of_turn] if with_end else [])]
    start = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([answer])], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.inference_mode():
        log_p = lm.model(**inputs).logits[0, start - 1 : -1].log_softmax(-1)
    return sum(log_p[place, token].item() for place, token in enumerate(answer))


@pytest.fixture(
    scope="module",
    params=[pytest.param(family, marks=[pytest.mark.vllm] if family in NEEDS else []) for family in FAMILIES],
)
def lm(request, tmp_path_factory):
    missing = [module for module in NEEDS.get(request.param, ()) if find_spec(module) is None]
    if missing:
        pytest.skip(f"the processor of {request.param} needs {missing[0]}: tested in the vLLM test environment")
    return AudioLM.load(tiny.build(tmp_path_factory.mktemp(request.param), request.param))


@pytest.mark.parametrize(("choices", "with_end"), [(CODES, False), (WORDS, True)])
def test_scores_equal_whole_passes_for_several_clips_orders_and_labels(lm, sounds, choices, with_end):
    long = sounds[1] if lm.inputs.equal_lengths_only else np.concatenate([sounds[1], sounds[2]])
    requests = [[Asked(talk(clip, order), choices) for order in ORDERS] for clip in (sounds[0], long)]
    got = np.stack(lm.score(requests))
    want = [
        [[by_whole_passes(lm, asked.conversation, choice, with_end=with_end) for choice in choices] for asked in orders]
        for orders in requests
    ]
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_another_clip_gives_other_scores(lm, sounds):
    first, other = lm.score([[Asked(talk(sounds[0]), CODES)], [Asked(talk(sounds[1]), CODES)]])
    assert np.abs(first - other).max() > 1e-2


def test_a_draw_depends_on_its_seed_and_not_on_what_shares_the_batch(lm, sounds):
    together = lm.draw([Draws(talk(sounds[0]), (5, 6, 7)), Draws(talk(sounds[1]), (5,), max_tokens=3)])
    alone = lm.draw([Draws(talk(sounds[0]), (6,))])
    assert together[0][1] == alone[0][0]
    assert len({draw.text for draw in together[0]}) == 3
    assert together[1][0].tokens == 3
    assert together[1][0].finish == "length"


@pytest.mark.parametrize("family", ["qwen2_audio", "audioflamingo3", "glmasr"])
def test_a_tiny_model_with_a_short_window_hears_what_is_in_it(family, sounds, tmp_path):
    lm = AudioLM.load(tiny.build(tmp_path, family, hearing=tiny.Hearing(places=100)))
    clips = [clip[: 2 * lm.inputs.rate] for clip in sounds[:2]]
    assert lm.inputs.batch([talk(clips[0])])["input_features"].shape[-1] == 200
    first, other = lm.score([[Asked(talk(clip), CODES)] for clip in clips])
    assert np.abs(first - other).max() > 1e-2


@pytest.mark.parametrize(("family", "longest"), [("qwen2_audio", 30.0), ("audioflamingo3", 33.3)])
def test_a_clip_is_heard_alike_without_padding_to_30_seconds(family, longest, sounds, tmp_path):
    lm = AudioLM.load(tiny.build(tmp_path, family))
    long = np.resize(np.concatenate(sounds), round(longest * lm.inputs.rate))
    for samples in (lm.inputs.rate // 5, lm.inputs.rate + 1, len(long) - lm.inputs.rate // 50, len(long)):
        talks = [talk(long[:samples])]
        frames = lm.tensors(talks)["input_features"].shape[-1]
        assert min(3000, samples // 160) <= frames <= min(3000, samples // 160 + 6)
        got = lm.score([[Asked(talks[0], CODES)]])[0][0]
        want = [by_whole_passes(lm, talks[0], code, with_end=False) for code in CODES]
        np.testing.assert_allclose(got, want, atol=1e-4)
    whole = lm.inputs.batch(talks)
    assert whole["input_features"].shape[-1] == 3000
    with torch.inference_mode():
        assert lm.model(**whole).logits.isfinite().all()


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return AudioLM.load(tiny.build(tmp_path_factory.mktemp("qwen")))


def test_drawn_codes_are_as_frequent_as_their_exact_probabilities(qwen, sounds):
    (scores,) = qwen.score([[Asked(talk(sounds[0]), CODES)]])
    exact = np.exp(scores[0] - np.logaddexp.reduce(scores[0]))
    (drawn,) = qwen.draw([Draws(talk(sounds[0]), tuple(range(2000)), only=CODES)])
    counts = [sum(draw.text == code for draw in drawn) for code in CODES]
    assert sum(counts) == 2000
    assert chisquare(counts, exact * 2000).pvalue > 1e-3
    assert chisquare(counts, np.full(3, 2000 / 3)).pvalue < 1e-3


def test_temperature_sharpens_the_drawn_distribution_by_its_power(qwen, sounds):
    (scores,) = qwen.score([[Asked(talk(sounds[0]), CODES)]])
    exact = np.exp(scores[0] / 2.0 - np.logaddexp.reduce(scores[0] / 2.0))
    (drawn,) = qwen.draw([Draws(talk(sounds[0]), tuple(range(2000)), temperature=2.0, only=CODES)])
    assert chisquare([sum(draw.text == code for draw in drawn) for code in CODES], exact * 2000).pvalue > 1e-3


def test_unconstrained_sampling_follows_the_first_token_distribution(qwen, sounds):
    inputs = qwen.inputs.batch([talk(sounds[0])])
    with torch.inference_mode():
        by_token = qwen.model(**inputs).logits[0, -1].double().softmax(-1).numpy()
    exact: dict[str, float] = {}
    for token, share in enumerate(by_token):
        text = qwen.inputs.tokenizer.decode([token], skip_special_tokens=True)
        exact[text] = exact.get(text, 0.0) + float(share)
    (drawn,) = qwen.draw([Draws(talk(sounds[0]), tuple(range(2000)), max_tokens=1)])
    frequent = sorted(exact, key=lambda text: -exact[text])[:6]
    counts = [sum(draw.text == text for draw in drawn) for text in frequent]
    expected = np.array([exact[text] for text in frequent]) * 2000
    assert chisquare([*counts, 2000 - sum(counts)], [*expected, 2000 - expected.sum()]).pvalue > 1e-3


def test_no_temperature_and_narrow_sampling_both_give_the_likeliest_answer(qwen, sounds):
    for narrow in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}):
        (drawn,) = qwen.draw([Draws(talk(sounds[0]), (1, 2), **narrow)])
        (other,) = qwen.draw([Draws(talk(sounds[0]), (3,), **narrow)])
        assert {draw.text for draw in drawn} == {other[0].text}


def test_a_repetition_penalty_lowers_what_was_said(qwen, sounds):
    (plain,) = qwen.draw([Draws(talk(sounds[0]), (1,), temperature=0.0)])
    (penalised,) = qwen.draw([Draws(talk(sounds[0]), (1,), temperature=0.0, repetition_penalty=5.0)])
    assert plain != penalised


def test_top_k_and_top_p_leave_out_the_unlikely(qwen, sounds):
    (scores,) = qwen.score([[Asked(talk(sounds[0]), CODES)]])
    ranked = [CODES[place] for place in np.argsort(scores[0])[::-1]]
    exact = np.sort(np.exp(scores[0] - np.logaddexp.reduce(scores[0])))[::-1]
    for narrow in ({"top_k": 2}, {"top_p": float(exact[0] + exact[1] / 2)}):
        (drawn,) = qwen.draw([Draws(talk(sounds[0]), tuple(range(400)), only=CODES, **narrow)])
        assert {draw.text for draw in drawn} == set(ranked[:2])


def test_a_tiny_model_can_be_told_to_hear_each_clip_differently(tmp_path, sounds):
    folder = tiny.build(tmp_path / "model")
    tiny.answer_with(folder, [talk(clip) for clip in sounds[:3]], CODES)
    lm = AudioLM.load(folder)
    scores = lm.score([[Asked(talk(clip), CODES)] for clip in sounds[:3]])
    assert [int(score.argmax()) for score in scores] == [0, 1, 2]


def test_the_same_seed_builds_the_same_checkpoint(tmp_path):
    first, other, third = (tiny.build(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, other, third)]
    assert weights[0] == weights[1] != weights[2]


def test_checkpoints_have_the_names_of_published_ones(tmp_path):
    weights = load_file(tiny.build(tmp_path / "model") / "model.safetensors")
    assert {"language_model.lm_head.weight", "language_model.model.norm.weight", "audio_tower.conv1.weight"} <= set(
        weights
    )
    assert not any(name.startswith(("model.", "language_model.model.model.")) for name in weights)


def test_a_saved_model_scores_as_before(lm, tmp_path, sounds):
    lm.save(tmp_path)
    request = [[Asked(talk(sounds[0]), CODES)]]
    np.testing.assert_allclose(AudioLM.load(tmp_path).score(request)[0], lm.score(request)[0], atol=1e-6)


def test_audio_behind_what_varies_is_refused(qwen, sounds):
    orders = [Asked([("user", [order, sounds[0]])], CODES) for order in ORDERS]
    with pytest.raises(InputError, match="audio must come before"):
        qwen.score([orders])


def test_audio_beyond_the_models_window_is_refused_not_cut(qwen):
    with pytest.raises(InputError, match=r"31\.0 s is longer than the 30 s"):
        qwen.draw([Draws(talk(np.zeros(31 * 16_000, np.float32)), (1,))])


def test_only_answers_of_one_token_can_be_imposed(qwen, sounds):
    with pytest.raises(InputError, match="only answers of one token"):
        qwen.draw([Draws(talk(sounds[0]), (1,), only=("angry", "not a word of its own"))])


def test_a_missing_model_is_one_sentence(tmp_path):
    with pytest.raises(SettingsError, match="there is no such folder, and no model on the hub can have this name"):
        AudioLM.load(tmp_path / "nothing")


def test_an_unknown_family_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no family 'gpt'"):
        tiny.build(tmp_path, "gpt")


def test_loading_draws_no_bar_into_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    tiny.build(tmp_path, "qwen2_audio", seed=0)
    assert logging.is_progress_bar_enabled()
    capfd.readouterr()
    AutoModelForMultimodalLM.from_pretrained(tmp_path)
    assert "Loading weights" in capfd.readouterr().err
    AudioLM.load(tmp_path)
    assert "Loading weights" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled()
