"""How many requests are in flight at once: the window of each server opens and closes by its answers."""

from __future__ import annotations

import asyncio
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from sending import send_all, traffic, well

from alm_proxies.engines.faults import FaultError
from alm_proxies.engines.replica import Replica


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


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 4))
def test_until_the_first_complaint_the_window_trebles_in_a_round_trip_up_to_the_most_allowed(in_flight, replicas):
    road = traffic(*(f"replica {number}" for number in range(replicas)), in_flight=in_flight)
    last = road.replicas[-1]
    assert last.window == min(last.most, max(16.0, last.most / 8))
    trips = 0
    while last.window < last.most:
        before = last.window
        for _ in range(int(last.window)):  # a round trip: as many answers as were in flight
            last.grow(0.2, 120.0, int(before))
        assert min(last.most, 3 * before - 2) <= last.window <= min(last.most, 3 * before)
        trips += 1
    assert trips <= 5
    assert sum(replica.most for replica in road.replicas) == max(replicas, in_flight)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.sampled_from([16, 64, 512]), st.integers(1, 3), st.integers(0, 3))
def test_a_server_that_turns_requests_away_is_never_asked_for_more_than_three_times_what_it_bears(
    bears, in_flight, replicas, steps
):
    names = [f"replica {number}" for number in range(replicas)]
    road = traffic(*names, in_flight=in_flight, tries=1000, first_wait=0.0001, longest_wait=0.002)
    flying, most = dict.fromkeys(names, 0), dict.fromkeys(names, 0)

    async def limited(address, seconds):
        flying[address] += 1
        most[address] = max(most[address], flying[address])
        try:
            if flying[address] > bears:
                raise FaultError("rate_limited", "429", retry_after=0.0001)
            for _ in range(steps):
                await asyncio.sleep(0)
        finally:
            flying[address] -= 1

    first = road.replicas[0].window
    outcomes = asyncio.run(send_all(road, limited, 300))
    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert max(most.values()) <= max(first, 3 * bears)
    assert [replica.flying for replica in road.replicas] == [0] * replicas


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 40.0)), max_size=300), st.integers(2, 600))
def test_after_a_complaint_the_window_grows_by_one_a_round_trip_and_never_leaves_its_bounds(events, in_flight):
    road = traffic(in_flight=in_flight, try_seconds=120.0)
    replica = road.replicas[0]
    replica.shrunk_at = -1.0
    for number, (complains, took) in enumerate(events):
        before, was_growing = replica.window, replica.growing
        if complains:
            replica.shrunk_at = -1.0  # a round trip ago
            road._complained(replica, FaultError("rate_limited", "429"), float(number))
            assert replica.window == max(1.0, before / 2)
        else:
            replica.grow(took, 120.0, 16)
            assert before <= replica.window <= before + (2.0 if was_growing else 1.0 / before)
        assert 1.0 <= replica.window <= replica.most
        assert replica.growing == (was_growing and not complains)


@settings(deadline=None, max_examples=40)
@given(st.floats(0.02, 0.25), st.floats(10.0, 300.0), st.sampled_from([64, 512, 2048]))
def test_a_server_that_lets_requests_queue_is_not_given_so_many_that_they_come_too_late(share, try_seconds, in_flight):
    road = traffic(in_flight=in_flight, try_seconds=try_seconds)
    replica = road.replicas[0]
    each = share * try_seconds / replica.window  # it answers one after the other; the first window takes such a share
    queue, now, longest = deque[tuple[float, int]](), 0.0, 0.0
    for _ in range(4 * in_flight):
        while len(queue) < int(replica.window):
            queue.append((now, len(queue) + 1))
        now += each
        sent, flying = queue.popleft()
        longest = max(longest, now - sent)
        replica.grow(now - sent, try_seconds, flying)
    assert longest <= 0.75 * try_seconds + 8 * each


def test_answers_that_are_slow_by_nature_open_the_window_like_others():
    replica = Replica("thinks long", 64.0, 16.0)
    replica.grow(0.01, 120.0, 1)  # counts the tokens of a word
    for _ in range(30):
        replica.grow(60.0, 120.0, 16)
    assert replica.window == 64.0


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
