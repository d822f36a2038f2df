from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alm_proxies.errors import InputError
from alm_proxies.training import heads
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import (
    Head,
    HeadModel,
    Scale,
    _slopes,
    log_loss,
    temperature_of,
    tempered,
    train,
)

LABELS = ("angry", "happy", "sad")


def material(rows: int = 400, width: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, the chances that they stand for, and three votes drawn from these."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, width)) * rng.uniform(0.1, 50, width) + rng.uniform(-9, 9, width)
    plain = (features - features.mean(0)) / features.std(0)
    chances = np.exp(plain[:, :3] * 1.5)
    chances /= chances.sum(1, keepdims=True)
    votes = np.stack([rng.multinomial(3, row) for row in chances]).astype(np.float64)
    return features.astype(np.float32), chances, votes


def test_slopes_are_those_of_the_multinomial_likelihood() -> None:
    rng = np.random.default_rng(1)
    rows, wanted = rng.standard_normal((7, 5)), rng.integers(0, 4, (7, 3)).astype(float)
    weights = [rng.standard_normal(shape) for shape in ((5, 4), (4, 3), (4,), (3,))]

    def loss(changed: list[np.ndarray]) -> float:
        first, second, bias, prior = changed
        logits = np.maximum(rows @ first + bias, 0) @ second + prior
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return float(-(wanted * logs).sum() / wanted.sum())

    slopes = _slopes(
        Head(*weights), rows, wanted, float(wanted.sum()), 0.0, rng
    )  # double precision, for the differences
    for place, slope in enumerate(slopes):
        for index in np.ndindex(*slope.shape):
            ends = []
            for step in (1e-5, -1e-5):
                changed = [matrix.copy() for matrix in weights]
                changed[place][index] += step
                ends.append(loss(changed))
            assert slope[index] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_heads_are_the_same_where_features_differ_in_their_last_digit(seed: int) -> None:
    chance = np.random.default_rng(9)
    spread = chance.standard_normal((24, 12)) * 0.5 ** np.arange(12)  # of unlike size, as an encoder's
    features = (spread @ chance.standard_normal((12, 128))).astype(np.float32)
    votes = chance.multinomial(3, np.full(3, 1 / 3), 24).astype(np.float64)
    near = features * (1 + 1e-7 * np.random.default_rng(seed).standard_normal(features.shape)).astype(np.float32)
    settings = HeadSettings(hidden=16, epochs=3, batch=16, components=12)
    shares = []
    for given in (features, near):
        scale = Scale.of(given, settings.components)
        *_, head = train(scale.apply(given), votes, settings, np.random.default_rng(0), settings.epochs)
        shares.append(head.predict(scale.apply(given)))
    assert scale.basis is not None
    assert not np.array_equal(shares[0], shares[1])
    np.testing.assert_allclose(shares[0], shares[1], atol=1e-5)


def test_a_head_learns_chances_from_three_votes_and_beats_the_shares_of_the_labels() -> None:
    features, chances, votes = material()
    settings = HeadSettings(hidden=64, epochs=20, batch=32)
    scale = Scale.of(features[:300], settings.components)
    *_, head = train(scale.apply(features[:300]), votes[:300], settings, np.random.default_rng(0), settings.epochs)
    predicted = HeadModel(LABELS, scale, (head,)).predict(features[300:])
    prior = np.tile(votes[:300].sum(0) / votes[:300].sum(), (100, 1))
    floor = log_loss(chances[300:], chances[300:])
    assert log_loss(predicted, chances[300:]) < floor + 0.3 * (log_loss(prior, chances[300:]) - floor)


def test_rows_of_high_weight_count_by_their_weight_in_small_batches() -> None:
    heavy = np.arange(256) < 23
    targets = np.where(heavy[:, None], [10.0, 0.0, 0.0], [0.0, 0.5, 0.5])
    nothing = np.zeros((256, 4), np.float32)
    *_, head = train(nothing, targets, HeadSettings(), np.random.default_rng(0), 60)
    assert head.predict(nothing[:1])[0, 0] == pytest.approx(230 / (230 + 233), abs=0.02)


def test_a_head_that_has_not_been_trained_gives_the_shares_of_the_labels() -> None:
    features, _, votes = material()
    settings = HeadSettings(hidden=8, learning_rate=1e-12)
    scale = Scale.of(features, 10)
    head = next(train(scale.apply(features), votes, settings, np.random.default_rng(0), 1))
    shares = (votes.sum(0) + 1) / (votes.sum() + 3)
    np.testing.assert_allclose(head.predict(scale.apply(features)), np.tile(shares, (400, 1)), atol=1e-6)


def test_scale_is_learned_from_training_clips_alone_and_an_unknown_feature_counts_as_its_mean() -> None:
    features, _, _ = material()
    scale = Scale.of(features[:200], 8)
    before = scale.apply(features[:5])
    assert before.shape == (5, 8)
    assert float(np.square(scale.apply(features[:200])).mean()) == pytest.approx(1.0, abs=1e-3)
    unknown = features[:5].copy()
    unknown[:, 3] = np.nan
    mean = features[:5].copy()
    mean[:, 3] = features[:200, 3].mean()
    np.testing.assert_allclose(scale.apply(unknown), scale.apply(mean), atol=1e-4)
    constant = np.concatenate([features, np.full((400, 1), 7.0, np.float32)], axis=1)
    far = constant[:2].copy()
    far[:, -1] = 1e6
    again = Scale.of(constant[:200], 8)
    np.testing.assert_allclose(again.apply(far), again.apply(constant[:2]), atol=1e-6)


def test_components_span_what_varies_most() -> None:
    rng = np.random.default_rng(3)
    latent = rng.standard_normal((300, 3))
    features = (latent @ rng.standard_normal((3, 40)) + 0.05 * rng.standard_normal((300, 40))).astype(np.float32)
    scale = Scale.of(features, 3)
    assert scale.basis is not None
    plain = (features - scale.centre) / scale.spread
    kept = np.square(plain @ scale.basis).sum() / np.square(plain).sum()
    assert kept > 0.99
    np.testing.assert_allclose(scale.basis.T @ scale.basis, np.eye(3), atol=1e-5)


def test_some_rows_are_scaled_as_if_they_were_all_however_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _, _ = material(width=150)
    features[::7, 3] = np.nan
    rows = np.flatnonzero(np.arange(400) % 3)
    copied = Scale.of(features[rows], 8)
    here = Scale.of(features, 8, rows)
    for name in ("centre", "spread", "basis", "size"):
        np.testing.assert_array_equal(getattr(here, name), getattr(copied, name))
    np.testing.assert_array_equal(here.apply(features, rows), copied.apply(features[rows]))
    whole = copied.apply(features)
    monkeypatch.setattr(heads, "_AT_ONCE", 64)
    monkeypatch.setattr(heads, "_IN_DOUBLE", 10)
    monkeypatch.setattr(heads, "_COLUMNS", 7)
    again = Scale.of(features, 8, rows)
    np.testing.assert_array_equal(again.spread, copied.spread)
    np.testing.assert_allclose(copied.apply(features), whole, rtol=1e-5, atol=1e-6)


def test_components_of_many_clips_are_those_of_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    features = (rng.standard_normal((900, 3)) @ rng.standard_normal((3, 40))).astype(np.float32)
    every = Scale.of(features, 3)
    monkeypatch.setattr(heads, "_FOR_DIRECTIONS", 100)
    some = Scale.of(features, 3)
    assert every.basis is not None
    assert some.basis is not None
    assert not np.array_equal(every.basis, some.basis)
    np.testing.assert_allclose(some.basis @ some.basis.T, every.basis @ every.basis.T, atol=0.05)
    np.testing.assert_array_equal(some.centre, every.centre)


def test_temperature_undoes_a_change_of_sharpness() -> None:
    _, chances, _ = material()
    sharp = tempered(chances, 0.5)
    temperature = temperature_of(sharp, chances)
    assert temperature == pytest.approx(2.0, rel=0.01)
    np.testing.assert_allclose(tempered(sharp, temperature), chances, atol=5e-3)
    assert temperature_of(chances, np.zeros_like(chances)) == 1.0


def test_a_saved_model_predicts_the_same_and_other_files_are_refused(tmp_path: Path) -> None:
    features, _, votes = material()
    settings = HeadSettings(hidden=16, epochs=2, components=5)
    scale = Scale.of(features, 5)
    heads = [
        list(train(scale.apply(features), votes, settings, np.random.default_rng(seed), 2))[-1] for seed in range(2)
    ]
    model = HeadModel(LABELS, scale, tuple(heads), 1.3)
    model.save(tmp_path / "model.npz")
    again = HeadModel.load(tmp_path / "model.npz")
    assert again.labels == LABELS
    np.testing.assert_array_equal(again.predict(features), model.predict(features))
    (tmp_path / "text.npz").write_text("not a model")
    with pytest.raises(InputError, match="has no trained head"):
        HeadModel.load(tmp_path / "text.npz")
    content = (tmp_path / "model.npz").read_bytes()
    middle = content.index(b"head0_first.npy") + 200
    (tmp_path / "flipped.npz").write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(InputError, match="has no trained head"):
        HeadModel.load(tmp_path / "flipped.npz")
    with pytest.raises(InputError, match="no such file"):
        HeadModel.load(tmp_path / "nothing.npz")
