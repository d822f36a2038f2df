"""A model encodes several clips at once on a device that waits for single ones, in parts where its memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from alm_proxies.audio.clip import Clip
from alm_proxies.audio.vectors import Floats
from alm_proxies.models.at_once import encoding_of
from alm_proxies.tables import Finding

CLIPS = [Clip(samples=np.full(100 + number, 0.1, dtype=np.float32), rate=16_000) for number in range(13)]


def nothing_refused(clip: Clip, utterance_id: str) -> Finding | None:
    return None


@pytest.mark.parametrize(("device", "at_once"), [("cpu", 1), ("cuda:1", 16), ("made", 16)])
def test_a_processor_encodes_one_clip_at_a_time(device: str, at_once: int) -> None:
    encoding = encoding_of(lambda clips: np.zeros((len(clips), 1), dtype=np.float32), nothing_refused, device)
    assert encoding.at_once == at_once


def test_a_batch_that_does_not_fit_is_encoded_in_halves() -> None:
    tried: list[int] = []

    def lengths(clips: Sequence[Clip]) -> Floats:
        tried.append(len(clips))
        if len(clips) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return np.asarray([[len(clip.samples)] for clip in clips], dtype=np.float32)

    rows = encoding_of(lengths, nothing_refused, "cuda").vectors(CLIPS)
    assert rows[:, 0].tolist() == [100 + number for number in range(13)]
    assert tried == [13, 7, 4, 3, 6, 3, 3]


@pytest.mark.parametrize(
    ("error", "tried"), [(RuntimeError("shapes differ"), [13]), (RuntimeError("out of memory"), [13, 7, 4, 2, 1])]
)
def test_other_errors_and_a_single_clip_that_does_not_fit_are_errors(error: Exception, tried: list[int]) -> None:
    sizes: list[int] = []

    def failing(clips: Sequence[Clip]) -> Floats:
        sizes.append(len(clips))
        raise error

    with pytest.raises(RuntimeError, match=str(error)):
        encoding_of(failing, nothing_refused, "cuda").vectors(CLIPS)
    assert sizes == tried
