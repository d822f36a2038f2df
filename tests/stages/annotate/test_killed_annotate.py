import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import Forked

Make = Callable[..., Any]
SCRIPT = Path(__file__).with_name("annotate_until_killed.py")
IN_FLIGHT = 16
CELLS = 4
VOTES = 8


@pytest.fixture
def command(annotator_files: Make) -> Make:
    """Makes the arguments of the script: it annotates `count` utterances into a folder, in milliseconds each."""

    def make(count: int, folder: Path, **settings: Any) -> list[str]:
        files = annotator_files(
            count,
            f"votes = {VOTES}",
            "price = { audio_minute = 300.0 }",
            'cross = { temperature = [0.6, 1.0], focus = ["voice", "words"] }',
            **settings,
        )
        return [*files, str(folder), str(IN_FLIGHT)]

    return make


def votes_in(ledger: Path) -> dict[tuple[str, int], tuple[str, float]]:
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as sql:
        query = "SELECT u.name, v.draw, v.raw, v.at FROM vote v JOIN utterance u ON u.id = v.utterance"
        return {(name, draw): (raw, at) for name, draw, raw, at in sql.execute(query)}


def test_twenty_kills_under_load_lose_nothing_acknowledged_and_ask_again_only_what_was_in_flight(
    command: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    run = command(200, folder)
    moments = np.random.default_rng(20).integers(1, 60, 20)
    asked: Counter[str] = Counter()
    before: dict[tuple[str, int], tuple[str, float]] = {}
    unanswered = 0
    cut_off: set[str] = set()
    for moment in [*moments.tolist(), None]:
        with Forked(SCRIPT, *run) as child:
            now = []
            if moment is not None:
                now = [line.strip() for _, line in zip(range(moment), child.stdout, strict=False)]
                child.send_signal(signal.SIGKILL)
            now += [line.strip() for line in child.stdout]
            output = child.stderr.read()
        keys = [line for line in now if "|" in line]
        after = votes_in(folder / "ledger.sqlite")
        answered = {f"scripted|{name}|{draw % CELLS}|{draw % CELLS}" for name, draw in after}
        # Nothing acknowledged is lost or changed.
        assert {key: after[key] for key in before} == before
        # Only what earlier kills left unanswered is asked again, and a run says how much the last one cut off.
        again = [key for key in keys if asked[key]]
        assert len(again) <= unanswered
        assert len(keys) == len(set(keys))
        if cut_off:
            in_flight = re.search(r"(\d+) requests? for (\d+) votes? (?:was|were) in flight", output)
            assert in_flight is not None
            # A vote that had reached the journal and not yet the ledger is restored: it is not asked again.
            restored = (cut_off & answered) - set(keys)
            assert len(cut_off - restored) <= int(in_flight[1]) <= IN_FLIGHT
            assert f"({int(in_flight[1]) * 0.2 / 60 * 300:.2f})" in output
        asked.update(keys)
        unanswered, cut_off = len(set(asked) - answered), set(keys) - answered
        assert unanswered <= IN_FLIGHT
        before = after
    assert len(before) == 200 * VOTES
    assert "cast=1600" in now[-1]
    assert sum(asked.values()) - len(asked) <= 20 * IN_FLIGHT


def test_votes_after_kills_are_those_of_a_run_that_was_never_killed(
    command: Make, corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    run = command(40, folder)
    for _ in range(2):
        with Forked(SCRIPT, *run) as child:
            for _, _ in zip(range(30), child.stdout, strict=False):
                pass
            child.kill()
    assert Forked.done(SCRIPT, *run).returncode == 0
    whole = Forked.done(SCRIPT, *run[:2], str(tmp_path / "whole"), run[3])
    assert whole.returncode == 0
    assert "stopped=None" in whole.stdout
    assert (folder / "votes.parquet").read_bytes() == (tmp_path / "whole/votes.parquet").read_bytes()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_with_nothing_in_flight(command: Make, tmp_path: Path, name: signal.Signals) -> None:
    run = command(60, tmp_path / "out")
    with Forked(SCRIPT, *run) as child:
        for _, _ in zip(range(20), child.stdout, strict=False):
            pass
        child.send_signal(name)
        rest, _ = child.communicate()
    assert child.returncode == 0
    assert f"stopped={name.name} received" in rest
    assert "interrupted=True" in rest
    with closing(sqlite3.connect(tmp_path / "out/ledger.sqlite")) as sql:
        assert sql.execute("SELECT COUNT(*) FROM in_flight").fetchone() == (0,)
        (cast,) = sql.execute("SELECT COUNT(*) FROM vote").fetchone()
    assert f"cast={cast} " in rest
    assert 0 < cast < 60 * VOTES
    assert (tmp_path / "out/votes.parquet").is_file()


def test_a_second_signal_gives_up_what_is_in_flight_and_the_next_run_says_so(command: Make, tmp_path: Path) -> None:
    run = command(60, tmp_path / "out", seconds=600.0)
    with Forked(SCRIPT, *run) as child:
        for _, _ in zip(range(IN_FLIGHT), child.stdout, strict=False):
            pass
        child.send_signal(signal.SIGTERM)
        for line in child.stderr:
            if "again to cancel them" in line:
                break
        child.send_signal(signal.SIGTERM)
        _, rest = child.communicate()
    assert child.returncode != 0
    assert "KeyboardInterrupt" in rest
    assert "CancelledError" not in rest
    with closing(sqlite3.connect(tmp_path / "out/ledger.sqlite")) as sql:
        assert sql.execute("SELECT COUNT(*) FROM in_flight").fetchone() == (IN_FLIGHT,)


def test_a_second_process_on_the_same_folder_is_refused_in_a_sentence(command: Make, tmp_path: Path) -> None:
    run = command(60, tmp_path / "out", seconds=30.0)
    with Forked(SCRIPT, *run) as child:
        child.stdout.readline()
        second = Forked.done(SCRIPT, *run)
        child.kill()
    assert second.returncode != 0
    assert f"process {child.pid} on" in second.stderr
    assert "is annotating into this folder. Wait for it or stop it" in second.stderr
    assert "|" not in second.stdout
