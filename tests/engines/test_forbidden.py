"""Refusals in a row are found whatever waits, and what is kept to find them does not grow with the length of a run."""

import tracemalloc
from contextlib import ExitStack

import numpy as np
import pytest

from alm_proxies.engines.engine import Failure, Reply
from alm_proxies.engines.forbidden import Forbidden

REFUSED, BROKEN = (Reply("key", failure=Failure(kind, "")) for kind in ("forbidden", "timeout"))
ANSWERED = Reply("key")


def test_what_is_kept_stays_small_while_one_request_waits() -> None:
    forbidden = Forbidden()

    def ask(count: int) -> None:
        for place in range(count):
            with forbidden.number() as number:
                forbidden.judged(REFUSED if place % 4 == 3 else ANSWERED, number, f"u{number}")

    with forbidden.number():
        ask(1_000)
        tracemalloc.start()
        try:
            ask(20_000)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 100_000


@pytest.mark.parametrize("seed", range(8))
def test_the_first_eight_refusals_in_a_row_are_found_in_any_order_of_replies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    forbidden, begun = Forbidden(), list[str]()  # w waits, a answered, r refused, - broken
    waiting: dict[int, ExitStack] = {}
    shares = [(0.6, 0.3, 0.1), (0.5, 0.5, 0.0), (0.8, 0.1, 0.1)][seed % 3]
    for _ in range(3_000):
        if len(waiting) < 40 and rng.random() < 0.55:
            stack = ExitStack()
            waiting[stack.enter_context(forbidden.number())] = stack
            begun.append("w")
            continue
        if not waiting:
            continue
        newest_first = sorted(waiting, reverse=True)
        number = newest_first[min(int(rng.exponential(6)), len(newest_first) - 1)]  # the oldest wait for long
        kind = int(rng.choice(3, p=shares))
        begun[number - 1] = "ra-"[kind]
        judged = forbidden.judged((REFUSED, ANSWERED, BROKEN)[kind], number, f"u{number}")
        waiting.pop(number).close()
        in_a_row = max(map(len, "".join(begun).replace("-", "").replace("w", "a").split("a")))
        assert (judged.failure is not None and judged.failure.kind == "unauthorised") == (kind == 0 and in_a_row >= 8)
        if in_a_row >= 8:
            return
    pytest.fail("there were never eight in a row")
