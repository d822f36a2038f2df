from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from alm_proxies.engines.vllm import _OneLength


def test_only_equal_lengths_run_side_by_side_and_everyone_gets_a_turn():
    inside: list[int] = []
    most: Counter[int] = Counter()

    async def turn(gate, length):
        async with gate.hold((length,)):
            inside.append(length)
            assert set(inside) == {length}
            for _ in range(3):
                await asyncio.sleep(0)
            most[length] = max(most[length], len(inside))
            inside.remove(length)

    async def run():
        gate = _OneLength()
        await asyncio.gather(*(turn(gate, length) for length in (1, 2, 1, 3, 2, 1)))

    asyncio.run(run())
    assert most == {1: 3, 2: 2, 3: 1}


def test_a_request_that_fails_or_is_given_up_holds_nobody_up():
    async def fails(gate):
        async with gate.hold((1,)):
            raise ValueError

    async def run():
        gate = _OneLength()
        async with gate.hold((1,)):
            waiting = asyncio.create_task(gate.hold((2,)).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(ValueError):
            await fails(gate)
        async with asyncio.timeout(5), gate.hold((3,)):
            return True

    assert asyncio.run(run())
