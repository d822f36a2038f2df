"""A plain CSV file, which is split at its delimiters, has the same rows as any reader of CSV finds in it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from alm_proxies.errors import AlmProxiesError
from alm_proxies.stages.read.rows import read_rows

NAMES = ("a", "b", "c")
MISSING = ("", "NA", "NaN", "nan", "null")
CELL = st.one_of(
    st.sampled_from([*MISSING, " ", "x", "'", "ä", "1.50", "\u2028", "\x0b", "#", "\\", "True"]),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters='",;\t\r\n\0'), max_size=4),
)


def plainly(text: str, delimiter: str) -> list[list[str | None]]:
    """The rows by Python's own reader, missing values None."""
    records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))[1:]
    return [[None if cell in MISSING else cell for cell in record] for record in records if record]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    last=st.booleans(),
    blank=st.booleans(),
    quoted=st.booleans(),
    mark=st.booleans(),
)
@example([("", "", "")], ",", "\n", False, False, False, False)
def test_a_csv_file_has_the_rows_that_any_reader_of_csv_finds(
    tmp_path: Path,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    end: str,
    last: bool,
    blank: bool,
    quoted: bool,
    mark: bool,
) -> None:
    lines = [delimiter.join(NAMES), *(delimiter.join(row) for row in rows)]
    if quoted:
        lines.append(delimiter.join(['"a"', f'"{delimiter}"', '"say ""b"""']))
    if blank:
        lines.insert(len(lines) - 1, "")
    text = end.join(lines) + (end if last else "")
    path = tmp_path / "rows.csv"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode())
    rows_read = read_rows(path, ["c", "a"])
    expected = [[row[2], row[0]] for row in plainly(text, delimiter)]
    assert [list(row) for row in rows_read.frame.iter_rows()] == expected
    assert rows_read.frame.columns == ["c", "a"]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("1,2,3\n1,2\n", "line 3"),
        ("1,2,3\n1,2,3\n1,2,3,4\n", "line 4"),
        ("1,2,3\n1\n", "line 3"),
    ],
)
def test_a_line_with_other_values_than_the_header_names_is_refused(tmp_path: Path, rows: str, line: str) -> None:
    (tmp_path / "rows.csv").write_text(f"a,b,c\n{rows}")
    with pytest.raises(AlmProxiesError, match=line):
        read_rows(tmp_path / "rows.csv")


def test_empty_values_beyond_the_header_are_left_out_and_those_within_are_missing(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2,\n,,\n")
    assert read_rows(tmp_path / "rows.csv").frame.rows() == [("1", "2"), (None, None)]


def test_a_value_too_long_for_a_cell_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"a,b\n1,{'x' * (csv.field_size_limit() + 1)}\n")
    with pytest.raises(AlmProxiesError, match="field larger"):
        read_rows(tmp_path / "rows.csv")
