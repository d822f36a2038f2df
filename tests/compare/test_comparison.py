"""Several predictions on one common test set: against a plain calculation, and what each of them may not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import alm_proxies
from alm_proxies.compare.comparison import FEWEST, Comparison, compare
from alm_proxies.compare.sections import calibration_section, findings_section, held_out_section, roles_of
from alm_proxies.compare.strata import AGREEMENT, AMBIGUITY, LABEL, OUTCOME, strata_table
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.measures.held_out import score_held_out
from alm_proxies.report.charts import Calibration, Dots
from alm_proxies.report.page import Page, Table
from alm_proxies.tables import Finding, Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
ROWS = 300
IDS = [f"c/{row:04d}" for row in range(ROWS)]


def labels_of(shares: np.ndarray, ids: list[str], **columns: object) -> Labels:
    frame = {"utterance_id": ids, **{f"p_{label}": shares[:, k] for k, label in enumerate(LABELS)}, **columns}
    return Labels.of(pl.DataFrame(frame), taxonomy=LABELS)


@pytest.fixture(scope="module")
def world() -> tuple[Votes, Utterances, dict[str, Labels], np.ndarray]:
    random = np.random.default_rng(1)
    truth = random.dirichlet(np.full(3, 0.7), ROWS)
    counts = random.multinomial(random.integers(1, 6, ROWS), truth)
    rows = []
    for place, row in enumerate(counts):
        drawn = np.repeat(np.arange(3), row)
        rows += [(IDS[place], f"c/r{n}", LABELS[k], True) for n, k in enumerate(drawn)]
        rows += [(IDS[place], f"c/f{n}", LABELS[random.choice(3, p=truth[place])], False) for n in range(place % 3)]
    votes = Votes.of(
        pl.DataFrame(rows, schema=["utterance_id", "annotator", "label", "held_out"], orient="row"), taxonomy=LABELS
    )
    utterances = Utterances.of(
        pl.DataFrame(
            {
                "utterance_id": IDS,
                "speaker": [f"c/s{place % 25:02d}" for place in range(ROWS)],
                "gender": ["female" if place % 25 < 12 else "male" for place in range(ROWS)],
                "room": [f"r{place}" for place in range(ROWS)],
            }
        )
    )
    noise = random.dirichlet(np.ones(3), ROWS)
    predictions = {
        "good": labels_of(0.9 * truth + 0.1 * noise, IDS, concentration=10.0),
        "poor": labels_of(0.4 * truth + 0.6 * noise, IDS),
        "flat": labels_of(np.full((ROWS, 3), 1 / 3), IDS),
    }
    return votes, utterances, predictions, counts


@pytest.fixture(scope="module")
def compared(world) -> Comparison:
    votes, utterances, predictions, _ = world
    strata, _ = strata_table(votes, utterances, predictions["poor"])
    return compare(predictions, votes, utterances, baseline="flat", strata=strata)


def losses(labels: Labels, counts: np.ndarray) -> np.ndarray:
    shares = labels.frame.sort("utterance_id").select(f"p_{label}" for label in LABELS).to_numpy()
    return -(counts * np.log(shares)).sum(1)


def test_scores_and_differences_are_those_of_a_plain_calculation(world, compared) -> None:
    _, _, predictions, counts = world
    for name, labels in predictions.items():
        expected = losses(labels, counts).sum() / counts.sum()
        assert compared.of(name).nll.estimate == pytest.approx(expected)
        gain = expected - losses(predictions["flat"], counts).sum() / counts.sum()
        mine = compared.of(name).gain
        assert (mine is None) if name == "flat" else (mine.difference.estimate == pytest.approx(gain))
        assert compared.against("good").get(name, 0.0) == 0.0 or compared.against("good")[name].estimate == (
            pytest.approx(expected - losses(predictions["good"], counts).sum() / counts.sum())
        )
    assert compared.paired("good", "poor").difference.high < 0
    assert compared.paired("good", "poor").p_value < 0.01
    assert compared.paired("good", "good").difference.estimate == 0.0


def test_the_other_direction_is_the_same_difference_with_the_other_sign(compared) -> None:
    for measure in ("nll_per_vote", "jsd_base2", "brier"):
        forward, other = compared.paired("good", "poor", measure), compared.paired("poor", "good", measure)
        assert forward.difference.estimate == pytest.approx(-other.difference.estimate)
        assert forward.difference.low == pytest.approx(-other.difference.high, abs=2e-3)


def test_strata_hold_every_utterance_once_and_small_ones_are_left_out(world, compared) -> None:
    _, utterances, _, _ = world
    assert set(compared.within) == {AGREEMENT, AMBIGUITY, LABEL, OUTCOME, "gender"}
    for values in compared.within.values():
        assert all(score.utterances >= FEWEST for scores in values.values() for score in scores)
    for title, values in compared.within.items():
        shown = sum(scores[0].utterances for scores in values.values())
        assert shown + sum(compared.left_out[title].values()) == ROWS
    assert not compared.left_out[OUTCOME]
    assert not compared.left_out["gender"]
    female = np.array([value == "female" for value in utterances.frame["gender"]])
    assert compared.paired("good", "flat", rows=female) == compared.within["gender"]["female"][0].gain


def test_a_page_names_the_strata_that_are_too_small_and_how_many_utterances_they_have(world) -> None:
    votes, utterances, predictions, _ = world
    size = ["few"] * 5 + ["fewer"] + ["many"] * (ROWS - 6)
    strata = pl.DataFrame({"utterance_id": IDS, "size": size, "half": ["a"] * 100 + ["b"] * (ROWS - 100)})
    compared = compare(predictions, votes, utterances, baseline="flat", strata=strata)
    assert compared.left_out["size"] == {"few": 5, "fewer": 1}
    section = held_out_section(compared, ["size", "half"], lead="")
    (note,) = (block.note for block in section.blocks if isinstance(block, Dots))
    assert note.endswith(
        "Left out, with fewer than 20 utterances: size: few (5 utterances) and size: fewer (1 utterance)."
    )
    (without,) = (
        block.note for block in held_out_section(compared, ["half"], lead="").blocks if isinstance(block, Dots)
    )
    assert "Left out" not in without


def test_a_column_with_many_values_is_a_finding_and_no_stratum(world) -> None:
    votes, utterances, _, _ = world
    table, findings = strata_table(votes, utterances)
    assert table.columns == ["utterance_id", AGREEMENT, "gender"]
    assert [(finding.kind, finding.stage) for finding in findings] == [("many_values", "")]
    fit = votes.frame.filter(~pl.col("held_out")).group_by("utterance_id").len()
    none = table.filter(pl.col(AGREEMENT) == "none")["utterance_id"]
    assert set(none) == set(IDS) - set(fit["utterance_id"])


def test_a_page_says_why_the_human_votes_of_utterances_do_not_agree(world) -> None:
    votes, utterances, predictions, _ = world
    compared = compare(predictions, votes, utterances, baseline="flat", strata=strata_table(votes, utterances)[0])
    assert "none" in compared.within[AGREEMENT]
    (chart, table) = held_out_section(compared, [AGREEMENT], lead="").blocks[1:]
    assert isinstance(chart, Dots)
    assert isinstance(table, Table)
    assert "none, as all are held out" in chart.rows
    assert f"{AGREEMENT}: none, as all are held out" in {row[0] for row in table.rows}


def test_an_utterance_that_one_method_does_not_predict_is_scored_for_none(world) -> None:
    votes, utterances, predictions, counts = world
    some = dict(predictions)
    some["poor"] = labels_of(predictions["poor"].distributions()[50:], IDS[50:])
    some["good"] = labels_of(predictions["good"].distributions()[:250], IDS[:250])
    comparison = compare(some, votes, utterances, baseline="flat")
    assert comparison.test.ids.tolist() == IDS[50:250]
    assert [(finding.kind, finding.where, finding.count) for finding in comparison.findings] == [
        ("no_prediction", "good", 50),
        ("no_prediction", "poor", 50),
    ]
    assert {name: scored.per_utterance.height for name, scored in comparison.held_out.items()} == dict.fromkeys(
        some, 200
    )
    expected = losses(predictions["flat"], counts)[50:250].sum() / counts[50:250].sum()
    assert comparison.of("flat").nll.estimate == pytest.approx(expected)


def test_predictions_without_a_common_utterance_are_refused(world) -> None:
    votes, _, predictions, _ = world
    apart = {"a": labels_of(np.full((10, 3), 1 / 3), IDS[:10]), "b": labels_of(np.full((10, 3), 1 / 3), IDS[10:20])}
    with pytest.raises(InputError, match="prediction of every method"):
        compare(apart, votes, baseline="a")
    with pytest.raises(SettingsError, match="there is no prediction 'else'"):
        compare(predictions, votes, baseline="else")


def test_votes_of_the_fit_and_the_order_of_the_predictions_change_no_score(world, compared) -> None:
    votes, utterances, predictions, _ = world
    held = Votes(votes.frame.filter("held_out"), votes.about)
    backwards = dict(reversed(predictions.items()))
    strata, _ = strata_table(votes, utterances, predictions["poor"])
    other = compare(backwards, held, utterances, baseline="flat", strata=strata)
    assert {score.method: score for score in other.overall} == {score.method: score for score in compared.overall}
    for name in predictions:
        alone = score_held_out(predictions[name], held, utterances, before=predictions["flat"])
        assert alone.scores.equals(compared.held_out[name].scores)


def test_importance_weights_scores_as_repeated_utterances_would(world) -> None:
    votes, utterances, predictions, counts = world
    weight = np.where(np.arange(ROWS) % 2, 2.0, 0.0)
    importance = labels_of(np.full((ROWS, 3), 1 / 3), IDS, weight=weight)
    weighted = compare(predictions, votes, utterances, baseline="flat", importance=importance)
    expected = (weight * losses(predictions["good"], counts)).sum() / (weight * counts.sum(1)).sum()
    assert weighted.of("good").nll.estimate == pytest.approx(expected)
    assert weighted.held_out["good"].score("nll_per_vote") == pytest.approx(expected)
    assert weighted.held_out["good"].score("jsd_base2") == pytest.approx(weighted.of("good").jsd.estimate)


def test_every_method_has_its_own_colour() -> None:
    names = ["fused labels", "wavlm", "whisper", "human votes alone"]
    roles = roles_of(names)
    assert (roles["fused labels"], roles["human votes alone"]) == ("fused", "human-only")
    assert len(set(roles.values())) == len(names)


def test_the_sections_name_the_baseline_and_make_a_page(compared, tmp_path) -> None:
    section = held_out_section(compared, [AMBIGUITY, OUTCOME], lead="Every model is scored on the same votes.")
    tables = [block for block in section.blocks if isinstance(block, Table)]
    assert [row[0] for row in tables[0].rows] == ["good", "poor", "flat"]
    assert "Minus flat" in [column.name for column in tables[0].columns]
    trusted = calibration_section(compared, ["good", "poor"], noun="prediction")
    assert [type(block) for block in trusted.blocks] == [Calibration, Calibration]
    assert findings_section([]) is None
    of_findings = findings_section(
        [Finding.of("held_out", "a", count=3), Finding.of("stopped", "b"), Finding.of("no_votes", "c")]
    )
    assert of_findings is not None
    (table,) = (block for block in of_findings.blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows] == ["problem", "warning", "info"]
    Page("Report", "H", "S", (), (section, trusted), {}).write(tmp_path / "page.html")
    assert "log loss minus that of flat" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_nothing_that_compares_knows_the_name_of_a_stage() -> None:
    package = Path(alm_proxies.__file__).parent
    stages = [folder.name for folder in (package / "stages").iterdir() if (folder / "__init__.py").is_file()]
    assert len(stages) >= 6
    for path in (package / "compare").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert [name for name in stages if f'"{name}"' in text or f"stages.{name}" in text] == [], path.name
