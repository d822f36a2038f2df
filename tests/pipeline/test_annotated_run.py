"""A pipeline with proxies that answer from the simulated truth, from synthetic speech to the report."""

import json
import shutil
from pathlib import Path

import pytest
from scripted_annotators import IDEAL

from alm_proxies.cli.app import run as command
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.explain import explain
from alm_proxies.pipeline.places import MOVED
from alm_proxies.pipeline.run import run
from alm_proxies.tables import Labels, Votes

FILE = """\
taxonomy = "crema6"
seed = 2
folder = "{folder}/out"
[simulate]
utterances = 40
dense = 6
[annotate]
panel = ["ideal.toml"]
[fuse]
method = "gated"
classes = 4
[align]
examples = 2
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotated")
    (folder / "ideal.toml").write_text(IDEAL.format(folder=folder / "out"))
    path = folder / "sim.toml"
    path.write_text(FILE.format(folder=folder))
    run(path, quiet=True)
    return path


def test_every_planned_vote_is_there_and_reaches_the_labels(file: Path) -> None:
    out = file.parent / "out"
    votes = Votes.read(out / "annotate" / "votes.parquet")
    assert len(votes) == 160
    assert set(votes.frame["status"]) == {"ok"}
    labels = Labels.read(out / "fuse" / "labels.parquet")
    assert labels.frame["proxy_votes"].to_list() == [4.0] * 40
    metrics = json.loads((out / "align" / "metrics.json").read_text())
    injected = metrics["injected_transcripts"]["ideal"]
    assert injected["told_transcripts"]
    assert (injected["measured"]["utterances"], injected["measured"]["share"]) == (4, 0.0)
    assert run(file, quiet=True).skipped == 5


def test_a_changed_table_of_answers_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "said.toml").write_text(
        'name = "said"\nengine = "scripted"\nmodel = "table"\nprompt = "listener"\nvotes = 1\nanswer = "words"\n'
        'serve = { answers = "said.csv" }\n'
    )
    path = tmp_path / "sim.toml"
    path.write_text(FILE.format(folder=tmp_path).partition("[fuse]")[0].replace("ideal", "said"))
    run_of_simulate = 'taxonomy = "crema6"\nseed = 2\nfolder = "out"\n[simulate]\nutterances = 40\ndense = 6\n'
    (tmp_path / "spoken.toml").write_text(run_of_simulate)
    run(tmp_path / "spoken.toml", quiet=True)
    ids = Votes.read(tmp_path / "out/simulate/votes.parquet").frame["utterance_id"].unique()
    heard = []
    for text in ("happy", "happy", "sad"):
        lines = [f"{utterance_id},{text}" for utterance_id in ids]
        (tmp_path / "said.csv").write_text("\n".join(["utterance_id,text", *lines]) + "\n")
        ran = run(path, quiet=True)
        heard.append((ran.skipped, set(Votes.read(tmp_path / "out/annotate/votes.parquet").frame["label"])))
    assert heard == [(2, {"happy"}), (3, {"happy"}), (2, {"sad"})]


def test_more_votes_of_one_source_are_fused_in_every_run_of_vary(tmp_path: Path) -> None:
    """The votes of a run of [vary] lie in folders of one name: only the last of them counted as an input of fuse."""
    path = tmp_path / "sim.toml"
    annotator = tmp_path / "ideal.toml"
    annotator.write_text(IDEAL.format(folder=tmp_path / "out").replace("/simulate/", "/simulate/seed=1/"))
    stages = FILE.format(folder=tmp_path).partition("[fuse]")[0]
    listen = "[listen]\nfolds = 3\nhead = { hidden = 8, epochs = 3, seeds = 1, batch = 16, components = 8 }\n"
    path.write_text(stages + listen + '[fuse]\nmethod = "pool"\n[vary]\nseed = [1]\n')
    fused = run(path, quiet=True).folder / "fuse" / "seed=1" / "labels.parquet"
    assert Labels.read(fused).frame["proxy_votes"].mean() == 5  # four of the annotator, one of the listener
    annotator.write_text(annotator.read_text().replace("votes = 4", "votes = 8"))
    again = {record.stage: record.skipped for record in run(path, quiet=True).records}
    assert again == {"simulate": True, "read": True, "annotate": False, "listen": True, "fuse": False}
    assert Labels.read(fused).frame["proxy_votes"].mean() == 9


def test_a_label_is_traced_to_replies_prompts_cells_and_models(file: Path) -> None:
    explained = explain(file.parent / "out", "sim/000001")
    proxies = [vote for vote in explained.votes if vote["source"] == "proxy"]
    assert [vote["cell"] for vote in proxies] == [0, 1, 2, 3]
    assert all(vote["raw"] == vote["label"] and vote["price"] > 0 and vote["request"] for vote in proxies)
    assert len(explained.prompts) == 4
    assert {prompt["model"] for prompt in explained.prompts} == {"truth"}
    assert explained.utterance["transcript"].split()[0].strip(",.") in explained.prompts[0]["text"]
    assert any(row["annotator"] == "ideal" for row in explained.influence)
    assert "prompt of ideal (truth), cell 0" in "\n".join(explained.lines())


def test_check_says_what_an_injected_transcript_does(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = check(file, ask=5)
    assert not checked.problems
    assert checked.planned_votes == 160
    (sentence,) = [fact for fact in checked.facts if "an injected" in fact and fact.startswith("annotate: ideal: an")]
    assert "turns 0% (0% to " in sentence
    assert "(5 utterances); asking cost " in sentence
    (before,) = [fact for fact in check(file).facts if "that an injected" in fact]
    assert before.startswith("annotate: ideal: the previous run measured that an injected")
    assert "(4 utterances)" in before
    assert command(["check", str(file), "--ask", "2"]) == 0
    assert "an injected" in capsys.readouterr().err


def test_check_asks_for_no_more_than_is_left_of_the_budget(file: Path) -> None:
    paid = check(file).paid
    bounded = file.with_name("bounded.toml")
    for more, asks in ((0.0, False), (100.0, True)):
        bounded.write_text(file.read_text().replace("[fuse]", f"budget = {paid + more}\n[fuse]"))
        facts = "\n".join(check(bounded, ask=5).facts)
        assert ("asking cost " in facts) == asks


def test_check_prices_the_injection_of_an_annotator_that_has_changed_anew(file: Path, tmp_path: Path) -> None:
    shutil.copytree(file.parent, tmp_path / "again")
    here, annotator = tmp_path / "again" / "sim.toml", tmp_path / "again" / "ideal.toml"
    here.write_text(file.read_text().replace(str(file.parent), str(here.parent)))
    assert check(here).expected_price == 0.0
    annotator.write_text(annotator.read_text().replace("0.7", "0.8"))
    checked = check(here)
    votes = checked.foreseen["annotate"].data["ideal"]["price"]
    assert checked.expected_price / votes == pytest.approx(1.2, abs=0.1)  # 4 of 40 utterances twice more


def test_what_injection_will_cost_is_in_the_price_that_check_says(file: Path, tmp_path: Path) -> None:
    rows = [f"u{number},r,happy,u{number}.wav,Well." for number in range(20)]
    for number in range(20):
        (tmp_path / f"u{number}.wav").touch()
    (tmp_path / "votes.csv").write_text("\n".join(["utterance_id,annotator,label,audio,transcript", *rows]))
    text = f"""
taxonomy = "crema6"
folder = "{tmp_path}/out"
[[read]]
corpus = "mine"
format = "table"
source = "{tmp_path}/votes.csv"
[annotate]
panel = ["{file.parent}/ideal.toml"]
"""
    sentence = "annotate: ideal: {} utterances twice more, to measure the effect of an injected transcript"
    price = {}
    for injection in (None, 0, 5):
        path = tmp_path / "mine.toml"
        path.write_text(text + (f"injection = {injection}" if injection is not None else ""))
        checked = check(path)
        price[injection] = checked.expected_price
        assert (sentence.format({None: 2, 0: 0, 5: 5}[injection]) in checked.facts) == (injection != 0)
    assert price[0] > 0
    assert price[None] == pytest.approx(1.2 * price[0])
    assert price[5] == pytest.approx(1.5 * price[0])


def test_a_budget_that_is_reached_leaves_the_run_to_be_gone_on_with(file: Path) -> None:
    stages = file.read_text().partition("[align]")[0]
    text = stages.replace('panel = ["ideal.toml"]', 'panel = ["ideal.toml"]\nbudget = 0.5')
    poor = file.with_name("poor.toml")
    poor.write_text(text)
    code = command(["run", str(poor), "--folder", str(file.parent / "poor"), "--quiet"])
    assert code == 1
    first = json.loads((file.parent / "poor" / "annotate" / "stage.json").read_text())
    assert first["complete"] is False
    assert 0 < first["counts"]["price"] <= 0.5
    poor.write_text(text.replace("budget = 0.5", "budget = 500.0"))
    assert command(["run", str(poor), "--folder", str(file.parent / "poor"), "--quiet"]) == 0
    votes = Votes.read(file.parent / "poor" / "annotate" / "votes.parquet")
    assert set(votes.frame["status"]) == {"ok"}


def test_check_says_which_stages_would_be_skipped_and_why_the_first_would_run(file: Path) -> None:
    facts = "\n".join(check(file).facts)
    assert facts.count("unchanged, will be skipped") == 5
    changed = file.with_name("changed.toml")
    changed.write_text(file.read_text().replace("classes = 4", "classes = 3"))
    facts = "\n".join(check(changed).facts)
    assert "annotate: unchanged, will be skipped" in facts
    assert "fuse: runs again because classes has changed (4 -> 3), and so does what comes after it" in facts


def test_votes_raised_in_an_annotator_file_are_asked_for_by_the_next_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(file.parent, tmp_path / "again")
    here, annotator = tmp_path / "again" / "sim.toml", tmp_path / "again" / "ideal.toml"
    here.write_text(file.read_text().replace(str(file.parent), str(here.parent)))
    moved = run(here, quiet=True)
    assert moved.skipped == 4
    assert {record.because for record in moved.records if record.stage == "read"} == {MOVED}
    annotator.write_text(annotator.read_text().replace("votes = 4", "votes = 6"))
    because = "runs again because the number of votes of ideal has changed"
    assert any(fact.startswith(f"annotate: {because}") for fact in check(here).facts)
    capsys.readouterr()
    assert command(["run", str(here)]) == 0
    output = capsys.readouterr().err
    assert because in output
    assert "160 of 240 votes have an outcome, 80 votes to request on 40 utterances" in output
    assert len(Votes.read(here.parent / "out" / "annotate" / "votes.parquet")) == 240
    assert set(Labels.read(here.parent / "out" / "fuse" / "labels.parquet").frame["proxy_votes"]) == {6.0}
