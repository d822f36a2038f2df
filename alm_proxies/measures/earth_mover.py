"""Earth mover's distance between label distributions, with the distance between labels' anchors as cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alm_proxies.errors import InputError
from alm_proxies.measures.arrays import Array, distributions, same_rows

_CHUNK_NUMBERS = 4_000_000
_GOLDEN = 0.6180339887498949


def emd_over_anchors(p: ArrayLike, q: ArrayLike, anchors: ArrayLike) -> Array:
    """Exact earth mover's distance of each row: the minimal total of mass x Euclidean distance for turning p into q.

    With b = p - q: minimise sum x_ij d_ij over flows x >= 0 that leave each label i with b_i. The costs are the same in
    every row, so all rows share the bases (spanning trees) of one dual simplex: it starts from a star, and the next
    basis of a row depends only on the basis and the leaving arc, so each basis is computed once for all rows. In one
    dimension the closed form is used: the integral of |P - Q| between the cumulative shares.
    """
    first, second = np.atleast_2d(distributions(p, "p")), np.atleast_2d(distributions(q, "q"))
    same_rows(p=first, q=second)
    points = np.asarray(anchors, dtype=np.float64)
    points = points[:, None] if points.ndim == 1 else points
    if len(points) != first.shape[-1] or not np.isfinite(points).all():
        raise InputError(
            f"{len(points)} anchors for {first.shape[-1]} labels, or an anchor is not a finite number",
            where="anchors",
            fix="Give one finite anchor for each label, in taxonomy order.",
        )
    balance = first - second
    if points.shape[1] == 1:
        order = np.argsort(points[:, 0], kind="stable")
        gaps = np.diff(points[order, 0])
        moved: Array = np.abs(np.cumsum(balance[:, order], axis=1)[:, :-1]) @ gaps
        return moved
    bases = _Bases(np.sqrt(np.square(points[:, None] - points[None]).sum(-1)))
    rows = max(_CHUNK_NUMBERS // len(points) ** 2, 1)
    parts = [bases.solve(balance[start : start + rows]) for start in range(0, len(balance), rows)]
    return np.concatenate(parts) if parts else np.zeros(0)


class _Bases:
    """The bases visited so far: for each, the balances of an arc's flow, the arcs' costs and the next bases."""

    def __init__(self, distance: Array) -> None:
        self._distance = distance
        count = len(distance)
        # Slightly longer and unequal costs keep triangles strict, so that no two bases tie and no cycle can occur.
        spread = (np.arange(count * count) * _GOLDEN % 1.0).reshape(count, count)
        self._cost = distance + 1e-10 * max(float(distance.max()), 1e-300) * (1.0 + spread)
        self._arcs: list[tuple[tuple[int, int], ...]] = []
        self._index: dict[tuple[tuple[int, int], ...], int] = {}
        self._sides = np.zeros((64, count - 1, count))
        self._costs = np.zeros((64, count - 1))
        self._next = np.full((64, count - 1), -1, dtype=np.int64)
        self._add(tuple((node, 0) for node in range(1, count)))

    def solve(self, balance: Array) -> Array:
        """The least cost for each row of balances."""
        cost = np.zeros(len(balance))
        left = np.arange(len(balance))
        at = np.zeros(len(balance), dtype=np.int64)
        while len(left):
            flow = np.einsum("rak,rk->ra", self._sides[at], balance[left])
            leaving = flow.argmin(1)
            done = flow[np.arange(len(left)), leaving] >= -1e-13
            cost[left[done]] = (flow[done] * self._costs[at[done]]).sum(1)
            left, at, leaving = left[~done], at[~done], leaving[~done]
            self._work_out(at, leaving)
            at = self._next[at, leaving]
        return np.maximum(cost, 0.0)

    def _work_out(self, at: NDArray[np.int64], leaving: NDArray[np.int64]) -> None:
        unknown = self._next[at, leaving] < 0
        arcs = self._next.shape[1]
        for key in np.unique(at[unknown] * arcs + leaving[unknown]):
            basis, arc = divmod(int(key), arcs)
            self._next[basis, arc] = self._pivot(basis, arc)

    def _pivot(self, basis: int, leaving: int) -> int:
        """The basis after a pivot: the cheapest arc back across the cut replaces the leaving arc."""
        arcs = self._arcs[basis]
        tail_side = self._sides[basis, leaving] > 0
        potential = self._potential(arcs)
        slack = self._cost - (potential[:, None] - potential[None, :])
        slack[~(~tail_side[:, None] & tail_side[None, :])] = np.inf
        source, target = divmod(int(slack.argmin()), len(slack))
        kept = tuple(arc for place, arc in enumerate(arcs) if place != leaving)
        after = tuple(sorted((*kept, (source, target))))
        known = self._index.get(after)
        return known if known is not None else self._add(after)

    def _potential(self, arcs: tuple[tuple[int, int], ...]) -> Array:
        potential = np.full(len(self._distance), np.nan)
        potential[0] = 0.0
        waiting = list(arcs)
        while waiting:
            later = []
            for tail, head in waiting:
                if not np.isnan(potential[head]):
                    potential[tail] = potential[head] + self._cost[tail, head]
                elif not np.isnan(potential[tail]):
                    potential[head] = potential[tail] - self._cost[tail, head]
                else:
                    later.append((tail, head))
            waiting = later
        return potential

    def _add(self, arcs: tuple[tuple[int, int], ...]) -> int:
        place = len(self._arcs)
        if place == len(self._sides):
            self._sides = np.concatenate([self._sides, np.zeros_like(self._sides)])
            self._costs = np.concatenate([self._costs, np.zeros_like(self._costs)])
            self._next = np.concatenate([self._next, np.full_like(self._next, -1)])
        self._arcs.append(arcs)
        self._index[arcs] = place
        for row, (tail, head) in enumerate(arcs):
            self._sides[place, row] = self._side_of(tail, row, arcs)
            self._costs[place, row] = self._distance[tail, head]
        return place

    def _side_of(self, start: int, cut: int, arcs: tuple[tuple[int, int], ...]) -> Array:
        """The labels still connected to `start` when one arc is cut, as ones."""
        reached = {start}
        grown = True
        while grown:
            grown = False
            for place, (tail, head) in enumerate(arcs):
                if place != cut and (tail in reached) != (head in reached):
                    reached |= {tail, head}
                    grown = True
        side = np.zeros(len(self._distance))
        side[list(reached)] = 1.0
        return side
