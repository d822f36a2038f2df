"""The result of check before a run: recordings, ledger, and the price of each annotator."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripted_annotators import of_a_table
from wording import Wording

from alm_proxies.cli.app import run as command
from alm_proxies.errors import InputError
from alm_proxies.pipeline.check import Checked, check
from alm_proxies.pipeline.run import run

FILE = """\
taxonomy = "crema6"
folder = "out"
[[read]]
corpus = "mine"
format = "table"
source = "votes.csv"
columns = { utterance_id = "clip", speaker = "who", annotator = "rater", label = "label", audio = "audio" }
"""
ANNOTATE = """\
[annotate]
panel = ["dear.toml", "free.toml"]
injection = 0
stop = { collapse = 1.0, failed = 1.0, refused = 1.0 }
"""
TRAIN = '[[train]]\nrecipe = "features"\n'


def corpus(folder: Path, suffix: str = "wav", count: int = 12, sections: str = ANNOTATE) -> Path:
    """Twelve recordings of one second, and a pipeline file for them."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        tone = 0.3 * np.sin(np.arange(16_000) * (0.05 + 0.001 * number))
        soundfile.write(folder / f"c{number}.{suffix}", tone, 16_000)
    rows = [
        f"c{n},s{n % 4},r{rater},{('happy', 'sad')[(n + rater) % 2]},c{n}.{suffix}"
        for n in range(count)
        for rater in (0, 1)
    ]
    (folder / "votes.csv").write_text("\n".join(["clip,who,rater,label,audio", *rows]))
    (folder / "answers.csv").write_text("\n".join(["utterance_id,text", *(f"mine/c{n},happy" for n in range(count))]))
    for name, price in (("dear", 12.0), ("free", 0.0)):
        of_a_table(folder, name, price=price)
    path = folder / "mine.toml"
    path.write_text(FILE + sections)
    return path


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def about_recordings(checked: Checked) -> str:
    return "\n".join(fact for fact in (*checked.facts, *checked.warnings, *checked.problems) if "recordings" in fact)


def test_nothing_is_wrong_where_nothing_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus(tmp_path)
    assert command(["check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == "nothing is wrong; 48 votes planned, about 2.40\n"
    assert "read: 12 of 12 recordings are present and complete" in err
    assert "warning:" not in err


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff"])
def test_every_recording_is_looked_at(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus(tmp_path, suffix)
    (tmp_path / f"c1.{suffix}").unlink()
    (tmp_path / f"c2.{suffix}").write_bytes(b"")
    cut(tmp_path / f"c3.{suffix}", 0.6)
    (tmp_path / f"c4.{suffix}").write_text("<html>Not found</html>")
    (tmp_path / f"c7.{suffix}").unlink()
    checked = check(path)
    assert checked.problems == ()
    warnings = "\n".join(checked.warnings)
    assert f"2 of 12 recordings are missing: {tmp_path}/c1.{suffix}, {tmp_path}/c7.{suffix}" in warnings
    for name, words in (("c2", "is empty"), ("c3", "ends early"), ("c4", "is not an audio file")):
        assert f"1 of 12 recordings {words}: {tmp_path}/{name}.{suffix}" in warnings
    assert "7 of 12 recordings are present and complete" in about_recordings(checked)
    assert command(["check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("4 warnings, none of which would stop a run; ")
    assert err.count("  warning: ") == 4


def test_a_corpus_without_a_single_recording_is_a_problem_where_recordings_are_needed(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    for sound in tmp_path.glob("*.wav"):
        sound.unlink()
    checked = check(path)
    assert any("12 of 12 recordings are missing" in problem for problem in checked.problems)
    assert command(["check", str(path), "--quiet"]) == 2
    path.write_text(FILE + '[fuse]\nmethod = "human"\n')
    assert check(path).problems == ()
    assert about_recordings(check(path)) == "", "nobody opens them"


@pytest.mark.parametrize(("section", "heard"), [("[listen]\n", 0), ("[listen]\n", 19), (TRAIN, 0)])
def test_what_needs_recordings_is_a_problem_where_no_table_names_them(section: str, heard: int, tmp_path: Path) -> None:
    path = corpus(tmp_path, count=24, sections='[fuse]\nmethod = "human"\n' + section)
    table = (tmp_path / "votes.csv").read_text().splitlines()
    rows = [line if int(line[1 : line.index(",")]) < heard else line.rpartition(",")[0] + "," for line in table[1:]]
    (tmp_path / "votes.csv").write_text("\n".join([table[0], *rows]))
    (problem,) = check(path).problems
    assert "recording" in problem
    with pytest.raises(InputError, match="recording"):
        run(path, quiet=True)


def test_warnings_are_not_all_clear(tmp_path: Path) -> None:
    path = corpus(tmp_path, sections='[fuse]\nmethod = "human"\n[align]\n')
    table = tmp_path / "votes.csv"
    table.write_text(table.read_text() + "\nc1,s1,r3,Puzzled,c1.wav\n")
    checked = check(path)
    assert any("Puzzled" in warning for warning in checked.warnings)
    assert any("no votes are held out" in warning for warning in checked.warnings)
    assert str(checked) == "2 warnings, none of which would stop a run"


def test_the_ledger_says_what_is_paid_and_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus(tmp_path)
    before = check(path)
    assert "annotate: dear: 24 votes, about 2.40 at 0.10 a vote by its price table" in before.facts
    assert "annotate: free: 24 votes, free of charge" in before.facts
    assert command(["run", str(path), "--quiet"]) == 0
    for name in ("dear", "free"):
        file = tmp_path / f"{name}.toml"
        file.write_text(file.read_text().replace("votes = 2", "votes = 3"))
    checked = check(path)
    assert (
        "annotate: dear: 24 of 36 votes cast, 2.40 paid; 12 left, about 1.20 at 0.10 a vote as measured"
        in checked.facts
    )
    assert (
        "annotate: free: 24 of 36 votes cast, 0.00 paid; 12 left, about 0.00 at 0.00 a vote as measured"
        in checked.facts
    )
    assert (checked.planned_votes, checked.cast_votes) == (72, 48)
    assert (checked.paid, checked.expected_price) == (pytest.approx(2.4), pytest.approx(1.2))
    capsys.readouterr()
    assert command(["check", str(path), "--json", "--quiet"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["annotators"]["annotate"]["dear"]["left"] == 12
    assert output["annotators"]["annotate"]["dear"]["price_of_vote"] == pytest.approx(0.1)
    assert str(checked).endswith("; 72 votes planned, 48 cast for 2.40, 24 left, about 1.20")
    dearer = tmp_path / "dear.toml"
    dearer.write_text(dearer.read_text().replace("audio_minute = 12.0", "audio_minute = 24.0"))
    assert check(path).expected_price == pytest.approx(4.8), "a price that has changed is no longer what was measured"


def test_a_pilot_gives_the_price_of_the_rest(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    assert command(["run", str(path), "--quiet", "--set", "annotate.limit=10"]) == 0
    checked = check(path)
    sentence = "dear: 20 of 24 votes cast, 2.00 paid; 4 left, about 0.40 at 0.10 a vote as measured"
    assert f"annotate: {sentence}" in checked.facts


def test_a_price_that_is_not_known_before_there_is_speech_is_not_said_to_be_nothing(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    path.write_text('taxonomy = "crema6"\nfolder = "out"\n[simulate]\nutterances = 9\n' + ANNOTATE)
    checked = check(path)
    assert (checked.planned_votes, checked.expected_price, checked.problems) == (36, 0.0, ())
    assert [warning.partition(" is not")[0] for warning in checked.warnings] == ["annotate: the price of dear"]


def test_a_budget_counts_what_was_paid(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    assert command(["run", str(path), "--quiet", "--set", "annotate.limit=10"]) == 0
    text = path.read_text()
    path.write_text(text.replace("injection = 0", "injection = 0\nbudget = 2.2"))
    assert any("the budget of 2.20 would be reached first" in fact for fact in check(path).facts)
    path.write_text(text.replace("injection = 0", "injection = 0\nbudget = 2.5"))
    assert not any("the budget of" in fact for fact in check(path).facts)


def test_votes_that_failed_are_left_and_a_robbed_ledger_is_a_problem(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    (tmp_path / "c5.wav").unlink()
    command(["run", str(path), "--quiet"])
    soundfile.write(tmp_path / "c5.wav", 0.3 * np.sin(np.arange(16_000) * 0.07), 16_000)
    facts = "\n".join(check(path).facts)
    assert "dear: 22 of 24 votes cast, 2.20 paid; 2 left" in facts
    ledger = tmp_path / "out" / "annotate" / "ledger.sqlite"
    shutil.copy(ledger, tmp_path / "kept.sqlite")
    ledger.write_bytes(b"")
    assert any("ledger" in problem for problem in check(path).problems)


def test_check_says_that_nothing_can_be_fused_before_votes_are_paid(tmp_path: Path) -> None:
    path = corpus(tmp_path, sections=ANNOTATE + '[fuse]\nmethod = "weighted"\n')
    assert check(path).problems == ()
    lines = (tmp_path / "votes.csv").read_text().splitlines()
    (tmp_path / "votes.csv").write_text("\n".join([lines[0], *(f"c{n},s1,,,c{n}.wav" for n in range(12))]))
    assert any("fuse has no human votes to fit to" in problem for problem in check(path).problems)
    for other in ('[fuse]\nmethod = "pool"\n', '[fuse]\nmethod = "dawid_skene"\n', ""):
        path.write_text(re.sub(r'\[fuse\]\nmethod = "\w+"\n', "", path.read_text()) + other)
        assert not any("human votes" in problem for problem in check(path).problems)


def test_check_says_what_a_listener_and_fuse_have_no_votes_for(tmp_path: Path) -> None:
    path = corpus(tmp_path, sections='[listen]\n[fuse]\nmethod = "pool"\n')
    lines = (tmp_path / "votes.csv").read_text().splitlines()
    rated = len({line.split(",")[0] for line in lines[1:]})
    assert rated < 20
    (problem,) = check(path).problems
    assert problem.startswith("listen needs 20 utterances with human votes that are not held out")
    assert f"there are {rated}. Have more rated" in problem
    path.write_text(path.read_text() + "[hold_out]\nkeep = 0\n")
    listen, fuse = check(path).problems
    assert "there are 0. Have more rated, hold out fewer votes" in listen
    assert "no human votes to fit pool to: " in fuse
    assert "are held out. Hold out fewer" in fuse


HELD_OUT = """\
[hold_out]
keep = 1
[fuse]
method = "human"
[[train]]
name = "prosody"
recipe = "features"
[evaluate]
"""


def refused(path: Path) -> str:
    """The one problem that check finds; run stops with it after read, before anything is fused or trained."""
    problems = check(path).problems
    assert len(problems) == 1
    with pytest.raises(InputError) as error:
        run(path, quiet=True)
    assert str(error.value).rstrip(".") == problems[0].rstrip(".")
    assert [stage.name for stage in (path.parent / "out").iterdir() if stage.is_dir()] == ["read"]
    return problems[0]


def test_what_evaluate_cannot_score_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    path = corpus(tmp_path, sections=HELD_OUT)
    assert "trained on the speaker of every utterance" in refused(path)
    split = path.read_text().replace("source =", 'split = "speakers:.5,.25,.25"\nsource =')
    path.write_text(split)
    assert check(path).problems == ()
    assert "evaluate: 3 utterances with held-out votes are apart from what models are trained on" in check(path).facts
    path.write_text((FILE + HELD_OUT).replace('speaker = "who", ', ""))
    assert 'columns = { ..., speaker = "..." }' in refused(path)
    path.write_text(split.replace("[hold_out]\nkeep = 1\n", ""))
    assert "Write [hold_out]" in refused(path)


def test_check_says_which_labels_are_learned_from(tmp_path: Path) -> None:
    path = corpus(tmp_path, sections=HELD_OUT.replace("[evaluate]", ""))
    text = path.read_text()
    assert any("about 12 labels of split train to learn from; 10% of their" in fact for fact in check(path).facts)
    path.write_text(text.replace("source =", 'split = "speakers:.5,.25,.25"\nsource ='))
    said = "train prosody: about 6 labels of split train to learn from, 3 of development choose the epoch"
    assert said in check(path).facts
    path.write_text(path.read_text() + '[balance]\nsplits = ["train"]\n')
    assert said in check(path).facts


def test_an_export_that_would_have_no_item_is_a_problem_and_one_without_some_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = '[fuse]\nmethod = "human"\n[[export]]\nformat = "huggingface"\n'
    path = corpus(tmp_path, sections=sections)
    (said,) = check(path).problems
    assert said.startswith("nothing can be exported as huggingface")
    assert command(["check", str(path)]) == 2
    assert capsys.readouterr().out == "1 problem\n"
    assert "12 recordings may not be copied into the format: the corpus mine has to stay" in said
    assert 'may_leave = ["mine"]' in said
    with pytest.raises(InputError, match="nothing can be exported"):
        run(path, quiet=True)
    path.write_text(path.read_text() + 'may_leave = ["mine"]\n')
    table = tmp_path / "votes.csv"
    table.write_text(table.read_text() + "\nc99,s1,r1,sad,")
    (tmp_path / "c3.wav").write_bytes(b"")
    checked = check(path)
    assert checked.problems == ()
    assert any("1 utterance has no recording; left out of the export" in warning for warning in checked.warnings)
    assert any("1 of 12 recordings is empty" in warning for warning in checked.warnings)
    assert command(["run", str(path), "--quiet"]) == 1
    assert command(["run", str(path), "--quiet", "--max-left-out", "0.2"]) == 0
    path.write_text(path.read_text().replace('"huggingface"', '"csv"').replace("may_leave", "# may_leave"))
    assert check(path).problems == ()


def test_a_corpus_that_is_no_longer_where_it_was_is_one_problem(tmp_path: Path) -> None:
    path = corpus(tmp_path / "before", count=24, sections="[listen]\n[fuse]\n")
    moved = tmp_path / "mine.toml"
    moved.write_text(path.read_text().replace('"votes.csv"', '"before/votes.csv"'))
    run(moved, quiet=True)
    (tmp_path / "before").rename(tmp_path / "after")
    (problem,) = check(moved).problems
    assert "before/votes.csv: there is no such file" in problem


def test_a_list_of_missing_recordings_that_breaks_off_has_no_full_stop_behind_its_dots(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    for number in range(9):
        (tmp_path / f"c{number}.wav").unlink()
    (warning,) = (warning for warning in check(path).warnings if "missing" in warning)
    assert " ... Check the path." in warning


TRAINED = """taxonomy = "crema6"
folder = "o"
[simulate]
[fuse]
[[train]]
name = "d"
recipe = "alm"
alm = { new = {}, prompt = "deep/mine.toml" }
"""


def test_check_finds_a_prompt_for_training_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(TRAINED)
    (problem,) = check(file).problems
    assert str(tmp_path / "deep" / "mine.toml") in problem
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.toml").write_text('elicits = "label"\nafter = "One of {{ choices }}?"\n')
    assert check(file).problems == ()


@pytest.mark.parametrize(
    "augment", ['effect = "gane"', 'effect = "gain"', 'effect = "gain", between = { decibels = [5, -5] }',
                'effect = "noise", between = { snr = [0, 500] }', 'effect = "noise", between = { loud = [0, 5] }']
)  # fmt: skip
def test_check_finds_an_effect_that_training_cannot_apply(augment: str, tmp_path: Path, wording: Wording) -> None:
    file = tmp_path / "p.toml"
    block = f'[[train]]\nname = "w"\nrecipe = "encoder"\nmodel = "a/b"\naugment = [{{ {augment} }}]\n'
    file.write_text(f'taxonomy = "crema6"\nfolder = "o"\n[simulate]\n[fuse]\n{block}')
    (problem,) = check(file).problems
    wording(problem)
