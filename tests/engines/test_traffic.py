from __future__ import annotations

import asyncio

import pytest

from alm_proxies.engines.traffic import FaultError, Traffic


def traffic(*addresses, in_flight=64, tries=3, **more):
    more = {"first_wait": 0.001, "longest_wait": 0.01, "try_seconds": 5.0} | more
    return Traffic(addresses or ("one",), in_flight=in_flight, tries=tries, **more)


async def send_all(road, one_try, count, seconds=20.0):
    return await asyncio.gather(*(road.send(one_try, seconds=seconds) for _ in range(count)), return_exceptions=True)


async def well(address, seconds):
    await asyncio.sleep(0)
    return address


def test_the_window_opens_to_the_most_allowed_and_no_further():
    road = traffic(in_flight=40)
    flying = most = 0

    async def watched(address, seconds):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1

    asyncio.run(send_all(road, watched, 500))
    assert road.replicas[0].window == 40
    assert 16 <= most <= 40


def test_a_complaint_halves_the_window_once_a_round_trip_and_success_adds_one_a_round_trip():
    road = traffic(in_flight=16, tries=1)
    round_trip = asyncio.Event

    async def run():
        gate = round_trip()

        async def busy(address, seconds):
            await gate.wait()
            raise FaultError("rate_limited", "429")

        sent = asyncio.create_task(send_all(road, busy, 16))
        while road.replicas[0].flying < 16:
            await asyncio.sleep(0)
        gate.set()
        await sent
        halved = road.replicas[0].window
        await send_all(road, well, 8)
        return halved

    assert asyncio.run(run()) == 8
    assert 8.5 < road.replicas[0].window <= 9.0


def test_a_refusal_is_no_complaint():
    road = traffic(tries=1)

    async def refuses(address, seconds):
        raise FaultError("refused", "no")

    asyncio.run(send_all(road, refuses, 4))
    assert road.replicas[0].window == 16


def test_replicas_share_the_work_and_a_dead_one_rests():
    road = traffic("alive", "dead", "alive too")
    asked = {"alive": 0, "dead": 0, "alive too": 0}

    async def half_dead(address, seconds):
        asked[address] += 1
        await asyncio.sleep(0)
        if address == "dead":
            raise FaultError("unreachable", "nobody")
        return address

    results = asyncio.run(send_all(road, half_dead, 200))
    assert {answer for answer, _ in results} == {"alive", "alive too"}
    assert asked["alive"] > 50
    assert asked["alive too"] > 50
    assert asked["dead"] < 100


def test_a_replica_that_comes_back_is_used_again():
    road = traffic("away")
    calls = 0

    async def back_later(address, seconds):
        nonlocal calls
        calls += 1
        if calls < 3:
            raise FaultError("unreachable", "nobody")
        return "here"

    assert asyncio.run(road.send(back_later, seconds=20.0)) == ("here", 3)
    assert road.replicas[0].absences == 0


def test_everyone_waiting_is_served_when_all_replicas_rested():
    road = traffic("a", "b", in_flight=2, tries=50)
    calls = 0

    async def first_bad(address, seconds):
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls <= 6:
            raise FaultError("reset", "gone")
        return address

    results = asyncio.run(send_all(road, first_bad, 20))
    assert not [result for result in results if isinstance(result, BaseException)]


def test_a_cancelled_request_gives_its_place_back():
    road = traffic(in_flight=1)

    async def run():
        async def never(address, seconds):
            await asyncio.Event().wait()

        first = asyncio.create_task(road.send(never, seconds=20.0))
        second = asyncio.create_task(road.send(never, seconds=20.0))
        third = asyncio.create_task(road.send(well, seconds=20.0))
        while road.replicas[0].flying < 1:
            await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        return await third

    assert asyncio.run(run()) == ("one", 1)
    assert road.replicas[0].flying == 0


def test_what_is_no_fault_is_not_tried_again():
    road = traffic()
    calls = 0

    async def broken(address, seconds):
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(road.send(broken, seconds=20.0))
    assert calls == 1
    assert road.replicas[0].flying == 0


def test_no_room_before_the_deadline_is_a_timeout():
    road = traffic(in_flight=1, tries=1)

    async def run():
        async def never(address, seconds):
            await asyncio.Event().wait()

        blocker = asyncio.create_task(road.send(never, seconds=20.0))
        await asyncio.sleep(0)
        try:
            with pytest.raises(FaultError, match="no server had room"):
                await road.send(well, seconds=0.02)
        finally:
            blocker.cancel()

    asyncio.run(run())
