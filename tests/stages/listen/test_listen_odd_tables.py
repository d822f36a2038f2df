"""The listener on tables that lack something: nothing is lost in silence, and what cannot be done is refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from toy_corpus import SETTINGS, Corpus

from alm_proxies.alone import alone_in
from alm_proxies.errors import InputError
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.stages.listen.stage import listen
from alm_proxies.tables import Utterances, Votes


def test_votes_of_one_fold_alone_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"rounds": 1})
    folds = listen(corpus.utterances, corpus.votes, tmp_path, settings).votes.about.annotators["listener"].folds
    assert folds is not None
    same = [speaker for speaker, where in folds.items() if where == folds["toy/s0"]]
    ids = corpus.utterances.frame.filter(pl.col("speaker").is_in(same))["utterance_id"]
    few = corpus.votes.frame.filter(pl.col("utterance_id").is_in(ids.implode()))
    with pytest.raises(InputError, match="all human votes are of the speakers of one of 3 folds"):
        listen(corpus.utterances, Votes(few, corpus.votes.about), tmp_path, settings)


def test_bad_recordings_and_utterances_without_votes_or_speakers_are_findings_and_lose_nothing(
    corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "wav").mkdir()
    for path in corpus.folder.glob("*.wav"):
        (tmp_path / "wav" / path.name).symlink_to(path)
    (tmp_path / "wav" / "0.wav").unlink()
    (tmp_path / "wav" / "1.wav").unlink()
    (tmp_path / "wav" / "1.wav").write_text("no sound")
    frame = corpus.utterances.frame.with_columns(
        audio=pl.when(pl.col("utterance_id") == "toy/002").then(None).otherwise(pl.col("audio")),
        speaker=pl.when(pl.col("utterance_id").str.ends_with("1")).then(pl.lit("toy/new")).otherwise(pl.col("speaker")),
    )
    utterances = Utterances(frame, corpus.utterances.about.with_(roots={"toy": str(tmp_path / "wav")}))
    new = frame.filter(pl.col("speaker") == "toy/new")["utterance_id"]
    votes = corpus.votes.frame.filter(
        ~pl.col("utterance_id").is_in(new.implode()) & (pl.col("utterance_id") != "toy/003")
    )
    stray = votes.head(1).with_columns(utterance_id=pl.lit("toy/stray"))
    result = listen(utterances, Votes(pl.concat([votes, stray]), corpus.votes.about), tmp_path / "out", SETTINGS)
    voted = set(result.votes.frame["utterance_id"])
    assert voted == set(frame["utterance_id"]) - {"toy/000", "toy/001", "toy/002"}
    kinds = result.findings.counts()
    assert kinds["missing"] == kinds["not_audio"] == kinds["no_audio"] == kinds["no_utterance"] == 1
    assert kinds["not_learned_from"] == len(new) + 1
    assert result.counts == {"votes": len(frame) - 3, "recordings": len(frame), "left_out": 3}
    assert set(result.findings.frame["stage"]) == {"listen"}
    card = result.votes.about.annotators["listener"]
    assert card.folds is not None
    assert set(card.folds) == set(frame["speaker"]), "speakers without votes have a fold too"


def test_a_folder_in_which_another_listener_is_trained_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with alone_in(tmp_path, "listen", ""), pytest.raises(InputError, match="another listen is writing into this"):
        listen(corpus.utterances, corpus.votes, tmp_path, SETTINGS)
    assert not list(tmp_path.iterdir())


def test_without_speakers_folds_are_of_utterances_and_it_is_said(corpus: Corpus, tmp_path: Path) -> None:
    frame = corpus.utterances.frame.with_columns(speaker=pl.lit(None, dtype=pl.String))
    result = listen(Utterances(frame, corpus.utterances.about), corpus.votes, tmp_path, SETTINGS)
    findings = result.findings.frame.filter(pl.col("kind") == "folds_of_utterances")
    assert "have no speakers" in findings["message"][0]
    card = result.votes.about.annotators["listener"]
    assert card.folds is not None
    assert set(card.folds) == set(frame["utterance_id"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "intervals over utterances" in page
    assert "The folds are of utterances, not of speakers" in page
    assert "other speakers" not in page


def test_two_known_speakers_are_too_few_to_judge_a_listener_whose_folds_are_of_utterances(
    corpus: Corpus, tmp_path: Path
) -> None:
    two = pl.concat_str(pl.lit("toy/s"), (pl.int_range(pl.len()) % 2).cast(pl.String))
    frame = corpus.utterances.frame.with_columns(speaker=two)
    result = listen(Utterances(frame, corpus.utterances.about), corpus.votes, tmp_path / "two", SETTINGS)
    assert result.findings.counts()["folds_of_utterances"] == 1
    assert "too few speakers to judge which predicts human votes better" in result.page.headline
    nobody = corpus.utterances.frame.with_columns(speaker=pl.lit(None, dtype=pl.String))
    unknown = listen(Utterances(nobody, corpus.utterances.about), corpus.votes, tmp_path / "unknown", SETTINGS)
    assert "too few speakers" not in unknown.page.headline


def test_votes_that_nothing_can_be_learned_from_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    few = corpus.votes.frame.filter(pl.col("utterance_id") < "toy/010")
    with pytest.raises(InputError, match="only 10 utterances have both human votes and a recording"):
        listen(corpus.utterances, Votes(few, corpus.votes.about), tmp_path, SETTINGS)
    others = corpus.votes.frame.with_columns(utterance_id="else/" + pl.col("utterance_id"))
    with pytest.raises(InputError, match="none of the .* utterances with votes is in this table, such as 'else/toy/"):
        listen(corpus.utterances, Votes(others, corpus.votes.about), tmp_path, SETTINGS)
    proxies = corpus.votes.frame.with_columns(source=pl.lit("proxy"), held_out=pl.lit(value=False))
    with pytest.raises(InputError, match="no human label votes"):
        listen(corpus.utterances, Votes(proxies, corpus.votes.about), tmp_path, SETTINGS)
    held_out = corpus.votes.frame.with_columns(held_out=pl.lit(value=True))
    with pytest.raises(InputError, match="no human votes to fit the listener to: 216 are held out"):
        listen(corpus.utterances, Votes(held_out, corpus.votes.about), tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="needs model = a folder"):
        ListenSettings(recipe="encoder")
