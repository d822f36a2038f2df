"""Pipelines with varied settings of annotate and failing annotators: the price in check, and the end of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripted_annotators import of_a_table

from alm_proxies.cli.app import run as command
from alm_proxies.pipeline.check import check

FILE = """\
taxonomy = "crema6"
folder = "{folder}/out"
[[read]]
corpus = "mine"
format = "table"
source = "votes.csv"
[annotate]
panel = ["broken.toml"]
injection = 0
stop = {{ collapse = 1.0, failed = 1.0, refused = 1.0 }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Twenty utterances, five of them with unparsable answers."""
    soundfile.write(tmp_path / "tone.wav", 0.2 * np.sin(np.arange(96_000) / 9), 16_000)
    rows = [f"u{number},r,happy,tone.wav,6.0" for number in range(20)]
    (tmp_path / "votes.csv").write_text("\n".join(["utterance_id,annotator,label,audio,duration", *rows]))
    answers = [f"mine/u{number},{'well' if number < 5 else 'happy'}" for number in range(20)]
    (tmp_path / "answers.csv").write_text("\n".join(["utterance_id,text", *answers]))
    of_a_table(tmp_path, "broken", price=1.0)
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(folder=tmp_path))
    return path


def test_check_prices_every_annotate_setting_of_vary_and_sums_them(file: Path) -> None:
    once = check(file)
    assert once.planned_votes == 40
    assert once.expected_price == pytest.approx(2.0)
    file.write_text(
        file.read_text() + '[fuse]\n[vary]\n"annotate.limit" = [20, 10]\n"fuse.method" = ["pool", "human"]\n'
    )
    checked = check(file)
    assert not checked.problems
    assert checked.planned_votes == 60
    assert checked.expected_price == pytest.approx(3.0)
    assert "annotate/annotate.limit=10: 20 votes planned, about 1.00" in checked.facts
    summed = "60 votes planned for 2 settings of annotate together, about 3.00"
    assert summed in checked.facts


def test_check_says_that_a_budget_holds_for_each_annotate_setting(file: Path) -> None:
    text = file.read_text().replace("injection = 0", "injection = 0\nbudget = 1.5")
    file.write_text(text)
    alone = "the budget of 1.50 would be reached first: annotate stops before it is exceeded"
    assert [fact for fact in check(file).facts if "the budget" in fact] == [alone]
    file.write_text(text + '[vary]\n"annotate.limit" = [20, 10]\n')
    facts = check(file).facts
    assert f"annotate/annotate.limit=20: {alone}" in facts
    assert f"annotate/annotate.limit=10: {alone}" not in facts
    assert "a budget applies to each setting of annotate, not to all of them: together about 2.50 is spent" in facts


def test_a_run_that_leaves_out_more_votes_than_allowed_ends_as_annotate_alone_does(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = file.parent
    assert command(["run", str(file), "--quiet", "--max-left-out", "0.3"]) == 0
    assert "(10 of 40 votes left out in annotate)" in capsys.readouterr().out
    assert command(["run", str(file), "--quiet", "--json"]) == 1, "nothing runs again, and as much is left out"
    assert json.loads(capsys.readouterr().out)["left_out"] == {str(folder / "out" / "annotate"): 10}
    utterances, annotator = folder / "out" / "read" / "utterances.parquet", folder / "broken.toml"
    alone = ["annotate", str(utterances), "--annotator", str(annotator), "--taxonomy", "crema6", "--injection", "0"]
    for allow, code in (("0.3", 0), ("0.1", 1)):
        assert command([*alone, "-o", str(folder / "alone"), "--quiet", "--max-left-out", allow]) == code
    assert "(10 of 40 votes left out)" in capsys.readouterr().out


def test_every_cost_has_the_currency_of_the_annotator_files(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotator = tmp_path / "broken.toml"
    annotator.write_text(annotator.read_text().replace("audio_minute = 1.0", 'audio_minute = 1.0, currency = "EUR"'))
    varied = file.read_text().replace("injection = 0", "injection = 0\nbudget = 1.5")
    file.write_text(varied + '[fuse]\n[vary]\n"annotate.limit" = [20, 10]\n"fuse.method" = ["pool"]\n')
    costs = [fact for fact in check(file).facts if "about" in fact or "budget of" in fact]
    assert len(costs) >= 5
    assert all(" EUR" in fact for fact in costs)
    file.write_text(varied + '[fuse]\nmethod = "pool"\n')
    command(["run", str(file), "--quiet"])
    capsys.readouterr()
    assert command(["explain", str(tmp_path / "out"), "mine/u9"]) == 0
    assert "these votes cost 0.10 EUR" in capsys.readouterr().out
    assert command(["status", str(tmp_path / "out")]) == 0
    spent = [line for line in capsys.readouterr().out.splitlines() if "spent" in line]
    assert len(spent) == 3
    assert all("EUR spent" in line for line in spent)
