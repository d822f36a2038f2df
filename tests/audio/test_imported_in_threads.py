"""What threads import when they first change a sound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FIRST_USE = """
import sys
from threading import Thread
import numpy as np
from alm_proxies.audio.clip import open_clip
from alm_proxies.audio.effects import apply

samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
changes = [("telephone", {}), ("noise", {"snr": 20.0, "colour": "pink"})] * 2
failed = []

def change(name, parameters):
    try:
        apply(name, samples, 16_000, parameters, np.random.default_rng(0))
    except Exception as error:
        failed.append(repr(error))

assert "scipy" not in sys.modules
sys.setswitchinterval(1e-5)
threads = [Thread(target=change, args=of_one) for of_one in changes]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if failed:
    sys.exit("; ".join(failed))
"""


def test_threads_that_are_the_first_to_need_parts_of_scipy_find_them_whole() -> None:
    """Where each imports what it needs by itself, one in two processes fails."""
    for _ in range(6):
        ended = subprocess.run([sys.executable, "-c", FIRST_USE], capture_output=True, text=True, check=False)
        assert ended.stderr == ""


FORKED_MEANWHILE = """
import os
import sys
from threading import Thread
from time import sleep
from alm_proxies.imported import imported

thread = Thread(target=imported, args=["takes_a_while"])
thread.start()
while "takes_a_while" not in sys.modules:
    sleep(0.001)
child = os.fork()
if child == 0:
    print(imported("takes_a_while").WHOLE, flush=True)
    os._exit(0)
thread.join()
os.waitpid(child, 0)
"""


def test_a_process_forked_while_a_thread_imports_can_import(tmp_path: Path) -> None:
    (tmp_path / "takes_a_while.py").write_text("import time\ntime.sleep(0.5)\nWHOLE = 'whole'\n")
    command = [sys.executable, "-W", "ignore", "-c", FORKED_MEANWHILE]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.stdout, ended.stderr) == ("whole\n", "")
