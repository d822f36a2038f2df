"""Work that another thread runs, because a loop runs in this one, ends before an interrupt of it is raised."""

import asyncio
import signal
import threading
from contextlib import closing

import pytest

from alm_proxies.annotators.answers import finish


def test_an_interrupt_cancels_the_work_and_waits_for_its_end() -> None:
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

    with closing(asyncio.new_event_loop()) as loop:  # asyncio.run would handle the signal itself
        loop.run_until_complete(cell())
    assert ended == ["ended"]
