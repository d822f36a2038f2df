"""The shipped pipelines of real corpora: check passes on synthetic corpora, and CREMA-D runs completely."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.cli.app import run as command
from alm_proxies.files import shipped_folder
from alm_proxies.pipeline.check import check
from alm_proxies.tables import Labels, Votes
from tests.pipeline.test_pipelines_of_every_reader import TREES as OF_READERS
from tests.stages.read.corpora import PLAIN_LINES, iemocap, plain_msp_podcast, sound

ACTORS = 12
CLIPS = 8


def made_up_crema_d(folder: Path) -> Path:
    """Votes and recordings in the layout of CREMA-D."""
    rows = ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"']
    rng = np.random.default_rng(0)
    (folder / "AudioWAV").mkdir(parents=True)
    for actor in range(1001, 1011):
        for number, sentence in enumerate(("IEO", "TIE", "IOM", "IWW")):
            counts = ",".join(map(str, rng.multinomial(6, [1 / 6] * 6)))
            rows.append(f'"1{actor % 1000:04}{number}",{counts},"{actor}_{sentence}_ANG_XX",6,0.5,"A"')
            soundfile.write(folder / "AudioWAV" / f"{actor}_{sentence}_ANG_XX.wav", rng.normal(0, 0.1, 8_000), 16_000)
    (folder / "tabulatedVotes.csv").write_text("\n".join(rows) + "\n")
    return folder


def made_up_iemocap(folder: Path) -> Path:
    """One dialogue of each of the five sessions."""
    return iemocap(
        folder,
        {
            f"Ses0{session}F_impro01": [
                (f"Ses0{session}F_impro01_{side}{turn:03d}", "xxx", PLAIN_LINES) for side in "FM" for turn in range(2)
            ]
            for session in range(1, 6)
        },
    )


def made_up_msp_podcast(folder: Path) -> Path:
    """Eight clips from all splits."""
    plain_msp_podcast(folder)
    splits = ("Train", "Train", "Development", "Test1", "Test2", "Train", "Train", "Test1")
    rows = [f"{split}; MSP-PODCAST_0001_{clip:04d}.wav" for clip, split in enumerate(splits)]
    (folder / "Partitions.txt").write_text("\n".join(rows) + "\n")
    for clip in range(len(splits)):
        sound(folder / "Audios" / f"MSP-PODCAST_0001_{clip:04d}.wav")
    return folder


TREES: dict[str, Callable[[Path], Path]] = {
    "crema_d": made_up_crema_d,
    "iemocap": made_up_iemocap,
    "msp_podcast": made_up_msp_podcast,
    "scaling_ambiguity_iemocap": made_up_iemocap,
    "scaling_ambiguity_msp": made_up_msp_podcast,
    "entropy_curriculum_msp2": made_up_msp_podcast,
}


def test_every_shipped_pipeline_of_a_corpus_is_tried_here() -> None:
    shipped = {path.stem for path in shipped_folder("pipelines").glob("*.toml")}
    assert shipped - {"demo", "embedded"} == set(TREES) | set(OF_READERS)


@pytest.mark.parametrize("name", TREES)
def test_check_passes_on_a_made_up_tree(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree = TREES[name](tmp_path / "corpus")
    checked = check(name, changes={"read.source": str(tree.relative_to(tmp_path))})
    tiny = ("evaluate has nothing to score", "listen needs 20 utterances")
    assert [text for text in checked.problems if not any(words in text for words in tiny)] == []
    assert any("recordings are present and complete" in fact for fact in checked.facts), checked.facts
    assert any("are held out" in fact for fact in checked.facts)


@pytest.mark.parametrize("name", TREES)
def test_a_corpus_that_is_not_there_is_one_problem(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (problem,) = check(name).problems
    assert str(tmp_path) in problem


@pytest.fixture(scope="module")
def part_of_crema_d(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """A dozen actors of the real corpus with eight clips each."""
    folder = tmp_path_factory.mktemp("corpus") / "CREMA-D"
    (folder / "AudioWAV").mkdir(parents=True)
    there = {path.stem: path for path in sorted((test_data / "crema_d" / "AudioWAV").iterdir())}
    actors = sorted({stem[:4] for stem in there})[:ACTORS]
    chosen = {
        stem for actor in actors for stem in [recording for recording in there if recording.startswith(actor)][:CLIPS]
    }
    for stem in chosen:
        (folder / "AudioWAV" / there[stem].name).symlink_to(there[stem])
    with (test_data / "crema_d" / "tabulatedVotes.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    place = rows[0].index("fileName")
    with (folder / "tabulatedVotes.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([rows[0], *(row for row in rows[1:] if row[place] in chosen)])
    return folder


def test_crema_d_runs_from_its_votes_to_an_export(
    part_of_crema_d: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(part_of_crema_d.parent)
    assert command(["run", "crema_d", "--quiet"]) == 0, capsys.readouterr().err
    out = Path("runs/crema_d")
    votes = Votes.read(out / "read" / "votes.parquet").frame
    assert votes.filter(~pl.col("held_out")).group_by("utterance_id").len()["len"].max() == 3
    labels = Labels.read(out / "fuse" / "labels.parquet").frame
    assert labels.height == ACTORS * CLIPS
    assert labels["proxy_votes"].max() == 1.0
    metrics = json.loads((out / "evaluate" / "metrics.json").read_text())
    assert "prosody" in json.dumps(metrics)
    assert (out / "align" / "report.html").exists()
    assert {path.name for path in (out / "export").iterdir()} == {"huggingface", "labels"}
    capsys.readouterr()
    assert command(["run", "crema_d", "--quiet"]) == 0
    assert " 0 stages done, " in f" {capsys.readouterr().out}"


def test_the_pipelines_of_papers_state_every_known_number_themselves() -> None:
    """Also settings that are our defaults, because another default would change the numbers of the paper."""
    folder = shipped_folder("pipelines")
    read = {path.stem: tomllib.loads(path.read_text()) for path in folder.glob("*_*.toml")}
    for name, votes in (("scaling_ambiguity_iemocap", 8), ("scaling_ambiguity_msp", 10)):
        settings = read[name]
        panel = [
            tomllib.loads((folder / "annotators" / f"{annotator_name}.toml").read_text())
            for annotator_name in settings["annotate"]["panel"]
        ]
        each = settings["annotate"].get("votes")
        assert sum(each or annotator["votes"] for annotator in panel) == votes
        cells = [(annotator["cross"]["focus"], annotator["cross"]["temperature"]) for annotator in panel]
        bands = [(0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 0.93)]
        assert len({focus for (focus,), _ in cells}) == 5
        assert all(low <= temperature <= high for (_, (temperature,)), (low, high) in zip(cells, bands, strict=True))
        assert settings["fuse"] == {"method": "pool"}
        assert settings["balance"] == {
            "method": "reference", "reference": {"ratio": 0.25, "neighbours": 3, "augmented": 0.3}
        }  # fmt: skip
        paper = next(block for block in settings["train"] if block["name"] == "jsd_entropy")
        assert paper.items() >= {
            "loss": "jsd_entropy", "entropy_weight": 0.08, "learning_rate": 2.5e-6, "warmup": 0.15,
            "weight_decay": 0.03,
            "clip": 3.0, "batch": 64, "epochs": 60, "patience": 8, "longest": 30.0, "dropout": 0.2,
        }.items()  # fmt: skip
        headed = next(block for block in settings["train"] if block["name"] == "paper")
        assert headed["alm"] == {
            "output": "head",
            "lora": {
                "rank": 8, "alpha": 16, "dropout": 0.2, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
                "rate": 2.5e-6,
            },
        }  # fmt: skip
        shared = (
            "loss",
            "entropy_weight",
            "learning_rate",
            "warmup",
            "weight_decay",
            "clip",
            "batch",
            "epochs",
            "patience",
        )
        assert {name: headed[name] for name in shared} == {name: paper[name] for name in shared}
    settings = read["entropy_curriculum_msp2"]
    assert settings["fuse"]["merge"] == {"primary": 0.9, "secondary": 0.1}
    for block in settings["train"]:
        assert block.items() >= {
            "learning_rate": 1e-4, "backbone_rate": 1e-5, "schedule": "newbob", "batch": 32, "epochs": 18,
            "patience": 4,
            "dropout": 0.2, "attributes": {"weight": 0.3, "concordance": 0.1},
        }.items(), block["name"]  # fmt: skip
    named = {block["name"]: block for block in settings["train"]}
    assert named["m90_weighted_kld"]["balance_beta"] == 0.9999
    for reverse in ("", "reverse_"):
        kept = named[f"m90_{reverse}filter"]["curriculum"]
        assert (kept["kind"], kept["epochs"]) == (f"{reverse}filter", [1, 2, 4, 8, 12])
        assert (kept["shares"][0], kept["shares"][-1]) == (0.5, 1.0)
        weight = {"kind": f"{reverse}weight", "from": 2.0, "to": 0.0, "floor": 0.15}
        assert named[f"m90_{reverse}weight"]["curriculum"] == weight
