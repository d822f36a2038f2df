"""A process of tests/forked.py is what a new Python is, but for the time it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import TORCH, Forked, bash

ALL = """
import atexit, os, signal, sys, warnings
atexit.register(print, "the end")
print(sys.argv, os.getcwd(), sys.path, sys.stdin.read(), __name__, "__file__" in globals(), os.environ["OWN"])
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD))
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.encoding, stream.errors, stream.mode, stream.line_buffering)
print(sorted(os.listdir("/dev/fd"))[:-1], hash("seeded"), os.getpid() != os.getppid())
print("to stderr", file=sys.stderr)
"""
ENDS = {
    "as it is": "",
    "a code": "sys.exit(3)",
    "no code": "sys.exit()",
    "a sentence": "sys.exit('why')",
    "an error": "open('none')",
    "killed": "os.kill(os.getpid(), 9)",
}


def _minds_interrupts() -> None:
    """A fork does, also where the tests run in the background and a new Python would inherit that it does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_it_has_what_a_new_python_has_and_ends_as_that_does(tmp_path: Path, end: str, script: bool) -> None:
    (tmp_path / "all.py").write_text(ALL + end)
    arguments = ["all.py" if script else "-c", *([] if script else [ALL + end]), "x", "ü"]
    own = {"OWN": "mine", "PYTHONHASHSEED": "7", "PYTHONUNBUFFERED": ""}
    new = subprocess.run(
        [sys.executable, *arguments],
        input="read",
        cwd=tmp_path,
        env=os.environ | own,
        capture_output=True,
        text=True,
        preexec_fn=_minds_interrupts,
    )
    forked = Forked.done(*arguments, written="read", cwd=tmp_path, environment=own, imported=("cli",))
    assert forked.stdout == new.stdout
    assert forked.returncode == new.returncode
    assert forked.stderr.splitlines()[:1] == new.stderr.splitlines()[:1] == ["to stderr"]
    assert forked.stderr.splitlines()[-1:] == new.stderr.splitlines()[-1:]


def test_it_is_read_while_it_runs_and_ended_by_signals() -> None:
    with Forked("-c", "import time; print('begins', flush=True); time.sleep(60)") as process:
        assert process.stdout.readline() == "begins\n"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
    assert (process.returncode, process.poll()) == (-signal.SIGTERM, -signal.SIGTERM)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "program",
    ["import time; time.sleep(600)", "import os, time; os.close(1); os.close(2); time.sleep(600)"],
    ids=["prints", "prints nothing more"],
)
def test_one_that_does_not_end_is_killed_and_fails_its_test(program: str) -> None:
    process = Forked("-c", program)
    with pytest.raises(AssertionError, match=r"has not ended in"):
        process.communicate(seconds=1.0)
    assert process.wait(60) == -signal.SIGKILL


def test_what_outlives_it_with_its_streams_does_not_hold_its_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forked._SOON", 0.2)
    program = "import os, sys, time; pid = os.fork(); pid or time.sleep(30); open('pid', 'w').write(str(pid))"
    process = Forked("-c", program, cwd=tmp_path)
    with pytest.raises(AssertionError, match=r"has not ended in 3"):
        process.communicate(seconds=3.0)
    assert process.wait(60) == 0
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_command_of_bash_has_its_folder_streams_and_exit_code(tmp_path: Path) -> None:
    done = bash("echo x > x.csv; alm-proxies fuse x.csv -o y || echo $?; alm-proxies --version | wc -l", tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["2", "1"])
    assert "x.csv" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux alone")
@pytest.mark.parametrize("imported", [("cli",), TORCH])
def test_what_is_forked_has_started_no_pool_of_threads(imported: tuple[str, ...]) -> None:
    """A fork has one thread; what waits for another one of a pool, or a lock that one held, would wait for ever."""
    names = (
        "import os\nof = f'/proc/{os.getppid()}/task'\n"
        "print(*{open(f'{of}/{number}/comm').read() for number in os.listdir(of)})"
    )
    done = Forked.done("-c", names, imported=imported)
    assert set(done.stdout.split()) <= {
        Path(sys.executable).name[:15],
        "python",
        "jemalloc_bg_thd",
        "polars-ooc-clea",
    }, done.stderr
