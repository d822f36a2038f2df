from __future__ import annotations

import numpy as np
import pytest

from alm_proxies.ballots import Ballots
from alm_proxies.stages.align.variance import CHANCE, UTTERANCE, variance

CELLS = {
    "one": [{"model": "one", "focus": f, "temperature": t} for f in ("voice", "words") for t in ("0.6", "1.0")],
    "two": [{"model": "two", "focus": f, "temperature": t} for f in ("voice", "words") for t in ("0.6", "1.0")],
}


def test_known_components_of_the_variance_are_found() -> None:
    truth = {UTTERANCE: 4.0, "model": 1.0, "focus": 2.0, "temperature": 0.0, CHANCE: 3.0}
    components = variance(_simulated(truth, 3000), CELLS, None, seed=1)
    assert components is not None
    assert components.total == pytest.approx(10.0, rel=0.05)
    shares = {component.name: component.share for component in components.components}
    assert list(shares) == [UTTERANCE, "model", "focus", "temperature", CHANCE]
    for name, value in truth.items():
        assert shares[name].estimate == pytest.approx(value / 10, abs=0.02)
        assert shares[name].low - 0.01 <= value / 10 <= shares[name].high + 0.01


@pytest.mark.parametrize("seed", range(5))
def test_intervals_of_shares_stay_between_nothing_and_everything(seed: int) -> None:
    speakers = np.array([f"s{place % 4}" for place in range(40)])
    components = variance(_simulated({UTTERANCE: 8.0, CHANCE: 0.5}, 40), CELLS, speakers, seed=seed)
    assert components is not None
    for component in components.components:
        assert 0.0 <= component.share.low <= component.share.high <= 1.0


def test_the_shares_sum_to_one() -> None:
    components = variance(_simulated({UTTERANCE: 1.0, CHANCE: 1.0}, 100), CELLS, None, seed=1)
    assert components is not None
    assert sum(component.share.estimate for component in components.components) == pytest.approx(1.0)


def test_factors_that_always_change_together_are_named_together_and_reported() -> None:
    confounded = {
        name: [
            {"model": name, "focus": "voice", "temperature": "0.6"},
            {"model": name, "focus": "words", "temperature": "1.0"},
        ]
        for name in CELLS
    }
    components = variance(_simulated({UTTERANCE: 1.0, CHANCE: 1.0}, 100), confounded, None, seed=1)
    assert components is not None
    assert "focus and temperature" in [component.name for component in components.components]
    assert [finding.kind for finding in components.findings] == ["confounded"]


def test_votes_that_never_vary_within_an_utterance_are_all_signal() -> None:
    components = variance(_simulated({UTTERANCE: 1.0}, 100), CELLS, np.repeat([f"s{i}" for i in range(25)], 4), seed=1)
    assert components is not None
    assert components.components[0].share.estimate == pytest.approx(1.0)
    assert all(abs(component.share.estimate) < 1e-9 for component in components.components[1:])


@pytest.mark.parametrize("draws", [1, 4])
def test_too_little_to_tell_gives_nothing(draws: int) -> None:
    ballots = _simulated({UTTERANCE: 1.0, CHANCE: 1.0}, 40 if draws == 1 else 10)
    kept = (ballots.draws < draws) & (ballots.annotators == 0)
    assert variance(ballots.where(kept), CELLS, None, seed=1) is None


def test_equal_votes_of_everyone_have_no_variance_to_share() -> None:
    ballots = _simulated({UTTERANCE: 0.0}, 60)
    assert variance(ballots, CELLS, None, seed=1) is None


def _simulated(components: dict[str, float], utterances: int, labels: int = 3) -> Ballots:
    """Every utterance has eight votes of two annotators in four cells each; vectors follow the additive model."""
    random = np.random.default_rng(3)

    def noise(name: str, *shape: int) -> np.ndarray:
        return random.normal(0, np.sqrt(components.get(name, 0.0) / labels), (*shape, labels))

    u, a, d = (grid.ravel() for grid in np.meshgrid(*map(np.arange, (utterances, 2, 8)), indexing="ij"))
    focus, temperature = (d % 4) // 2, d % 2
    vectors = noise(UTTERANCE, utterances)[u] + noise("model", utterances, 2)[u, a]
    vectors = vectors + noise("focus", utterances, 2)[u, focus] + noise("temperature", utterances, 2)[u, temperature]
    return Ballots(u, vectors + noise(CHANCE, len(u)), a, d, ("one", "two"), utterances)
