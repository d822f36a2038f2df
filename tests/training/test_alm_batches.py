from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from alm_proxies.audio.recipe import Sounds
from alm_proxies.errors import OutputError
from alm_proxies.models import tiny
from alm_proxies.models.chat_inputs import ChatInputs
from alm_proxies.tables import Finding, Labels, Utterances
from alm_proxies.training.alm_batches import Batch, Batches, Change, Heard, audio_tokens, changed, hear
from alm_proxies.training.alm_forward import made_ahead

AUDIO = 7
PROMPTS = ((1, AUDIO, 2), (1, AUDIO, 3))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ChatInputs:
    return ChatInputs.load(tiny.build(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def heard(tones: tuple[Utterances, Labels], inputs: ChatInputs, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    ids = tones[0].frame["utterance_id"].to_list()
    return hear(tones[0], ids, inputs, tmp_path_factory.mktemp("heard"), quiet=True)[0]


def batches_of(heard: Heard, change: Change | None = None, size: int = 5) -> Batches:
    rows = np.arange(len(heard.ids))
    shares = np.tile([0.5, 0.25, 0.25], (len(rows), 1))
    return Batches(
        heard,
        rows,
        shares,
        np.linspace(1, 2, len(rows)),
        PROMPTS,
        ((10, 11, 12),) * 2,
        AUDIO,
        0,
        size,
        seed=1,
        change=change,
    )


def made(batches: Batches, epoch: int, window: int | None = None) -> list[Batch]:
    return [batch for step in batches.epoch(epoch, window) for batch in batches.parts(step, None)]


def test_clips_are_heard_as_the_processor_hears_them_in_30_seconds(
    tones: tuple[Utterances, Labels], inputs: ChatInputs, heard: Heard
) -> None:
    sounds = Sounds(tones[0], stage="test", rate=inputs.rate)
    for row in (0, 7, 20):
        clip = sounds.open(heard.ids[row]).clip
        inputs_of_clip = inputs.batch([[("user", [clip.samples, "?"])]])
        count = int(inputs_of_clip["feature_attention_mask"].sum())
        assert len(heard.frames(row)) == count
        np.testing.assert_allclose(heard.frames(row), inputs_of_clip["input_features"][0, :, :count].T, atol=2e-3)
        tokens = int((inputs_of_clip["input_ids"] == inputs.audio_token_id).sum())
        assert audio_tokens(count) == tokens


def test_what_was_heard_is_not_heard_again(
    tones: tuple[Utterances, Labels], inputs: ChatInputs, tmp_path: Path
) -> None:
    ids = tones[0].frame["utterance_id"].to_list()[:4]
    first, _ = hear(tones[0], ids, inputs, tmp_path, quiet=True)
    lost = Utterances.of(tones[0].frame, about=tones[0].about)
    written = (tmp_path / "heard.f16").stat().st_mtime_ns
    again, _ = hear(lost, ids, inputs, tmp_path, quiet=True)
    assert (tmp_path / "heard.f16").stat().st_mtime_ns == written
    assert all(np.array_equal(first.frames(row), again.frames(row)) for row in range(4))
    other, _ = hear(tones[0], ids[1:], inputs, tmp_path, quiet=True)
    assert other.ids == tuple(ids[1:])


def test_a_full_disk_is_said_in_a_sentence(
    tones: tuple[Utterances, Labels], inputs: ChatInputs, tmp_path: Path,
    full_disk: Callable[[int], AbstractContextManager[None]],
) -> None:  # fmt: skip
    ids = tones[0].frame["utterance_id"].to_list()[:4]
    for samples in (True, False):
        with full_disk(9_000), pytest.raises(OutputError, match="could not be written: File too large"):
            hear(tones[0], ids, inputs, tmp_path, samples=samples, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_missing_recording_is_a_finding(tones: tuple[Utterances, Labels], inputs: ChatInputs, tmp_path: Path) -> None:
    frame = (
        tones[0]
        .frame.head(3)
        .with_columns(audio=pl.when(pl.arange(0, 3) == 1).then(pl.lit("gone.wav")).otherwise(pl.col("audio")))
    )
    table = Utterances.of(frame, about=tones[0].about)
    heard, findings = hear(table, frame["utterance_id"].to_list(), inputs, tmp_path, quiet=True)
    assert len(heard.ids) == 2
    assert [finding.utterance_id for finding in findings] == [frame["utterance_id"][1]]
    _, again = hear(table, frame["utterance_id"].to_list(), inputs, tmp_path, quiet=True)
    assert again == findings


def test_a_recording_that_could_not_be_fetched_is_tried_again(
    tones: tuple[Utterances, Labels], inputs: ChatInputs, tmp_path: Path
) -> None:
    ids = tones[0].frame["utterance_id"].to_list()[:2]
    hear(tones[0], ids, inputs, tmp_path, quiet=True)
    index = tmp_path / "heard.json"
    kept = json.loads(index.read_text())
    lost = asdict(Finding("train", "not_fetched", "the server gave no answer", utterance_id=ids[0]))
    index.write_text(json.dumps(kept | {"found": [lost]}))
    assert len(hear(tones[0], ids, inputs, tmp_path, fetch_again=False, quiet=True)[1]) == 1
    assert hear(tones[0], ids, inputs, tmp_path, quiet=True)[1] == []


def test_an_epoch_holds_every_row_once_and_is_the_same_every_time(heard: Heard) -> None:
    batches = batches_of(heard, Change(gain=1.0, bands=8, frames=10, shift=5))
    once, again, next_one = (made(batches, number) for number in (0, 0, 1))
    weights = torch.cat([batch.tensors["weights"] for batch in once])
    assert sorted(weights.tolist()) == pytest.approx(np.linspace(1, 2, len(heard.ids)).tolist())
    for batch, same in zip(once, again, strict=True):
        assert all(torch.equal(tensor, same.tensors[name]) for name, tensor in batch.tensors.items())
    other = torch.cat([batch.tensors["weights"] for batch in next_one])
    assert not torch.equal(weights, other)


def test_steps_made_ahead_are_the_same_and_are_divided_again_when_memory_ran_out(heard: Heard) -> None:
    batches = batches_of(heard, Change(gain=1.0, bands=8, frames=10, shift=5))
    most: list[int | None] = [None]
    ahead = list(made_ahead(batches, 1, lambda: most[0], 40))
    expected = made(batches, 1, 40)
    assert len(ahead) == len(expected) == len(batches)
    for one, whole in zip(ahead, expected, strict=True):
        assert one.divided(None) is one.parts
        assert all(torch.equal(tensor, whole.tensors[name]) for name, tensor in one.parts[0].tensors.items())
        smaller = one.divided(2)
        assert [len(part) for part in smaller] == [2] * (len(whole) // 2) + [1] * (len(whole) % 2)
        joined = torch.cat([part.tensors["input_features"] for part in smaller])
        assert torch.equal(joined, whole.tensors["input_features"])
        assert one.total == pytest.approx(float(whole.tensors["weights"].sum()))
        sound, room = one.padding
        assert (sound, room) == (int(whole.tensors["attention_mask"].sum()), whole.tensors["attention_mask"].numel())


def test_every_row_has_as_many_audio_tokens_as_its_frames_make_and_ends_with_prompt_and_answer(heard: Heard) -> None:
    for batch in made(batches_of(heard), 0):
        tensors = batch.tensors
        frames = tensors["feature_attention_mask"].sum(1)
        tokens = (tensors["input_ids"] == AUDIO).sum(1)
        assert tokens.tolist() == [audio_tokens(int(count)) for count in frames]
        assert set(tensors["input_ids"][:, -2].tolist()) <= {2, 3}
        assert set(tensors["input_ids"][:, -1].tolist()) <= {10, 11, 12}
        assert tensors["attention_mask"].sum(1).tolist() == [3 + int(count) for count in tokens]


def test_a_window_begins_inside_the_clip_and_is_cut_out_of_it(heard: Heard) -> None:
    starts = set()
    for batch in made(batches_of(heard, size=1), 0, window=40):
        features = batch.tensors["input_features"][0].T
        row = int(np.argmin(np.abs(np.linspace(1, 2, len(heard.ids)) - float(batch.tensors["weights"][0]))))
        np.testing.assert_array_equal(features[:40], heard.frames(row)[batch.start : batch.start + 40])
        assert batch.start % 4 == 0
        starts.add(batch.start)
    assert len(starts) > 3


def test_a_change_of_level_moves_every_cell_alike() -> None:
    clip = np.random.default_rng(0).normal(size=(50, 128)).astype(np.float32)
    louder = changed(clip, Change(gain=3.0, bands=0, frames=0, shift=0), -2.0, np.random.default_rng(1))
    moved = np.unique(np.round(louder - clip, 4))
    assert len(moved) == 1
    assert 0 < abs(moved[0]) < 0.5


def test_at_most_so_many_bands_and_frames_are_blanked() -> None:
    clip = np.random.default_rng(0).normal(size=(50, 128)).astype(np.float32)
    chance = np.random.default_rng(2)
    blanked = []
    for _ in range(30):
        differs = changed(clip.copy(), Change(gain=0.0, bands=6, frames=9, shift=0), -2.0, chance) != clip
        bands, frames = int(differs.all(axis=0).sum()), int(differs.all(axis=1).sum())
        assert bands <= 6
        assert frames <= 9
        blanked.append((bands, frames))
    assert len(set(blanked)) > 10
