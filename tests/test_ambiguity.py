"""Ambiguity is cut in one place: by thirds of the scale, quantiles of the labels, or two points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alm_proxies import FuseSettings, fuse
from alm_proxies.ambiguity import LEVELS, THIRDS, cuts_of, level, places
from alm_proxies.cli.app import run
from alm_proxies.compare.strata import AMBIGUITY, groups_of, strata_of
from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.estimators.counts import counts_of
from alm_proxies.stages.fuse.files import fuse_files
from alm_proxies.tables import Labels, Utterances, Votes, combine

TAXONOMY = ("angry", "happy", "neutral", "sad")


def made_votes(utterances: int = 90) -> Votes:
    """Votes that mostly disagree, so that few labels have a low ambiguity by thirds of the scale."""
    rng = np.random.default_rng(3)
    rows = [
        (f"c/{number:03}", f"r{rater}", TAXONOMY[rng.choice(4, p=rng.dirichlet([1.0] * 4))], f"s{number % 9}")
        for number in range(utterances)
        for rater in range(5)
    ]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "label", "speaker"], orient="row")
    return Votes.of(frame.drop("speaker"), taxonomy=TAXONOMY)


def shares(labels: Labels) -> dict[str, float]:
    counted = labels.frame.group_by("ambiguity").len()
    return {name: count / len(labels) for name, count in counted.iter_rows()}


def test_quantiles_put_a_third_of_the_labels_into_each_level() -> None:
    votes = made_votes()
    fixed = fuse(votes, FuseSettings(method="dirichlet")).labels
    assert fixed.cuts == THIRDS
    assert shares(fixed).get("low", 0.0) < 0.1
    cut = fuse(votes, FuseSettings(method="dirichlet", ambiguity="quantiles")).labels
    assert set(shares(cut)) == set(LEVELS)
    assert shares(cut)["low"] >= 1 / 3, "labels of equal entropy are of one level"
    assert shares(cut)["low"] + shares(cut)["medium"] >= 2 / 3
    assert cut.frame.drop("ambiguity").equals(fixed.frame.drop("ambiguity"))


@pytest.mark.parametrize("method", ["dirichlet", "human", "dawid_skene"])
def test_two_cut_points_hold_for_every_method_and_travel_in_the_file(method: str, tmp_path: Path) -> None:
    labels = fuse(made_votes(), FuseSettings(method=method, ambiguity=(0.8, 0.9))).labels
    labels.write(tmp_path / "labels.parquet")
    read = Labels.read(tmp_path / "labels.parquet")
    assert read.cuts == (0.8, 0.9)
    for row in read.frame.iter_rows(named=True):
        assert row["ambiguity"] == ("low" if row["entropy"] <= 0.8 else "medium" if row["entropy"] <= 0.9 else "high")
    again = Labels.of(read.frame.with_columns(weight=pl.lit(2.0)), about=read.about)
    assert again.frame["ambiguity"].equals(read.frame["ambiguity"]), "whoever makes labels of labels keeps the cuts"


@pytest.mark.parametrize("rule", ["thirds", "quantiles", (0.7, 0.95)])
def test_parts_of_a_big_file_are_cut_as_the_whole(rule: object, tmp_path: Path) -> None:
    made_votes().write(tmp_path / "votes.parquet")
    asked = FuseSettings.model_validate({"method": "dirichlet", "ambiguity": rule})
    fuse_files([tmp_path / "votes.parquet"], tmp_path / "whole.parquet", asked, quiet=True)
    fuse_files([tmp_path / "votes.parquet"], tmp_path / "parts.parquet", asked, quiet=True, part_rows=60, whole_rows=0)
    whole, parts = (Labels.read(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    assert parts.cuts == whole.cuts
    assert parts.frame["ambiguity"].equals(whole.frame["ambiguity"])


def test_the_strata_of_reports_are_those_of_the_labels() -> None:
    labels = fuse(made_votes(), FuseSettings(method="dirichlet", ambiguity="quantiles")).labels
    strata = strata_of(np.zeros((len(labels), 4)), labels.distributions(), labels.taxonomy, labels.cuts)
    assert strata[AMBIGUITY].tolist() == labels.frame["ambiguity"].to_list()


def test_balance_and_export_go_by_the_cut_points_of_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    votes = made_votes()
    votes.write("votes.parquet")
    ids = votes.frame["utterance_id"].unique().sort()
    Utterances.of(pl.DataFrame({"utterance_id": ids, "corpus": "c"})).write("utterances.parquet")
    fused = ["fuse", "votes.parquet", "--method", "dirichlet", "-o", "labels.parquet", "--quiet"]
    assert run([*fused, "--ambiguity", "quantiles"]) == 0
    balance = ["balance", "labels.parquet", "--utterances", "utterances.parquet", "--ambiguity", "uniform"]
    assert run([*balance, "--classes", "keep", "-o", "balanced", "--quiet"]) == 0
    before, after = Labels.read("labels.parquet"), Labels.read("balanced/labels.parquet")
    assert after.cuts == before.cuts
    weights = after.frame.group_by("ambiguity").agg(pl.col("weight").sum() / after.frame["weight"].sum())
    assert all(abs(share - 1 / 3) < 0.01 for _, share in weights.iter_rows())
    export = ["export", "labels.parquet", "--utterances", "utterances.parquet", "--format", "csv", "-o", "out"]
    assert run([*export, "--quiet"]) == 0
    written = pl.read_csv("out/labels.csv")
    assert written["ambiguity"].to_list() == before.frame["ambiguity"].to_list()
    assert f"low up to a normalised entropy of {before.cuts[0]:.3g}" in Path("out/README.md").read_text()
    assert run([*fused, "--ambiguity", "0.8:0.9"]) == 0
    assert Labels.read("labels.parquet").cuts == (0.8, 0.9)
    for wrong in ("0.9:0.8", "0.5", "halves"):
        assert run([*fused, "--ambiguity", wrong]) == 2


def test_labels_put_together_keep_cut_points_that_they_share() -> None:
    labels = fuse(made_votes(), FuseSettings(method="human", ambiguity=(0.5, 0.9))).labels
    first, second = Labels(labels.frame[:40], labels.about), Labels(labels.frame[40:], labels.about)
    assert combine(first, second).cuts == (0.5, 0.9)
    assert combine(first, second.cut("thirds")).cuts == THIRDS


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)))
def test_levels_and_their_places_are_the_same(entropies: list[float], cuts: tuple[float, float]) -> None:
    frame = pl.DataFrame({"entropy": entropies}, schema={"entropy": pl.Float64})
    words = frame.select(level(pl.col("entropy"), cuts)).to_series().to_list()
    assert words == [LEVELS[place] for place in places(entropies, cuts)]
    first, second = cuts_of("quantiles", entropies)
    assert first <= second
    assert sum(value <= first for value in entropies) * 3 >= len(entropies)


def test_text_that_holds_numbers_is_taken_as_numbers_and_other_text_is_refused_with_what_it_holds() -> None:
    votes = made_votes(12)
    ids = votes.frame["utterance_id"].unique().sort()
    frame = pl.DataFrame(
        {"utterance_id": ids, "age": [f" {20 + n}" for n in range(12)], "word": ["forty", *["7"] * 11]}
    )
    people = Utterances.of(frame)
    assert counts_of(votes, utterances=people, columns=("age",)).columns[:, 0].tolist() == [20.0 + n for n in range(12)]
    with pytest.raises(InputError, match=r"the column 'word' is no number: it holds 'forty' \(1 of 12 values are no"):
        counts_of(votes, utterances=people, columns=("word",))
    with pytest.raises(AlmProxiesError, match=r"there is no numeric column 'agee'.*Did you mean 'age'"):
        counts_of(votes, utterances=people, columns=("agee",))


def test_a_column_of_text_with_many_numbers_is_offered_as_a_number() -> None:
    ids = pl.Series("utterance_id", [f"u{n}" for n in range(30)])
    people = Utterances.of(pl.DataFrame({"utterance_id": ids, "age": [str(n) for n in range(30)]}))
    _, (finding,) = groups_of(ids, people)
    assert finding.message == "the column 'age' has 30 values and is not shown as groups; it is text that holds numbers"
    assert finding.fix.endswith("fuse takes it as a number: columns = ['age'] (--columns age).")
