"""What a [[read]] block of a pipeline file can say, the flags of `read` can say too."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from alm_proxies.alone import alone_in
from alm_proxies.cli.app import run
from alm_proxies.tables import Utterances, Votes

TRAIN = "clip,who,rater,heard,val,room\na1,ann,r1,Happy,1,lab\na1,ann,r2,Excited,3,lab\na2,ben,r1,Sad,5,hall\n"
TEST = "clip,who,rater,heard,val,room\nb1,cid,r1,Odd,2,lab\nb1,cid,r2,Sad,4,lab\n"
FLAGS = [
    "--columns", "utterance_id=clip,speaker=who,annotator=rater", "--columns", "label=heard,valence=val",
    "--constants", "language=de", "--groups", "room", "--map", "Excited=happy", "--map", "Odd=outside",
    "--files", "one.csv=train", "--files", "two.csv=test", "--scales", "valence=5:1",
    "--corpus", "mine", "--taxonomy", "iemocap4", "--hold-out", "splits=test", "--hold-out", "keep=1", "--seed", "3",
    "--max-left-out", "1",
]  # fmt: skip
FILE = """
taxonomy = "iemocap4"
seed = 3
folder = "runs"
[[read]]
corpus = "mine"
format = "table"
source = "corpus"
columns = { utterance_id = "clip", speaker = "who", annotator = "rater", label = "heard", valence = "val" }
constants = { language = "de" }
groups = ["room"]
map = { Excited = "happy", Odd = "outside" }
files = { "one.csv" = "train", "two.csv" = "test" }
scales = { valence = [5, 1] }
[hold_out]
splits = ["test"]
keep = 1
"""


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "one.csv").write_text(TRAIN)
    (folder / "two.csv").write_text(TEST)
    return folder


def test_flags_and_a_pipeline_file_read_the_same_tables(corpus: Path) -> None:
    assert run(["read", "table", "corpus", *FLAGS, "-o", "out", "--quiet"]) == 0
    Path("p.toml").write_text(FILE)
    assert run(["run", "p.toml", "--quiet", "--max-left-out", "0.2"]) == 0
    for table, name in ((Votes, "votes"), (Utterances, "utterances")):
        by_flags, by_file = (table.read(Path(folder) / f"{name}.parquet") for folder in ("out", "runs/read"))
        assert by_flags.frame.equals(by_file.frame)
        assert by_flags.about.scales == by_file.about.scales == {"mine": {"valence": (5.0, 1.0)}}
    votes = Votes.read("out/votes.parquet").frame
    assert votes.filter(pl.col("annotator") == "mine/r1").sort("utterance_id")["valence"].to_list() == [1.0, 0.0, 0.75]
    assert votes.filter(pl.col("utterance_id") == "mine/b1")["held_out"].all()
    people = Utterances.read("out/utterances.parquet").frame
    assert dict(people.select("utterance_id", "split").iter_rows()) == {
        "mine/a1": "train", "mine/a2": "train", "mine/b1": "test",
    }  # fmt: skip


def test_nothing_is_written_into_the_folder_of_a_pipeline_that_runs_but_a_file_or_folder_of_ones_own(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = ["read", "table", "corpus", *FLAGS, "--quiet", "-o"]
    assert run([*read, "own"]) == 0
    with alone_in(Path("runs"), "run", "Wait."):
        for folder in ("runs", "runs/read", "runs/read/seed=1"):
            assert run([*read, folder]) == 2
            assert "runs: a pipeline or another command is writing into this folder. Wait" in capsys.readouterr().err
        assert not list(Path("runs").iterdir())
        assert run([*read, "runs/mine"]) == 0
        fuse = ["fuse", "own", "--method", "human", "--quiet", "-o"]
        assert run([*fuse, "runs/labels.parquet"]) == 0
        assert run([*fuse, "runs/fuse/labels.parquet"]) == 2
    assert run([*read, "runs/read"]) == 0


def test_a_lost_label_is_left_out_though_its_rating_is_kept(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--columns", "utterance_id=clip,annotator=rater,label=heard", "--corpus", "mine", "--taxonomy", "iemocap4"]
    rated = ["--columns", "valence=val", "--scales", "valence=1:5"]
    for more in ([], rated):
        assert run(["read", "table", "corpus/one.csv", *flags, *more, "-o", "out", "--quiet"]) == 1
        assert "(1 of 3 votes left out)" in capsys.readouterr().out
    assert run(["read", "table", "corpus/one.csv", *flags, *rated, "-o", "out", "--quiet", "--max-left-out", ".4"]) == 0


@pytest.mark.parametrize(
    ("given_flags", "words"),
    [
        (["--scales", "valence=1-7"], "--scales valence '1-7' is not low:high"),
        (["--scales", "valence"], "--scales 'valence' is not name=value"),
        (["--scales", "valnce=1:7"], "--scales valnce"),
        (["--scales", "valence=3:3"], "--scales valence"),
        (["--scales", "valence=1:nan"], "--scales valence"),
        (["--files", "one.csv"], "--files 'one.csv' is not name=value"),
        (["--files", "three.csv=test"], "has none of three.csv"),
        (["--split", "speakers:.7"], "--split 'speakers:.7'"),
        (["--corpus", "a/b"], "--corpus 'a/b'"),
        (["--taxonomy", "msp88"], "--taxonomy 'msp88'"),
        (["--columns", "utterance_id=clip,valence=val", "--files", "one.csv=train"], "--scales valence=1:5"),
    ],
)
def test_a_flag_that_cannot_be_is_named(
    corpus: Path, capsys: pytest.CaptureFixture[str], given_flags: list[str], words: str
) -> None:
    given = {
        "--corpus": "mine",
        "--taxonomy": "iemocap4",
        **dict(zip(given_flags[::2], given_flags[1::2], strict=True)),
    }
    flags = [part for pair in given.items() for part in pair]
    assert run(["read", "table", "corpus", "-o", "out", *flags]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("files", [(), ("deep",)])
def test_a_refused_source_leaves_no_folder_behind(tmp_path: Path, files: tuple[str, ...]) -> None:
    (tmp_path / "corpus").mkdir()
    for name in files:
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert run(["read", "iemocap", str(tmp_path / "corpus"), "-o", str(tmp_path / "deep" / "out")]) == 2
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "p.toml").write_text(
        'taxonomy = "iemocap4"\nfolder = "deep/runs"\n[[read]]\nformat = "iemocap"\nsource = "corpus"\n'
    )
    assert run(["run", str(tmp_path / "p.toml")]) == 2
    assert not (tmp_path / "deep" / "runs" / "read").exists()


def test_a_refused_source_leaves_a_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    assert run(["read", "iemocap", str(tmp_path / "corpus"), "-o", str(tmp_path / "out")]) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
