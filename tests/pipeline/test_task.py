import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alm_proxies.errors import OutputError
from alm_proxies.files import write_text
from alm_proxies.pipeline.task import Done, Task, do, will_run
from alm_proxies.tables import Finding, Findings


def task(folder: Path, settings: Mapping[str, Any] | None = None, inputs: Mapping[str, str] | None = None) -> Task:
    def work(place: Path) -> Done:
        write_text(place / "out.txt", f"{settings}{inputs}")
        return Done(Findings.gather([Finding("fuse", "left_out", "x", count=2)]), {"labels": 3})

    return Task("fuse", folder / "fuse", settings or {"seed": 1}, inputs or {"votes": "d1"}, ("out.txt",), work)


def test_a_task_is_done_once_and_then_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = do(task(tmp_path))
    assert not first.skipped
    assert first.findings == {"left_out": 2}
    assert first.counts == {"labels": 3}
    second = do(task(tmp_path))
    assert second.skipped
    assert second.outputs == first.outputs
    assert "unchanged, skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "inputs", "because"),
    [
        ({"seed": 2}, None, "runs again because seed has changed (1 -> 2)"),
        ({"seed": 1, "method": "pool"}, None, 'method has changed (null -> "pool")'),
        (None, {"votes": "d2"}, "runs again because votes has changed"),
        (None, {"votes": "d1", "card mine": "d3"}, "runs again because card mine is new"),
        (None, {"utterances": "d1"}, "utterances is new, votes is gone"),
    ],
)
def test_what_changed_is_said(
    tmp_path: Path, settings: dict[str, Any] | None, inputs: dict[str, str] | None, because: str
) -> None:
    do(task(tmp_path), quiet=True)
    again = task(tmp_path, settings, inputs)
    assert because in (will_run(again) or "")
    assert not do(again, quiet=True).skipped
    assert will_run(again) is None


def test_annotators_are_named_and_their_digests_are_not(tmp_path: Path) -> None:
    do(task(tmp_path, {"panel": {"embedded": "c516ab", "old": "d1"}}), quiet=True)
    again = task(tmp_path, {"panel": {"embedded": "5b69cd", "ideal": "d1"}})
    said = "runs again because annotator embedded has changed, annotator ideal is new, annotator old is gone"
    assert will_run(again) == said


def test_a_lost_or_changed_output_is_made_again(tmp_path: Path) -> None:
    do(task(tmp_path), quiet=True)
    (tmp_path / "fuse" / "out.txt").write_text("by hand")
    assert "out.txt was changed" in (will_run(task(tmp_path)) or "")
    do(task(tmp_path), quiet=True)
    (tmp_path / "fuse" / "out.txt").unlink()
    assert "out.txt is gone" in (will_run(task(tmp_path)) or "")


def test_an_unfinished_task_has_no_marker_and_an_incomplete_one_is_gone_on_with(tmp_path: Path) -> None:
    def fail(place: Path) -> Done:
        raise OutputError("stopped")

    def partly(place: Path) -> Done:
        return Done(Findings.gather([]), complete=False)

    place = tmp_path / "annotate"
    with pytest.raises(OutputError):
        do(Task("annotate", place, {}, {}, (), fail), quiet=True)
    assert "was not finished" in (will_run(Task("annotate", place, {}, {}, (), partly)) or "")
    do(Task("annotate", place, {}, {}, (), partly), quiet=True)
    assert will_run(Task("annotate", place, {}, {}, (), partly)) == "goes on where it stopped"


def test_a_marker_cut_short_or_of_another_shape_is_no_marker(tmp_path: Path) -> None:
    do(task(tmp_path), quiet=True)
    marker = tmp_path / "fuse" / "stage.json"
    whole = marker.read_text()
    for text in (whole[: len(whole) // 2], "[]", '{"stage": "fuse"}'):
        marker.write_text(text)
        assert will_run(task(tmp_path)) is not None


def test_a_task_killed_in_its_work_runs_again(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom alm_proxies.pipeline.task import Task, do\n"
        "def work(place):\n os.kill(os.getpid(), signal.SIGKILL)\n"
        "do(Task('fuse', Path(sys.argv[1]), {'seed': 1}, {'votes': 'd1'}, (), work))\n"
    )
    place = tmp_path / "fuse"
    done = subprocess.run([sys.executable, "-c", script, str(place)], check=False, env=dict(os.environ))
    assert done.returncode == -9
    assert will_run(task(tmp_path)) == "was not finished, runs again"
    assert not do(task(tmp_path), quiet=True).skipped
