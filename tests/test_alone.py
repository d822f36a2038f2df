"""Of several processes that write into one folder at the same instant one works, and the others say so."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

from alm_proxies import progress
from alm_proxies.alone import alone_beside
from alm_proxies.errors import InputError
from alm_proxies.tables import Labels, Utterances

EXPORT = """
import contextlib, io, sys
import alm_proxies.pipeline.perform, alm_proxies.stages.export.stage
from alm_proxies.cli.start import main
print("ready", flush=True)
for _ in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(sys.argv[1:])
        except SystemExit as ended:
            code = ended.code
    print(code, said.getvalue().replace(chr(10), " "), flush=True)
"""
HOLD = """
import sys
from pathlib import Path
from alm_proxies.alone import alone_beside
with alone_beside(Path(sys.argv[1]), "export", "Wait."):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_exports_into_one_folder_at_the_same_instant_end_with_one_that_is_whole(tmp_path: Path) -> None:
    ids = [f"sim/{number}" for number in range(50)]
    shares = {"p_angry": [0.6] * 50, "p_sad": [0.4] * 50}
    Labels.of(pl.DataFrame({"utterance_id": ids, **shares}), taxonomy=("angry", "sad")).write(tmp_path / "l.parquet")
    Utterances.of(pl.DataFrame({"utterance_id": ids, "corpus": "sim"})).write(tmp_path / "u.parquet")
    into = tmp_path / "new" / "out"
    command = ["export", str(tmp_path / "l.parquet"), "--utterances", str(tmp_path / "u.parquet"), "-o", str(into)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORT, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for _ in range(10):
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ended = [process.stdout.readline().strip() for process in started if process.stdout is not None]
        codes = [line.partition(" ")[0] for line in ended]
        assert "0" in codes
        for code, line in zip(codes, ended, strict=True):
            assert code == "0" or (code == "2" and "another export is writing into this folder. Wait" in line), line
        assert [path.name for path in into.parent.iterdir()] == ["out"]
        assert set(json.loads((into / "export.json").read_text(encoding="utf-8"))["files"]) < {
            path.name for path in into.iterdir()
        }
        assert not [path for path in into.iterdir() if path.name.startswith((".", "running"))]
    for process in started:
        process.communicate()


def test_a_lock_beside_a_folder_is_of_one_thread_which_may_take_it_again(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            with alone_beside(tmp_path / "out", "export", "Wait."):
                pass
        except InputError as error:
            refused.append(str(error))

    with alone_beside(tmp_path / "out", "export", "Wait."):
        with alone_beside(tmp_path / "out", "export", "Wait."):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused == [f"{tmp_path / 'out'}: another export is writing into this folder. Wait."]
    other()
    assert len(refused) == 1
    assert not list(tmp_path.iterdir())


def test_a_lock_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    with (
        pytest.raises(InputError, match="another export is writing"),
        alone_beside(tmp_path / "out", "export", "Wait."),
    ):
        pass
    holder.kill()
    holder.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
    with alone_beside(tmp_path / "out", "export", "Wait."):
        pass
    assert not list(tmp_path.iterdir())


def test_the_note_of_a_process_that_runs_is_left_as_it_is_and_that_of_a_killed_one_is_replaced(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    path = tmp_path / "running.json"
    with progress.noted(path, stage="fuse"):
        note = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**note, "pid": other.pid}), encoding="utf-8")
        with progress.noted(path, stage="train"):
            assert json.loads(path.read_text(encoding="utf-8")) == {**note, "pid": other.pid}
        assert path.exists()
        other.communicate("\n")
        with progress.noted(path, stage="train"):
            assert json.loads(path.read_text(encoding="utf-8"))["stage"] == "train"
        assert not path.exists()
