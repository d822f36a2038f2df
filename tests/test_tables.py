import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wording import Wording

from alm_proxies.errors import AlmProxiesError, InputError, OutputError, SettingsError, TableError
from alm_proxies.tables import About, AnnotatorCard, Finding, Findings, Labels, Utterances, Votes, combine

LABELS = ("angry", "happy", "sad")
BARE = pl.DataFrame({"utterance_id": ["bare"]})


def votes(**columns: list[object]) -> Votes:
    rows = len(next(iter(columns.values())))
    base: dict[str, list[object]] = {
        "utterance_id": [f"c/{i}" for i in range(rows)],
        "annotator": ["c/r1"] * rows,
        "label": ["happy"] * rows,
    }
    return Votes.of(pl.DataFrame(base | columns, strict=False), taxonomy=LABELS, where="votes.parquet")


def refusal(**columns: list[object]) -> str:
    with pytest.raises(TableError) as caught:
        votes(**columns)
    assert caught.value.where is not None
    assert caught.value.where.startswith("votes.parquet")
    assert caught.value.fix
    return str(caught.value)


def test_a_bare_votes_frame_is_filled_with_the_defaults() -> None:
    table = Votes.of(
        pl.DataFrame({"utterance_id": ["a", "a", "b"], "annotator": ["r", "r", "r"], "label": LABELS}), taxonomy=LABELS
    )
    assert table.frame["draw"].to_list() == [0, 1, 0]
    assert table.frame["source"].unique().to_list() == ["human"]
    assert table.frame["weight"].to_list() == [1.0, 1.0, 1.0]
    assert table.frame["status"].unique().to_list() == ["ok"]
    assert not table.frame["held_out"].any()
    assert table.frame.columns == [column.name for column in Votes.COLUMNS]


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"label": ["happy", "hapy"]}, ["row 2", "'hapy'", "Did you mean 'happy'"]),
        ({"utterance_id": ["a", None]}, ["column utterance_id", "row 2"]),
        ({"weight": [1.0, 0.0]}, ["column weight", "row 2", "(0.0, 1.0]"]),
        ({"weight": [1.0, float("nan")]}, ["column weight", "row 2", "finite"]),
        ({"weight": [1.0, 0.5]}, ["column weight", "row 2", "sum to 1"]),
        ({"draw": [0, -1]}, ["column draw", "row 2"]),
        ({"draw": [0.0, 1.5]}, ["column draw", "row 2", "without loss"]),
        ({"status": ["ok", "lost"]}, ["column status", "row 2", "refused"]),
        ({"status": ["ok", "failed"]}, ["column status", "row 2"]),
        ({"label": ["happy", None]}, ["column label, row 2", "whose status is ok", "refused"]),
        ({"source": ["human", "machine"]}, ["column source", "row 2"]),
        ({"source": ["human", "proxy"]}, ["both as human and as proxy"]),
        ({"source": ["proxy", "proxy"], "held_out": [False, True]}, ["row 2", "held out"]),
        ({"valence": [0.5, 1.5]}, ["column valence", "row 2"]),
        ({"valence": [0.5, -0.1]}, ["column valence", "row 2"]),
        ({"utterance_id": ["a", "a"], "draw": [0, 0]}, ["is repeated", "draw=0"]),
        ({"utterance_id": ["a", "a"], "draw": [0, 0], "label": ["happy", "sad"], "weight": [0.5, 0.6]}, ["sum to 1.1"]),
    ],
)
def test_every_violation_is_refused_with_column_row_and_mend(
    columns: dict[str, list[object]], parts: list[str]
) -> None:
    message = refusal(**columns)
    for part in parts:
        assert part in message


def test_a_missing_column_is_named_with_the_nearest_one_there_is(wording: Wording) -> None:
    with wording.refused(TableError):
        Votes.of(pl.DataFrame({"utterance_id": ["a"], "anotator": ["r"], "label": ["happy"]}), taxonomy=LABELS)


def test_labels_in_place_of_votes_are_refused_with_the_command_that_reads_them_as_a_proxy(wording: Wording) -> None:
    labels = pl.DataFrame({"utterance_id": ["a"], "p_happy": [1.0], "p_sad": [0.0]})
    with wording.refused(TableError) as refused:
        Votes.of(labels, taxonomy="happy,sad")
    assert "--as proxy:" in refused.value.fix


def test_labels_without_a_taxonomy_ask_for_one(wording: Wording) -> None:
    with wording.refused(TableError):
        Votes.of(pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": ["happy"]}))


def test_types_are_cast_where_nothing_is_lost() -> None:
    table = votes(draw=[0.0, 1.0], weight=["1", " 1.0"], label=pl.Series(["happy", "sad"], dtype=pl.Categorical))
    assert table.frame.schema["draw"] == pl.Int32
    assert table.frame.schema["label"] == pl.String
    assert table.frame["weight"].to_list() == [1.0, 1.0]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("duration", [timedelta(seconds=2)]),
        pl.Series("start", [time(0, 0, 2)]),
        pl.Series("turn", [date(2020, 1, 1)]),
    ],
)
def test_times_are_no_numbers_of_seconds(column: pl.Series, wording: Wording) -> None:
    with wording.refused(TableError):
        Utterances.of(pl.DataFrame({"utterance_id": ["a"]}).with_columns(column))


def test_a_share_is_no_yes_or_no(wording: Wording) -> None:
    assert votes(held_out=[1.0, 0.0]).frame["held_out"].to_list() == [True, False]
    with wording.refused(TableError):
        votes(held_out=[0.5, 0.0])


@pytest.mark.parametrize(
    ("before", "after", "dtype"),
    [
        (Decimal("1.25"), Decimal("1.75"), pl.Decimal(10, 2)),
        (time(1, 2, 3, 1), time(1, 2, 3, 2), pl.Time()),
        (timedelta(microseconds=1), timedelta(microseconds=2), pl.Duration("us")),
        (datetime(2020, 1, 1, 0, 0, 0, 1), datetime(2020, 1, 1, 0, 0, 0, 2), pl.Datetime("us")),
        ({"x": 1.00000001}, {"x": 1.00000002}, pl.Struct({"x": pl.Float64()})),
        ({"x": None}, None, pl.Struct({"x": pl.Float64()})),
        ([{"x": 1.00000001}], [{"x": 1.00000002}], pl.List(pl.Struct({"x": pl.Float64()}))),
        ([1.0, 2.00000001], [1.0, 2.00000002], pl.Array(pl.Float64(), 2)),
        ([[1, 2], [3, 4]], [[1, 2], [3, 5]], pl.Array(pl.Int64(), (2, 2))),
        (b"\xff\xfe", b"\xff\xfd", pl.Binary()),
        (2**63 + 1, 2**63 + 2, pl.UInt64()),
        (2**70 + 1, 2**70 + 2, pl.Int128()),
    ],
)
def test_the_content_digest_sees_every_change_of_a_group_column(before: Any, after: Any, dtype: pl.DataType) -> None:
    def digest(value: Any) -> str:
        frame = pl.DataFrame({"utterance_id": ["a", "b"], "of": pl.Series([value, None], dtype=dtype)})
        return Utterances.of(frame).content_digest()

    assert digest(before) == digest(before)
    assert digest(before) != digest(after)


def test_a_draw_may_share_its_mass_over_rows() -> None:
    table = votes(utterance_id=["a", "a"], draw=[0, 0], label=["happy", "sad"], weight=[0.25, 0.75])
    assert table.frame["weight"].sum() == pytest.approx(1.0)


def test_no_part_of_a_draw_is_held_out_alone(wording: Wording) -> None:
    shared: dict[str, list[object]] = {"utterance_id": ["a", "a"], "label": ["happy", "sad"], "weight": [0.25, 0.75]}
    assert votes(**shared, draw=[0, 0], held_out=[True, True]).frame["held_out"].all()
    with wording.refused(TableError):
        votes(**shared, draw=[0, 0], held_out=[True, False])


def test_utterances_keep_group_columns_and_refuse_wrong_times_and_recipes(wording: Wording) -> None:
    table = Utterances.of(pl.DataFrame({"utterance_id": ["a"], "age": [31]}))
    assert table.group_columns == ["age"]
    assert table.frame["corpus"].to_list() == [""]
    with wording.refused(TableError):
        Utterances.of(pl.DataFrame({"utterance_id": ["a"], "start": [2.0], "end": [1.0]}))
    with wording.refused(TableError):
        Utterances.of(pl.DataFrame({"utterance_id": ["a"], "recipe": ['{"parents": []}']}))
    for junk in (
        '{"parents": 3, "effects": [], "seed": 1}',
        '{"parents": ["a"], "effects": [], "seed": 1}',
        "[" * 9999,
    ):
        with wording.refused(TableError):
            Utterances.of(pl.DataFrame({"utterance_id": ["a"], "recipe": [junk]}))
    with wording.refused(TableError):
        Utterances.of(pl.DataFrame({"utterance_id": ["a", "b", "a"]}))


def test_labels_take_their_taxonomy_from_their_columns_and_compute_entropy_and_ambiguity() -> None:
    frame = pl.DataFrame({"utterance_id": ["a", "b", "c"], "p_x": [1.0, 0.5, 0.9], "p_y": [0.0, 0.5, 0.1]})
    table = Labels.of(frame)
    assert table.taxonomy == ("x", "y")
    assert table.frame["entropy"].to_list() == pytest.approx(
        [0.0, 1.0, -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)]
    )
    assert table.frame["ambiguity"].to_list() == ["low", "high", "medium"]


def test_labels_that_do_not_sum_to_one_or_leave_the_taxonomy_are_refused(wording: Wording) -> None:
    with wording.refused(TableError):
        Labels.of(pl.DataFrame({"utterance_id": ["a", "b"], "p_x": [0.4, 0.4], "p_y": [0.6, 0.4]}))
    with wording.refused(TableError):
        Labels.of(pl.DataFrame({"utterance_id": ["a"], "p_x": [0.4], "p_z": [0.6]}), taxonomy=["x", "y"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["u1", "u2", "u/ü"]), st.sampled_from(["r1", "r2"]), st.sampled_from(LABELS)),
        min_size=1,
        max_size=40,
    )
)
def test_written_votes_come_back_the_same_and_sorted_by_key(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("votes")
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "label"], orient="row")
    table = Votes.of(frame, taxonomy=LABELS)
    table.write(folder / "votes.parquet")
    again = Votes.read(folder / "votes.parquet")
    assert again.taxonomy == LABELS
    assert again.frame.equals(table.frame.sort(Votes.KEY))
    again.write(folder / "again.parquet")
    assert (folder / "votes.parquet").read_bytes() == (folder / "again.parquet").read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(0.001, 1.0), min_size=3, max_size=3), min_size=1, max_size=20))
def test_any_normalised_shares_make_labels_with_entropy_between_zero_and_one(rows: list[list[float]]) -> None:
    shares = np.array(rows) / np.array(rows).sum(1, keepdims=True)
    frame = pl.DataFrame({"utterance_id": [str(i) for i in range(len(rows))]}).with_columns(
        **{f"p_{label}": shares[:, k] for k, label in enumerate(LABELS)}
    )
    table = Labels.of(frame)
    assert np.allclose(table.distributions(), shares)
    assert table.frame["entropy"].is_between(0, 1).all()


def test_a_folder_of_results_stands_for_the_table_in_it(tmp_path: Path) -> None:
    votes = Votes.of(pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": ["sad"]}), taxonomy="crema6")
    votes.write(tmp_path / "votes.parquet")
    assert Votes.read(tmp_path).frame.equals(votes.frame)
    with pytest.raises(InputError, match="folder"):
        Labels.read(tmp_path)


def test_csv_and_json_lines_are_read_and_other_bytes_are_refused(tmp_path: Path, wording: Wording) -> None:
    (tmp_path / "v.csv").write_text("utterance_id,annotator,label\na,r,happy\n")
    (tmp_path / "v.jsonl").write_text('{"utterance_id": "a", "annotator": "r", "label": "happy"}\n')
    for name in ("v.csv", "v.jsonl"):
        assert len(Votes.read(tmp_path / name, taxonomy=LABELS)) == 1
    (tmp_path / "v.parquet").write_bytes(b"PAR1 but not really")
    with wording.refused(TableError):
        Votes.read(tmp_path / "v.parquet")
    with wording.refused(InputError):
        Votes.read(tmp_path / "none.parquet")


def test_a_file_under_a_newer_contract_is_refused(tmp_path: Path, wording: Wording) -> None:
    frame = pl.DataFrame({"utterance_id": ["a"]})
    frame.write_parquet(tmp_path / "u.parquet", metadata={"alm_proxies": '{"contract": 99}'})
    with wording.refused(TableError):
        Utterances.read(tmp_path / "u.parquet")


def test_another_taxonomy_than_the_files_own_is_refused(tmp_path: Path, wording: Wording) -> None:
    votes(label=["happy"]).write(tmp_path / "v.parquet")
    with wording.refused(TableError):
        Votes.read(tmp_path / "v.parquet", taxonomy="crema6")


def test_combine_joins_tables_and_refuses_repeats_digests_and_taxonomies(wording: Wording) -> None:
    first, two = votes(utterance_id=["a"]), votes(utterance_id=["b"])
    assert len(combine(first, two)) == 2
    with wording.refused(TableError):
        combine(first, first)
    other = Votes.of(
        pl.DataFrame({"utterance_id": ["z"], "annotator": ["r"], "label": ["happy"]}), taxonomy=["happy", "sad"]
    )
    with wording.refused(InputError):
        combine(first, other)
    named = [
        Votes(table.frame, table.about.with_(annotators={"alm": AnnotatorCard(digest=digest)}))
        for table, digest in ((first, "d1"), (two, "d2"))
    ]
    with wording.refused(InputError):
        combine(*named)


def test_columns_that_are_text_here_and_numbers_there_are_not_put_together(wording: Wording) -> None:
    def table(name: str, age: pl.Series) -> Utterances:
        return Utterances.of(pl.DataFrame({"utterance_id": [name]}).with_columns(age=age))

    whole, half, unknown = pl.Series([31]), pl.Series([31.5]), pl.Series([None])
    together = combine(table("a", unknown), table("b", whole), table("c", half), Utterances.of(BARE))
    assert together.frame["age"].to_list() == [None, 31.0, 31.5, None]
    with wording.refused(InputError):
        combine(table("a", whole), table("b", pl.Series(["31 years"])))


@pytest.mark.parametrize("frame", [{"utterance_id": ["a"]}, None, BARE.lazy()])
def test_what_is_no_polars_frame_is_refused(frame: object, wording: Wording) -> None:
    with wording.refused(TableError):
        Utterances.of(frame)  # type: ignore[arg-type]


def test_columns_of_python_objects_are_refused(wording: Wording) -> None:
    with wording.refused(TableError):
        Utterances.of(BARE.with_columns(odd=pl.Series([object()], dtype=pl.Object)))


def test_labels_of_a_frame_need_a_taxonomy_of_two_or_more(wording: Wording) -> None:
    with wording.refused(AlmProxiesError):
        Labels.of(pl.DataFrame({"utterance_id": ["a"], "p_happy": [1.0]}))
    with wording.refused(AlmProxiesError):
        Labels.of(pl.DataFrame({"utterance_id": ["a"], "p_happy": [1.0], "p_": [0.0]}))


@pytest.mark.parametrize("label", ["very, happy", 'the "happy"', "happy\nor so", "happy\u2028", " happy", "outside"])
def test_a_name_that_no_label_can_have_is_refused_with_the_file_whatever_wrote_it(tmp_path: Path, label: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a label"):
        About(taxonomy=(label, "sad"))
    stated = {"alm_proxies": json.dumps({"contract": 2, "taxonomy": [label, "sad"]})}
    votes_file, labels_file = tmp_path / "votes.parquet", tmp_path / "labels.csv"
    BARE.with_columns(annotator=pl.lit("r"), label=pl.lit(label)).write_parquet(votes_file, metadata=stated)
    BARE.with_columns(pl.lit(0.5).alias(f"p_{label}"), p_sad=0.5).write_csv(labels_file)
    kinds: tuple[tuple[type[Votes | Labels], Path], ...] = ((Votes, votes_file), (Labels, labels_file))
    for kind, path in kinds:
        with pytest.raises(TableError, match="cannot be a label") as refused:
            kind.read(path)
        assert refused.value.where == str(path)
        assert refused.value.fix


def test_findings_are_counted_by_kind() -> None:
    table = Findings.gather([Finding("read", "empty", "x", count=3), Finding("read", "silent", "y")])
    assert table.counts() == {"empty": 3, "silent": 1}
    assert len(Findings.gather([])) == 0


def test_about_survives_the_file(tmp_path: Path) -> None:
    about = About(
        taxonomy=LABELS,
        scales={"c": {"valence": (1.0, 7.0)}},
        roots={"c": "/data/c"},
        annotators={"alm": AnnotatorCard(digest="d", model="m", elicit="score", cross={"focus": ["voice"]})},
    )
    Votes.of(pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": ["sad"]}), about=about).write(
        tmp_path / "v.parquet"
    )
    back = Votes.read(tmp_path / "v.parquet").about
    assert back.scales == about.scales
    assert back.roots == about.roots
    assert back.annotators == about.annotators


def test_tables_are_combined_one_by_one_or_as_a_list() -> None:
    tables = [
        Votes.of(pl.DataFrame({"utterance_id": ["a"], "annotator": [name], "label": ["sad"]}), taxonomy="happy,sad")
        for name in ("r1", "r2", "r3")
    ]
    for combined in (combine(*tables), combine(tables), combine(iter(tables)), combine(tables[0], tables[1:])):
        assert combined.frame["annotator"].to_list() == ["r1", "r2", "r3"]
    with pytest.raises(InputError, match="nothing to combine"):
        combine([])


def test_votes_that_are_there_twice_are_led_to_a_proxy() -> None:
    votes = Votes.of(pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": ["sad"]}), taxonomy="happy,sad")
    with pytest.raises(InputError, match="is repeated.*Votes on another modality of a corpus are read as a proxy"):
        combine(votes, votes)


@pytest.mark.parametrize("size", [0, 100, 1000, 5000])
def test_a_table_on_a_full_disk_is_one_sentence_and_leaves_the_old_file(
    size: int, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "utterances.parquet"
    few = Utterances.of(pl.DataFrame({"utterance_id": ["a/1"]}))
    few.write(path)
    before = path.read_bytes()
    many = Utterances.of(pl.DataFrame({"utterance_id": [f"a/{(n * 7919) % 10_007:x}" for n in range(5_000)]}))
    with pytest.raises(OutputError, match="could not be written"), full_disk(size):
        many.write(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
