"""Work that another thread runs, because a loop runs in this one, ends before an interrupt of it is raised."""

import asyncio
import signal
import threading
from contextlib import closing

import pytest

from alm_proxies.annotators.answers import finish


def test_an_interrupt_cancels_the_work_and_waits_for_its_end_also_while_its_thread_is_started() -> None:
    main, ended = threading.get_ident(), list[str]()

    async def work() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.sleep(20.0)
            ended.append("late")
        finally:
            ended.append("ended")

    async def cell() -> None:
        with pytest.raises(KeyboardInterrupt):
            finish(work())

    before = signal.getsignal(signal.SIGINT)
    with closing(asyncio.new_event_loop()) as loop:
        for times in range(1, 51):  # the thread that starts and the one that waits for it take turns as they please
            loop.run_until_complete(cell())
            assert ended == ["ended"] * times
            assert "alm-proxies" not in [thread.name for thread in threading.enumerate()]
    assert signal.getsignal(signal.SIGINT) == before


def test_an_interrupt_cancels_the_work_under_a_loop_with_a_handler_of_its_own() -> None:
    main, ended = threading.get_ident(), list[str]()

    async def work() -> None:
        signal.pthread_kill(main, signal.SIGINT)
        try:
            await asyncio.sleep(20.0)
        finally:
            ended.append("ended")

    async def cell() -> None:
        with pytest.raises(KeyboardInterrupt):
            finish(work())

    asyncio.run(cell())
    assert ended == ["ended"]


def test_an_interrupt_that_is_ignored_stays_ignored() -> None:
    main = threading.get_ident()

    async def work() -> str:
        signal.pthread_kill(main, signal.SIGINT)
        return "done"

    async def cell() -> str:
        return finish(work())

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with closing(asyncio.new_event_loop()) as loop:
            assert loop.run_until_complete(cell()) == "done"
    finally:
        signal.signal(signal.SIGINT, before)
