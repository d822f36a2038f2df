"""Which of several proxies are worth having beside the others: asked of one cheap method, by votes left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from alm_proxies.estimators.trials import Losses, paired
from alm_proxies.interval import Interval

Names = tuple[str, ...]
Rows = NDArray[np.bool_]
Score = Callable[[Names], Losses]
"""Losses of votes left out, an utterance a row, of fits to other speakers with these proxies alone."""
SURE = 1.0
"""Standard errors by which a proxy must lower the loss beside the others to be kept."""


class Screening:
    """Proxies dropped one after another while the loss of votes left out does not show that they help.

    At each step every proxy is left out in turn; the one whose absence lowers the loss most, or raises it least, is
    dropped unless the loss with it is lower by a standard error of the paired difference over speakers. One is always
    left: whether proxies count at all is tested elsewhere.
    """

    def __init__(self, score: Score, speakers: NDArray[np.int64]) -> None:
        self._score = score
        self._speakers = speakers
        self._known: dict[Names, Losses] = {}

    def losses(self, names: Names) -> Losses:
        """Scored once."""
        if names not in self._known:
            self._known[names] = self._score(names)
        return self._known[names]

    def adds(self, names: Names, one: str, rows: Rows) -> Interval:
        """The loss with all names less that without one of them, over these utterances; below 0 it helps."""
        fewer = tuple(name for name in names if name != one)
        both = [Losses(losses.loss * rows, losses.votes * rows) for losses in (self.losses(names), self.losses(fewer))]
        return paired(both[0], both[1], self._speakers)

    def kept(self, names: Names, rows: Rows) -> Names:
        """The names that stay, decided by these utterances alone."""
        while len(names) > 1:
            gaps = {one: self.adds(names, one, rows) for one in names}
            worst = max(names, key=lambda one: gaps[one].estimate)
            if gaps[worst].estimate + SURE * gaps[worst].error / 1.96 < 0:
                break
            names = tuple(name for name in names if name != worst)
        return names
