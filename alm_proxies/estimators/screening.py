"""Backward elimination of proxies: which of them help beside the others, by held-out votes and one cheap method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from alm_proxies.estimators.trials import Losses, paired
from alm_proxies.interval import Interval

Names = tuple[str, ...]
Rows = NDArray[np.bool_]
Score = Callable[[Names], Losses]
"""Losses on held-out votes, one row per utterance, of fits to other speakers with these proxies only."""
SURE = 1.0
"""Standard errors by which a proxy must lower the loss beside the others to be kept."""


class Screening:
    """Backward elimination: proxies are dropped one after another while the held-out loss does not show that they help.

    At each step every proxy is omitted in turn; the one whose absence lowers the loss most, or raises it least, is
    dropped unless the loss with it is lower by a standard error of the paired difference over speakers. One always
    remains: whether proxies count at all is tested elsewhere.
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

    def adds(self, names: Names, proxy: str, rows: Rows) -> Interval:
        """The loss with all names minus that without one proxy, over these utterances; below 0 the proxy helps."""
        fewer = tuple(name for name in names if name != proxy)
        both = [Losses(losses.loss * rows, losses.votes * rows) for losses in (self.losses(names), self.losses(fewer))]
        return paired(both[0], both[1], self._speakers)

    def kept(self, names: Names, rows: Rows) -> Names:
        """The names that remain, decided on these utterances only."""
        while len(names) > 1:
            gaps = {proxy: self.adds(names, proxy, rows) for proxy in names}
            worst = max(names, key=lambda proxy: gaps[proxy].estimate)
            if gaps[worst].estimate + SURE * gaps[worst].error / 1.96 < 0:
                break
            names = tuple(name for name in names if name != worst)
        return names
