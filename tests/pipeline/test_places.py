"""Paths of a pipeline: inputs, folders of varied runs, changed sources and cards, two concurrent runs."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from forked import Forked
from wording import Wording

from alm_proxies.cli.app import run as command
from alm_proxies.errors import ForbiddenError, InputError, OutputPathError, SettingsError
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.pipeline.graph import nodes_of
from alm_proxies.pipeline.places import MOVED
from alm_proxies.pipeline.run import run
from alm_proxies.settings import deciding, located
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.settings import TrainSettings

FILE = """\
taxonomy = "happy,sad"
folder = "out"
[[read]]
corpus = "mine"
format = "table"
source = "a/votes.csv"
columns = { utterance_id = "clip", annotator = "rater", label = "heard" }
[fuse]
method = "human"
"""
CARD = """+++
name = "mine"
title = "Mine"
licence = "mine"
may_leave = false
why = "it is mine"
votes = "two"
columns = { utterance_id = "clip", annotator = "rater", label = "heard" }
+++
"""


def votes(path: Path, *labels: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{path.parent.name}{number},r1,{label}" for number, label in enumerate(labels)]
    path.write_text("clip,rater,heard\n" + "\n".join(rows) + "\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A pipeline file in a folder with a space and an accent in its name."""
    folder = tmp_path / "mon dossier é [1]"
    votes(folder / "a" / "votes.csv", "happy", "sad", "sad")
    path = folder / "p.toml"
    path.write_text(FILE)
    return path


def test_sources_and_the_folder_of_a_file_lie_beside_it_wherever_it_is_run(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = run(file.relative_to(tmp_path), quiet=True)
    assert (file.parent / "out" / "manifest.json").is_file()
    before = (file.parent / "out" / "read" / "votes.parquet").read_bytes()
    monkeypatch.chdir(file.parent)
    second = run("p.toml", quiet=True)
    assert (first.skipped, second.skipped) == (0, 2)
    monkeypatch.chdir(tmp_path)
    run(file, folder="other", quiet=True)
    assert (tmp_path / "other" / "read" / "votes.parquet").read_bytes() == before


def test_the_labels_file_whose_shares_are_wanted_lies_beside_the_file_and_a_change_of_it_is_seen(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(FILE + '[balance]\nclasses = "wanted.csv"\n')
    (file.parent / "wanted.csv").write_text("utterance_id,p_happy,p_sad\nx,0.54,0.46\n")
    monkeypatch.chdir(tmp_path)

    def share() -> float:
        labels = Labels.read(file.parent / "out" / "balance" / "labels.parquet")
        weights = labels.frame["weight"].to_numpy()
        return float(weights @ labels.distributions()[:, 0] / weights.sum())

    run(file, quiet=True)
    assert share() == pytest.approx(0.54, abs=2e-3)
    (file.parent / "wanted.csv").write_text("utterance_id,p_happy,p_sad\nx,0.47,0.53\n")
    assert run(file, quiet=True).skipped == 2
    assert share() == pytest.approx(0.47, abs=2e-3)
    file.write_text(FILE + '[balance]\nclasses = "uniform"\n')
    (file.parent / "uniform").mkdir()  # a name that the settings know is no path
    assert run(file, quiet=True).skipped == 2
    assert share() == pytest.approx(0.5, abs=2e-3)


def test_the_folder_of_a_shipped_file_is_where_one_is() -> None:
    assert read_pipeline("demo").folder == Path("alm-proxies-demo")


def test_a_path_is_relative_to_whoever_says_it(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    votes(tmp_path / "by_flag" / "votes.csv", "sad")
    votes(tmp_path / "by_settings" / "a" / "votes.csv", "sad", "sad")
    (tmp_path / "by_settings" / "s.toml").write_text('[read]\nsource = "a/votes.csv"\n')
    monkeypatch.chdir(tmp_path)

    def heights(**more: Any) -> int:
        return len(Votes.read(run(file, quiet=True, **more).folder / "read" / "votes.parquet"))

    assert heights() == 3
    assert heights(changes={"read.source": "by_flag/votes.csv"}) == 1
    assert heights(settings="by_settings/s.toml") == 2


def test_paths_of_a_shipped_file_are_relative_to_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = read_pipeline("crema_d").runs[0].sections["read"][0].blocks
    assert Path(source.source).absolute() == tmp_path / "CREMA-D"  # type: ignore[attr-defined]  # a source it is
    assert read_pipeline("crema_d").runs[0].sections["read"][0].settings.cards == tmp_path  # type: ignore[attr-defined]
    (source,) = read_pipeline("crema_d", changes={"read.source": "x/y"}).runs[0].sections["read"][0].blocks
    assert source.source == Path("x/y")  # type: ignore[attr-defined]


def test_a_home_is_found(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file.write_text(FILE.replace('"out"', '"~/runs"'))
    assert read_pipeline(file).folder == tmp_path / "runs"
    file.write_text(FILE.replace('"out"', '"~no_such_user_here/runs"'))
    with wording.refused(SettingsError):
        read_pipeline(file)


def test_values_of_vary_that_look_alike_get_folders_of_their_own(file: Path) -> None:
    votes(file.parent / "b" / "votes.csv", "happy")
    votes(file.parent / "a-votes.csv", "happy")
    long = "happy,sad,angry,fear,disgust,surprise,contempt"
    vary = f'[vary]\n"read.source" = ["a/votes.csv", "a-votes.csv"]\ntaxonomy = ["{long},bored", "{long},calm"]\n'
    file.write_text(FILE + vary)
    ran = run(file, quiet=True)
    assert [record.stage for record in ran.records].count("read") == 4
    heights = [len(Votes.read(path)) for path in sorted(ran.folder.glob("read/*/votes.parquet"))]
    assert sorted(heights) == [1, 1, 3, 3]


def test_values_of_vary_whose_folders_would_be_one_are_refused(file: Path, wording: Wording) -> None:
    file.write_text(FILE + '[vary]\n"read.corpus" = ["1", 1]\n')
    with wording.refused(SettingsError):
        read_pipeline(file)


def test_many_varied_keys_make_no_name_too_long_for_a_folder(file: Path) -> None:
    keys = ("fuse.seed", "fuse.method", "fuse.folds", "read.corpus", "taxonomy", "seed", "hold_out.keep", "read.format")
    values = (7, '"human"', 3, '"mine"', '"a rather long word,sad,happy"', 5, 2, '"table"')
    lines = [f'"{key}" = [{value}]' for key, value in zip(keys, values, strict=True)]
    file.write_text(FILE + "[vary]\n" + "\n".join(lines) + "\n")
    ran = run(file, quiet=True)
    assert max(len(path.name.encode()) for path in ran.folder.rglob("*")) <= 220


def test_a_source_that_is_gone_leaves_what_was_made_of_it(file: Path, wording: Wording) -> None:
    run(file, quiet=True)
    (file.parent / "a" / "votes.csv").rename(file.parent / "a" / "away.csv")
    with wording.refused(InputError):
        run(file, quiet=True)
    (file.parent / "a" / "away.csv").rename(file.parent / "a" / "votes.csv")
    assert run(file, quiet=True).skipped == 2


def test_two_sources_of_one_name_are_both_watched(file: Path) -> None:
    votes(file.parent / "b" / "votes.csv", "happy")
    second = FILE[FILE.index("[[read]]") : FILE.index("[fuse]")].replace("a/votes.csv", "b/votes.csv")
    bare = second.replace('label = "heard"', 'label = "heard", speaker = "clip"')
    file.write_text(FILE.replace("[fuse]", bare + "[fuse]"))
    run(file, quiet=True)
    votes(file.parent / "a" / "votes.csv", "sad", "sad", "sad")
    again = run(file, quiet=True)
    assert [record.skipped for record in again.records] == [False, False]
    assert "mine a/votes.csv has changed" in again.records[0].because


def recordings(file: Path) -> Path:
    """The folder with a recording of each utterance, which the file names from now on."""
    sounds = file.parent / "sounds"
    sounds.mkdir()
    for number in range(3):
        soundfile.write(sounds / f"a{number}.wav", 0.3 * np.sin(np.arange(16_000) * 0.05), 16_000)
    file.write_text(FILE.replace("columns", 'recordings = "sounds"\ncolumns'))
    return sounds


def test_renamed_recordings_are_found_where_they_are_and_what_is_unchanged_is_skipped(file: Path) -> None:
    sounds = recordings(file)
    csv = '[[export]]\nname = "csv"\nformat = "csv"\n'
    file.write_text(file.read_text() + csv)
    run(file, quiet=True)
    assert run(file, quiet=True).skipped == 3
    sounds.rename(file.parent / "snd2")
    file.write_text(file.read_text().replace('"sounds"', '"snd2"'))
    facts = check(file).facts
    assert f"read: {MOVED}, later stages only if its content differs" in facts
    assert not any("unchanged" in fact for fact in facts)
    again = run(file, quiet=True)
    assert {record.stage: record.skipped for record in again.records} == {"read": False, "fuse": True, "export": False}
    assert Utterances.read(file.parent / "out" / "read" / "utterances.parquet").about.roots == {
        "mine": str(file.parent / "snd2")
    }
    exported = next((file.parent / "out").rglob("csv/**/*.csv")).read_text()
    assert "snd2/a0.wav" in exported
    assert "sounds" not in exported
    assert run(file, quiet=True).skipped == 3


def test_a_file_that_is_named_by_another_path_has_its_corpus_where_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(file, quiet=True)
    beside = file.parent / "beside"
    beside.mkdir()
    monkeypatch.chdir(beside)
    for other in (Path("..") / file.name, file.parent / "a" / ".." / file.name, file):
        assert [record.because for record in run(other, quiet=True).records] == ["unchanged", "unchanged"]


def test_check_says_that_a_result_made_again_as_it_was_leaves_later_stages_alone(file: Path) -> None:
    file.write_text(file.read_text() + '[[export]]\nname = "csv"\nformat = "csv"\n')
    run(file, quiet=True)
    (file.parent / "out" / "fuse" / "labels.parquet").unlink()
    facts = [fact for fact in check(file).facts if fact.startswith("fuse: ")]
    assert facts == ["fuse: runs again because labels.parquet is missing, later stages only if its content differs"]
    assert [record.skipped for record in run(file, quiet=True).records] == [True, False, True]


def test_a_moved_pipeline_with_its_corpus_states_where_they_are_now(file: Path, tmp_path: Path) -> None:
    recordings(file)
    run(file, quiet=True)
    moved = file.parent.rename(tmp_path / "moved") / file.name
    assert [record.skipped for record in run(moved, quiet=True).records] == [False, True]
    assert Utterances.read(moved.parent / "out" / "read" / "utterances.parquet").about.roots == {
        "mine": str(moved.parent / "sounds")
    }


def test_a_changed_card_is_read_again(file: Path) -> None:
    card = file.parent / "mine.md"
    card.write_text(CARD)
    file.write_text(FILE.replace('columns = { utterance_id = "clip", annotator = "rater", label = "heard" }\n', ""))
    run(file, quiet=True)
    assert run(file, quiet=True).skipped == 2
    card.write_text(CARD.replace(' annotator = "rater",', ""))
    again = run(file, quiet=True)
    assert "card mine has changed" in again.records[0].because
    assert Votes.read(again.folder / "read" / "votes.parquet").frame["annotator"].unique().to_list() == ["mine/crowd"]


def test_a_card_beside_the_file_holds_for_every_stage(file: Path, wording: Wording) -> None:
    """A user's card beside the file can forbid what the shipped card of a corpus allows."""
    frame = pl.DataFrame({"clip": ["a"], "rater": ["r"], "heard": ["happy"], "wav": ["a.wav"]})
    frame.write_csv(file.parent / "a" / "votes.csv")
    (file.parent / "emodb.md").write_text(CARD.replace('"mine"\ntitle', '"emodb"\ntitle'))
    annotator = 'name = "far"\nengine = "openai"\nmodel = "m"\nprompt = "listener"\nvotes = 2\nanswer = "words"\n'
    (file.parent / "far.toml").write_text(annotator + 'serve = { base_urls = ["http://192.0.2.1/v1"] }\n')
    text = FILE.replace('"mine"', '"emodb"').replace('label = "heard"', 'label = "heard", audio = "wav"')
    file.write_text(text + '[annotate]\npanel = ["far.toml"]\n')
    problems = check(file).problems
    assert any("emodb has to stay on this machine: it is mine" in problem for problem in problems), problems
    with wording.refused(ForbiddenError):
        run(file, quiet=True)


def test_check_says_what_is_held_out(file: Path) -> None:
    file.write_text(FILE + "[hold_out]\nkeep = 0\n[align]\n")
    facts = check(file).facts
    assert "read: 3 human votes of 3 utterances are held out" in facts
    assert not any("no votes are held out" in fact for fact in facts)
    file.write_text(FILE + '[hold_out]\nsplits = ["tset"]\n')
    assert any("no utterance is in the split 'tset'" in problem for problem in check(file).problems)


def test_check_names_an_annotator_file_that_is_not_there_and_nothing_else(file: Path) -> None:
    file.write_text(FILE + '[annotate]\npanel = ["nope.toml"]\n')
    (problem,) = check(file).problems
    assert "nope.toml: there is no such file" in problem


@pytest.mark.parametrize("folder", ["p.toml", "p.toml/below"])
def test_a_folder_that_cannot_be_made_is_one_sentence(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    monkeypatch.chdir(file.parent)
    assert command(["run", "p.toml", "--folder", folder, "--quiet"]) == 2
    assert "a folder is needed here, but" in capsys.readouterr().err
    with pytest.raises(OutputPathError):
        run(file, folder=folder, quiet=True)


def test_a_second_run_into_a_folder_waits_to_be_told(file: Path, wording: Wording) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom alm_proxies.alone import alone_in\n"
        "with alone_in(Path(sys.argv[1]), 'run', ''):\n print('in', flush=True)\n sys.stdin.read()\n"
    )
    with Forked("-c", script, file.parent / "out") as first:
        assert first.stdout.readline() == "in\n"
        with wording.refused(InputError):
            run(file, quiet=True)
        first.kill()
    assert run(file, quiet=True).skipped == 0


@pytest.mark.parametrize(("place", "refused"), [("out/simulate", True), ("out", True), ("out/mine", False)])
def test_a_run_into_a_folder_that_a_command_writes_into_is_refused(file: Path, place: str, refused: bool) -> None:
    """The command was not seen: both wrote into the folder."""
    call = ["-m", "alm_proxies", "simulate", "--utterances", "2000", "--quiet", "-o", file.parent / place]
    with Forked(*call) as writing:
        while not any((file.parent / place).rglob("*.wav")):
            assert writing.poll() is None
            time.sleep(0.02)
        writing.send_signal(signal.SIGSTOP)  # it goes on writing for as long as this test looks
        if refused:
            with pytest.raises(InputError, match=r"another command is writing into this folder\. Wait"):
                run(file, quiet=True)
        else:
            assert run(file, quiet=True).skipped == 0
        writing.kill()
    assert run(file, quiet=True).skipped == (0 if refused else 2)


def test_the_manifest_names_the_file_in_full(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    ran = run("p.toml", quiet=True)
    assert json.loads((ran.folder / "manifest.json").read_text())["file"]["path"] == str(file)


def test_a_wrong_taxonomy_is_said_with_file_and_line(file: Path, wording: Wording) -> None:
    file.write_text(FILE.replace('"happy,sad"', '"msp88"'))
    with wording.refused(SettingsError):
        read_pipeline(file)


def test_a_model_of_the_hub_keeps_its_name_and_a_folder_becomes_a_path(tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    for settings, shown in (("train", TrainSettings), ("listen", ListenSettings)):
        for given, expected in (
            ("openai/whisper-tiny.en", "openai/whisper-tiny.en"),
            ("microsoft/wavlm-base", "microsoft/wavlm-base"),
            ("mine/model", str(tmp_path / "mine" / "model")),
            ("./mine/other", str(tmp_path / "mine" / "other")),
            ("a/longer/path", str(tmp_path / "a" / "longer" / "path")),
        ):
            placed = located(shown(recipe="encoder", model=given), tmp_path)
            assert placed.model == expected, settings
    file = tmp_path / "p.toml"
    lines = (
        'taxonomy = "crema6"',
        'folder = "o"',
        "[simulate]",
        "[fuse]",
        "[[train]]",
        'name = "w"',
        'recipe = "encoder"',
    )
    file.write_text("\n".join([*lines, 'model = "microsoft/wavlm-base"']))
    (whole,) = read_pipeline(file).runs
    assert {
        node.section.settings.model for node in nodes_of(whole) if isinstance(node.section.settings, TrainSettings)
    } == {"microsoft/wavlm-base"}


def test_paths_inside_a_table_are_relative_to_the_file_and_names_stay(tmp_path: Path) -> None:
    (tmp_path / "listener").mkdir()
    for key, given, expected in (
        ("prompt", "listener", "listener"),
        ("prompt", "mine.toml", str(tmp_path / "mine.toml")),
        ("prompt", "deep/mine.toml", str(tmp_path / "deep" / "mine.toml")),
        ("encoder", "openai/whisper-small", "openai/whisper-small"),
        ("encoder", "./whisper", str(tmp_path / "whisper")),
    ):
        alm = {"new": {}, "prompt": given} if key == "prompt" else {"new": {"encoder": given}}
        new = located(TrainSettings.model_validate({"recipe": "alm", "alm": alm}), tmp_path).alm
        assert expected == (new.prompt if key == "prompt" else new.new and new.new.encoder)
    assert "prompt" not in deciding(TrainSettings(recipe="alm", model="m/n"))["alm"]
