from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sending import send_all, traffic, well

from alm_proxies.engines.chat_api import fault_of
from alm_proxies.engines.faults import FaultError, Sent


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
    assert {sent.answer for sent in results} == {"alive", "alive too"}
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

    assert asyncio.run(road.send(back_later, seconds=20.0)) == Sent("here", 3, 1)
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

    assert asyncio.run(run()) == Sent("one", 1, 1)
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


@pytest.mark.parametrize("kind", ["server_error", "rate_limited", "empty", "reset"])
def test_a_replica_that_fails_at_once_does_not_draw_all_requests_to_itself(kind):
    road = traffic("broken", "slow", in_flight=8, tries=3, longest_wait=60.0)

    async def one_is_broken(address, seconds):
        if address == "broken":
            raise FaultError(kind, "at once")
        for _ in range(50):
            await asyncio.sleep(0)
        return address

    results = asyncio.run(send_all(road, one_is_broken, 200))
    assert {sent.answer for sent in results} == {"slow"}


def test_a_replica_that_hangs_takes_one_try_at_a_time_once_that_is_known():
    road = traffic("hung", "well", in_flight=8, tries=10)
    flying = known = 0

    async def one_hangs(address, seconds):
        nonlocal flying, known
        if address == "well":
            await asyncio.sleep(0)
            return address
        flying += 1
        try:
            assert not known or flying == 1
            for _ in range(500):
                await asyncio.sleep(0)
        finally:
            flying -= 1
            known += flying == 0
        raise FaultError("timeout", "no answer")

    async def run():
        road.replicas[1].most = road.replicas[1].window = 1.0
        return await send_all(road, one_hangs, 300)

    assert {sent.answer for sent in asyncio.run(run())} == {"well"}
    assert known


def test_one_request_alone_does_not_try_the_replica_that_is_not_well_again_and_again():
    road = traffic("hung", "well", in_flight=8, tries=2)

    async def one_hangs(address, seconds):
        if address == "hung":
            raise FaultError("timeout", "no answer")
        return address

    async def run():
        return [(await road.send(one_hangs, seconds=20.0)).answer for _ in range(20)]

    assert asyncio.run(run()) == ["well"] * 20


def test_a_long_rest_of_one_replica_does_not_keep_the_others_asleep():
    road = traffic("busy", "away", in_flight=2, tries=10, longest_wait=0.02)
    calls = 0

    async def back_soon(address, seconds):
        nonlocal calls
        if address == "busy":
            raise FaultError("rate_limited", "429", retry_after=15.0)
        calls += 1
        if calls < 3:
            raise FaultError("unreachable", "nobody")
        return address

    async def run():
        road.replicas[0].window = 1.5  # asked first
        first = asyncio.create_task(road.send(back_soon, seconds=1.0))
        await asyncio.sleep(0)
        second = await asyncio.gather(*(road.send(back_soon, seconds=10.0) for _ in range(3)))
        with pytest.raises(FaultError, match="429"):
            await first
        return second

    assert {sent.answer for sent in asyncio.run(run())} == {"away"}


def test_those_who_wait_are_served_in_their_order():
    road = traffic(in_flight=1)
    order = []

    async def run():
        async def noted(number):
            async def one_try(address, seconds):
                await asyncio.sleep(0)
                order.append(number)

            await road.send(one_try, seconds=20.0)

        first = [asyncio.create_task(noted(number)) for number in range(5)]
        while len(order) < 2:
            await asyncio.sleep(0)
        await asyncio.gather(*first, *(asyncio.create_task(noted(number)) for number in range(5, 10)))

    asyncio.run(run())
    assert order == list(range(10))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.booleans()), max_size=40), st.integers(1, 4))
def test_whoever_is_called_off_whenever_every_place_is_given_back(requests, in_flight):
    road = traffic("a", "b", in_flight=in_flight)

    async def run():
        async def one_try(address, seconds, steps, fails):
            for _ in range(steps):
                await asyncio.sleep(0)
            if fails:
                raise FaultError("refused", "no")

        async def sent(steps, fails):
            await road.send(lambda address, seconds: one_try(address, seconds, steps, fails), seconds=20.0)

        tasks = [asyncio.create_task(sent(steps, fails)) for _, steps, fails in requests]
        for moment in range(31):
            for task, (cancelled_at, _, _) in zip(tasks, requests, strict=True):
                if cancelled_at == moment:
                    task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        return await road.send(well, seconds=20.0)

    assert asyncio.run(run()).tries == 1
    assert [replica.flying for replica in road.replicas] == [0, 0]


def test_tries_that_reached_the_server_and_died_may_be_paid_and_others_not():
    road = traffic(tries=8)
    kinds = iter(["server_error", "rate_limited", "cut_body", "unreachable", "timeout", "empty", "reset"])

    async def bad_day(address, seconds):
        for kind in kinds:
            raise FaultError(kind, "as told")
        return "well"

    assert asyncio.run(road.send(bad_day, seconds=20.0)) == Sent("well", 8, 6)
    road = traffic(tries=3)

    async def lasting(address, seconds):
        raise FaultError("server_error" if road.counts.tries < 3 else "bad_request", "as told")

    with pytest.raises(FaultError) as caught:
        asyncio.run(road.send(lasting, seconds=20.0))
    assert (caught.value.tries, caught.value.paid_tries) == (3, 2)


def test_a_server_error_is_no_complaint_unless_the_server_has_too_much_to_do():
    for status, window in ((500, 16.0), (503, 8.0), (502, 8.0), (429, 8.0)):
        road = traffic(tries=1)
        fault = fault_of(status, {}, b"")

        async def fails(address, seconds, fault=fault):
            raise fault

        asyncio.run(send_all(road, fails, 1))
        assert road.replicas[0].window == window


def test_the_time_in_which_a_server_has_no_room_does_not_count():
    road = traffic(in_flight=1, tries=1)

    async def run():
        leaves = asyncio.Event()

        async def waits(address, seconds):
            await leaves.wait()
            return address

        blocker = asyncio.create_task(road.send(waits, seconds=20.0))
        behind = [asyncio.create_task(road.send(well, seconds=0.02)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in behind)
        leaves.set()
        return [(await task).answer for task in (blocker, *behind)]

    assert asyncio.run(run()) == ["one"] * 4


def test_a_request_without_any_time_left_is_not_sent():
    road = traffic()
    with pytest.raises(FaultError) as caught:
        asyncio.run(road.send(well, seconds=0.0))
    assert (caught.value.failure.kind, caught.value.paid_tries, road.counts.tries) == ("timeout", 0, 0)


@pytest.mark.parametrize("kind", ["timeout", "reset", "cut_body"])
def test_servers_that_give_no_whole_answer_are_given_up(kind):
    road = traffic(tries=1000, given_up_after=0.05, try_seconds=0.01)

    async def never_whole(address, seconds):
        await asyncio.sleep(0.002)
        raise FaultError(kind, "as told")

    results = asyncio.run(send_all(road, never_whole, 4))
    assert {fault.failure.kind for fault in results} == {"gone"}
    assert all("had no whole answer" in fault.failure.message for fault in results)


def test_one_whole_answer_now_and_then_keeps_servers_from_being_given_up():
    road = traffic(tries=200, given_up_after=0.03, try_seconds=0.01)
    calls = 0

    async def now_and_then(address, seconds):
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.001)
        if calls % 6:
            raise FaultError("reset", "as told")
        return calls

    async def run():
        return [await road.send(now_and_then, seconds=20.0) for _ in range(20)]

    assert len(asyncio.run(run())) == 20


def test_a_replica_that_asks_to_wait_a_year_rests_and_the_others_go_on():
    road = traffic("busy", "well", tries=5)

    async def one_is_busy(address, seconds):
        await asyncio.sleep(0)
        if address == "busy":
            raise FaultError("rate_limited", "429", retry_after=3.2e7)
        return address

    results = asyncio.run(send_all(road, one_is_busy, 40))
    assert {sent.answer for sent in results} == {"well"}


@pytest.mark.parametrize("asked", [121.0, 3.2e7, float("inf")])
def test_when_all_ask_to_wait_longer_than_anybody_does_they_are_given_up(asked):
    road = traffic("one", "two", tries=5)

    async def busy(address, seconds):
        await asyncio.sleep(0)
        raise FaultError("rate_limited", "429", retry_after=asked)

    results = asyncio.run(send_all(road, busy, 10))
    assert {fault.failure.kind for fault in results} == {"gone"}
    assert all("(Retry-After), at most 120 s are waited" in fault.failure.message for fault in results)
