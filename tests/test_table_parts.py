"""Parts of any size contain every row once, in order and by whole utterances; samples do not change."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.errors import AlmProxiesError
from alm_proxies.estimators.sample import Sample
from alm_proxies.stages.fuse.stage import FuseSettings
from alm_proxies.stages.fuse.survey import survey
from alm_proxies.table_parts import NotSortedError, columns_in, rows_in, side_by_side
from alm_proxies.tables import Votes

SHORT = st.sampled_from(["", "a", "b", "a\x00", "é", "z", "\uffff", "\U0001f600"])
IDS = SHORT | st.text(st.characters(exclude_categories=("Cs",)), max_size=3)


def file_of(folder: Path, ids: list[str | None], name: str = "a", group: int = 5) -> Path:
    frame = pl.DataFrame({"utterance_id": ids}, schema={"utterance_id": pl.String}).with_row_index("place")
    frame.write_parquet(folder / f"{name}.parquet", row_group_size=group)
    return folder / f"{name}.parquet"


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(IDS, max_size=25), min_size=1, max_size=4), st.integers(1, 60), st.integers(1, 7))
def test_parts_hold_every_row_once_in_order_and_utterances_whole(files: list[list[str]], rows: int, group: int):
    with TemporaryDirectory() as folder:
        # the order of the bytes of UTF-8, not that of Python, is what polars sorts by
        held = [sorted(ids, key=str.encode) for ids in files]
        paths = [file_of(Path(folder), ids, str(number), group) for number, ids in enumerate(held)]
        parts = side_by_side({path: ["place", "not there"] for path in paths}, rows)
        seen: dict[Path, list[str]] = {path: [] for path in paths}
        before: bytes | None = None
        for part in parts:
            assert list(part) == paths
            ids = {table for some in part.values() for table in some.frame["utterance_id"].to_list()}
            assert ids, "a part without rows"
            assert before is None or before < min(map(str.encode, ids)), "an utterance stands in two parts"
            before = max(map(str.encode, ids))
            for path, some in part.items():
                assert some.frame.columns == ["utterance_id", "place"]
                assert some.first == len(seen[path])
                assert some.frame["place"].to_list() == list(range(some.first, some.first + some.frame.height))
                seen[path] += some.frame["utterance_id"].to_list()
        assert [seen[path] for path in paths] == held


def test_an_utterance_larger_than_many_parts_is_held_whole(tmp_path: Path):
    first = file_of(tmp_path, [*"aabb", *("c" * 500), *"dddd"], "first")
    second = file_of(tmp_path, [*"aaab", *("c" * 300), *"eeee"], "second")
    parts = [
        [some.frame["utterance_id"].to_list() for some in part.values()]
        for part in side_by_side({first: [], second: []}, 6)
    ]
    assert len(parts) > 2
    assert [(left.count("c"), right.count("c")) for left, right in parts if "c" in left + right] == [(500, 300)]


def test_a_null_id_is_refused_with_its_row(tmp_path: Path, wording):
    path = file_of(tmp_path, [*"abcdefgh", None, "i"])
    with wording.refused(AlmProxiesError) as caught:
        list(side_by_side({path: []}, 3))
    assert str(caught.value).startswith(f"{path}, column utterance_id, row 9: an empty value is not allowed.")


@pytest.mark.parametrize("ids", [["a", "c", "b"], ["b", "b", "b", "a"], ["é", "z"]])
def test_ids_out_of_order_are_told_wherever_parts_are_cut(tmp_path: Path, ids: list[str], wording):
    path = file_of(tmp_path, ids)
    for rows in range(1, 6):
        with wording.refused(NotSortedError):
            list(side_by_side({path: []}, rows))


def test_files_that_cannot_be_read_in_parts_have_no_number_of_rows(tmp_path: Path, wording):
    pl.DataFrame({"utterance_id": [1, 2]}).write_parquet(tmp_path / "numbers.parquet")
    pl.DataFrame({"other": ["a"]}).write_parquet(tmp_path / "other.parquet")
    (tmp_path / "text.csv").write_text("utterance_id\na\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "folder").mkdir()
    file_of(tmp_path / "folder", ["a"])
    for name in ("numbers.parquet", "other.parquet", "text.csv", "torn.parquet", "folder"):
        assert rows_in(tmp_path / name) is None, name
    assert rows_in(file_of(tmp_path, [])) == 0
    assert rows_in(file_of(tmp_path, ["a", "b"], "[1]*?")) == 2
    assert columns_in(tmp_path / "[1]*?.parquet") == ["place", "utterance_id"]
    for read in (rows_in, columns_in):
        with wording.refused(AlmProxiesError):
            read(tmp_path / "none.parquet")


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 20), st.integers(0, 3), st.data())
def test_a_sample_is_the_same_whatever_the_parts(usable: list[bool], size: int, seed: int, data: st.DataObject):
    rows = np.array(usable, dtype=np.bool_)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    once, parts = Sample(size, seed), Sample(size, seed)
    chosen = once.offer(rows)
    for part in np.split(rows, cuts):
        parts.offer(part)
    assert once.places.tolist() == parts.places.tolist() == np.flatnonzero(chosen).tolist()
    assert len(once.places) == min(size, int(rows.sum()))
    assert rows[once.places].all()


def test_every_usable_row_and_pair_of_rows_is_as_likely_in_a_sample():
    usable = np.arange(24) % 3 > 0
    together = np.zeros((24, 24))
    for seed in range(3000):
        sample = Sample(4, seed)
        for part in np.split(usable, [5, 6, 15]):
            sample.offer(part)
        together[np.ix_(sample.places, sample.places)] += 1
    single_chance, two = 4 / 16, 4 * 3 / (16 * 15)
    single = np.diag(together)
    assert (single[~usable] == 0).all()
    assert np.abs(single[usable] - 3000 * single_chance).max() < 4 * np.sqrt(3000 * single_chance * (1 - single_chance))
    pairs = together[np.ix_(usable, usable)][np.triu_indices(16, 1)]
    assert np.abs(pairs - 3000 * two).max() < 4 * np.sqrt(3000 * two * (1 - two))


def test_the_sample_kept_of_a_part_does_not_hold_the_text_of_the_whole_part():
    arrow = pytest.importorskip("pyarrow", reason="text is looked for in the buffers, which pyarrow shows")
    rows = 4000
    frame = pl.DataFrame(
        {
            "utterance_id": [f"corpus/a-rather-long-name-{row:06d}" for row in range(rows)],
            "annotator": "corpus/rater",
            "label": "sad",
            "valence": [0.5 if row < 8 else None for row in range(rows)],
        }
    )
    seen = survey([(Votes.of(frame, taxonomy=("sad", "happy")), None)], FuseSettings(method="human"))
    assert seen.ratings is not None
    assert len(seen.ratings) == 8
    ids = seen.ratings.frame["utterance_id"].to_arrow(compat_level=pl.CompatLevel.newest())
    assert isinstance(ids, arrow.Array)
    assert ids.get_total_buffer_size() < 8 * 100
