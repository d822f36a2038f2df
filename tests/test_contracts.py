"""Files of earlier contracts are read as if written today; old names work and warn once.

tests/contracts/1 was written by the last code of contract 1: read, then fused with merged secondary labels, published
consensus labels counted and a column that may steer.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alm_proxies
from alm_proxies.about import MadeBy
from alm_proxies.ballots import counting_of
from alm_proxies.content import ContentDigest
from alm_proxies.contracts import CONTRACT, upgraded_about
from alm_proxies.errors import InputError, TableError
from alm_proxies.stages.align.stage import align
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Finding, Findings, Labels, Utterances, Votes, combine

OLD = Path(__file__).parent / "contracts"
TABLES = {"utterances": Utterances, "votes": Votes, "labels": Labels, "findings": Findings}


def stated(path: Path) -> dict[str, Any]:
    return dict(json.loads(pl.read_parquet_metadata(path)["alm_proxies"]))


def test_there_is_a_file_of_every_table_of_every_earlier_contract() -> None:
    assert sorted(folder.name for folder in OLD.iterdir()) == [str(number) for number in range(1, CONTRACT)]
    for number in range(1, CONTRACT):
        for name in TABLES:
            assert stated(OLD / str(number) / f"{name}.parquet")["contract"] == number


@pytest.mark.parametrize("name", TABLES)
def test_an_old_file_becomes_a_new_one_that_holds_the_same(name: str, tmp_path: Path) -> None:
    path = OLD / "1" / f"{name}.parquet"
    table, raw = TABLES[name].read(path), pl.read_parquet(path)
    new = {"what": "message", "mend": "fix", "proxy_worth": "concentration_gain"}
    assert table.frame.height == raw.height > 0
    assert set(raw.columns) >= {old for old in new if name == "findings" and old != "proxy_worth"}
    for column in raw.columns:
        held, old = table.frame[new.get(column, column)].to_list(), raw[column].to_list()
        # entropy is computed from the shares again; old releases added its terms in no fixed order
        assert held == (pytest.approx(old, rel=1e-14) if column == "entropy" else old), column
    assert not set(new) & set(table.frame.columns)
    table.write(tmp_path / "again.parquet")
    assert stated(tmp_path / "again.parquet")["contract"] == CONTRACT
    again = TABLES[name].read(tmp_path / "again.parquet")
    assert again.frame.equals(table.frame)
    assert again.about.model_dump(exclude={"version"}) == table.about.model_dump(exclude={"version"})
    assert combine(table, TABLES[name].of(table.frame.head(0), about=again.about)).frame.equals(table.frame)


def test_the_provenance_of_an_old_file_is_understood() -> None:
    labels = Labels.read(OLD / "1" / "labels.parquet")
    maker = labels.about.made_by
    assert maker is not None
    assert (maker.stage, maker.settings_digest) == ("fuse", stated(OLD / "1" / "labels.parquet")["made_by"]["settings"])
    counting = counting_of(labels.about)
    assert counting is not None
    assert (counting.consensus, counting.columns, counting.merge.secondary) == (True, ("duration",), 0.1)
    assert maker.settings["method"] == "dirichlet"
    assert (labels.frame["concentration_gain"] != 0).any()
    votes = Votes.read(OLD / "1" / "votes.parquet")
    assert votes.about.annotators["alm"].context == ("transcript",)
    assert votes.about.made_by == MadeBy(
        stage="read", settings_digest="0123456789abcdef", inputs={"votes.csv": "fedcba9876543210"}
    )
    stacked = upgraded_about({"contract": 1, "made_by": {"stage": "fuse", "said": {"method": "stacking"}}})
    assert stacked["made_by"]["settings"] == {"method": "supervised"}


OF_PRIMARY_LABELS = {
    "p_angry": [
        0.35999277, 0.17164045, 0.63302595, 0.26581661, 0.43753896, 0.17547748,
        0.33652883, 0.53674447, 0.34758869, 0.60916703, 0.33652883, 0.5385491,
    ],
    "p_sad": [
        0.31080859, 0.32321268, 0.21029773, 0.31080859, 0.34666688, 0.59542363,
        0.49910002, 0.13787517, 0.31080859, 0.13787517, 0.14464661, 0.29707975,
    ],
}  # fmt: skip
"""Shares by `dirichlet` of the old votes without their secondary labels: the same by every release."""


def test_old_files_go_through_the_stages_of_today(tmp_path: Path) -> None:
    votes, utterances = Votes.read(OLD / "1" / "votes.parquet"), Utterances.read(OLD / "1" / "utterances.parquet")
    old = Labels.read(OLD / "1" / "labels.parquet")
    old_settings = FuseSettings.model_validate({**old.about.made_by.settings})  # type: ignore[union-attr]
    new = fuse(votes, old_settings, utterances=utterances).labels
    for column in ("human_votes", "proxy_votes"):
        assert new.frame[column].to_list() == pytest.approx(old.frame[column].to_list()), column
    votes.write(tmp_path / "votes.parquet")
    utterances.write(tmp_path / "utterances.parquet")
    written = Votes.read(tmp_path / "votes.parquet"), Utterances.read(tmp_path / "utterances.parquet")
    assert new.frame.equals(fuse(written[0], old_settings, utterances=written[1]).labels.frame)
    # old releases took the parts of shared votes for whole ones; where no vote is shared, labels are what they were
    whole = FuseSettings.model_validate(old_settings.model_dump(exclude={"merge"}))
    shares = fuse(votes, whole, utterances=utterances).labels.frame
    for column, before in OF_PRIMARY_LABELS.items():
        assert shares[column].to_list() == pytest.approx(before, abs=1e-6), column
    assert align(old, votes, utterances).metrics["taxonomy"] == ["angry", "happy", "sad"]


def test_a_newer_contract_is_refused_whatever_else_it_says(tmp_path: Path) -> None:
    frame = pl.DataFrame({"utterance_id": ["a"]})
    for text in ('{"contract": 3}', '{"contract": 3, "taxonomy": {"of": "another kind"}}'):
        frame.write_parquet(tmp_path / "u.parquet", metadata={"alm_proxies": text})
        with pytest.raises(TableError, match="contract 3, newer than 2"):
            Utterances.read(tmp_path / "u.parquet")
    for text, message in (("[1]", "cannot be understood"), ("{", "not JSON")):
        frame.write_parquet(tmp_path / "u.parquet", metadata={"alm_proxies": text})
        with pytest.raises(TableError, match=message):
            Utterances.read(tmp_path / "u.parquet")


def test_a_column_of_ones_own_keeps_its_name_beside_the_new_one(tmp_path: Path) -> None:
    frame = pl.DataFrame({"utterance_id": ["a"], "p_x": [0.5], "p_y": [0.5], "concentration_gain": [1.0]})
    Labels.of(frame.with_columns(proxy_worth=pl.lit(7.0))).write(tmp_path / "l.parquet")
    read = Labels.read(tmp_path / "l.parquet").frame
    assert (read["proxy_worth"][0], read["concentration_gain"][0]) == (7.0, 1.0)


def test_a_bare_file_with_old_names_is_upgraded(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("utterance_id,p_x,p_y,proxy_worth\na,0.5,0.5,2.5\n")
    assert Labels.read(tmp_path / "l.csv").frame["concentration_gain"].to_list() == [2.5]


def test_kinds_of_findings_have_their_present_names(tmp_path: Path) -> None:
    old = pl.DataFrame({"stage": "read", "kind": ["no_split", "speakers_not_known", "odd"], "message": "is so"})
    for name in ("f.parquet", "f.csv"):
        old.write_parquet(tmp_path / name) if name.endswith("t") else old.write_csv(tmp_path / name)
        read = Findings.read(tmp_path / name).frame
        assert read["kind"].to_list() == ["unknown_speaker", "unknown_speaker", "odd"]
        assert read["severity"].to_list() == ["warning"] * 3


def one_warning(use: object) -> object:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = use()  # type: ignore[operator]
    assert [warning.category for warning in caught] == [DeprecationWarning]
    assert caught[0].filename == __file__
    return value


def test_old_names_work_and_warn_once() -> None:
    assert one_warning(lambda: alm_proxies.Stacking) is alm_proxies.Supervised
    error, finding = InputError("is wrong", fix="Right it."), Finding.of("kind", "is wrong", "Right it.")
    for item in (error, finding):
        assert one_warning(lambda item=item: item.what) == "is wrong"
        assert one_warning(lambda item=item: item.mend) == "Right it."
    assert one_warning(lambda: MadeBy(stage="fuse", settings={"seed": 1}).said) == {"seed": 1}
    with pytest.warns(DeprecationWarning, match="stacking is now supervised"):
        assert FuseSettings.model_validate({"method": "stacking"}).method == "supervised"
    frame = pl.DataFrame({"utterance_id": ["a"], "p_x": [0.5], "p_y": [0.5], "proxy_worth": [2.0]})
    assert one_warning(lambda: Labels.of(frame)).frame["concentration_gain"].to_list() == [2.0]  # type: ignore[attr-defined]


def votes_of(labels: list[str], **columns: object) -> Votes:
    frame = pl.DataFrame({"utterance_id": [f"u{n}" for n in range(len(labels))], "annotator": "r", "label": labels})
    return Votes.of(frame.with_columns(**columns), taxonomy=("x", "y"))


def utterances_of(**columns: object) -> Utterances:
    return Utterances.of(pl.DataFrame({"utterance_id": ["u0", "u1", "u2"]}).with_columns(**columns))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from("xy"), min_size=2, max_size=12), st.randoms())
def test_the_digest_of_what_a_table_holds_is_that_of_its_rows_in_any_order(labels, random) -> None:
    votes = votes_of(labels)
    order = list(range(len(labels)))
    random.shuffle(order)
    assert Votes(votes.frame[order], votes.about).content_digest() == votes.content_digest()
    assert Votes(votes.frame.rechunk().clone(), votes.about.with_(version="9", roots={"c": "/x"})).content_digest() == (
        votes.content_digest()
    )
    other = ["y" if labels[0] == "x" else "x", *labels[1:]]
    assert votes_of(other).content_digest() != votes.content_digest()


def test_the_digest_changes_with_every_value_and_its_absence(tmp_path: Path) -> None:
    plain = votes_of(["x", "y", "x"])
    changed = [
        votes_of(["x", "y", "x"], secondary=pl.Series([["y"], None, None])),
        votes_of(["x", "y", "x"], secondary=pl.Series([[], None, None], dtype=pl.List(pl.String()))),
        votes_of(["x", "y", "x"], secondary=pl.Series([["y", "x"], None, None])),
        votes_of(["x", "y", "x"], secondary=pl.Series([["yx"], None, None])),
        votes_of(["x", "y", "x"], held_out=pl.Series([True, False, False])),
        votes_of(["x", "y", "x"], valence=pl.Series([0.0, None, None])),
        votes_of(["x", "y"]),
        plain.of(plain.frame, taxonomy=None, about=plain.about.with_(scales={"c": {"valence": (1.0, 7.0)}})),
    ]
    digests = [table.content_digest() for table in (plain, *changed)]
    assert len(set(digests)) == len(digests)
    plain.write(tmp_path / "v.parquet")
    assert Votes.read(tmp_path / "v.parquet").content_digest() == digests[0]
    assert len(digests[0]) == 16
    assert votes_of(["x", "y", "x"], stated=pl.Series(["a", None, None])).content_digest() == digests[0]
    variants = [["", None, None], ["a", "b", None], ["ab", "", None], [None, None, None], ["a", None, "b"]]
    tables = [utterances_of(transcript=pl.Series(words, dtype=pl.String())) for words in variants]
    tables += [utterances_of(room=pl.Series(["a", "b", None])), utterances_of(**{"rooms": pl.Series(["a", "b", None])})]
    assert len({table.content_digest() for table in tables}) == len(tables)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from("xy"), min_size=2, max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_the_digest_of_parts_is_that_of_the_whole(labels, first, second) -> None:
    votes = votes_of(labels, secondary=pl.Series([["x"] if n % 3 else None for n in range(len(labels))]))
    digest = ContentDigest(Votes.KEY)
    content = votes.content().sort("utterance_id")
    for part in (
        content[: min(first, second)],
        content[min(first, second) : max(first, second)],
        content[max(first, second) :],
    ):
        digest.update(part.reverse())
    assert digest.hexdigest(votes.stated()) == votes.content_digest()


def test_a_maker_names_its_inputs_by_need_and_content() -> None:
    votes = votes_of(["x", "y"])
    maker = MadeBy.of("fuse", {"seed": 1}, {"votes": [votes.content_digest()], "utterances": []})
    assert maker.inputs == {"votes": votes.content_digest()}
    two = [MadeBy.of("fuse", {"seed": 1}, {"votes": order}) for order in (["a", "b"], ["b", "a"])]
    assert two[0] == two[1]
    assert len(two[0].inputs["votes"]) == 16
    signed = Votes(votes.frame, votes.about.with_(made_by=maker))
    assert signed.content_digest() == votes.content_digest()
