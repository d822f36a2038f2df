"""Traffic while none of its replicas can be reached, and when it is called off."""

from __future__ import annotations

import asyncio

import pytest

from alm_proxies.engines.away import Away
from alm_proxies.engines.engine import LEFT_OPEN
from alm_proxies.engines.faults import FaultError, Sent
from alm_proxies.engines.traffic import Traffic


def traffic(*addresses, tries=2, first_wait=0.001, **more):
    more = {"longest_wait": 0.01, "try_seconds": 5.0, "in_flight": 4} | more
    return Traffic(addresses or ("one",), tries=tries, first_wait=first_wait, **more)


async def well(address, seconds):
    return address


async def nobody(address, seconds):
    raise FaultError("unreachable", "no server answers")


@pytest.mark.parametrize("addresses", [("one",), ("one", "two")])
def test_tries_are_not_counted_while_all_are_away_that_have_answered_before(addresses):
    road = traffic(*addresses)
    calls = 0

    async def back_later(address, seconds):
        nonlocal calls
        calls += 1
        if calls <= 20:
            raise FaultError("unreachable", "no server answers")
        return address

    async def run():
        await road.send(well, seconds=20.0)
        sent = await road.send(back_later, seconds=20.0)
        return sent.tries, road.away()

    assert asyncio.run(run()) == (21, None)


def test_servers_that_never_answered_are_tried_as_often_as_told():
    road = traffic(tries=3)
    with pytest.raises(FaultError) as caught:
        asyncio.run(road.send(nobody, seconds=20.0))
    assert (caught.value.failure.kind, caught.value.tries) == ("unreachable", 3)
    assert road.away() is None


def test_servers_that_stay_away_are_given_up_and_so_is_all_that_comes_after():
    road = traffic(given_up_after=0.02)

    async def run():
        await road.send(well, seconds=20.0)
        waited = await asyncio.gather(*(road.send(nobody, seconds=20.0) for _ in range(10)), return_exceptions=True)
        with pytest.raises(FaultError, match="one: no answer for 0 s"):
            await road.send(well, seconds=20.0)
        return waited

    assert {fault.failure.kind for fault in asyncio.run(run())} == {"gone"}


def test_calling_off_ends_what_waits_and_lets_what_is_in_flight_be_answered():
    road = traffic(in_flight=1, first_wait=3600.0, longest_wait=3600.0)

    async def run():
        gate, flying = asyncio.Event(), asyncio.Event()

        async def slowly(address, seconds):
            flying.set()
            await gate.wait()
            return address

        async def fails(address, seconds):
            raise FaultError("server_error", "500")

        waits_an_hour = asyncio.create_task(road.send(fails, seconds=7200.0))
        await asyncio.sleep(0)
        in_flight = asyncio.create_task(road.send(slowly, seconds=20.0))
        await flying.wait()
        wants_room = asyncio.create_task(road.send(well, seconds=20.0))
        await asyncio.sleep(0)
        road.call_off("called_off", "SIGINT received")
        waited = await asyncio.gather(waits_an_hour, wants_room, return_exceptions=True)
        gate.set()
        return waited, await in_flight

    waited, answered = asyncio.run(run())
    assert {fault.failure.kind for fault in waited} <= LEFT_OPEN
    assert waited[0].paid_tries == 1
    assert answered == Sent("one", 1, 1)


def test_what_ran_out_of_time_while_nobody_was_there_has_not_failed():
    road = traffic(longest_wait=0.005)

    async def run():
        await road.send(well, seconds=20.0)
        await road.send(nobody, seconds=0.05)

    with pytest.raises(FaultError) as caught:
        asyncio.run(run())
    assert caught.value.failure.kind == "called_off"


def test_away_reads_as_a_sentence():
    away = Away(("http://a/v1", "http://b/v1"), 12.4, "no server answers (ConnectError)", 8.0)
    sentence = (
        "http://a/v1, http://b/v1 have not answered for 12 s (no server answers (ConnectError)); trying again in 8 s"
    )
    assert str(away) == sentence
