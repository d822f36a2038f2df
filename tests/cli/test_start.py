"""Ctrl-C and SIGTERM end the command line with one sentence and 130 whenever they come; a defect ends with 70."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alm_proxies import __version__

PROGRAM = """
from alm_proxies.cli import start
install = start._Interruption.install
def installed(self):
    install(self)
    print("ready", flush=True)
start._Interruption.install = installed
start.main()
"""
SENTENCE = "alm-proxies: Interrupted. Finished work is kept: run the same command again to continue.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0])
def test_a_signal_at_any_moment_is_one_sentence_and_130(tmp_path: Path, number: signal.Signals, after: float) -> None:
    command = [sys.executable, "-c", PROGRAM, "simulate", "-o", str(tmp_path / "sim"), "--utterances", "3000"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(after)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert out == ""
    assert err.endswith(SENTENCE)
    assert err.count("Interrupted") == 1
    assert "Traceback" not in err


LOSES = """
import signal, os, sys
from alm_proxies.cli import app, start
{loses}
app.run = loses
start.main([])
"""


@pytest.mark.parametrize(
    "loses",
    [
        "def loses(given):\n    try: signal.raise_signal(signal.SIGTERM)\n    except BaseException: return 0",
        "def loses(given):\n    try: signal.raise_signal(signal.SIGINT)\n    except BaseException: raise ValueError(3)",
        "class L:\n    def __del__(self): signal.raise_signal(signal.SIGINT)\ndef loses(given):\n    L(); return 0",
        "def loses(given):\n    import atexit; atexit.register(signal.raise_signal, signal.SIGTERM); return 0",
        "def loses(given):\n    signal.raise_signal(signal.SIGTERM)",
    ],
    ids=["swallowed", "turned into another error", "in a destructor", "after the end", "plainly"],
)
def test_a_signal_that_gets_lost_ends_the_process_all_the_same(loses: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSES.format(loses=loses)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, SENTENCE)


NOTED = """
from pathlib import Path
from alm_proxies import progress
def loses(given):
    with progress.noted(Path("running.json")):
        assert Path("running.json").exists()
        {during}
"""


@pytest.mark.parametrize(
    "during",
    ["import ends", "signal.raise_signal(signal.SIGTERM)", "progress._notes[-1].write(ends=Ends())"],
    ids=["importing", "working", "writing the note"],
)
def test_whenever_a_signal_comes_no_note_says_that_something_runs(tmp_path: Path, during: str) -> None:
    (tmp_path / "ends.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    program = LOSES.format(loses=NOTED.format(during=during)).replace(
        "app.run = loses",
        "import json, sys\nsys.path.insert(0, '')\n"
        "class Ends: pass\nwrites = json.dumps\n"
        "def dumps(value):\n    if 'ends' in value: signal.raise_signal(signal.SIGINT)\n    return writes(value)\n"
        "json.dumps = dumps\napp.run = loses",
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (130, SENTENCE)
    assert [path.name for path in tmp_path.iterdir() if "running" in path.name] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_interpreter_is_taken_down_changes_nothing(number: signal.Signals) -> None:
    program = f"""
import os, signal
class Late:
    def __del__(self, kill=os.kill, me=os.getpid()):
        kill(me, {number.value})
late = Late()
from alm_proxies.cli import app, start
app.run = lambda given: 3
start.main([])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("error", ["ZeroDivisionError('by\\x1b zero')", "type('Panic', (BaseException,), {})('lost')"])
def test_an_error_that_nobody_foresaw_is_one_sentence_and_70(error: str, debug: bool) -> None:
    loses = f"def loses(given):\n    raise {error}"
    program = LOSES.format(loses=loses).replace("main([])", "main(['--debug'])" if debug else "main([])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "This is a defect of alm-proxies" in done.stderr
    assert ("Traceback" in done.stderr) == debug
    assert debug or done.stderr.count("\n") == 1
    assert debug or "\x1b" not in done.stderr


def test_python_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alm_proxies", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")
