from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from toy_corpus import HEAD, LABELS, SETTINGS, Corpus
from wording import Wording

from alm_proxies.audio.measured import NAMES
from alm_proxies.interval import Interval
from alm_proxies.measures.bootstrap import Paired
from alm_proxies.report.page import Table
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.stages.listen.page import _headline
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.stages.listen.stage import Listened, listen
from alm_proxies.tables import Utterances, Votes, combine
from alm_proxies.training.heads import Array, HeadModel, Index


@pytest.fixture(scope="module")
def listened(corpus: Corpus, cached: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Listened, Path]:
    folder = tmp_path_factory.mktemp("out")
    return listen(corpus.utterances, corpus.votes, folder, SETTINGS), folder


def shares(votes: Votes) -> pl.DataFrame:
    return votes.frame.pivot("label", index="utterance_id", values="weight").sort("utterance_id")


def test_every_utterance_gets_one_score_vote_and_the_card_says_where_it_comes_from(
    corpus: Corpus, listened: tuple[Listened, Path]
) -> None:
    result, folder = listened
    frame = result.votes.frame
    assert frame.height == 3 * len(corpus.utterances)
    assert set(frame["source"]) == {"proxy"}
    assert set(frame["draw"]) == {0}
    sums = frame.group_by("utterance_id").agg(pl.col("weight").sum())["weight"].to_numpy()
    np.testing.assert_allclose(sums, 1.0, atol=1e-9)
    card = result.votes.about.annotators["listener"]
    assert (card.source, card.elicit, card.trained_on_these_votes) == ("proxy", "score", "out_of_fold")
    assert card.folds is not None
    assert set(card.folds) == set(corpus.utterances.frame["speaker"])
    assert set(card.folds.values()) == {0, 1, 2}
    assert result.votes.about.made_by is not None
    assert result.votes.about.made_by.stage == "listen"
    again = Votes.read(folder / "votes.parquet")
    assert again.frame.equals(frame.sort("utterance_id", "annotator", "draw", "label"))
    assert again.about.annotators == result.votes.about.annotators


def test_the_listener_finds_what_the_votes_say_and_fuse_takes_it(
    corpus: Corpus, listened: tuple[Listened, Path]
) -> None:
    result, _ = listened
    table = shares(result.votes)
    likeliest = table.select(LABELS).to_numpy().argmax(1)
    assert (likeliest == np.arange(len(table)) % 3).mean() > 0.8
    fused = fuse(combine(corpus.votes, result.votes), FuseSettings(method="weighted"), utterances=corpus.utterances)
    assert set(fused.labels.frame["proxy_votes"]) == {1.0}


def test_votes_of_a_speaker_change_nothing_of_what_is_said_of_the_speakers_of_that_fold(
    corpus: Corpus, listened: tuple[Listened, Path], tmp_path: Path
) -> None:
    result, _ = listened
    card = result.votes.about.annotators["listener"]
    assert card.folds is not None
    fold = card.folds["toy/s0"]
    same = [speaker for speaker, where in card.folds.items() if where == fold]
    ids = corpus.utterances.frame.filter(pl.col("speaker").is_in(same))["utterance_id"]
    theirs = pl.col("utterance_id").is_in(ids.implode())
    turned = {"angry": "happy", "happy": "sad", "sad": "angry"}
    swapped = pl.when(theirs).then(pl.col("label").replace(turned)).otherwise(pl.col("label"))
    fewer = corpus.votes.frame.filter(~(theirs & (pl.col("annotator") == "toy/r1")))
    for frame in (corpus.votes.frame.with_columns(label=swapped), fewer):
        other = listen(corpus.utterances, Votes(frame, corpus.votes.about), tmp_path, SETTINGS)
        before, after = result.votes.frame, other.votes.frame
        assert before.filter(theirs).equals(after.filter(theirs))
        assert not before.filter(~theirs).equals(after.filter(~theirs))


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("which", ["speaker", "fold"])
def test_deleting_every_vote_of_a_speaker_or_of_a_fold_changes_no_byte_of_that_fold(
    corpus: Corpus, tmp_path: Path, rounds: int, which: str
) -> None:
    settings = SETTINGS.model_copy(update={"rounds": rounds})
    result = listen(corpus.utterances, corpus.votes, tmp_path, settings)
    folds = result.votes.about.annotators["listener"].folds
    assert folds is not None
    fold = folds["toy/s0"]
    same = [speaker for speaker, where in folds.items() if where == fold]
    assert len(same) > 1
    speaker = pl.col("speaker")
    here = corpus.utterances.frame.filter(speaker.is_in(same))["utterance_id"].implode()
    gone = corpus.utterances.frame.filter(speaker.is_in(same if which == "fold" else same[:1]))["utterance_id"]
    kept = corpus.votes.frame.filter(~pl.col("utterance_id").is_in(gone.implode()))
    other = listen(corpus.utterances, Votes(kept, corpus.votes.about), tmp_path, settings)
    assert other.votes.about.annotators == result.votes.about.annotators
    theirs = pl.col("utterance_id").is_in(here)
    before, after = (
        [listener_of.votes.frame.filter(part)["weight"].to_numpy().tobytes() for part in (theirs, ~theirs)]
        for listener_of in (result, other)
    )
    assert before[0] == after[0]
    assert before[1] != after[1]
    assert ("folds_without_votes" in other.findings.counts()) == (which == "fold")


def test_a_fold_that_holds_most_votes_is_found(corpus: Corpus, listened: tuple[Listened, Path], tmp_path: Path) -> None:
    result, _ = listened
    assert not {"folds_uneven", "folds_without_votes"} & set(result.findings.counts())
    folds = result.votes.about.annotators["listener"].folds
    assert folds is not None
    by_speaker = pl.col("speaker").replace_strict(folds)
    few = pl.col("utterance_id").str.ends_with("5")
    kept = corpus.utterances.frame.filter((by_speaker == 0) | few)["utterance_id"]
    votes = Votes(corpus.votes.frame.filter(pl.col("utterance_id").is_in(kept.implode())), corpus.votes.about)
    findings = listen(corpus.utterances, votes, tmp_path, SETTINGS.model_copy(update={"rounds": 1})).findings
    message = findings.frame.filter(pl.col("kind") == "folds_uneven")["message"].to_list()
    assert message == ["one fold holds 83% of the human votes, so what predicts it learns from few"]
    assert "folds_without_votes" not in findings.counts()


def test_held_out_votes_and_other_proxies_are_never_seen(
    corpus: Corpus, listened: tuple[Listened, Path], tmp_path: Path
) -> None:
    result, _ = listened
    frame = corpus.votes.frame
    other = pl.when(pl.col("held_out")).then(pl.lit("sad")).otherwise(pl.col("label"))
    proxy = frame.filter("held_out").with_columns(
        annotator=pl.lit("model"), source=pl.lit("proxy"), held_out=pl.lit(value=False), label=pl.lit("angry")
    )
    changed = Votes.of(pl.concat([frame.with_columns(label=other), proxy]), about=corpus.votes.about)
    again = listen(corpus.utterances, changed, tmp_path, SETTINGS)
    assert again.votes.frame.equals(result.votes.frame)


def test_a_second_run_reads_what_was_kept_and_gives_the_same_bytes(
    corpus: Corpus, listened: tuple[Listened, Path], cached: Path, tmp_path: Path
) -> None:
    _, folder = listened
    elsewhere = tmp_path / "wav"
    elsewhere.mkdir()
    for path in corpus.folder.glob("*.wav"):
        (elsewhere / path.name).write_bytes(path.read_bytes())
    moved = corpus.utterances.about.with_(roots={"toy": str(elsewhere)})
    files = set(cached.rglob("*.parquet"))
    assert not (folder / "features").exists()
    listen(Utterances(corpus.utterances.frame, moved), corpus.votes, tmp_path, SETTINGS)
    assert set(cached.rglob("*.parquet")) == files
    for name in ("votes.parquet", "models/fold-0.npz"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def _is_of(path: Path, corpus: Corpus) -> bool:
    """Whether a file has what was measured of all clips of a corpus."""
    vectors = pl.read_parquet(path)["vector"]
    return vectors.dtype == pl.Array(pl.Float32, len(NAMES)) and vectors.len() == len(corpus.utterances)


def test_features_that_were_changed_on_disk_are_measured_again(
    corpus: Corpus, listened: tuple[Listened, Path], cached: Path, tmp_path: Path
) -> None:
    _, folder = listened
    path = next(path for path in cached.rglob("*.parquet") if _is_of(path, corpus))
    content = path.read_bytes()
    middle = len(content) // 3
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x55]) + content[middle + 1 :])
    result = listen(corpus.utterances, corpus.votes, tmp_path, SETTINGS)
    assert result.findings.counts()["cache_unreadable"] == 1
    assert (tmp_path / "votes.parquet").read_bytes() == (folder / "votes.parquet").read_bytes()
    assert path.read_bytes() == content, "it is written again"


def test_models_of_an_earlier_listener_with_more_folds_are_removed_and_nothing_else(
    corpus: Corpus, listened: tuple[Listened, Path], tmp_path: Path
) -> None:
    _, folder = listened
    (tmp_path / "models").mkdir()
    others = ("fold-mine.npz", "fold-7.txt", "other.npz")
    for name in ("fold-0.npz", "fold-3.npz", "fold-12.npz", *others):
        (tmp_path / "models" / name).write_bytes(b"of an earlier listener")
    listen(corpus.utterances, corpus.votes, tmp_path, SETTINGS)
    written = {f"fold-{fold}.npz" for fold in range(3)}
    assert {path.name for path in (tmp_path / "models").iterdir()} == {*written, *others}
    for name in written:
        assert (tmp_path / "models" / name).read_bytes() == (folder / "models" / name).read_bytes()


class Stopped(BaseException):
    """What an interruption raises."""


def test_trainings_of_an_interrupted_listener_are_kept_until_one_is_done_and_nothing_else_is_removed(
    corpus: Corpus, listened: tuple[Listened, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = listened

    def stop(rows: Index, shares: Array) -> Array:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("alm_proxies.stages.listen.relabel.relabelling", lambda material, seed: stop)
        for seed in (0, 1):
            with pytest.raises(Stopped):
                listen(corpus.utterances, corpus.votes, tmp_path, SETTINGS.model_copy(update={"seed": seed}))
    kept = tmp_path / "trainings"
    assert len(list(kept.iterdir())) == 2 * (3 + 3)
    (kept / "mine.npz").write_bytes(b"of the user")
    listen(corpus.utterances, corpus.votes, tmp_path, SETTINGS)
    assert [path.name for path in kept.iterdir()] == ["mine.npz"]
    for name in ("votes.parquet", "models/fold-0.npz"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    (kept / "mine.npz").unlink()
    listen(corpus.utterances, corpus.votes, tmp_path, SETTINGS)
    assert not kept.exists()


def test_the_saved_models_give_the_votes(corpus: Corpus, listened: tuple[Listened, Path]) -> None:
    result, folder = listened
    card = result.votes.about.annotators["listener"]
    assert card.folds is not None
    model = HeadModel.load(folder / "models" / "fold-1.npz")
    assert model.labels == LABELS
    assert len(model.heads) == HEAD.seeds
    assert not list((folder / "models").glob("fold-3.npz"))


def test_the_page_shows_scores_the_exchange_test_and_the_folds(listened: tuple[Listened, Path]) -> None:
    result, folder = listened
    html = (folder / "report.html").read_text()
    assert "The listener predicts human votes by" in result.page.headline
    titles = [section.title for section in result.page.sections]
    assert titles == ["Against human votes", "Exchange test", "Early stopping", "Folds"]
    for words in ("round 1", "round 2", "class shares", "Temperature"):
        assert words in html


@pytest.mark.parametrize(
    ("estimate", "p_value", "speakers", "claim"),
    [
        (-0.2, 0.03, 6, "by 0.200 nats per vote better than the class shares"),
        (0.2, 0.03, 6, "by 0.200 nats per vote worse than the class shares"),
        (-0.2, 0.06, 6, "not significantly better"),
        (-0.2, 0.03, 5, "too few speakers to judge which predicts human votes better; it takes 6 for a p-value below"),
    ],
)
def test_the_headline_judges_the_listener_only_where_speakers_suffice(
    estimate: float, p_value: float, speakers: int, claim: str
) -> None:
    gap = Paired(Interval(estimate, estimate - 0.1, estimate + 0.1, "t", speakers), p_value)
    assert claim in _headline(gap)


def test_the_page_has_the_paired_difference_to_the_class_shares(listened: tuple[Listened, Path]) -> None:
    result, _ = listened
    (table,) = result.page.sections[0].blocks
    assert isinstance(table, Table)
    assert [column.name for column in table.columns][2:] == ["Log loss, minus class shares", "p"]
    alone, *rounds = table.rows
    for row in rounds:
        loss, less, baseline = row[1], row[2], alone[1]
        assert isinstance(loss, Interval)
        assert isinstance(less, Interval)
        assert isinstance(baseline, Interval)
        assert less.estimate == pytest.approx(loss.estimate - baseline.estimate)
        assert less.speakers == loss.speakers
    assert result.gain == pytest.approx(-rounds[-1][2].estimate)  # type: ignore[union-attr]


def test_the_page_of_simulated_speech_says_so_at_its_top(corpus: Corpus, tmp_path: Path) -> None:
    for name, said in (("sim", True), ("toy", False)):
        frame = corpus.utterances.frame.with_columns(corpus=pl.lit(name))
        about = corpus.utterances.about.with_(roots={name: corpus.utterances.about.roots["toy"]})
        listen(Utterances(frame, about), corpus.votes, tmp_path / name, SETTINGS)
        assert ("the listeners are a model" in (tmp_path / name / "report.html").read_text()) is said


def test_every_sentence_of_the_page_is_pinned(listened: tuple[Listened, Path], wording: Wording) -> None:
    wording.page((listened[1] / "report.html").read_text())


def test_speaker_relative_features_are_another_listener(
    corpus: Corpus, listened: tuple[Listened, Path], tmp_path: Path
) -> None:
    result, _ = listened
    settings = SETTINGS.model_copy(update={"speaker_relative": True})
    other = listen(corpus.utterances, corpus.votes, tmp_path, settings)
    digests = {result.votes.about.annotators["listener"].digest for result in (result, other)}
    assert len(digests) == 2
    assert not shares(result.votes).equals(shares(other.votes))


def test_a_frozen_encoder_is_run_once_for_each_recording(corpus: Corpus, cached: Path, tmp_path: Path) -> None:
    tf = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    model = tmp_path / "model"
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
    config = tf.WhisperConfig(**sizes, **ids, decoder_layers=0, decoder_attention_heads=2, vocab_size=8)
    tf.WhisperModel(config).save_pretrained(model)
    tf.WhisperFeatureExtractor().save_pretrained(model)
    settings = ListenSettings(recipe="encoder", model=str(model), head=HEAD, folds=3, device="cpu")
    before = set(cached.rglob("*.parquet"))
    first = listen(corpus.utterances, corpus.votes, tmp_path / "one", settings)
    again = listen(corpus.utterances, corpus.votes, tmp_path / "two", settings)
    assert first.votes.frame.equals(again.votes.frame)
    (kept,) = set(cached.rglob("*.parquet")) - before
    assert pl.read_parquet(kept).height == len(corpus.utterances)
    assert first.votes.about.annotators["listener"].model == "model"
