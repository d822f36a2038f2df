"""fuse: votes in, labels, trials and findings out."""

import subprocess
import sys
from functools import partial

import numpy as np
import polars as pl
import pytest
import soundfile
from pydantic import ValidationError

from alm_proxies.about import About, AnnotatorCard
from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.estimators.trials import influence
from alm_proxies.stages.fuse.files import fuse_files
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ["angry", "happy", "sad"]


def votes(n: int = 60, *, raters: int = 3, valence: bool = False) -> Votes:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([0.5] * 3, size=n)
    rows = []
    for i, q in enumerate(truth):
        rows += [(f"u{i:03d}", f"c/r{r}", "human", LABELS[rng.choice(3, p=q)]) for r in range(raters)]
        rows += [(f"u{i:03d}", "model-a", "proxy", LABELS[rng.choice(3, p=q)]) for _ in range(5)]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "source", "label"], orient="row")
    if valence:
        place = frame["utterance_id"].str.slice(1).cast(pl.Int64).to_numpy()
        felt = 0.3 + 0.4 * truth[place, 1] + rng.normal(0, 0.05, frame.height)
        frame = frame.with_columns(valence=pl.Series(felt.clip(0, 1)))
    return Votes.of(frame, taxonomy=LABELS)


@pytest.mark.parametrize(
    "method",
    ["auto", "chosen", "gated", "mixture", "loglinear", "dirichlet", "weighted", "human", "pool", "dawid_skene"],
)
def test_every_method_gives_a_label_for_every_utterance_and_says_who_made_it(method):
    fused = fuse(votes(), FuseSettings(method=method, classes=4, folds=2))
    assert len(fused.labels) == 60
    assert np.allclose(fused.labels.distributions().sum(1), 1)
    assert fused.labels.about.made_by.stage == "fuse"
    assert (fused.labels.frame["human_votes"] == 3).all()


def test_supervised_learns_from_dense_votes():
    assert len(fuse(votes(raters=7), FuseSettings(method="supervised")).labels) == 60


def test_the_labels_survive_a_file_and_are_the_same_bytes_again(tmp_path):
    for name in ("one", "two"):
        fuse(votes(), FuseSettings(folds=2, seed=3)).labels.write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert Labels.read(tmp_path / "one").taxonomy == tuple(LABELS)


@pytest.mark.parametrize("method", ["auto", "human", "supervised", "dawid_skene"])
@pytest.mark.parametrize(
    ("change", "why", "fix"),
    [
        ({"held_out": pl.lit(value=True)}, "180 are held out", "--hold-out keep=1"),
        (
            {"label": pl.lit(None, pl.String), "valence": pl.lit(0.5)},
            "180 are ratings without a label",
            "ratings alone",
        ),
        ({"label": pl.lit(None, pl.String), "status": pl.lit("refused")}, "180 have a status other", "with labels"),
    ],
)
def test_human_votes_that_no_fit_uses_are_said_with_the_reason(method, change, why, fix):
    human = votes().frame.filter(pl.col("source") == "human").with_columns(**change)
    with pytest.raises(AlmProxiesError) as error:
        fuse(Votes.of(human, taxonomy=LABELS), FuseSettings(method=method))
    assert f"no human votes to fit {method} to: {why}" in str(error.value)
    assert fix in error.value.fix


def test_held_out_votes_change_nothing_but_the_count_of_findings():
    plain = votes()
    extra = plain.frame.filter(pl.col("source") == "human").with_columns(
        draw=pl.col("draw") + 100, label=pl.lit("angry"), held_out=pl.lit(True)
    )
    more = Votes.of(pl.concat([plain.frame, extra]), about=plain.about)
    settings = FuseSettings(method="gated", classes=4)
    first, second = fuse(plain, settings), fuse(more, settings)
    assert np.allclose(first.labels.distributions(), second.labels.distributions())
    assert second.findings.counts()["held_out"] == extra.height


@pytest.mark.parametrize("method", ["auto", "gated", "dirichlet", "weighted", "loglinear", "chosen"])
@pytest.mark.parametrize(("second", "said"), [(0, True), (36, True), (140, False)])
def test_a_finding_says_while_any_part_of_the_agreement_is_assumed(method, second, said):
    """36 of 140 is more than 30, from which on it was silent; half of the utterances are enough to learn it whole."""
    more = votes(140, raters=2)
    later = pl.col("annotator") == "c/r1"
    frame = more.frame.filter(~later | (pl.col("utterance_id") < f"u{second:03d}"))
    fused = fuse(Votes.of(frame, about=more.about), FuseSettings(method=method, classes=4, folds=2))
    assert ("assumed_agreement" in fused.findings.counts()) is said
    assert (fused.estimator.learned_part_ < 1) is said


def test_valence_is_fused_beside_the_labels():
    frame = fuse(votes(valence=True), FuseSettings(method="weighted")).labels.frame
    assert frame["valence"].null_count() == 0
    assert (frame["valence_sd"] > 0).all()
    assert frame["arousal"].null_count() == frame.height


def test_speakers_of_the_utterances_make_the_folds():
    table = pl.DataFrame(
        {"utterance_id": [f"u{i:03d}" for i in range(60)], "speaker": [f"s{i % 6}" for i in range(60)]}
    )
    with_speakers = fuse(votes(), FuseSettings(folds=3), utterances=Utterances.of(table))
    without = fuse(votes(), FuseSettings(folds=3))
    assert "folds by speakers" in with_speakers.findings.frame["message"].str.join(" ").item()
    assert "speakers are not known" in without.findings.frame["message"].str.join(" ").item()


def test_utterances_without_human_votes_are_counted():
    table = votes()
    kept = table.frame.filter((pl.col("source") == "proxy") | (pl.col("utterance_id") < "u050"))
    fused = fuse(Votes.of(kept, about=table.about), FuseSettings(method="gated", classes=4))
    assert fused.findings.counts()["no_human_votes"] == 10
    alone = fused.labels.frame.filter(pl.col("human_votes") == 0)["concentration"]
    assert alone.median() < fused.labels.frame["concentration"].median()


def test_utterances_whose_votes_are_held_out_on_purpose_are_information_and_others_a_warning():
    table = votes()
    human, late = pl.col("source") == "human", pl.col("utterance_id") >= "u050"
    frame = table.frame.filter(~human | (pl.col("utterance_id") < "u055")).with_columns(held_out=human & late)
    findings = fuse(Votes.of(frame, about=table.about), FuseSettings(method="gated", classes=4)).findings.frame
    rows = findings.filter(pl.col("message").str.contains("corpus shares")).sort("kind")
    assert rows.select("kind", "severity", "count").rows() == [
        ("no_human_votes", "warning", 5), ("only_held_out", "info", 5)
    ]  # fmt: skip
    frame = table.frame.with_columns(held_out=human & late)
    counts = fuse(Votes.of(frame, about=table.about), FuseSettings(method="gated", classes=4)).findings.counts()
    assert ("no_human_votes" in counts, counts["only_held_out"]) == (False, 10)


def test_votes_without_any_human_vote_are_refused_in_one_sentence():
    table = votes()
    only = Votes.of(table.frame.filter(pl.col("source") == "proxy"), about=table.about)
    with pytest.raises(AlmProxiesError, match="no human votes"):
        fuse(only)


@pytest.mark.parametrize("method", ["pool", "dawid_skene"])
def test_proxies_alone_are_pooled_where_asked_and_a_warning_says_that_nobody_checked_them(method, tmp_path):
    table = votes()
    frame = table.frame.filter(pl.col("source") == "proxy", pl.col("utterance_id") != "u003")
    silent = pl.col("utterance_id") == "u004"
    lost = frame.with_columns(
        label=pl.when(~silent).then("label"), status=pl.when(silent).then(pl.lit("failed")).otherwise("status")
    )
    only = Votes.of(lost, about=table.about)
    fused = fuse(only, FuseSettings(method=method))
    labels = fused.labels.frame
    assert len(labels) == 58
    assert labels["human_votes"].sum() == 0
    warnings = fused.findings.frame.filter(kind="no_human_votes").select("severity", "count").rows()
    assert warnings == [("warning", len(labels))]
    assert fused.findings.counts()["without_labels"] == 1
    if method == "pool":
        frame = frame.filter(~silent)
        cast = frame.group_by("utterance_id", "label").agg(pl.col("weight").sum())
        shares = cast.with_columns(share=pl.col("weight") / pl.col("weight").sum().over("utterance_id"))
        for label in LABELS:
            mine = labels.select("utterance_id", p=f"p_{label}").sort("utterance_id")
            wanted = mine.join(shares.filter(label=label), on="utterance_id", how="left")["share"].fill_null(0.0)
            np.testing.assert_allclose(mine["p"], wanted, atol=1e-5)
        np.testing.assert_allclose(labels["concentration"], labels["proxy_votes"], atol=1e-5)
        only.write(tmp_path / "votes.parquet")
        fuse_files([tmp_path / "votes.parquet"], tmp_path / "big.parquet", FuseSettings(method=method), whole_rows=1)
        assert Labels.read(tmp_path / "big.parquet").frame.equals(labels)


@pytest.mark.parametrize("method", ["pool", "dawid_skene"])
def test_proxies_without_any_label_are_refused_for_that_and_not_for_want_of_people(method):
    frame = votes().frame.filter(pl.col("source") == "proxy")
    lost = frame.with_columns(label=pl.lit(None, pl.String), status=pl.lit("unparsable"))
    with pytest.raises(InputError) as error:
        fuse(Votes.of(lost, taxonomy=LABELS), FuseSettings(method=method))
    assert "human" not in str(error.value)
    assert "--clips" in error.value.fix


def test_proxies_that_are_switched_off_were_tested_over_the_unit_of_the_folds():
    table = votes()
    random = np.random.default_rng(0).choice(LABELS, len(table.frame))
    noise = table.frame.with_columns(
        label=pl.when(pl.col("source") == "human").then("label").otherwise(pl.Series(random))
    )
    fused = fuse(Votes.of(noise, about=table.about), FuseSettings(folds=2))
    said = " ".join(fused.findings.frame.filter(kind="proxies")["message"])
    assert "switched off" in said
    assert "over speakers" not in said


@pytest.mark.parametrize("whole_rows", [1, 10**6])
def test_a_folder_with_none_of_the_recordings_of_the_votes_is_refused_as_a_table_is(whole_rows, tmp_path):
    for name in ("u001", "a"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "x.wav", np.full(800, 0.1), 16_000)
    shares = {
        "utterance_id": ["u001/x"],
        "annotator": "alm",
        "source": "proxy",
        "draw": 0,
        "label": "sad",
        "weight": 1.0,
    }
    Votes.of(pl.DataFrame(shares), taxonomy=LABELS).write(tmp_path / "votes.parquet")
    run = partial(fuse_files, [tmp_path / "votes.parquet"], tmp_path / "l.parquet", FuseSettings(method="pool"))
    assert run(utterances=tmp_path / "u001", whole_rows=whole_rows).labels == 1
    with pytest.raises(InputError, match="none of the 1 utterance with votes is in this table"):
        run(utterances=tmp_path / "a", whole_rows=whole_rows)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"method": "human", "classes": 3, "folds": 4}, "the method human does not use classes and folds"),
        ({"method": "auto", "penalty": 0.1}, "the method auto does not use penalty"),
        ({"method": "dawid_skene", "consensus": True}, "the method dawid_skene does not use consensus"),
        ({"method": "gated", "classes": 3, "penalty": 0.1}, None),
        ({"method": "auto", "folds": 3}, None),
    ],
)
def test_a_setting_that_the_method_does_not_use_is_a_finding(given, named):
    found = fuse(votes(), FuseSettings(**given), quiet=True).findings.frame.filter(kind="setting_not_used")
    assert found["message"].to_list() == ([named] if named else [])


def test_a_merge_that_does_not_sum_to_one_is_refused():
    with pytest.raises(ValidationError, match=r"sum to 1\.1"):
        FuseSettings(merge={"primary": 0.9, "secondary": 0.2})


def test_every_annotator_s_part_in_a_label_can_be_told():
    fused = fuse(votes(), FuseSettings(method="gated", classes=4))
    parts = influence(fused.estimator, votes(), "u007")
    assert parts["annotator"].to_list() == ["c/r0", "c/r1", "c/r2", "model-a"]
    assert parts["votes"].to_list() == [1, 1, 1, 5]
    changes = parts.select("^p_.*$").to_numpy()
    assert np.allclose(changes.sum(1), 0, atol=1e-9)
    assert np.allclose(parts["moved"].to_numpy(), 0.5 * np.abs(changes).sum(1))
    assert (parts.filter(pl.col("source") == "human")["concentration"] < 0).any()


@pytest.mark.parametrize(("method", "leaks"), [("auto", 1), ("chosen", 1), ("gated", 1), ("human", 0)])
def test_proxies_made_from_the_human_votes_are_named(method, leaks):
    table = votes(600)
    copied = table.frame.filter(pl.col("annotator") == "c/r0").with_columns(
        annotator=pl.lit("model-a"), source=pl.lit("proxy")
    )
    human = table.frame.filter(pl.col("source") == "human")
    fused = fuse(Votes.of(pl.concat([human, copied]), taxonomy=LABELS), FuseSettings(method=method, classes=4, folds=2))
    leaking = fused.findings.frame.filter(pl.col("kind") == "proxies_leak")
    assert leaking["where"].to_list() == ["model-a"] * leaks
    assert fused.labels.frame["proxy_votes"].max() == (1 if method == "gated" else 0)


def test_a_copied_annotator_moves_nothing_and_hides_nothing():
    table = votes()
    twin = table.frame.filter(pl.col("annotator") == "model-a").with_columns(annotator=pl.lit("twin"))
    cards = {name: AnnotatorCard(digest=name, model="one/model") for name in ("model-a", "twin")}
    plain = Votes.of(table.frame, taxonomy=table.taxonomy, about=About(annotators=cards))
    more = Votes.of(pl.concat([table.frame, twin]), taxonomy=table.taxonomy, about=About(annotators=cards))
    settings = FuseSettings(method="gated", classes=4)
    once, again = (
        influence(fuse(given, settings).estimator, given, "u007").sort("annotator") for given in (plain, more)
    )
    assert again.filter(pl.col("annotator") == "twin")["moved"].item() == 0
    kept = again.filter(pl.col("annotator") != "twin")
    assert np.allclose(kept.select("moved", "^p_.*$").to_numpy(), once.select("moved", "^p_.*$").to_numpy())


def test_leaving_a_model_s_scorer_out_leaves_its_votes_in():
    """One model both votes and scores: each is a block of its own, whichever of them is there to be read."""
    table = votes()
    scored = table.frame.filter(pl.col("annotator") == "model-a", pl.col("draw") == 0)
    scored = scored.with_columns(annotator=pl.lit("scorer"))
    cards = {
        "model-a": AnnotatorCard(digest="a", model="one/model"),
        "scorer": AnnotatorCard(digest="s", model="one/model", elicit="score"),
    }
    both = Votes.of(pl.concat([table.frame, scored]), taxonomy=table.taxonomy, about=About(annotators=cards))
    fit = fuse(both, FuseSettings(method="gated", classes=4)).estimator
    parts = influence(fit, both, "u007")
    left = parts.filter(pl.col("annotator") == "scorer").select("^p_.*$").to_numpy()[0]
    without = Votes(both.frame.filter(pl.col("annotator") != "scorer"), both.about)
    row = pl.col("utterance_id") == "u007"
    with_it, alone = (Votes(given.frame.filter(row), given.about) for given in (both, without))
    change = fit.predict(alone).distributions()[0] - fit.predict(with_it).distributions()[0]
    assert np.allclose(left, change, atol=1e-12)
    silent = Votes(both.frame.filter(row & (pl.col("source") == "human")), both.about)
    assert not np.allclose(fit.predict(alone).distributions(), fit.predict(silent).distributions(), atol=1e-4)


def test_a_proxy_has_the_name_its_user_gave_it_and_labels_fitted_under_that_of_its_model_stay():
    """`listen --name model-a` writes a card whose model is the recipe; labels fitted before blocks had such names."""
    table = votes(60)
    cards = {"model-a": AnnotatorCard(digest="d", model="features")}
    named = Votes.of(table.frame, taxonomy=table.taxonomy, about=About(annotators=cards))
    fused = fuse(named, FuseSettings(method="weighted"))
    assert [proxy["proxy"] for proxy in fused.labels.about.made_by.fitted["proxies"]] == ["model-a"]
    stacked = fuse(named, FuseSettings(folds=2))
    assert not any("features" in message for message in stacked.findings.frame["message"])
    assert not any("features" in method for method in stacked.trials["method"])
    before = fused.estimator
    before.blocks_ = ("features",)
    assert np.allclose(before.predict(named).distributions(), fused.labels.distributions())
    assert before.predict(named).frame["proxy_votes"].equals(fused.labels.frame["proxy_votes"])


def test_asking_about_an_utterance_without_votes_is_refused():
    fused = fuse(votes(), FuseSettings(method="human"))
    with pytest.raises(AlmProxiesError, match="u999"):
        influence(fused.estimator, votes(), "u999")


def test_importing_the_stage_loads_nothing_heavy():
    loaded = "any(m.split('.')[0] in ('scipy', 'torch') for m in sys.modules)"
    code = f"import sys, alm_proxies.stages.fuse.stage; print({loaded})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("method", ["dawid_skene", "pool", "auto"])
def test_votes_on_utterances_of_another_corpus_are_refused_by_every_method(method):
    others = Utterances.of(pl.DataFrame({"utterance_id": ["another/1", "another/2"], "speaker": ["s1", "s2"]}))
    with pytest.raises(AlmProxiesError, match="none of the 60 utterances with votes is in this table, such as 'u000'"):
        fuse(votes(), FuseSettings(method=method, folds=2), utterances=others)


def test_a_proxy_on_no_utterance_that_people_rated_is_a_warning():
    apart = votes(20).frame.filter(pl.col("source") == "proxy").with_columns(
        utterance_id="other/" + pl.col("utterance_id"), annotator=pl.lit("elsewhere")
    )  # fmt: skip
    both = Votes.of(pl.concat([votes().frame, apart]), taxonomy=LABELS)
    fused = fuse(both, FuseSettings(method="gated", classes=4))
    (row,) = fused.findings.frame.filter(pl.col("kind") == "proxy_apart").iter_rows(named=True)
    assert (row["where"], row["count"], row["severity"]) == ("elsewhere", 20, "warning")
    human, early = pl.col("source") == "human", pl.col("utterance_id") < "u030"
    away = votes().frame.filter(human | early).with_columns(held_out=human & early)
    fused = fuse(Votes.of(away, taxonomy=LABELS), FuseSettings(method="human"))
    assert "proxy_apart" not in fused.findings.counts()
