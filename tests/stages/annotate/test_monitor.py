"""The monitor of a run handles signals and restores the earlier handlers; no signal kills or gets lost."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType

import pytest

from alm_proxies.progress import Progress
from alm_proxies.stages.annotate.limits import Halt
from alm_proxies.stages.annotate.monitor import RunMonitor


def note(number: int, frame: FrameType | None) -> None:
    """An earlier handler."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_system_never_handles_a_signal_itself(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[object] = []
    real = signal.signal

    def seen(number_given: int, handler: object) -> object:
        if number_given == number:
            set_to.append(handler)
        return real(number_given, handler)

    async def work() -> None:
        async with RunMonitor(Halt(None), Progress("voting", quiet=True), True):
            assert signal.getsignal(number) not in (note, signal.SIG_DFL)

    before = {each: real(each, note) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        monkeypatch.setattr(signal, "signal", seen)
        asyncio.run(work())
        kept = signal.getsignal(number)
    finally:
        for each, handler in before.items():
            real(each, handler)
    assert kept is note
    assert signal.SIG_DFL not in set_to
    assert signal.default_int_handler not in set_to


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_with_a_reason(number: signal.Signals) -> None:
    halt = Halt(None)

    async def work() -> None:
        async with RunMonitor(halt, Progress("voting", quiet=True), True):
            signal.raise_signal(number)
            while not halt.now:
                await asyncio.sleep(0)

    asyncio.run(work())
    assert halt.interrupted
    assert halt.reason == f"{number.name} received"
