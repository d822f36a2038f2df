"""`check` says before a run whether evaluate could score anything: by speaker, or by split where these are unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_proxies.errors import InputError
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.run import run
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


@pytest.mark.parametrize(("taxonomy", "refused"), [("iemocap4", True), ("crema6", False)])
def test_the_truth_of_a_synthetic_corpus_has_the_labels_of_the_pipeline(
    taxonomy: str, refused: bool, tmp_path: Path
) -> None:
    path = tmp_path / "p.toml"
    stages = '[fuse]\nmethod = "human"\n[[train]]\nrecipe = "features"\n[evaluate]\n'
    corpus = "[simulate]\nutterances = 12\nspeakers = 12\ndense = 2\n"
    path.write_text(f'taxonomy = "{taxonomy}"\nfolder = "out"\n{corpus}{stages}')
    path.write_text(path.read_text() + "[vary]\nseed = [1, 2]\n")
    problems = check(path).problems
    assert [problem.count("truth") for problem in problems if "truth" in problem] == ([1] if refused else [])
    if refused:
        with pytest.raises(InputError, match="truth"):
            run(path, quiet=True)
        assert not (tmp_path / "out" / "fuse").exists(), "nothing is fused or trained before"
        assert any("truth" in problem for problem in check(path).problems), "also by the corpus that is there now"
