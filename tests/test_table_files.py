"""Tables as files: paths with unusual characters, text that looks like numbers, and files of another format."""

from pathlib import Path

import polars as pl
import pytest

from alm_proxies.errors import InputError, TableError
from alm_proxies.tables import Utterances, Votes

VOTES = "utterance_id,annotator,label\nu1,r1,happy\n"
LABELS = "happy,sad"


@pytest.mark.parametrize("folder", ["a?b", "a*b", "[x]", "~", "méthode=human", "fuse.method=auto", "{x}", "a b%20c"])
@pytest.mark.parametrize("name", ["v.parquet", "v.csv", "v.jsonl"])
def test_a_path_is_taken_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for other in (folder, "acb", "x"):
        Path(other).mkdir()
        frame = pl.DataFrame({"utterance_id": [other], "annotator": ["r"], "label": ["sad"]})
        Votes.of(frame, taxonomy=LABELS).write(f"{other}/v.parquet")
        Path(other, "v.csv").write_text(f"utterance_id,annotator,label\n{other},r,sad\n")
        Path(other, "v.jsonl").write_text(f'{{"utterance_id": "{other}", "annotator": "r", "label": "sad"}}\n')
    table = Votes.read(f"{folder}/{name}", taxonomy=LABELS)
    assert table.frame["utterance_id"].to_list() == [folder]
    assert table.frame.columns == [column.name for column in Votes.COLUMNS]


def test_ids_that_look_like_numbers_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("utterance_id,annotator,label\n001,1,happy\n01,2,sad\n1,1e3,sad\n")
    assert Votes.read(path, taxonomy=LABELS).frame["utterance_id"].to_list() == ["001", "01", "1"]
    assert Votes.read(path, taxonomy=LABELS).frame["annotator"].to_list() == ["1", "2", "1e3"]
    path.write_text("utterance_id,transcript,age\n007,12,31\n")
    frame = Utterances.read(path).frame
    assert (frame["utterance_id"][0], frame["transcript"][0], frame["age"][0]) == ("007", "12", 31)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (VOTES.encode("utf-16"), "is UTF-16 text. Save it as UTF-8."),
        (VOTES.replace("happy", "fröhlich").encode("latin-1"), "invalid utf-8 sequence. Save it as UTF-8."),
        (VOTES.replace(",", ";").encode(), "separated by ';', not by commas. Save it with commas."),
        (VOTES.replace(",", "\t").encode(), r"separated by '\t', not by commas. Save it with commas."),
        (b"utterance_id,annotator,label,label\nu1,r1,happy,sad\n", "has two columns 'label'. Rename one of them."),
        (b"", "cannot be read as CSV: empty CSV"),
        (b"utterance_id,annotator,label\nu1,r1,happy,sad\n", "found more fields"),
    ],
)
def test_a_csv_file_that_cannot_be_taken_says_how_to_mend_it(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        Votes.read(path, taxonomy=LABELS)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", ["\ufeff" + VOTES, VOTES.replace("\n", "\r\n")])
def test_windows_marks_and_line_ends_are_no_matter(tmp_path: Path, content: str) -> None:
    (tmp_path / "v.csv").write_bytes(content.encode())
    assert Votes.read(tmp_path / "v.csv", taxonomy=LABELS).frame["label"].to_list() == ["happy"]


def test_a_table_is_not_written_under_a_name_that_says_it_is_something_else(tmp_path: Path) -> None:
    table = Utterances.of(pl.DataFrame({"utterance_id": ["a"]}))
    with pytest.raises(InputError, match="written as Parquet. Name it labels.parquet"):
        table.write(tmp_path / "labels.csv")
    assert list(tmp_path.iterdir()) == []
