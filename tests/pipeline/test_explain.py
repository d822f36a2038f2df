"""Every number of a label can be traced: votes, weights, the effect of each annotator."""

import json
from pathlib import Path

import pytest

from alm_proxies.cli.app import run as command
from alm_proxies.errors import InputError
from alm_proxies.pipeline.explain import explain
from alm_proxies.pipeline.run import run

FILE = """\
taxonomy = "happy,sad"
folder = "out"
[[read]]
corpus = "mine"
format = "table"
source = "votes.csv"
columns = { utterance_id = "clip", annotator = "rater", label = "heard" }
[hold_out]
keep = 3
[fuse]
method = "METHOD"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [f"c{c},r{r},{('happy', 'sad')[(c + (r == 2)) % 2]}" for c in range(12) for r in range(4)]
    (tmp_path / "votes.csv").write_text("clip,rater,heard\n" + "\n".join(rows) + "\n")
    path = tmp_path / "p.toml"
    path.write_text(FILE.replace("METHOD", "human"))
    return path


def test_a_label_is_traced_to_its_votes_and_what_each_rater_does_to_it(file: Path) -> None:
    run(file, quiet=True)
    explained = explain(file.parent / "out", "mine/c1")
    assert explained.method == "human"
    assert len(explained.votes) == 4
    held = {vote["annotator"] for vote in explained.votes if vote["held_out"]}
    moved = {row["annotator"]: row["moved"] for row in explained.influence}
    assert {name for name, share in moved.items() if share == 0} == held
    lines = "\n".join(explained.lines())
    assert "mine/r2 #0: happy x 1 (ok" in lines
    assert ", strength " in lines
    assert "proxies add +0.0 to its strength" in lines
    assert f"{next(iter(held))} #0" in lines


def test_where_raters_are_weighed_together_it_says_so(file: Path) -> None:
    file.write_text(FILE.replace("METHOD", "dawid_skene"))
    run(file, quiet=True)
    explained = explain(file.parent / "out", "mine/c1")
    assert explained.influence == []
    assert any("weighs raters together" in line for line in explained.lines())


def test_it_is_asked_from_any_folder_and_in_json(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["run", "p.toml", "--quiet"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert command(["explain", "../out", "mine/c1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"]["utterance_id"] == "mine/c1"


@pytest.mark.parametrize(
    ("utterance", "number", "message"),
    [
        ("c1", 0, "Did you mean 'mine/c1'"),
        ("INE/c1", 0, "Did you mean 'mine/c1'"),
        ("zzz", 0, "The first there is: mine/c0"),
        ("mine/c1", 3, "no run 3"),
    ],
)
def test_what_is_not_there_is_said(file: Path, utterance: str, number: int, message: str) -> None:
    run(file, quiet=True)
    with pytest.raises(InputError, match=message):
        explain(file.parent / "out", utterance, number=number)
    with pytest.raises(InputError, match="contains no results of alm-proxies"):
        explain(file.parent / "votes.csv", utterance)
    (file.parent / "out" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        explain(file.parent / "out", utterance)


def test_ratings_are_shown_on_the_scale_that_the_raters_had(file: Path) -> None:
    rows = [f"c{c},r{r},{('happy', 'sad')[c % 2]},{1 + (c + r) % 5}" for c in range(12) for r in range(4)]
    (file.parent / "votes.csv").write_text("clip,rater,heard,felt\n" + "\n".join(rows) + "\n")
    mapped = 'label = "heard", valence = "felt" }\nscales = { valence = [5, 1] }'
    file.write_text(FILE.replace("METHOD", "human").replace('label = "heard" }', mapped))
    run(file, quiet=True)
    explained = explain(file.parent / "out", "mine/c1")
    assert {vote["annotator"]: vote["valence"] for vote in explained.votes}["mine/r2"] == pytest.approx(0.25)
    lines = list(explained.lines())
    assert any("mine/r2 #0: sad  valence 4 (5 to 1) x 1" in line for line in lines)
    assert any(line.startswith("mean rating, estimated: valence ") and line.endswith("(5 to 1)") for line in lines)


def test_the_estimator_beside_the_labels_gives_the_same_as_a_second_fit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(FILE.replace("METHOD", "auto"))
    run(file, quiet=True)
    kept = file.parent / "out" / "fuse" / "fitted.json"
    fitted = kept.read_text()
    for broken in ("{", "[]", fitted.replace('"version": "', '"version": "0'), fitted.replace("alm_proxies.", "os.")):
        kept.write_text(broken)
        again = explain(file.parent / "out", "mine/c1")
    kept.write_text(fitted)

    def no_fit(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr("alm_proxies.pipeline.tracing.fuse", no_fit)
    explained = explain(file.parent / "out", "mine/c1")
    assert explained.method == again.method == "auto"
    assert explained.influence == again.influence
    assert explained.votes == again.votes
    assert len(explained.influence) == 4


def test_labels_of_a_command_have_their_estimator_beside_them(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(file, quiet=True)
    monkeypatch.chdir(tmp_path)
    votes = "out/read/votes.parquet"
    assert command(["fuse", votes, "--method", "human", "-o", "own/mine.parquet", "--quiet"]) == 0
    assert (tmp_path / "own" / "mine.fitted.json").is_file()
    (tmp_path / "own" / "votes.parquet").write_bytes(Path(votes).read_bytes())
    monkeypatch.setattr("alm_proxies.pipeline.tracing.fuse", None)
    explained = explain(tmp_path / "own", "mine/c1")
    assert explained.method == "human"
    assert len(explained.influence) == 4
