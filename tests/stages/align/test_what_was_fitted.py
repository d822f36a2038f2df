"""What was fitted: in the labels' metadata, in the metrics and on the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.about import AnnotatorCard, Measured
from alm_proxies.cli.app import run as command
from alm_proxies.compare.rivals import POOL, WEIGHTED
from alm_proxies.estimators.account import ADDS_NOTHING
from alm_proxies.stages.align.stage import Alignment, AlignSettings, align
from alm_proxies.stages.fuse.stage import Fused, FuseSettings, fuse
from alm_proxies.tables import Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
QUICK = AlignSettings(examples=2)


@pytest.fixture(scope="module")
def corpus() -> tuple[Votes, Utterances]:
    """160 utterances of twenty speakers: three votes to fit, three held out, a good proxy and a shuffled one."""
    random = np.random.default_rng(3)
    truth = random.dirichlet(np.full(3, 0.5), 160)
    rows = []
    for number, share in enumerate(truth):
        sources = (
            ("crowd", 6, share),
            ("good", 6, 0.8 * share + 0.2 / 3),
            ("other/wrong", 6, truth[(number * 7) % 160]),
        )
        for annotator, count, shares in sources:
            human = annotator == "crowd"
            for draw, label in enumerate(random.choice(3, count, p=shares / shares.sum())):
                source = "human" if human else "proxy"
                rows.append((f"u{number:03}", annotator, source, draw, LABELS[label], human and draw >= 3))
    names = ["utterance_id", "annotator", "source", "draw", "label", "held_out"]
    people = pl.DataFrame(
        {"utterance_id": [f"u{n:03}" for n in range(160)], "speaker": [f"s{n % 20}" for n in range(160)]}
    )
    votes = Votes.of(pl.DataFrame(rows, schema=names, orient="row"), taxonomy=LABELS)
    return votes, Utterances.of(people)


@pytest.fixture(scope="module")
def fused(corpus: tuple[Votes, Utterances]) -> Fused:
    return fuse(corpus[0], utterances=corpus[1], quiet=True)


@pytest.fixture(scope="module")
def report(corpus: tuple[Votes, Utterances], fused: Fused) -> Alignment:
    return align(fused.labels, *corpus, QUICK)


def test_the_labels_say_the_stack_with_weights_classes_and_penalties(fused: Fused, tmp_path: Path) -> None:
    fused.labels.write(tmp_path / "labels.parquet")
    maker = Labels.read(tmp_path / "labels.parquet").about.made_by
    assert maker is not None
    levels: list[dict[str, object]] = maker.fitted["levels"]  # type: ignore[assignment]
    assert sum(level["share"] for level in levels) == pytest.approx(1.0)  # type: ignore[misc]
    for level in levels:
        methods: list[dict[str, object]] = level["methods"]  # type: ignore[assignment]
        assert sum(method["weight"] for method in methods) == pytest.approx(1.0)  # type: ignore[misc]
    gated = [m for level in levels for m in level["methods"] if m["method"] == "gated"]  # type: ignore[attr-defined]
    assert [(member["classes"], member["penalty"]) for member in gated[-1]["members"]] == [(8, 0.01), (16, 0.01)]
    # what auto does not take is not stated as if it had been used
    assert "classes" not in maker.settings
    assert "penalty" not in maker.settings


def test_a_method_with_classes_states_its_own(corpus: tuple[Votes, Utterances]) -> None:
    fused_alone = fuse(
        corpus[0], FuseSettings(method="gated", classes=4, penalty=0.01), utterances=corpus[1], quiet=True
    )
    maker = fused_alone.labels.about.made_by
    assert maker is not None
    assert (maker.fitted["classes"], maker.fitted["penalty"]) == (4, 0.01)
    assert maker.settings["classes"] == 4


def test_which_proxies_count_what_each_adds_and_why_others_do_not(fused: Fused, report: Alignment) -> None:
    proxies = report.metrics["proxies"]
    assert list(proxies) == ["good", "other/wrong"]
    assert proxies["good"]["counts"]
    assert proxies["good"]["lowers_log_loss_by"]["value"] > 0
    assert not proxies["other/wrong"]["counts"]
    assert proxies["other/wrong"]["why"] == "does not add to the others"
    row = fused.trials.filter(pl.col("method") == "loglinear less good")
    assert proxies["good"]["lowers_log_loss_by"]["value"] == pytest.approx(row["against_no_proxies"][0])
    maker = fused.labels.about.made_by
    assert maker is not None
    assert report.metrics["fitted"] == maker.fitted


def test_dropped_proxies_stand_apart_and_the_others_are_described_without_them(
    corpus: tuple[Votes, Utterances], report: Alignment
) -> None:
    sections = {section.title: section for section in report.page.sections}
    assert f"other/wrong ({ADDS_NOTHING})" in sections["Proxies that do not count"].lead
    votes, utterances = corpus
    without = Votes.of(votes.frame.filter(pl.col("annotator") != "other/wrong"), about=votes.about)
    alone = align(
        fuse(without, FuseSettings(method="gated"), utterances=utterances, quiet=True).labels,
        without,
        utterances,
        QUICK,
    )
    assert report.metrics["confusion_human_by_proxy"] == alone.metrics["confusion_human_by_proxy"]
    # the methods beside the labels are fitted to all votes, and the section says so
    nll = {
        name: {score["method"]: score["nll_per_vote"]["value"] for score in each.metrics["scores"]["overall"]}
        for name, each in (("both", report), ("one", alone))
    }
    for method in (WEIGHTED, POOL):
        assert nll["both"][method] != nll["one"][method]
        assert method in sections["Proxies that do not count"].lead
    assert report.metrics["proxy_votes"] == 960
    html = report.page.html()
    assert "16 classes, penalty 0.01" in html
    assert "How to cite" in sections
    assert "Yao, Vehtari, Simpson and Gelman 2018" in html
    assert "logarithms of base 2: the divergence, not its root" in html


def test_a_proxy_that_counts_has_no_reason_of_too_few_utterances(report: Alignment) -> None:
    stated = report.metrics["fitted"]["proxies"]
    assert [proxy["why"] for proxy in stated if proxy["counts"]] == [None]
    assert report.metrics["reasons"]["fitted/proxies/*/why"] == "it counts"
    assert not [place for place, why in report.metrics["reasons"].items() if "/why" in place and "too few" in why]


def test_the_command_writes_trials_and_findings_beside_the_labels(
    corpus: tuple[Votes, Utterances], tmp_path: Path
) -> None:
    corpus[0].write(tmp_path / "votes.parquet")
    corpus[1].write(tmp_path / "people.parquet")
    given = ["fuse", str(tmp_path / "votes.parquet"), "--utterances", str(tmp_path / "people.parquet"), "--quiet"]
    assert command([*given, "-o", str(tmp_path / "labels.parquet")]) == 0
    trials = pl.read_parquet(tmp_path / "labels.trials.parquet")
    assert {"stack", "gated", "loglinear less good"} <= set(trials["method"])
    assert (tmp_path / "labels.findings.parquet").is_file()


def test_align_and_evaluate_score_strength_ambiguity_and_thirds_alike(
    corpus: tuple[Votes, Utterances], fused: Fused, report: Alignment
) -> None:
    from alm_proxies.stages.evaluate.stage import evaluate

    other = evaluate({"labels": fused.labels}, *corpus).metrics
    mine, theirs = report.metrics["recovered"]["fused labels"], other["methods"]["labels"]
    assert mine["dirichlet_multinomial_nll"]["value"] == theirs["dirichlet_multinomial_nll"]["value"]
    assert mine["ambiguity"]["rank_correlation"]["value"] == theirs["ambiguity"]["rank_correlation"]["value"]
    assert mine["ambiguity"]["utterances"] == theirs["ambiguity"]["utterances"] == 160
    cut = "votes of the fit"
    for third, methods in other["within_thirds_by_what_cuts"][cut].items():
        again = report.metrics["within_thirds_by_what_cuts"][cut][third]["fused labels"]
        assert again["nll_per_vote"]["value"] == methods["labels"]["nll_per_vote"]["value"]


def test_groups_are_judged_with_intervals_and_those_of_few_speakers_are_shown_alone(
    corpus: tuple[Votes, Utterances], fused: Fused
) -> None:
    votes, utterances = corpus
    speaker = pl.col("speaker").str.slice(1).cast(pl.Int64)
    people = utterances.frame.with_columns(
        gender=pl.when(speaker < 10).then(pl.lit("female")).otherwise(pl.lit("male")),
        place=pl.when(speaker < 5).then(pl.lit("few")).otherwise(pl.lit("many")),
    )
    aligned = align(fused.labels, votes, Utterances.of(people), QUICK)
    section = next(section_shown for section_shown in aligned.page.sections if section_shown.title == "By group")
    table = next(block for block in section.blocks if getattr(block, "caption", "").startswith("Fused labels by group"))
    rows = {row[0]: row for row in table.rows}  # type: ignore[union-attr]
    assert rows["place: few"][2] == 5
    assert rows["place: few"][6] == "not judged: 5 speakers"
    assert rows["gender: female"][2] == 10
    for name in ("gender: female", "gender: male", "place: many"):
        change = rows[name][5]
        better = "better than human votes alone" if change.high < 0 else "no significant difference"
        assert rows[name][6] == better
    assert rows["gender: female"][3].low < rows["gender: female"][3].estimate < rows["gender: female"][3].high


def test_utterances_of_unknown_speakers_are_no_speakers_of_a_group(
    corpus: tuple[Votes, Utterances], fused: Fused
) -> None:
    votes, utterances = corpus
    speaker = pl.col("speaker").str.slice(1).cast(pl.Int64)
    people = utterances.frame.with_columns(
        place=pl.when(speaker < 10).then(pl.lit("here")).otherwise(pl.lit("there")),
        speaker=pl.when((speaker < 7) | (speaker > 10)).then("speaker"),
    )
    aligned = align(fused.labels, votes, Utterances.of(people), QUICK)
    section = next(section for section in aligned.page.sections if section.title == "By group")
    table = next(block for block in section.blocks if getattr(block, "caption", "").startswith("Fused labels by group"))
    rows = {row[0]: row for row in table.rows}  # type: ignore[union-attr]
    assert rows["place: here"][1:4] == (80, 7, 24)
    assert rows["place: here"][7] == "not judged: 7 speakers (24 of the utterances are of unknown speakers)"
    assert rows["place: there"][1:4] == (80, 9, 8)
    assert "not judged" not in rows["place: there"][7]


def test_what_a_proxy_takes_off_class_shares_is_as_counted_by_hand(
    corpus: tuple[Votes, Utterances], report: Alignment
) -> None:
    votes = corpus[0].frame.join(corpus[1].frame.select("utterance_id", "speaker"), on="utterance_id")
    human, good = votes.filter(source="human"), votes.filter(annotator="good")
    losses, of_shares = [], []
    for clip, own in human.group_by("utterance_id"):
        others = human.filter(pl.col("speaker") != own["speaker"][0])["label"].to_list()
        prior = np.array([others.count(label) + 1 for label in LABELS]) / (len(others) + 3)
        cast = good.filter(utterance_id=clip[0])["label"].to_list()
        shares = (np.array([cast.count(label) for label in LABELS]) + prior) / (len(cast) + 1)
        places = [LABELS.index(label) for label in own["label"]]
        of_shares.append(-np.log(prior[places]).sum())
        losses.append(-np.log(shares[places]).sum())
    figures = report.metrics["proxies"]["good"]
    assert figures["takes_off_class_shares"]["value"] == pytest.approx(1 - sum(losses) / sum(of_shares), abs=1e-9)
    assert figures["took_off_where_measured"] is None
    assert "does not state it" in report.metrics["reasons"]["proxies/good/took_off_where_measured"]
    for name, curve in report.metrics["saturation"].items():
        reason = report.metrics["reasons"].get(f"saturation/{name}/saturated_at", "")
        assert reason.startswith("no curve was fitted: it ") == (curve["fit"] is None)
        few = len(curve["at"])
        assert few > 3 or f"it has {few} point" in reason
    assert report.metrics["proxies"]["other/wrong"]["takes_off_class_shares"]["value"] < 0


@pytest.mark.parametrize(("nll", "unlike"), [(0.4, 1), (0.97, 0)])
def test_a_proxy_that_is_worse_here_than_where_it_was_measured_is_a_finding(
    corpus: tuple[Votes, Utterances], fused: Fused, nll: float, unlike: int
) -> None:
    measured = Measured(corpus="elsewhere", nll_per_vote=nll, class_shares_nll_per_vote=1.0)
    about = corpus[0].about.with_(annotators={"good": AnnotatorCard(digest="1", measured=measured)})
    votes = Votes(corpus[0].frame.filter(~pl.col("held_out")), about)  # nothing is scored, which takes most of the time
    findings = align(fused.labels, votes, corpus[1], QUICK).findings.frame
    unlike_measured = findings.filter(pl.col("kind") == "proxy_unlike_measured")
    assert unlike_measured["where"].to_list() == ["good"] * unlike
