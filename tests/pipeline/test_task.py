"""A task is plain data that any process can perform; it is skipped if nothing has changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from forked import Forked

from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.pipeline.perform import Task, perform, stamped
from alm_proxies.pipeline.result_files import MARKER
from alm_proxies.pipeline.task import State, do, will_run
from alm_proxies.tables import Finding, Findings, Labels, Votes


def votes(path: Path, *labels: str) -> Path:
    frame = pl.DataFrame({"utterance_id": [f"c/{n}" for n in range(len(labels))], "annotator": "r", "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    Votes.of(frame, taxonomy="happy,sad").write(path)
    return path


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    return votes(tmp_path / "read" / "votes.parquet", "happy", "sad", "happy")


def task(heard: Path, folder: str = "out", **settings: Any) -> Task:
    given = {"method": "human", **settings}
    return Task("fuse", str(heard.parent.parent / folder / "fuse"), given, inputs={"votes": [str(heard)]})


def test_a_task_is_done_once_and_then_skipped(heard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = do(task(heard))
    assert not first.skipped
    assert first.counts == {"labels": 3}
    assert set(first.outputs) == {"labels.parquet", "trials.parquet", "findings.parquet", "fitted.json"}
    second = do(task(heard))
    assert second.skipped
    assert second.outputs == first.outputs
    assert "unchanged, skipped" in capsys.readouterr().err


def test_what_changed_is_said(heard: Path) -> None:
    do(task(heard), quiet=True)
    for changed, because in (
        (task(heard, seed=2), "runs again because seed has changed (0 -> 2)"),
        (task(heard, seed=2, merge={"primary": 0.9, "secondary": 0.1}), "merge.primary has changed (1.0 -> 0.9)"),
    ):
        assert because in str(will_run(changed))
        assert not do(changed, quiet=True).skipped
        assert will_run(changed) is None
    now = task(votes(heard, "sad", "sad", "happy"), seed=2, merge={"primary": 0.9, "secondary": 0.1})
    assert str(will_run(now)) == "runs again because read/votes.parquet has changed"


def test_an_input_that_is_new_and_one_that_is_gone_are_named(heard: Path) -> None:
    do(task(heard), quiet=True)
    other = votes(heard.parent.parent / "annotate" / "votes.parquet", "happy", "sad", "happy")
    now = Task("fuse", task(heard).folder, {"method": "human"}, inputs={"votes": [str(other)]})
    assert will_run(now) is None, "the same content in another place changes nothing"
    votes(other, "sad", "sad", "sad")
    assert str(will_run(now)) == "runs again because annotate/votes.parquet is new, read/votes.parquet is gone"


def test_the_digest_knows_no_place_and_no_version(heard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = State(task(heard)).digest
    there = votes(tmp_path / "elsewhere" / "v.parquet", "happy", "sad", "happy")
    monkeypatch.setattr("alm_proxies.__version__", "99.0")
    assert State(task(there, "other")).digest == here
    assert State(task(heard, seed=1)).digest != here


def test_a_lost_or_changed_output_is_made_again(heard: Path) -> None:
    do(task(heard), quiet=True)
    labels = Path(task(heard).folder) / "labels.parquet"
    labels.write_text("by hand")
    assert "labels.parquet has changed" in str(will_run(task(heard)))
    do(task(heard), quiet=True)
    labels.unlink()
    assert "labels.parquet is missing" in str(will_run(task(heard)))


@pytest.mark.parametrize("last", ["fitted", "findings"])
def test_a_file_that_cannot_be_written_takes_the_others_of_the_result_with_it(heard: Path, last: str) -> None:
    whole = task(heard, method="dirichlet")
    folder = heard.parent / "own"
    (folder / last).mkdir(parents=True)  # no file can be written there
    outputs = {name: str(folder / f"{name}.parquet") for name in ("labels", "trials", "findings")}
    outputs |= {"fitted": str(folder / "fitted.json"), last: str(folder / last)}
    with pytest.raises(AlmProxiesError):
        perform(replace(whole, outputs=outputs), quiet=True)
    assert [path.name for path in folder.iterdir()] == [last]


def test_an_unfinished_task_has_no_marker(heard: Path) -> None:
    do(task(heard), quiet=True)
    Votes.of(pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": [None], "status": ["refused"]}),
             taxonomy="happy,sad").write(heard)  # fmt: skip
    with pytest.raises(InputError):
        do(task(heard), quiet=True)
    assert not (Path(task(heard).folder) / MARKER).exists()
    assert "was not finished" in str(will_run(task(heard)))


def test_a_marker_cut_short_or_of_another_shape_is_no_marker(heard: Path) -> None:
    do(task(heard), quiet=True)
    marker = Path(task(heard).folder) / MARKER
    intact = marker.read_text()
    for text in (intact[: len(intact) // 2], "[]", '{"stage": "fuse"}'):
        marker.write_text(text)
        assert will_run(task(heard)) is not None


def test_another_process_does_the_same_task_from_json(heard: Path) -> None:
    first = task(heard, "here")
    assert Task.of_json(first.json()) == first
    perform(first, quiet=True)
    script = (
        "import sys\nfrom alm_proxies.pipeline.perform import Task, perform\n"
        "print(perform(Task.of_json(sys.stdin.read()), quiet=True).counts)\n"
    )
    done = Forked.done("-c", script, written=task(heard, "there").json())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'labels': 3}\n"
    files = [heard.parent.parent / place / "fuse" / "labels.parquet" for place in ("here", "there")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert Labels.read(files[0]).frame.height == 3


def test_a_task_killed_in_its_work_runs_again(heard: Path) -> None:
    script = (
        "import os, signal, sys\nfrom alm_proxies.pipeline import task\n"
        "task.perform = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "task.do(task.Task.of_json(sys.stdin.read()))\n"
    )
    assert Forked.done("-c", script, written=task(heard).json()).returncode == -9
    assert str(will_run(task(heard))) == "was not finished, runs again"
    assert not do(task(heard), quiet=True).skipped


def test_findings_are_stamped_with_the_stage_whoever_found_them(heard: Path) -> None:
    named = Findings.gather([Finding("measures", "odd", "x", count=2)])
    assert stamped(named, "align").frame["stage"].to_list() == ["align"]
    frame = pl.DataFrame(
        {"utterance_id": ["a", "b"], "annotator": ["r", "p"], "label": "sad", "source": ["human", "proxy"]}
    )
    Votes.of(frame, taxonomy="happy,sad").write(heard)
    done = perform(task(heard, method="human"), quiet=True)
    assert set(done.findings.frame["stage"]) == {"fuse"}
