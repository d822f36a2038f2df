"""The stages of a file as a graph: their inputs, the shared folders of varied runs, and missing inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_proxies.errors import SettingsError
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.pipeline.graph import Node, nodes_of
from alm_proxies.pipeline.tasks import task_of

TOP = 'taxonomy = "happy,sad"\nseed = 3\nfolder = "out"\n'
READ = '[[read]]\ncorpus = "c"\nformat = "table"\nsource = "votes.csv"\n'
TRAIN = '[[train]]\nname = "{}"\nmodel = "some/encoder"\n'


def graph(tmp_path: Path, text: str) -> list[tuple[Node, ...]]:
    path = tmp_path / "p.toml"
    path.write_text(TOP + text)
    return [nodes_of(run) for run in read_pipeline(path).runs]


def titles(nodes: tuple[Node, ...]) -> list[str]:
    return [node.title for node in nodes]


def taken(nodes: tuple[Node, ...], title: str) -> dict[str, list[str]]:
    (node,) = (node for node in nodes if node.title == title)
    return {
        need: [f"{source.node.title}/{source.output}" for source in sources]
        for need, sources in node.inputs.items()
        if sources
    }


def test_a_stage_takes_what_there_is_and_stands_behind_it(tmp_path: Path) -> None:
    (nodes,) = graph(tmp_path, "[align]\n[fuse]\n" + READ)
    assert titles(nodes) == ["read", "fuse", "align"]
    assert taken(nodes, "fuse") == {"votes": ["read/votes"], "utterances": ["read/utterances"]}
    assert taken(nodes, "align")["votes"] == ["read/votes"]
    (nodes,) = graph(tmp_path, '[simulate]\n[annotate]\npanel = ["embedded"]\n[fuse]\n' + READ)
    assert titles(nodes) == ["simulate", "read", "annotate", "fuse"]
    assert taken(nodes, "fuse")["votes"] == ["read/votes", "annotate/votes"]
    assert taken(nodes, "read") == {"sources": ["simulate/utterances"]}


def test_a_simulated_corpus_is_one_more_source(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(TOP + "[simulate]\n" + READ)
    (run,) = read_pipeline(path).runs
    task = task_of(nodes_of(run)[1], run)
    assert [(block["format"], Path(block["source"]).name) for block in task.blocks] == [
        ("table", "votes.csv"), ("tables", "simulate"),
    ]  # fmt: skip


def test_every_block_of_train_is_a_task_and_a_folder_of_its_own_and_predict_follows_it(tmp_path: Path) -> None:
    (nodes,) = graph(tmp_path, READ + "[fuse]\n[balance]\n" + TRAIN.format("one") + TRAIN.format("two"))
    assert titles(nodes) == ["read", "fuse", "balance", "train one", "train two", "predict one", "predict two"]
    assert nodes[3].folder == tmp_path / "out" / "train" / "one"
    assert taken(nodes, "train one")["labels"] == ["balance/labels"]
    assert taken(nodes, "predict two")["model"] == ["train two/folder"]
    (nodes,) = graph(tmp_path, READ + "[fuse]\n" + TRAIN.format("one") + "[predict]\nevidence = true\n")
    assert taken(nodes, "train one")["labels"] == ["fuse/labels"]
    assert nodes[-1].section.settings.evidence  # type: ignore[attr-defined]  # PredictSettings they are


ANSWERS = '[[train]]\nname = "answers"\nrecipe = "alm"\nmodel = "x"\n'


def test_nothing_is_predicted_with_a_model_that_answers_a_prompt(tmp_path: Path) -> None:
    text = READ + "[fuse]\n" + TRAIN.format("one") + ANSWERS
    (nodes,) = graph(tmp_path, text + "[evaluate]\n")
    assert titles(nodes) == ["read", "fuse", "train one", "train answers", "predict one", "evaluate"]
    assert taken(nodes, "evaluate")["predictions"] == ["predict one/labels"]
    (nodes,) = graph(tmp_path, text + '[train.alm]\noutput = "head"\n')
    assert titles(nodes)[-1] == "predict answers"
    message = r"\[\[train\]\] answers: its model answers a prompt. Write alm.output = \"head\", or request its votes"
    with pytest.raises(SettingsError, match=message):
        graph(tmp_path, READ + "[fuse]\n" + ANSWERS + "[evaluate]\n")


def test_a_varied_key_reaches_its_own_stage_and_what_is_behind_it(tmp_path: Path) -> None:
    text = READ + "[fuse]\n[align]\n" + TRAIN.format("one") + TRAIN.format("two")
    first, second = graph(tmp_path, text + '[vary]\n"align.examples" = [1, 2]\n')
    shared = {node.title for node in first if node.folder in {other.folder for other in second}}
    assert shared == {"read", "fuse", "train one", "train two", "predict one", "predict two"}
    first, second = graph(tmp_path, text + '[vary]\n"train.one.epochs" = [1, 2]\n')
    shared = {node.title for node in first if node.folder in {other.folder for other in second}}
    assert shared == {"read", "fuse", "align", "train two", "predict two"}
    first, second = graph(tmp_path, text + '[vary]\n"train.epochs" = [1, 2]\n')
    shared = {node.title for node in first if node.folder in {other.folder for other in second}}
    assert shared == {"read", "fuse", "align"}
    first, second = graph(tmp_path, text + '[vary]\n"fuse.method" = ["pool", "human"]\n')
    shared = {node.title for node in first if node.folder in {other.folder for other in second}}
    assert shared == {"read"}


def test_the_files_seed_reaches_stages_that_have_one_and_do_not_say_their_own(tmp_path: Path) -> None:
    (nodes,) = graph(tmp_path, READ + "[fuse]\nseed = 9\n[align]\n")
    seeds = {node.title: node.section.settings.seed for node in nodes}  # type: ignore[attr-defined]  # each has one
    assert seeds == {"read": 3, "fuse": 9, "align": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fuse]\n", "names no corpus"),
        (READ + "[align]\n", r"\[align\] needs labels, and no stage gives them. Write .*\[fuse\]"),
        (READ + "[fuse]\n" + TRAIN.format("x") * 2, r"two blocks of \[\[train\]\] are called 'x'"),
        (READ + '[train]\nname = "x"\n', r"train is a list. Write \[\[train\]\] above each"),
        (READ + "[[fuse]]\n", "fuse is not a table"),
        (READ + '[fuse]\nmethod = "pool"\n[vary]\n"fuse.method.x" = [1]\n', "does not lead to a setting"),
    ],
)
def test_what_cannot_be_is_said_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        graph(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "p.toml"))
