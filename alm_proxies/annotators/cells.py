"""Cells: the combinations of an annotator's crossed factors, in an order that uses all values about equally often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from alm_proxies.errors import SettingsError
from alm_proxies.printable import counted


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination; `order` holds the taxonomy index of each label, in the order shown."""

    temperature: float
    focus: str | None
    order: tuple[int, ...]


def label_orders(labels: int, wanted: int, *, where: str | None = None) -> tuple[tuple[int, ...], ...]:
    """The first `wanted` orders of a balanced Latin square, from the given order on, each followed by its reverse.

    Williams' design: over all its orders (K, or 2K for odd K) every label is in every position equally often, and
    follows every other label equally often; over any even number of them every label's mean position is the middle.
    """
    if labels == 0:
        return ((),)
    zigzag = [0]
    for step in range(1, labels):
        zigzag.append((zigzag[-1] + (step if step % 2 else -step)) % labels)
    # Renaming the labels so that the first row is 0, 1, 2 ... keeps every property of the square.
    rename = {label: place for place, label in enumerate(zigzag)}
    rows = [tuple(rename[(label + shift) % labels] for label in zigzag) for shift in range(labels)]
    orders = list(dict.fromkeys(order for row in rows for order in (row, row[::-1])))
    if wanted > len(orders):
        raise SettingsError(
            f"cross.label_orders = {wanted} is more than the {counted(len(orders), 'order')} that {labels} labels have",
            where=where,
            fix=f"Write {len(orders)} or less.",
        )
    return tuple(orders[:wanted])


def cells_of(
    temperatures: Sequence[float], focuses: Sequence[str], orders: Sequence[tuple[int, ...]]
) -> tuple[Cell, ...]:
    """Every combination once, in an order whose first N cells use all values about equally often, for any N.

    Greedy: the next cell is the one whose values, then pairs of values, were used least. In the first cells two factors
    may change together: in four of 2 x 2 x 2, each temperature has one focus.
    """
    factors = (tuple(temperatures), tuple(focuses) or (None,), tuple(orders))
    left = list(product(*(range(len(values)) for values in factors)))
    used: Counter[tuple[object, ...]] = Counter()
    cells: list[Cell] = []
    while left:
        best = min(left, key=lambda places: (_use(used, _singles(places)), _use(used, _pairs(places)), places))
        left.remove(best)
        used.update(_singles(best) + _pairs(best))
        cells.append(Cell(factors[0][best[0]], factors[1][best[1]], factors[2][best[2]]))
    return tuple(cells)


def _use(used: Counter[tuple[object, ...]], values: list[tuple[object, ...]]) -> int:
    return sum(used[value] for value in values)


def _singles(places: tuple[int, ...]) -> list[tuple[object, ...]]:
    return [(factor, place) for factor, place in enumerate(places)]


def _pairs(places: tuple[int, ...]) -> list[tuple[object, ...]]:
    return [(a, b, places[a], places[b]) for a in range(len(places)) for b in range(a)]
