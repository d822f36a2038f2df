"""`check` says before a run whether evaluate could score anything: by speaker, or by split where these are unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_proxies.pipeline.check import check
from alm_proxies.printable import counted

PIPELINE = """
folder = "run"
taxonomy = ["happy", "sad"]
[[read]]
format = "table"
source = "votes.csv"
corpus = "mine"
columns = { utterance_id = "clip", annotator = "rater", label = "heard", speaker = "who", split = "part" }
[hold_out]
splits = ["test"]
[fuse]
method = "human"
[[train]]
recipe = "features"
[evaluate]
"""


@pytest.mark.parametrize(
    ("speakers", "splits", "scored"),
    [
        (("a", "b", "c", "d"), ("train", "train", "test", "test"), 2),
        (("a", "b", "a", "d"), ("train", "train", "test", "test"), 1),
        (("", "b", "c", ""), ("train", "train", "test", "test"), 2),
        (("", "", "", ""), ("train", "train", "test", "test"), 2),
        (("a", "b", "a", ""), ("train", "train", "test", "test"), 1),
        (("", "b", "c", "d"), ("", "train", "test", "test"), 0),
    ],
)
def test_a_split_stands_for_speakers_that_are_not_known(
    speakers: tuple[str, ...], splits: tuple[str, ...], scored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        f"u{number},{rater},happy,{speaker},{split}"
        for number, (speaker, split) in enumerate(zip(speakers, splits, strict=True))
        for rater in ("r1", "r2", "r3")
    ]
    Path("votes.csv").write_text("\n".join(["clip,rater,heard,who,part", *rows]))
    Path("p.toml").write_text(PIPELINE)
    checked = check("p.toml")
    are = counted(scored, "utterance with held-out votes is", "utterances with held-out votes are")
    fact = f"{are} apart from what models are trained on"
    assert (fact in " ".join(checked.facts)) == (scored > 0), checked.facts
    assert any("evaluate has nothing to score" in problem for problem in checked.problems) == (scored == 0)


@pytest.mark.parametrize(("words", "scored"), [(("happy", "sad"), 2), (("happy", "cold"), 1), (("cold", "cold"), 0)])
def test_a_held_out_vote_for_no_label_scores_nothing(
    words: tuple[str, str], scored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"u{number},r1,happy,s{number},train" for number in range(3)]
    rows += [f"t{number},r1,{word},t{number},test" for number, word in enumerate(words)]
    Path("votes.csv").write_text("\n".join(["clip,rater,heard,who,part", *rows]))
    Path("p.toml").write_text(PIPELINE.replace("[hold_out]", 'map = { cold = "outside" }\n[hold_out]'))
    checked = check("p.toml")
    are = counted(scored, "utterance with held-out votes is", "utterances with held-out votes are")
    assert any(fact.endswith(f"{are} apart from what models are trained on") for fact in checked.facts) == (scored > 0)
    assert any("evaluate has nothing to score" in problem for problem in checked.problems) == (scored == 0)
