"""A server is killed with -9 during a run: messages, stored votes, and how the run continues."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from forked import Forked

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import Engine
from alm_proxies.engines.openai import OpenAI
from alm_proxies.errors import EngineError
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Utterances

Make = Callable[..., Any]
SERVER = Path(__file__).parents[2] / "engines/fault_server.py"
COUNT = 40
PROMPT = """
elicits = "label"
requires = ["transcript"]
after = '{"key": "{{ transcript }}", "do": ["{% if "die" in transcript %}die{% else %}ok{% endif %}"], \
"labels": "{{ labels | join(" ") }}"}'
"""


def serving(*arguments: str) -> AbstractContextManager[tuple[subprocess.Popen[str], int]]:
    class Serving(AbstractContextManager[tuple[subprocess.Popen[str], int]]):
        def __enter__(self) -> tuple[subprocess.Popen[str], int]:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVER), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self.process.stdout is not None
            return self.process, int(self.process.stdout.readline())

        def __exit__(self, *_: object) -> None:
            self.process.kill()
            self.process.communicate()

    return Serving()


@pytest.fixture
def asked(corpus: Make, tmp_path: Path) -> Callable[[int], tuple[Utterances, Annotator]]:
    """Utterances, one of which kills the server, and an annotator with four concurrent requests."""

    def make(port: int) -> tuple[Utterances, Annotator]:
        utterances = corpus(COUNT, transcript=["die" if number == COUNT // 2 else "ok" for number in range(COUNT)])
        utterances.write(tmp_path / "utterances.parquet")
        (tmp_path / "fatal.toml").write_text(PROMPT)
        (tmp_path / "a.toml").write_text(
            f'name = "a"\nengine = "openai"\nmodel = "full"\nprompt = "fatal.toml"\nvotes = 4\nanswer = "words"\n'
            f'serve = {{ base_urls = ["http://127.0.0.1:{port}/v1"], in_flight = 4, tries = 2 }}\n'
        )
        return utterances, Annotator.read(tmp_path / "a.toml")

    return make


def command(folder: Path) -> Forked:
    files = [str(folder / "utterances.parquet"), "--annotator", str(folder / "a.toml"), "--injection", "0"]
    return Forked("-m", "alm_proxies", "annotate", *files, "-o", folder / "out", "--max-left-out", "1")


def statuses(folder: Path) -> dict[str, int]:
    with closing(sqlite3.connect(folder / "out/ledger.sqlite")) as sql:
        assert sql.execute("SELECT COUNT(*) FROM in_flight").fetchone() == (0,)
        return dict(sql.execute("SELECT status, COUNT(*) FROM vote GROUP BY status"))


def until_away(run: Forked) -> list[str]:
    lines = []
    for line in run.stderr:
        lines.append(line)
        if "has not answered for" in line:
            break
    return lines


def test_a_killed_server_is_said_and_once_it_is_back_the_run_goes_on_and_no_vote_has_failed(
    asked: Make, tmp_path: Path
) -> None:
    with serving() as (_, port):
        asked(port)
        run = command(tmp_path)
        lines = until_away(run)
        assert f"http://127.0.0.1:{port}/v1 has not answered for" in lines[-1]
        assert "Ctrl-C stops, run the same command again to continue" in lines[-1]
    with serving(str(port), "lasting"):
        _, rest = run.communicate()
    assert run.returncode == 0, rest
    assert sum(statuses(tmp_path).values()) == 4 * COUNT
    assert "failed" not in statuses(tmp_path)


def test_ctrl_c_ends_at_once_while_no_server_can_be_reached_and_no_vote_has_failed(asked: Make, tmp_path: Path) -> None:
    with serving() as (_, port):
        asked(port)
        run = command(tmp_path)
        until_away(run)
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        run.communicate()
        took = time.monotonic() - began
    assert run.returncode == 130
    assert took < 10.0  # a request waits up to ten minutes for its server
    assert 0 < sum(statuses(tmp_path).values()) < 4 * COUNT
    assert "failed" not in statuses(tmp_path)
    assert (tmp_path / "out/votes.parquet").is_file()


def test_servers_that_stay_away_end_the_job_with_nothing_lost_and_the_next_run_asks_for_the_rest(
    asked: Make, tmp_path: Path
) -> None:
    async def impatient(annotator: Annotator) -> Engine:
        engine = await annotator.open()
        assert isinstance(engine, OpenAI)
        engine.traffic._given_up_after = 0.2
        return engine

    settings = AnnotateSettings(injection=0)
    with serving() as (_, port):
        utterances, remote = asked(port)
        with pytest.raises(EngineError, match="gone: .* no answer for .* Start the server again") as caught:
            annotate(utterances, [remote], tmp_path / "out", settings, engine_of=impatient)
    assert caught.value.exit_code == 3
    kept = sum(statuses(tmp_path).values())
    assert 0 < kept < 4 * COUNT
    assert "failed" not in statuses(tmp_path)
    with serving(str(port), "lasting"):
        annotated = annotate(utterances, [remote], tmp_path / "out", settings)
    assert annotated.complete
    assert annotated.spent.cast_now == 4 * COUNT - kept
    assert "failed" not in statuses(tmp_path)


def test_ctrl_c_ends_at_once_while_a_server_that_is_not_there_is_tried_out(asked: Make, tmp_path: Path) -> None:
    with serving() as (_, port):
        asked(port)
    run = command(tmp_path)
    for line in run.stderr:
        if "to probe the server" in line:
            break
    run.send_signal(signal.SIGINT)
    _, rest = run.communicate()
    assert run.returncode == 130, rest
    assert "could not be probed" not in rest
    assert statuses(tmp_path) == {}
