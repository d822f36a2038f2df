"""A labels file is explained from the votes files that it was fused from, wherever they are, and from no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.cli.app import run as command
from alm_proxies.errors import InputError
from alm_proxies.pipeline.explain import explain
from alm_proxies.stages.fuse.files import fuse_files
from alm_proxies.stages.fuse.stage import FuseSettings
from alm_proxies.tables import About, AnnotatorCard, Labels, Utterances, Votes

LABELS = ("angry", "happy", "sad")
MANY = 90
ONE = "c/00007"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Human votes of known raters, and two proxies of which one knows some of the speakers, in folders of their own."""
    folder = tmp_path_factory.mktemp("explained")
    rng = np.random.default_rng(0)
    heard = rng.integers(3, size=MANY)
    ids = [f"c/{i:05d}" for i in range(MANY)]

    def label(right: float, i: int) -> str:
        return LABELS[heard[i] if rng.random() < right else rng.integers(3)]

    human = [(ids[i], f"c/r{(i + j) % 5}", label(0.6, i), j == 3) for i in range(MANY) for j in range(4)]
    proxy = [(ids[i], name, d, label(0.5, i)) for i in range(MANY) for name in ("warm", "trained") for d in range(3)]
    for name in ("read", "annotate", "fuse"):
        (folder / name).mkdir()
    Votes.of(
        pl.DataFrame(human, schema=["utterance_id", "annotator", "label", "held_out"], orient="row"), taxonomy=LABELS
    ).write(folder / "read" / "votes.parquet")
    trained = AnnotatorCard(digest="0" * 16, trained_on={"c": ["c/s2"]})
    Votes.of(
        pl.DataFrame(proxy, schema=["utterance_id", "annotator", "draw", "label"], orient="row").with_columns(
            source=pl.lit("proxy")
        ),
        taxonomy=LABELS,
        about=About(annotators={"trained": trained}),
    ).write(folder / "annotate" / "votes.parquet")
    people = pl.DataFrame({"utterance_id": ids, "corpus": "c", "speaker": [f"c/s{i % 5}" for i in range(MANY)]})
    Utterances.of(people.with_columns(duration=pl.Series(rng.random(MANY) * 5))).write(folder / "utterances.parquet")
    return folder


def fused(corpus: Path, method: str, folder: Path) -> tuple[Path, list[Path]]:
    votes = [corpus / "read" / "votes.parquet", corpus / "annotate" / "votes.parquet"]
    given = [
        "--utterances",
        str(corpus / "utterances.parquet"),
        "--method",
        method,
        "-o",
        str(folder / "labels.parquet"),
    ]
    assert command(["fuse", *map(str, votes), *given, "--quiet"]) == 0
    return folder / "labels.parquet", votes


@pytest.fixture
def not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr("alm_proxies.pipeline.tracing.fuse", fit)


@pytest.mark.parametrize("method", ["auto", "gated", "mixture", "dirichlet", "weighted", "human", "pool"])
def test_every_method_is_traced_without_a_second_fit(
    corpus: Path, method: str, tmp_path: Path, not_fitted: None
) -> None:
    labels, votes = fused(corpus, method, tmp_path)
    for utterance in (ONE, "c/00003"):
        explained = explain(labels, utterance, votes=votes, utterances=corpus / "utterances.parquet")
        assert explained.notes == []
        assert explained.method == method
        moved = {row["annotator"]: row["moved"] for row in explained.influence}
        assert set(moved) >= {"warm", "c/r3"}
        # c/00007 is of a speaker that `trained` was trained on, so that its votes did not count
        assert ("trained" in moved) == (utterance != ONE)
        assert len(explained.votes) == 10
    lines = "\n".join(explain(labels, ONE, votes=votes, utterances=corpus / "utterances.parquet").lines())
    assert "  proxy  trained #2: " in lines


def test_a_second_fit_without_the_utterances_of_the_first_asks_for_them(corpus: Path, tmp_path: Path) -> None:
    labels, votes = fused(corpus, "auto", tmp_path)
    people = corpus / "utterances.parquet"
    first = explain(labels, ONE, votes=votes, utterances=people)
    (tmp_path / "labels.fitted.json").unlink()
    with pytest.raises(InputError) as refused:
        explain(labels, ONE, votes=votes)
    assert refused.value.where == str(labels)
    assert "--utterances" in str(refused.value.fix)
    again = explain(labels, ONE, votes=votes, utterances=people)
    assert [row["annotator"] for row in again.influence] == [row["annotator"] for row in first.influence]


def test_an_utterance_that_is_not_there_is_said_of_the_file_that_was_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused(corpus, "human", tmp_path)
    monkeypatch.chdir(tmp_path)
    for given in ("labels.parquet", "."):
        with pytest.raises(InputError) as refused:
            explain(given, "c/none")
        assert refused.value.where == given


def test_folders_of_votes_are_taken_for_their_files(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], not_fitted: None
) -> None:
    labels, _ = fused(corpus, "weighted", tmp_path)
    given = [
        "--votes",
        str(corpus / "read"),
        str(corpus / "annotate"),
        "--utterances",
        str(corpus / "utterances.parquet"),
    ]
    capsys.readouterr()
    assert command(["explain", str(labels), ONE, *given]) == 0
    out = capsys.readouterr().out
    assert command(["explain", str(labels), ONE, *given[:-1], str(corpus)]) == 0
    assert capsys.readouterr().out == out
    assert "label (weighted, strength" in out
    assert "without an annotator the label would move by" in out
    assert command(["explain", str(labels), ONE, "--votes", str(tmp_path)]) == 2
    assert "has no votes.parquet" in capsys.readouterr().err


def test_brackets_in_a_folders_name_are_no_pattern(corpus: Path, tmp_path: Path, not_fitted: None) -> None:
    shutil.copytree(corpus, tmp_path / "run[1]")
    fused(tmp_path / "run[1]", "weighted", tmp_path / "run[1]" / "fuse")
    explained = explain(tmp_path / "run[1]", ONE)
    assert (explained.method, len(explained.votes)) == ("weighted", 10)
    with pytest.raises(InputError, match=ONE):
        explain(tmp_path / "run[1]", ONE.upper())


def test_votes_that_do_not_give_the_label_are_refused_in_one_sentence(
    corpus: Path, tmp_path: Path, not_fitted: None
) -> None:
    labels, votes = fused(corpus, "weighted", tmp_path)
    row = Labels.read(labels).frame.row(by_predicate=pl.col("utterance_id") == ONE, named=True)
    with pytest.raises(InputError) as refused:
        explain(labels, ONE, votes=votes[:1], utterances=corpus / "utterances.parquet")
    message = str(refused.value)
    assert message.startswith(f"votes: the labels were not fused from these votes: {ONE} has ")
    assert f"from 3 human and {row['proxy_votes']:g} proxy votes, and the 3 and 0 votes here give " in message
    assert "Give the votes files that fuse was given" in message
    changed = Votes.read(votes[0])
    other = changed.frame.with_columns(label=pl.lit("sad"))
    Votes.of(other, about=changed.about).write(tmp_path / "changed.parquet")
    with pytest.raises(InputError, match="were not fused from these votes"):
        explain(labels, ONE, votes=[tmp_path / "changed.parquet", votes[1]])
    renamed = pl.col("label").replace({"happy": "joy"})
    Votes.of(changed.frame.with_columns(renamed), taxonomy=("angry", "joy", "sad")).write(tmp_path / "joy.parquet")
    with pytest.raises(InputError, match="the votes have the taxonomy angry, joy, sad"):
        explain(labels, ONE, votes=[tmp_path / "joy.parquet"])
    with pytest.raises(InputError, match="there is no such file"):
        explain(labels, ONE, votes=[tmp_path / "none.parquet"])


def test_a_folder_whose_votes_are_others_says_so_and_shows_the_rest(
    corpus: Path, tmp_path: Path, not_fitted: None
) -> None:
    labels, votes = fused(corpus, "weighted", tmp_path)
    alone = explain(labels, ONE)
    assert alone.votes == []
    assert "votes: none here" in list(alone.lines())
    assert alone.label["p_sad"] > 0
    assert any(
        "there is no vote on 'c/00007'. Name the votes files that fuse was given: --votes" in n for n in alone.notes
    )
    shutil.copy(votes[0], tmp_path / "votes.parquet")
    explained = explain(tmp_path, ONE)
    assert len(explained.votes) == 4
    assert explained.influence == []
    assert any("the labels were not fused from these votes" in note for note in explained.notes)


def test_of_the_votes_in_a_folder_those_behind_the_label_are_found(
    corpus: Path, tmp_path: Path, not_fitted: None
) -> None:
    _, votes = fused(corpus, "weighted", tmp_path)
    shutil.copy(corpus / "utterances.parquet", tmp_path)
    shutil.copy(votes[0], tmp_path / "human.parquet")
    shutil.copy(votes[1], tmp_path / "proxies.parquet")
    later = pl.DataFrame({"utterance_id": [ONE], "annotator": ["c/later"], "label": ["angry"]})
    Votes.of(later, taxonomy=LABELS).write(tmp_path / "more.parquet")
    explained = explain(tmp_path, ONE)
    assert explained.notes == []
    assert "c/later" in {vote["annotator"] for vote in explained.votes}
    assert "c/later" not in {row["annotator"] for row in explained.influence}
    assert {row["annotator"] for row in explained.influence} >= {"warm", "c/r3"}


def test_without_the_estimator_beside_them_labels_are_traced_by_a_new_fit(corpus: Path, tmp_path: Path) -> None:
    labels, votes = fused(corpus, "gated", tmp_path)
    people = corpus / "utterances.parquet"
    kept = explain(labels, ONE, votes=votes, utterances=people)
    (tmp_path / "labels.fitted.json").unlink()
    again = explain(labels, ONE, votes=votes, utterances=people)
    assert again.influence == kept.influence
    with pytest.raises(InputError, match="were not fused from these votes"):
        explain(labels, ONE, votes=votes[:1], utterances=people)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_big_files_are_fitted_again_part_by_part(
    corpus: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, votes = fused(corpus, "weighted", tmp_path)
    plain = []
    for number, path in enumerate(votes):
        frame = pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=number)
        frame = frame.select("utterance_id", "annotator", "draw", "source", "label", "held_out")
        plain.append(tmp_path / f"{number}.{ending}")
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](plain[-1])
    labels, people = tmp_path / "again.parquet", corpus / "utterances.parquet"
    settings, named = FuseSettings(method="gated"), ",".join(LABELS)
    fuse_files(plain, labels, settings, utterances=people, taxonomy=named)
    whole = explain(labels, ONE, votes=plain, utterances=people)

    def no_fit(*_: object, **__: object) -> None:
        raise AssertionError("all votes are held")

    monkeypatch.setattr("alm_proxies.pipeline.tracing.fuse", no_fit)
    monkeypatch.setattr("alm_proxies.pipeline.tracing._WHOLE_ROWS", 0)
    parts = explain(labels, ONE, votes=plain, utterances=people)
    assert whole.notes == parts.notes == []
    assert len(whole.influence) >= 5
    assert parts.influence == whole.influence
    assert parts.votes == whole.votes
    assert len(parts.votes) == 10


def test_bare_votes_have_the_labels_of_the_file_that_is_explained(
    corpus: Path, tmp_path: Path, not_fitted: None
) -> None:
    frame = Votes.read(corpus / "read" / "votes.parquet").frame.select("utterance_id", "annotator", "label")
    for name in ("bare.parquet", "bare.csv"):
        path = tmp_path / name
        frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
        fuse_files([path], tmp_path / "labels.parquet", FuseSettings(method="human"), taxonomy=",".join(LABELS))
        done = command(["fuse", str(path), "--taxonomy", ",".join(LABELS), "--method", "human", "-o",
                        str(tmp_path / "labels.parquet"), "--quiet"])  # fmt: skip
        assert done == 0
        assert len(explain(tmp_path / "labels.parquet", ONE, votes=[path]).influence) == 4


def two_corpora(folder: Path, prefixes: tuple[str, str]) -> Path:
    """Two folders, each of a corpus of its own, with an utterance `7` that two raters heard differently."""
    for corpus, prefix, label in zip("ab", prefixes, ("angry", "sad"), strict=True):
        place = folder / corpus
        place.mkdir()
        who = {"utterance_id": [f"{prefix}7"], "corpus": [corpus], "speaker": [f"{corpus}/s"]}
        Utterances.of(pl.DataFrame(who)).write(place / "utterances.parquet")
        cast = {"utterance_id": [f"{prefix}7"], "annotator": [f"{corpus}/r"], "label": [label]}
        Votes.of(pl.DataFrame(cast), taxonomy=LABELS).write(place / "votes.parquet")
    return folder


def test_labels_of_a_folder_of_recordings_are_explained_from_that_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "calls").mkdir()
    for number in range(3):
        soundfile.write(tmp_path / "calls" / f"a{number}.wav", np.full(8_000, 0.1), 16_000)
    frame = pl.DataFrame({"utterance_id": [f"calls/a{i}" for i in range(3)], "annotator": "p", "label": LABELS})
    Votes.of(frame.with_columns(source=pl.lit("proxy")), taxonomy=LABELS).write(tmp_path / "votes.parquet")
    place, given = tmp_path / "labels.parquet", ["--utterances", str(tmp_path / "calls")]
    assert command(["fuse", str(tmp_path / "votes.parquet"), *given, "--method", "pool", "-o", str(place)]) == 0
    capsys.readouterr()
    assert command(["explain", str(place), "calls/a1", "--votes", str(tmp_path / "votes.parquet"), *given]) == 0
    assert "happy 1.000" in capsys.readouterr().out


def test_a_labels_file_that_is_not_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        explain(tmp_path / "labels.parquet", "a")


def test_one_id_of_two_corpora_is_refused_until_one_of_them_is_named(tmp_path: Path) -> None:
    folder = two_corpora(tmp_path, ("", ""))
    with pytest.raises(InputError, match="of the corpus 'a' in a/utterances.parquet and of 'b' in b/") as refused:
        explain(folder, "7")
    assert "--utterances and --votes" in refused.value.fix
    of_one = (explain(folder / "b", "7"), explain(folder, "7", votes=[folder / "b"], utterances=folder / "b"))
    for explained in of_one:
        assert (explained.utterance["corpus"], [vote["label"] for vote in explained.votes]) == ("b", ["sad"])


def test_ids_like_the_one_that_is_not_there_are_proposed_in_any_case_and_with_any_prefix(tmp_path: Path) -> None:
    folder = two_corpora(tmp_path, ("One/U", "Two/U"))
    with pytest.raises(InputError) as refused:
        explain(folder, " u7")
    assert refused.value.fix == "Did you mean 'One/U7' or 'Two/U7'?"
    with pytest.raises(InputError) as refused:
        explain(folder, "")
    assert refused.value.fix == "The first there is: One/U7."


def test_a_folder_with_votes_alone_and_an_utterance_without_votes_are_explained_by_what_is_there(
    tmp_path: Path,
) -> None:
    folder = two_corpora(tmp_path, ("", "other/"))
    (folder / "a" / "utterances.parquet").unlink()
    alone = explain(folder / "a", "7")
    assert (alone.utterance, [vote["annotator"] for vote in alone.votes]) == ({"utterance_id": "7"}, ["a/r"])
    (folder / "b" / "votes.parquet").unlink()
    assert list(explain(folder / "b", "other/7").lines()) == ["other/7  speaker 'b/s'", "votes: none here"]
