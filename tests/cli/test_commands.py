import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from alm_proxies.about import MadeBy
from alm_proxies.cli.app import run
from alm_proxies.cli.stages import with_place
from alm_proxies.stages.registry import STAGES
from alm_proxies.tables import Labels, Utterances, Votes

PROGRAM = str(Path(sys.executable).with_name("alm-proxies"))
VOTES = "utterance_id,annotator,label\nu1,r1,happy\nu1,r2,sad\nu2,r1,sad\nu2,r2,sad\nu3,r1,happy\nu3,r2,happy\n"


@pytest.fixture
def votes_csv(tmp_path: Path) -> Path:
    path = tmp_path / "votes.csv"
    path.write_text(VOTES)
    return path


def test_help_names_every_verb_and_imports_no_command() -> None:
    script = (
        "import sys\nfrom alm_proxies.cli.app import run\nrun(['--help'])\n"
        "heavy = {'polars', 'numpy', 'torch', 'librosa', 'pydantic', 'alm_proxies.cli.stages'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    others = ("status", "findings", "merge", "plugins", "cache", "schema", "completion")
    for verb in ("demo", "run", "check", "explain", *STAGES, *others):
        assert f" {verb} " in done.stdout


def test_votes_become_labels_and_the_result_is_one_line(votes_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = votes_csv.with_name("labels.parquet")
    code = run(["fuse", str(votes_csv), "--taxonomy", "happy,sad", "--method", "dirichlet", "-o", str(labels)])
    out, _ = capsys.readouterr()
    assert code == 0
    assert out.count("\n") == 1
    assert "3 labels by dirichlet" in out
    table = Labels.read(labels)
    assert table.taxonomy == ("happy", "sad")
    assert table.frame.filter(pl.col("utterance_id") == "u3")["p_happy"][0] > 0.5


def test_a_folder_of_results_stands_for_the_file_that_is_needed(
    votes_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taxonomy = ["--taxonomy", "happy,sad"]
    read, fused, balanced = (str(tmp_path / name) for name in ("read", "fused", "balanced"))
    assert run(["read", "table", str(votes_csv), "-o", read, *taxonomy, "--corpus", "mine"]) == 0
    assert run(["fuse", read, "--utterances", read, "--method", "human", "-o", fused]) == 0
    assert run(["balance", fused, "--utterances", read, "-o", balanced, "--classes", "keep"]) == 0
    assert len(Labels.read(tmp_path / "balanced" / "labels.parquet")) == 3
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert run(["fuse", str(tmp_path / "empty"), "-o", str(tmp_path / "none.parquet")]) == 2
    assert "empty: has no votes.parquet. Name a votes file, or a folder with one." in capsys.readouterr().err
    (tmp_path / "empty" / "ledger.sqlite").touch()
    assert run(["fuse", str(tmp_path / "empty"), "-o", str(tmp_path / "none.parquet")]) == 2
    assert "annotate writes it when it ends: run the same annotate command again" in capsys.readouterr().err


def test_json_is_one_line_for_machines(votes_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = votes_csv.with_name("labels.parquet")
    code = run(["fuse", str(votes_csv), "--taxonomy", "happy,sad", "--method", "human", "-o", str(labels), "--json"])
    output = json.loads(capsys.readouterr().out)
    assert code == 0
    assert output["labels"] == 3
    assert output["left_out"] == 0
    assert output["output"] == str(labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fuze"], "Did you mean"),
        (["fuse"], "VOTES is missing. See alm-proxies fuse --help"),
        (["fuse", "votes.csv", "-o"], "-o has no value. See alm-proxies fuse --help"),
        (["fuse", "votes.csv", "-o", "--method", "human"], "-o has no value. See alm-proxies fuse --help"),
        (["fuse", "votes.csv", "-o", "-x.parquet"], "joined to it: -o=-x.parquet. See"),
        (["explain", "out", "-x", "--number", "0"], "behind --: -- -x. See alm-proxies explain --help"),
        (["explain", "out", "--", "-x", "--number", "0"], "--number stands behind --"),
        (["read", "table", "votes.csv"], "--output is missing. See alm-proxies read table --help"),
        (["read", "table", "-o", "x"], "SOURCE is missing"),
        (["status"], "FOLDER is missing"),
        (["status", "x", "y z"], "no place for 'y z'"),
        (["fuse", "none.parquet", "-o", "x.parquet"], "there is no such file"),
        (["fuse", "votes.csv", "-o", "x.parquet"], "--taxonomy"),
        (["fuse", "votes.csv", "--taxonomy", "happy,bad", "-o", "x.parquet"], "row 2: 'sad' is not in the taxonomy"),
        (["fuse", "votes.csv", "--taxonomy", "msp88", "-o", "x.parquet"], "Did you mean 'msp8'"),
        (["fuse", "votes.csv", "--methd", "human", "-o", "x.parquet"], "--methd"),
        (["read", "crema", "votes.csv", "-o", "x"], "Did you mean 'crema_d'"),
        (["read", "table", "votes.csv", "-o", "x", "--map", "Excited"], "Write --map name=value"),
        (["read", "table", "votes.csv", "-o", "x", "--map", "a=happy", "--map", "a=sad"], "--map names 'a' twice"),
        (["read", "table", "votes.csv", "-o", "x", "--corpus", "c", "--taxonomy", "msp88"], "Did you mean 'msp8'"),
        (
            ["fuse", "votes.csv", "--taxonomy", "happy,sad", "-o", "votes.csv"],
            "written as Parquet. Name it votes.parquet",
        ),
        (["simulate", "-o", "x", "--utterances", "0"], "--utterances 0"),
        (["predict", "model", "votes.csv", "--taxonomy", "happy,sad", "-o", "x"], "Unknown option: --taxonomy"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_mend_and_exit_code_2(
    votes_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(votes_csv.parent)
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.startswith("alm-proxies: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert sorted(path.name for path in votes_csv.parent.iterdir()) == ["votes.csv"]


def test_no_command_overwrites_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": ["happy"]})
    Votes.of(frame, taxonomy="happy,sad").write("votes.parquet")
    before = Path("votes.parquet").read_bytes()
    for arguments in (
        ["fuse", "votes.parquet", "-o", str(tmp_path / "votes.parquet")],
        ["read", "table", "votes.parquet", "--corpus", "c", "--taxonomy", "happy,sad", "-o", "."],
        ["align", "l.parquet", "--votes", "votes.parquet", "--utterances", "u.parquet", "-o", "votes.parquet"],
    ):
        assert run(arguments) == 2
        assert (
            "votes.parquet: the output is also an input of this command and would be overwritten"
            in capsys.readouterr().err
        )
    assert Path("votes.parquet").read_bytes() == before


def test_a_name_that_the_terminal_cannot_spell_is_spelled_in_codes(votes_csv: Path) -> None:
    command = [PROGRAM, "fuse", "votes.csv", "--taxonomy", "happy,sad", "--method", "human", "-o", "gefühl/l.parquet"]
    done = subprocess.run(
        command, capture_output=True, check=False, cwd=votes_csv.parent, env={"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
    assert rb"gef\xfchl" in done.stdout


def test_a_system_error_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "-o", "/proc/none/sim", "--utterances", "2", "--quiet"]) == 3
    assert capsys.readouterr().err.startswith("alm-proxies: /proc/none/sim: could not be written")


def test_a_file_in_the_way_of_a_folder_is_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sim").write_text("a file where a folder should be")
    assert run(["simulate", "-o", str(tmp_path / "sim"), "--utterances", "2", "--quiet"]) == 2
    assert "a folder is needed here, but this is a file" in capsys.readouterr().err


def test_debug_gives_the_traceback(votes_csv: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "fuse", "none.parquet", "-o", "x.parquet", "--debug"],
        capture_output=True, text=True, check=False, cwd=votes_csv.parent,
    )  # fmt: skip
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_more_left_out_than_allowed_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("file,rater,emotion\na,r1,happy\nb,r1,puzzled\n")
    command = ["read", "table", str(path), "-o", str(tmp_path / "out"), "--corpus", "c", "--taxonomy", "happy,sad"]
    command += ["--columns", "utterance_id=file,annotator=rater,label=emotion"]
    assert run(command) == 1
    assert "1 of 2 votes left out" in capsys.readouterr().out
    assert run([*command, "--max-left-out", "0.5"]) == 0
    votes = Votes.read(tmp_path / "out" / "votes.parquet")
    assert votes.frame.filter(pl.col("status") == "out_of_vocabulary")["stated"].to_list() == ["puzzled"]


def test_a_termination_signal_ends_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [PROGRAM, "simulate", "-o", str(tmp_path / "sim"), "--utterances", "100"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wavs = tmp_path / "sim" / "wav"
    while not (wavs.is_dir() and any(wavs.rglob("*.wav"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert out == ""
    assert "Interrupted" in err
    assert "Traceback" not in err
    spoken = len(list(wavs.rglob("*.wav")))
    assert 0 < spoken < 100
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Utterances.read(tmp_path / "sim" / "utterances.parquet")) == 100


def test_a_closed_pipe_is_no_error(votes_csv: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [PROGRAM, "fuse", str(votes_csv), "--taxonomy", "happy,sad", "--method", "human", "-o", "l.parquet"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=votes_csv.parent, check=False)
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def test_real_votes_are_read_in_full(test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for modality, votes in (("voice", 34_715), ("face", 36_262), ("audio-visual", 36_312)):
        folder = tmp_path / modality
        assert run(["read", "crema_d", str(test_data / "crema_d"), "-o", str(folder), "--modality", modality]) == 0
        assert f"3,760 utterances, {votes:,} votes" in capsys.readouterr().out
        assert len(Votes.read(folder / "votes.parquet")) == votes


def test_reading_votes_leaves_the_labels_of_another_stage_and_clears_its_own(votes_csv: Path, tmp_path: Path) -> None:
    taxonomy = ["--taxonomy", "happy,sad", "--corpus", "mine"]
    out, labels = str(tmp_path / "out"), tmp_path / "out" / "labels.parquet"
    read = ["read", "table", str(votes_csv), "-o", out, *taxonomy]
    assert run(read) == 0
    assert run(["fuse", out, "--utterances", out, "--method", "human", "-o", str(labels)]) == 0
    assert run(read) == 0
    assert len(Labels.read(labels)) == 3
    about = Labels.read(labels).about.with_(made_by=MadeBy(stage="read", settings={}))
    Labels(Labels.read(labels).frame, about).write(labels)
    assert run(read) == 0
    assert not labels.exists()


def test_the_utterances_of_another_corpus_are_refused(
    votes_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert run(["read", "table", str(votes_csv), "-o", str(tmp_path / name), "--taxonomy", "happy,sad",
                    "--corpus", name]) == 0  # fmt: skip
    labels = str(tmp_path / "labels.parquet")
    assert run(["fuse", str(tmp_path / "one"), "--utterances", str(tmp_path / "two"), "-o", labels]) == 2
    assert "none of the 3 utterances with votes is in this table, such as 'one/u1'" in capsys.readouterr().err
    assert run(["fuse", str(tmp_path / "one"), "--utterances", str(tmp_path / "one"), "-o", labels]) == 0
    align = ["align", labels, "--votes", str(tmp_path / "one"), "--utterances", str(tmp_path / "two")]
    assert run([*align, "-o", str(tmp_path / "report.html")]) == 2


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("", "out/report.html"),
        ("1.25 nats a vote", "1.25 nats a vote in out/report.html"),
        ("Votes help. Speakers are few", "Votes help. Speakers are few. Written to out/report.html"),
    ],
)
def test_the_path_of_a_result_is_not_part_of_its_last_sentence(line: str, printed: str) -> None:
    assert with_place(line, Path("out/report.html")) == printed


def test_utterances_that_state_other_labels_than_taxonomy_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Utterances.of(pl.DataFrame({"utterance_id": ["a"]}), taxonomy="happy,sad").write("utterances.parquet")
    command = ["annotate", "utterances.parquet", "--annotator", "embedded", "--taxonomy", "msp8", "-o", "proxies"]
    assert run(command) == 2
    assert "utterances.parquet: has the taxonomy happy, sad, not angry" in capsys.readouterr().err
