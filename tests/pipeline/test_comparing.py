"""Runs are compared on the same held-out votes, by command and at the end of a [vary]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest

from alm_proxies.cli.app import run as command
from alm_proxies.errors import InputError
from alm_proxies.pipeline.comparing import ComparedRun, compare_runs, runs_in
from alm_proxies.pipeline.run import run
from alm_proxies.pipeline.schema import metrics_schema
from alm_proxies.stages.evaluate.page import PAIRS
from alm_proxies.stages.evaluate.stage import EvaluateSettings, evaluate
from alm_proxies.tables import Labels, Utterances, Votes

VARIED = """
taxonomy = "angry,happy,neutral,sad"
seed = 1
folder = "out"
[simulate]
utterances = 120
dense = 8
[hold_out]
keep = 3
[fuse]
method = "human"
[vary]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("varied")
    methods = '"fuse.method" = ["human", "dirichlet", "dawid_skene"]\n'
    (place / "pipeline.toml").write_text(VARIED + methods, encoding="utf-8")
    ran = run(place / "pipeline.toml", quiet=True)
    assert ran.pages[-1] == place / "out" / "compare.html"
    return place / "out"


def test_the_end_of_a_vary_pairs_every_run_on_the_same_votes(folder: Path) -> None:
    metrics = json.loads((folder / "compare.metrics.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(metrics_schema()).validate(metrics)
    (compared,) = metrics["sets"]
    names = ["fuse.method human", "fuse.method dirichlet", "fuse.method dawid_skene"]
    assert list(compared["methods"]) == ["class shares", *names]
    runs = {run.name: run for run in runs_in(folder)}
    labels = {name: Labels.read(runs[name].labels) for name in names}
    votes, people = Votes.read(runs[names[0]].votes[0]), Utterances.read(runs[names[0]].utterances[0])
    direct = evaluate(labels, votes, people, EvaluateSettings(baseline=names[0])).metrics
    assert json.loads(json.dumps(direct["methods"])) == compared["methods"]
    page = (folder / "compare.html").read_text(encoding="utf-8")
    assert "Runs side by side" in page
    assert all(name in page for name in names)


def test_runs_of_several_taxonomies_are_paired_within_each(tmp_path: Path) -> None:
    words = ("angry", "happy", "sad")
    answers = [
        f"u{clip},s{clip % 4},r{rater},{words[(clip + rater // 3) % 3]}" for clip in range(12) for rater in range(5)
    ]
    (tmp_path / "votes.csv").write_text("\n".join(["id,who,rater,label", *answers]))
    (tmp_path / "pipeline.toml").write_text(
        """
folder = "out"
[[read]]
format = "table"
corpus = "mine"
source = "votes.csv"
columns = { utterance_id = "id", speaker = "who", annotator = "rater", label = "label" }
[hold_out]
keep = 2
[fuse]
[vary]
taxonomy = ["angry,happy,sad", "angry,happy,sad,surprise"]
"fuse.method" = ["human", "dirichlet"]
"""
    )
    run(tmp_path / "pipeline.toml", quiet=True)
    sets = json.loads((tmp_path / "out" / "compare.metrics.json").read_text())["sets"]
    assert [(len(each["labels"]), each["held_out_votes"], len(each["methods"])) for each in sets] == [
        (3, 36, 3),
        (4, 36, 3),
    ]


def rows_of_pairs(folder: Path) -> list[tuple[Any, ...]]:
    compared = compare_runs(runs_in(folder))
    table = compared.page.sections[0].blocks[1]
    return list(table.rows)  # type: ignore[union-attr]


def test_only_significant_differences_are_marked_and_for_the_run_with_the_lower_loss(folder: Path) -> None:
    rows = rows_of_pairs(folder)
    assert len(rows) == 3
    by_pair = {(row[0], row[1]): row for row in rows}
    human, skene = by_pair["fuse.method human", "fuse.method dawid_skene"], None
    assert human[2].high < 0
    assert human[4] == "fuse.method human"
    assert skene is None
    for row in rows:
        if row[3] >= 0.05:
            assert row[4] is None
        if row[4] is not None:
            assert row[4] == (row[0] if row[2].estimate < 0 else row[1])


def test_where_speakers_are_too_few_for_a_small_p_value_no_verdict_is_given(folder: Path, tmp_path: Path) -> None:
    first, second = runs_in(folder)[:2]
    people = Utterances.read(first.utterances[0])
    for speakers, enough in ((5, False), (6, True)):
        few = people.frame.with_columns(speaker="c/s" + (pl.int_range(pl.len()) % speakers).cast(pl.String))
        Utterances(few, people.about).write(tmp_path / "people.parquet")
        given = [str(first.labels), str(second.labels), "--votes", str(first.votes[0])]
        given += ["--utterances", str(tmp_path / "people.parquet"), "-o", str(tmp_path / f"page{speakers}.html")]
        assert command(["compare", *given, "--quiet"]) == 0
        page = (tmp_path / f"page{speakers}.html").read_text(encoding="utf-8")
        assert ("too few speakers to judge which runs differ in log loss" in page) is not enough
        assert ("With 5 speakers no difference can be significant: it takes 6." in page) is not enough


def test_the_command_compares_label_files_and_a_run_with_itself_differs_nowhere(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_in(folder)
    for name in ("one", "same"):
        (tmp_path / f"{name}.parquet").write_bytes(runs[0].labels.read_bytes())
    given = ["--votes", str(runs[0].votes[0]), "--utterances", str(runs[0].utterances[0])]
    files = [str(tmp_path / "one.parquet"), str(tmp_path / "same.parquet")]
    assert command(["compare", *files, *given, "-o", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "0 of 1 pairs of runs differ significantly" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "page.metrics.json").read_text(encoding="utf-8"))
    assert metrics["sets"][0]["methods"]["same"]["less_baseline"]["value"] == 0.0
    assert command(["compare", *files, "-o", str(tmp_path / "other.html")]) == 2
    assert "Name its votes and utterances: --votes VOTES --utterances UTTERANCES." in capsys.readouterr().err
    assert command(["compare", *files, *given[:2], "-o", str(tmp_path / "other.html")]) == 2
    assert "Name its utterances: --utterances UTTERANCES." in capsys.readouterr().err
    assert command(["compare", *files, "--votes", "nowhere", *given[2:], "-o", str(tmp_path / "other.html")]) == 2
    assert "nowhere: there is no such file" in capsys.readouterr().err
    assert command(["compare", files[0], *given, "-o", str(tmp_path / "other.html")]) == 2
    assert command(["compare", files[0], files[0], *given, "-o", str(tmp_path / "other.html")]) == 2


def test_folders_stand_for_the_files_in_them_and_a_run_that_is_not_paired_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = runs_in(folder)[0]
    for name in ("one", "same"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.parquet").write_bytes(first.labels.read_bytes())
    other = VARIED.replace("120", "12").replace("seed = 1", "seed = 2").replace("[vary]", "")
    (tmp_path / "other.toml").write_text(other, encoding="utf-8")
    run(tmp_path / "other.toml", folder=tmp_path / "other", quiet=True)
    given = ["--votes", str(first.votes[0].parent), "--utterances", str(first.utterances[0].parent)]
    runs = [str(tmp_path / name) for name in ("one", "same", "other")]
    capsys.readouterr()
    assert command(["compare", *runs, *given, "-o", str(tmp_path / "page.html"), "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["not_paired"] == ["other"]
    assert result["findings"]["run_not_paired"] == 1
    assert "no other run has the held-out votes of other in its taxonomy" in err
    assert command(["compare", *runs, *given, "-o", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "(1 of the runs left out)" in capsys.readouterr().out


def test_runs_with_other_held_out_votes_are_sets_of_their_own(tmp_path: Path) -> None:
    varied = '"simulate.seed" = [1, 2]\n"fuse.method" = ["human", "dirichlet"]\n'
    (tmp_path / "pipeline.toml").write_text(VARIED.replace("120", "24") + varied, encoding="utf-8")
    run(tmp_path / "pipeline.toml", quiet=True)
    compared = compare_runs(runs_in(tmp_path / "out"))
    assert len(compared.evaluations) == 2
    titles = [section.title for section in compared.page.sections]
    assert titles == ["Set 1: runs side by side", "Set 2: runs side by side"]
    with pytest.raises(InputError, match="no two runs have the same held-out votes"):
        compare_runs([each_run for each_run in runs_in(tmp_path / "out") if each_run.name.endswith("human")])


def test_votes_without_any_held_out_end_in_a_sentence_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        VARIED.replace("120", "12").replace("[hold_out]\nkeep = 3\n", "").replace("dense = 8\n", "")
        + '"fuse.method" = ["human", "dirichlet"]\n'
    )
    (tmp_path / "pipeline.toml").write_text(text, encoding="utf-8")
    ran = run(tmp_path / "pipeline.toml", quiet=True)
    assert not any(page.name == "compare.html" for page in ran.pages)
    assert "no vote is held out" in capsys.readouterr().err
    assert pl.read_parquet(runs_in(tmp_path / "out")[0].labels).height == 12


def test_a_file_that_does_not_exist_and_a_folder_without_a_run_are_two_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.parquet: there is no such file or folder\. Give the folder"):
        runs_in(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="holds no run"):
        runs_in(tmp_path)


def test_pairs_are_shown_once_with_the_verdict_over_all_of_them(folder: Path) -> None:
    titles = [section.title for section in compare_runs(runs_in(folder)).page.sections]
    assert titles[0] == "Runs side by side"
    assert PAIRS not in titles


@pytest.mark.parametrize("first", ["sure", "plain"])
def test_a_run_of_infinite_loss_is_compared_as_one(folder: Path, tmp_path: Path, first: str) -> None:
    plain = runs_in(folder)[0]
    labels = Labels.read(plain.labels)
    shares = labels.frame.select([f"p_{label}" for label in labels.taxonomy]).to_numpy()
    sure = (shares == shares.max(1, keepdims=True)).astype(float)
    sure /= sure.sum(1, keepdims=True)
    columns = {f"p_{label}": sure[:, place] for place, label in enumerate(labels.taxonomy)}
    frame = labels.frame.select("utterance_id").with_columns(**{name: pl.Series(col) for name, col in columns.items()})
    Labels.of(frame, taxonomy=labels.taxonomy).write(tmp_path / "sure.parquet")
    runs = [
        ComparedRun("plain", plain.labels, plain.votes, plain.utterances),
        ComparedRun("sure", tmp_path / "sure.parquet", plain.votes, plain.utterances),
    ]
    compared = compare_runs(sorted(runs, key=lambda run: run.name != first))
    assert compared.page.headline.endswith("plain has the lowest")
    (row,) = compared.page.sections[0].blocks[1].rows  # type: ignore[union-attr]
    assert row[2] is None
    assert row[4] is None
