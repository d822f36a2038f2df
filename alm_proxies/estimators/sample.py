"""A seeded sample of utterances to fit on, the same whether they are seen at once or part by part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alm_proxies.seeds import generator

FIT_ROWS = 40_000
"""With more utterances than this, fits use a seeded sample of them."""


class Sample:
    """A uniform random sample of the usable rows offered: those of lowest random rank."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._rng = generator(seed, "fitting rows")
        self._ranks = np.zeros(0)
        self._offered = 0
        self.places = np.zeros(0, dtype=np.int64)
        """The indices of the sampled rows among all rows offered, in order."""

    def offer(self, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows of the next part are sampled; rows offered later may displace them."""
        new = np.flatnonzero(usable) + self._offered
        places, ranks = np.concatenate([self.places, new]), np.concatenate([self._ranks, self._rng.random(len(new))])
        if len(places) > self.size:
            kept = np.sort(np.argpartition(ranks, self.size)[: self.size])
            places, ranks = places[kept], ranks[kept]
        self.places, self._ranks = places, ranks
        chosen = np.zeros(len(usable), dtype=np.bool_)
        chosen[places[places >= self._offered] - self._offered] = True
        self._offered += len(usable)
        return chosen
