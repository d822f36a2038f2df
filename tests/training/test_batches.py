from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alm_proxies.audio.clip import Clip, Opened
from alm_proxies.audio.recipe import Recipe, Sounds
from alm_proxies.audio.vectors import bounded_parts
from alm_proxies.metrics import METRICS
from alm_proxies.models.encoder import Encoder, Inputs
from alm_proxies.tables import Finding, Utterances
from alm_proxies.training import run_log
from alm_proxies.training.batches import (
    KeptClips,
    Loader,
    Part,
    padding_of,
    plan_epoch,
    seconds_of,
    steps_of,
)
from alm_proxies.training.settings import AugmentSettings

if TYPE_CHECKING:
    from conftest import Corpus

SECONDS = np.random.default_rng(0).lognormal(1.0, 0.6, 1000)


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
@hypothesis_settings(deadline=None, max_examples=40)
def test_every_row_is_in_one_step_and_steps_are_full_but_the_last(rows: int, batch: int, seed: int, epoch: int) -> None:
    plan = plan_epoch(np.arange(rows), SECONDS, batch=batch, seed=seed, epoch=epoch)
    assert sorted(itertools.chain.from_iterable(step.tolist() for step in plan)) == list(range(rows))
    assert len(plan) == steps_of(rows, batch)
    assert sorted(len(step) for step in plan)[1:] == [batch] * (len(plan) - 1)
    again = plan_epoch(np.arange(rows), SECONDS, batch=batch, seed=seed, epoch=epoch)
    assert all(np.array_equal(rows_of_step, other) for rows_of_step, other in zip(plan, again, strict=True))


def test_epochs_and_seeds_differ_and_steps_are_alike_in_length() -> None:
    plans = [plan_epoch(np.arange(1000), SECONDS, batch=16, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(plan[0].tolist()) for plan in plans}) == 3
    within = np.mean([np.ptp(SECONDS[step]) for step in plans[0]])
    assert within < 0.25 * np.ptp(SECONDS)


def test_rows_of_unknown_length_are_planned_too() -> None:
    some = np.where(np.arange(1000) % 3 == 0, np.nan, SECONDS)
    for seconds in (some, np.full(1000, np.nan)):
        plan = plan_epoch(np.arange(1000), seconds, batch=16, seed=0, epoch=0)
        assert sorted(itertools.chain.from_iterable(step.tolist() for step in plan)) == list(range(1000))


@given(st.lists(st.integers(1, 500), max_size=40), st.floats(0.01, 0.6), st.sampled_from([None, 1, 3, 7]))
def test_parts_bound_the_padding_and_keep_every_clip(lengths: list[int], padding: float, most: int | None) -> None:
    lengths = sorted(lengths)
    parts = bounded_parts(lengths, padding, most)
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in parts:
        held = lengths[part]
        assert 1 - sum(held) / (held[-1] * len(held)) <= padding + 1e-12
        assert most is None or len(held) <= most


@pytest.fixture(scope="module")
def loader(corpus: Corpus) -> Loader:
    encoder = Encoder.load(corpus.encoder, device="cpu")
    ids = tuple(corpus.utterances.frame["utterance_id"])
    return Loader(Sounds(corpus.utterances, stage="train").open, encoder.prepare, ids, 0.1, 30.0, 0.1)


def test_a_plan_resumed_at_a_step_goes_on_as_it_would_have(loader: Loader) -> None:
    plan = plan_epoch(np.arange(48), np.full(48, np.nan), batch=7, seed=3, epoch=2)
    whole, rest = list(loader.steps(plan)), list(loader.steps(plan, first=4))
    assert [step.number for step in rest] == [4, 5, 6]
    for expected, other in zip(whole[4:], rest, strict=True):
        assert len(expected.parts) == len(other.parts)
        for mine, yours in zip(expected.parts, other.parts, strict=True):
            assert mine.rows.tolist() == yours.rows.tolist()
            assert torch.equal(mine.inputs.values, yours.inputs.values)


def test_a_resumed_plan_opens_no_clip_of_the_steps_before(loader: Loader) -> None:
    opened: list[str] = []

    def noting(name: str) -> Opened:
        opened.append(name)
        return loader.open_one(name)

    resumed = replace(loader, open_one=noting)
    plan = plan_epoch(np.arange(48), np.full(48, np.nan), batch=7, seed=3, epoch=2)
    assert [step.number for step in resumed.steps(plan, first=5)] == [5, 6]
    assert sorted(opened) == sorted(loader.ids[row] for step in plan[5:] for row in step)


def test_processes_share_every_step(loader: Loader) -> None:
    plan = plan_epoch(np.arange(48), np.full(48, np.nan), batch=7, seed=3, epoch=0)
    shares = [list(loader.steps(plan, share=(rank, 2))) for rank in range(2)]
    for step, *parts in zip(plan, *shares, strict=True):
        rows = [row for part in parts for piece in part.parts for row in piece.rows.tolist()]
        assert sorted(rows) == sorted(step.tolist())


def test_padding_is_counted_and_halves_are_trimmed() -> None:
    inputs = Inputs(torch.arange(12.0).reshape(3, 4), torch.tensor([2, 3, 4]))
    part = Part(inputs, np.array([5, 6, 7]))
    assert padding_of([part]) == (9, 12)
    first, second = part.halves()
    assert (first.rows.tolist(), second.rows.tolist()) == ([5, 6], [7])
    assert first.inputs.values.shape == (2, 3)
    assert torch.equal(first.inputs.values, inputs.values[:2, :3])
    assert padding_of([first, second]) == (9, 10)


def test_augmentation_follows_from_epoch_and_utterance_alone(loader: Loader) -> None:
    from dataclasses import replace

    louder = AugmentSettings(effect="gain", chance=0.5, between={"decibels": (-12.0, -3.0)})
    speed = AugmentSettings(effect="speed", chance=0.5, between={"factor": (0.8, 1.2)})
    changing = replace(loader, augment=(louder, speed), prepare=lambda clips: _raw(clips))
    plan = [np.arange(6), np.arange(6, 12)]
    first, again, other = (
        [part.inputs for step in changing.steps(plan, epoch=epoch) for part in step.parts] for epoch in (0, 0, 1)
    )
    plain = [part.inputs for step in replace(changing, augment=()).steps(plan, epoch=0) for part in step.parts]
    sums = [float(sum(inputs.values.abs().sum() for inputs in steps)) for steps in (first, again, other, plain)]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 3


def _raw(clips: object) -> Inputs:
    held = [torch.from_numpy(np.asarray(clip)) for clip in clips]  # type: ignore[attr-defined]  # a list of arrays
    lengths = torch.tensor([len(samples) for samples in held])
    return Inputs(torch.nn.utils.rnn.pad_sequence(held, batch_first=True), lengths)


def test_recipes_are_rendered_on_the_fly(corpus: Corpus) -> None:
    recipe = Recipe(parents=(("tones/000", 0.5), ("tones/001", 0.5)), seed=1).written()
    rendered = pl.DataFrame({"utterance_id": ["tones/000#1"], "corpus": ["tones"], "recipe": [recipe]})
    frame = pl.concat([corpus.utterances.frame, rendered], how="diagonal_relaxed")
    table = Utterances.of(frame, about=corpus.utterances.about)
    encoder = Encoder.load(corpus.encoder, device="cpu")
    ids = tuple(table.frame["utterance_id"])
    loader = Loader(Sounds(table, stage="train").open, encoder.prepare, ids, 0.1, 30.0, 0.1)
    step = next(iter(loader.steps([np.array([ids.index("tones/000#1")])])))
    assert len(step.parts) == 1
    assert not step.findings
    seconds = seconds_of(table, ids, np.full(len(ids), np.nan))
    assert np.isnan(seconds[-1])
    assert 0.4 <= np.nanmin(seconds) <= np.nanmax(seconds) <= 0.9


def test_clips_too_short_or_long_are_findings(loader: Loader) -> None:
    from dataclasses import replace

    step = next(iter(replace(loader, shortest=0.6, longest=0.7).steps([np.arange(48)])))
    kinds = {finding.kind for finding in step.findings}
    assert kinds == {"too_short", "too_long"}
    kept = sum(len(part.rows) for part in step.parts)
    assert kept + len(step.findings) == 48


def test_kept_clips_are_opened_once_as_far_as_there_is_room(corpus: Corpus) -> None:
    encoder = Encoder.load(corpus.encoder, device="cpu")
    ids = tuple(corpus.utterances.frame["utterance_id"])
    sounds, opened = Sounds(corpus.utterances, stage="train"), []

    def counted(name: str) -> Opened:
        opened.append(name)
        return sounds.open(name)

    plan = [np.arange(6)]
    sizes = {name: clip.samples.nbytes for name in ids[:6] if (clip := sounds.open(name).clip) is not None}
    for room, again in ((10**9, 0), (0, 6), (max(sizes.values()), None)):
        opened.clear()
        loader = Loader(counted, encoder.prepare, ids, 0.1, 30.0, 0.5, threads=1, kept=KeptClips(room))
        first, second = (list(loader.steps(plan)) for _ in range(2))
        assert torch.equal(first[0].parts[0].inputs.values, second[0].parts[0].inputs.values)
        assert len(opened) == 6 + again if again is not None else 6 < len(opened) < 12


@pytest.mark.parametrize("room", [0, 10**9])
def test_a_clip_that_could_not_be_opened_is_tried_again_in_the_next_epoch(corpus: Corpus, room: int) -> None:
    encoder = Encoder.load(corpus.encoder, device="cpu")
    ids = tuple(corpus.utterances.frame["utterance_id"])
    sounds, away = Sounds(corpus.utterances, stage="train"), {ids[2]}

    def sometimes(name: str) -> Opened:
        if name in away:
            return Opened(name, None, (Finding("train", "not_fetched", "the store is away", "", name),))
        return sounds.open(name)

    loader = Loader(sometimes, encoder.prepare, ids, 0.1, 30.0, 0.5, threads=1, kept=KeptClips(room))
    steps = [next(loader.steps([np.arange(6)]))]
    away.clear()
    steps.append(next(loader.steps([np.arange(6)])))
    assert [sum(map(len, step.parts)) for step in steps] == [5, 6]
    assert [len(step.findings) for step in steps] == [1, 0]


def test_a_kept_clip_is_held_once() -> None:
    samples = np.zeros(1000, dtype=np.float32)
    kept = KeptClips(samples.nbytes)
    kept.add("a", Opened("a", Clip(samples, 16_000, "WAV", pcm=bytes(2000))))
    held = kept.get("a")
    assert held is not None
    assert held.clip is not None
    assert held.clip.samples is samples
    assert held.clip.pcm is None  # the same samples again, which the limit would not count


def test_the_pace_of_an_epoch_is_what_its_steps_took_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(run_log, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def decoded() -> Iterator[int]:
        for size in (10, 6):
            now[0] += 1.0
            yield size

    pace, steps = run_log.Pace(), decoded()
    while (size := pace.next(steps)) is not None:
        now[0] += 3.0
        pace.took(size, sound=3 * size, room=4 * size)
    assert pace.values == {"padding": 0.25, "samples_per_second": 2.0, "waiting": 0.25}
    assert pace.words == "2.0/s, padding 25%"
    assert pace.values.keys() <= METRICS.keys()
