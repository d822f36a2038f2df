"""What is explained is of the run that was asked for, and each vote is there once with its own reply and price."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest
from scripted_annotators import IDEAL

from alm_proxies.cli.app import run as command
from alm_proxies.pipeline.explain import explain
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.run import run
from alm_proxies.pipeline.standing import standing_of
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.tables import Votes

FILE = """\
taxonomy = "crema6"
seed = 1
folder = "{folder}/out"
[simulate]
utterances = 12
[annotate]
panel = ["{folder}/ideal.toml"]
[fuse]
method = "pool"
[vary]
"annotate.seed" = [1, 2]
"""
ID = "sim/000001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, in which an annotator answers with other seeds."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "ideal.toml").write_text(IDEAL.format(folder=folder / "out"))
    (folder / "p.toml").write_text(FILE.format(folder=folder))
    run(folder / "p.toml", quiet=True)
    return folder


def replies_in(ledger: Path, utterance: str = ID) -> dict[int, str]:
    with Ledger.look(ledger) as opened:
        return {reply["draw"]: reply["request"] for reply in opened.replies(utterance)}


def test_the_replies_and_failures_are_those_of_the_run(folder: Path) -> None:
    out = folder / "out"
    for number in (0, 1):
        place = out / "annotate" / f"annotate.seed={number + 1}"
        proxies = [vote for vote in explain(out, ID, number=number).votes if vote["source"] == "proxy"]
        assert {vote["draw"]: vote["request"] for vote in proxies} == replies_in(place / "ledger.sqlite")
        assert [vote["raw"] for vote in proxies] == [vote["label"] for vote in proxies]
    lost = {"utterance_id": [ID], "annotator": ["listener"], "source": ["proxy"], "label": [None], "status": ["failed"]}
    other = out / "listen" / "listen.seed=9"  # of a run that the file has no longer
    other.mkdir(parents=True)
    Votes.of(pl.DataFrame(lost), taxonomy="crema6").write(other / "votes.parquet")
    assert explain(out, ID).failures == []
    assert Outputs.of(out).clips()["utterance_id"].to_list() == [ID]


def test_a_manifest_of_something_else_and_a_damaged_marker_are_passed_over(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    text = FILE.format(folder=tmp_path).partition("[vary]")[0].replace(f"{tmp_path}/ideal", f"{folder}/ideal")
    file.write_text(text.partition("[annotate]")[0] + '[fuse]\nmethod = "human"\n')
    out = run(file, quiet=True).folder
    label = explain(out, ID).label
    manifest = json.loads((out / "manifest.json").read_text())
    for content in ([], {}, {"runs": [], "stages": {}}, {**manifest, "stages": {}}):
        (out / "manifest.json").write_text(json.dumps(content))
        assert explain(out, ID).label == label
    (out / "simulate" / "stage.json").write_text("{}")
    assert explain(out, ID).label == label


def test_where_annotator_files_are_gone_or_settings_are_not_known_the_rest_is_shown(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "first" / "ideal.toml").write_text(IDEAL.format(folder=tmp_path / "first" / "out"))
    (tmp_path / "first" / "p.toml").write_text(FILE.format(folder=tmp_path / "first").partition("[vary]")[0])
    run(tmp_path / "first" / "p.toml", quiet=True)
    before = explain(tmp_path / "first" / "out", ID)
    assert before.prompts
    assert not before.notes
    (tmp_path / "first" / "out").rename(tmp_path / "second" / "out")
    (tmp_path / "first" / "ideal.toml").unlink()
    out = tmp_path / "second" / "out"
    moved = explain(out, ID)
    assert (moved.votes, moved.influence, moved.prompts) == (before.votes, before.influence, [])
    assert [note.partition(":")[0] for note in moved.notes] == ["prompts cannot be shown"]
    labels = out / "fuse" / "labels.parquet"
    metadata = pl.read_parquet_metadata(labels)
    stated = json.loads(metadata["alm_proxies"])
    stated["made_by"]["settings"]["of_a_later_version"] = 1
    pl.read_parquet(labels).write_parquet(labels, metadata={"alm_proxies": json.dumps(stated)})
    assert command(["explain", str(labels), ID, "--quiet"]) == 0
    alone = explain(labels, ID)
    assert (alone.label, alone.method, alone.influence) == (before.label, "pool", [])
    assert "of_a_later_version" in alone.notes[0]


def test_a_stage_whose_folder_was_moved_and_linked_is_looked_into_and_a_corpus_is_not(tmp_path: Path) -> None:
    (tmp_path / "ideal.toml").write_text(IDEAL.format(folder=tmp_path / "out"))
    (tmp_path / "p.toml").write_text(FILE.format(folder=tmp_path).partition("[vary]")[0])
    out = run(tmp_path / "p.toml", quiet=True).folder
    before, replies = standing_of(out), explain(out, ID).votes
    assert before.paid > 0
    (out / "annotate").rename(tmp_path / "annotate")
    (out / "annotate").symlink_to(tmp_path / "annotate")
    (tmp_path / "annotate" / "loop").symlink_to(out)
    (tmp_path / "corpus" / "deep").mkdir(parents=True)
    (tmp_path / "corpus" / "votes.parquet").write_bytes((out / "read" / "votes.parquet").read_bytes())
    (out / "corpus").symlink_to(tmp_path / "corpus")
    now = standing_of(out)
    assert [stage.title for stage in now.stages] == [stage.title for stage in before.stages]
    assert (now.paid, now.results) == (before.paid, before.results)
    assert explain(out, ID).votes == replies


def test_runs_that_are_not_finished_are_told_apart(folder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(folder / "out", tmp_path / "out"))
    whole = [explain(folder / "out", ID, number=number) for number in (0, 1)]
    (out / "manifest.json").unlink()
    shutil.rmtree(out / "fuse" / "annotate.seed=2")
    first, second = (explain(out, ID, number=number) for number in (0, 1))
    assert (first.label, first.votes, first.notes) == (whole[0].label, whole[0].votes, [])
    assert (second.label, second.votes) == ({}, whole[1].votes)


@pytest.fixture(scope="module")
def shards(folder: Path) -> Path:
    """Two shards, what was merged from them, and votes of the same annotator with another seed."""
    corpus = str(folder / "out" / "read")
    shards = folder / "shards"
    ideal = str(folder / "ideal.toml")
    asked = ["annotate", corpus, "--annotator", ideal, "--quiet"]
    for number in (1, 2):
        assert command([*asked, "--shard", f"{number}/2", "-o", str(shards / "parts")]) == 0
    assert command(["merge", str(shards / "parts"), "-o", str(shards / "merged"), "--quiet"]) == 0
    return shards


def test_votes_that_shards_and_the_merged_ledger_have_count_and_cost_once(
    folder: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged = standing_of(shards / "merged")
    assert merged.paid > 0
    both = standing_of(shards)
    assert len(both.ledgers) == 3
    assert both.paid == pytest.approx(merged.paid)
    assert standing_of(shards / "parts").paid == pytest.approx(merged.paid)
    assert "count once" in "\n".join(both.lines())
    alone, together = explain(shards / "merged", ID), explain(shards, ID)
    assert len(alone.votes) == 4
    assert together.votes == alone.votes
    runs = standing_of(folder / "out")
    assert runs.twice == frozenset()
    assert runs.paid == pytest.approx(sum(ledger.price for ledger in runs.ledgers))


def test_votes_that_differ_between_files_are_each_there_with_their_file(folder: Path, shards: Path) -> None:
    corpus, ideal = str(folder / "out" / "read"), str(folder / "ideal.toml")
    other = shards / "other"
    assert command(["annotate", corpus, "--annotator", ideal, "--seed", "5", "-o", str(other), "--quiet"]) == 0
    ids = Votes.read(other / "votes.parquet").frame["utterance_id"].unique().sort().to_list()
    kept = {place: Votes.read(shards / place / "votes.parquet").frame for place in ("merged", "other")}
    compared = 0
    for utterance in ids:
        labels = defaultdict(set)
        for frame in kept.values():
            for row in frame.filter(utterance_id=utterance).iter_rows(named=True):
                labels[row["draw"]].add(row["label"])
        requests = {place: replies_in(shards / place / "ledger.sqlite", utterance) for place in kept}
        for vote in explain(shards, utterance).votes:
            differs = len(labels[vote["draw"]]) == 2
            assert ("file" in vote) == differs
            if differs:
                assert vote["request"] == requests[vote["file"].split("/")[0]][vote["draw"]]
                compared += 1
    assert compared


def test_a_draw_with_a_share_for_every_label_costs_its_price_once(folder: Path, tmp_path: Path) -> None:
    text = (folder / "ideal.toml").read_text().replace('"sample"\nvotes = 4', '"score"')
    text = text.replace('temperature = [0.7, 1.0], focus = ["tone", "wording"]', "label_orders = 2")
    (tmp_path / "scores.toml").write_text(text)
    corpus = str(folder / "out" / "read")
    words = ["annotate", corpus, "--annotator", str(tmp_path / "scores.toml"), "-o", str(tmp_path / "scores")]
    assert command([*words, "--quiet"]) == 0
    explained = explain(tmp_path / "scores", ID)
    assert len(explained.votes) == 12
    with Ledger.look(tmp_path / "scores" / "ledger.sqlite") as ledger:
        paid = sum(reply["price"] for reply in ledger.replies(ID))
    (line,) = [line for line in explained.lines() if line.startswith("these votes cost")]
    assert float(line.split()[-1]) == pytest.approx(paid, rel=0.02)
