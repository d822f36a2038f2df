"""IEMOCAP, MSP-Podcast and CREMA-D in one run: one taxonomy, aligned ratings, a map of words, and translations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies.cli.app import run
from alm_proxies.errors import SettingsError
from alm_proxies.estimators.attributes import Attributes
from alm_proxies.report.page import Table
from alm_proxies.stages.read.aligned import ranks
from alm_proxies.stages.read.corpus_map import _corpora, words_of
from alm_proxies.stages.read.formats.crema_d import CremaDSource
from alm_proxies.stages.read.formats.iemocap import IemocapSource
from alm_proxies.stages.read.formats.msp_podcast import MspPodcastSource
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.stage import Corpus, ReadSettings, Source, read
from alm_proxies.stages.read.translate import features, label_means, shares, softmax_weights
from alm_proxies.tables import ATTRIBUTES, Utterances, Votes
from tests.stages.read.corpora import Turn, iemocap
from tests.wording import Wording

TAXONOMY = ("angry", "happy", "neutral", "sad")
MEANS = {"Anger": (2, 5, 4), "Happiness": (5, 4, 4), "Neutral": (3, 3, 3), "Sadness": (1, 2, 2), "Excited": (5, 5, 4)}
"""Valence, activation and dominance that made-up evaluators give with each word, from 1 to 5."""
MSP = {"Anger": "Angry", "Happiness": "Happy", "Neutral": "Neutral", "Sadness": "Sad", "Excited": "Contempt"}


Made = tuple[list[Source], dict[str, Counter[str]]]
"""Sources, and how often each corpus's raters gave each word."""


def _rated(word: str, rng: np.random.Generator) -> list[int]:
    return [int(np.clip(mean + rng.integers(-1, 2), 1, 5)) for mean in MEANS[word]]


def _iemocap(folder: Path, rng: np.random.Generator) -> tuple[Path, Counter[str]]:
    words: Counter[str] = Counter()
    dialogues: dict[str, list[Turn]] = {}
    for session in range(1, 6):
        turns: list[Turn] = []
        for side in "FM":
            for turn in range(12):
                true = list(MEANS)[int(rng.integers(0, len(MEANS)))]
                lines = []
                for rater in range(1, 6):
                    word = true if rng.random() < 0.7 else list(MEANS)[int(rng.integers(0, len(MEANS)))]
                    words[word] += 1
                    val, act, dom = _rated(word, rng)
                    lines.append(f"C-E{rater}:\t{word};\t()")
                    lines.append(f"A-E{rater}:\tval {val}; act {act}; dom  {dom};\t()")
                turns.append((f"Ses0{session}F_impro01_{side}{turn:03d}", "xxx", lines))
        dialogues[f"Ses0{session}F_impro01"] = turns
    return iemocap(folder, dialogues), words


def _msp(folder: Path, rng: np.random.Generator) -> tuple[Path, Counter[str]]:
    """Ratings only from 3 to 6 of 1 to 7: another use of the scale."""
    words: Counter[str] = Counter()
    rows = ["FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"]
    speakers = []
    for clip in range(60):
        name = f"MSP-PODCAST_0001_{clip:04d}.wav"
        speakers.append(f"{name};{clip % 12}")
        for rater in range(5):
            word = list(MEANS)[(clip + (rater == 4)) % len(MEANS)]
            words[word] += 1
            val, act, dom = (2 + value * 0.8 for value in _rated(word, rng))
            rows.append(f"{name},WORKER{rater:08d},{MSP[word]},,{act:.0f},{val:.0f},{dom:.0f}")
    (folder / "Labels").mkdir(parents=True)
    (folder / "Labels" / "labels_detailed.csv").write_text("\n".join(rows))
    (folder / "Speaker_ids.txt").write_text("\n".join(speakers))
    return folder, words


def _crema_d(folder: Path, rng: np.random.Generator) -> tuple[Path, Counter[str]]:
    rows = ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"']
    letters: Counter[str] = Counter()
    folder.mkdir(parents=True)
    for clip in range(40):
        counts = rng.multinomial(6, [0.3, 0.1, 0.1, 0.1, 0.2, 0.2])
        letters.update(dict(zip("ADFHNS", counts.tolist(), strict=True)))
        sentence = ("IEO", "TIE", "IOM", "IWW")[clip // 10]
        rows.append(f'"1{clip:05d}",{",".join(map(str, counts))},"10{clip % 10:02d}_{sentence}_ANG_XX",6,0.5,"A"')
    (folder / "tabulatedVotes.csv").write_text("\n".join(rows))
    return folder, letters


def _sources(folder: Path) -> Made:
    rng = np.random.default_rng(3)
    (iemocap_folder, iemocap_words), (msp_folder, msp_words), (crema_folder, crema_letters) = (
        _iemocap(folder / "IEMOCAP", rng), _msp(folder / "MSP", rng), _crema_d(folder / "CREMA-D", rng),
    )  # fmt: skip
    outside = {"Contempt": "outside"}
    sources = [
        IemocapSource(source=iemocap_folder, map={"Excited": "happy"}),
        MspPodcastSource(source=msp_folder, map=outside),
        CremaDSource(source=crema_folder, map={"disgust": "outside"}),
    ]
    return sources, {"iemocap": iemocap_words, "msp_podcast": msp_words, "crema_d": crema_letters}


def _settings(**more: object) -> ReadSettings:
    return ReadSettings.model_validate({"taxonomy": TAXONOMY, "hold_out": {"keep": 3}, **more})


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _sources(tmp_path_factory.mktemp("corpora"))


def test_three_corpora_are_one_table_with_prefixed_ids_and_raters_and_every_loss(
    corpora: Made,
) -> None:
    sources, words = corpora
    corpus = read(sources, _settings())
    assert dict(corpus.utterances.frame["corpus"].value_counts().iter_rows()) == {
        "iemocap": 120,
        "msp_podcast": 60,
        "crema_d": 40,
    }
    both = corpus.votes.frame.join(corpus.utterances.frame.select("utterance_id", "corpus"), on="utterance_id")
    assert both.height == len(corpus.votes)
    for name in ("utterance_id", "annotator"):
        assert both.select(pl.col(name).str.starts_with(pl.col("corpus") + "/")).to_series().all()
    labels = {"Anger": "angry", "Happiness": "happy", "Neutral": "neutral", "Sadness": "sad", "Excited": "happy"}
    letters = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
    expected: Counter[tuple[str, str | None]] = Counter()
    for word, count in words["iemocap"].items():
        expected["iemocap", labels[word]] += count
    for word, count in words["msp_podcast"].items():
        expected["msp_podcast", None if word == "Excited" else labels[word]] += count
    for letter, count in words["crema_d"].items():
        expected["crema_d", letters.get(letter)] += count
    counted: Counter[tuple[str, str | None]] = Counter()
    for name, _, label, votes in words_of(corpus.votes, corpus.utterances).iter_rows():
        counted[name, label] += round(votes)
    assert counted == expected
    counts = corpus.findings.counts()
    lost = sum(count for (_, label), count in expected.items() if label is None)
    assert counts["outside"] + counts["out_of_vocabulary"] == lost
    assert counts["mapped"] == words["iemocap"]["Excited"]
    assert counts["ratings_aligned"] == 2


def test_ratings_are_aligned_linearly_from_the_ends_of_each_scale(
    corpora: Made,
) -> None:
    corpus = read(corpora[0], _settings())
    assert {name: set(ends.values()) for name, ends in corpus.votes.about.scales.items()} == {
        "iemocap": {(1.0, 5.0)},
        "msp_podcast": {(1.0, 7.0)},
    }
    means = _means(corpus)
    assert means["msp_podcast"] != pytest.approx(means["iemocap"], abs=0.01)


def test_ratings_are_aligned_by_rank_within_each_corpus_on_request(
    corpora: Made,
) -> None:
    linear, ranked = read(corpora[0], _settings()), read(corpora[0], _settings(align_ratings="rank"))
    fitted = ranked.votes.frame.filter(~pl.col("held_out"))
    for corpus, mean in _means(ranked, held_out=False).items():
        assert mean == pytest.approx(0.5), corpus
    assert ranked.votes.about.scales == {}
    assert fitted["arousal"].drop_nulls().is_between(0, 1).all()
    # the order within a corpus is kept
    frame = linear.votes.frame.select("utterance_id", before="arousal").hstack(ranked.votes.frame.select("arousal"))
    ordered = frame.filter(pl.col("utterance_id").str.starts_with("iemocap")).drop_nulls().sort("before")
    assert ordered["arousal"].is_sorted()


def _means(corpus: Corpus, held_out: bool | None = None) -> dict[str, float]:
    frame = corpus.votes.frame.drop_nulls("arousal")
    if held_out is not None:
        frame = frame.filter(pl.col("held_out") == held_out)
    name = pl.col("utterance_id").str.split("/").list.first()
    return dict(frame.group_by(name).agg(pl.col("arousal").mean()).iter_rows())


def test_ranks_are_the_share_below_and_half_of_the_ties() -> None:
    fitted = np.array([1.0, 2.0, 2.0, 4.0])
    assert ranks(fitted, np.array([0.0, 1.0, 2.0, 3.0, 4.0, 9.0])).tolist() == [0.0, 0.125, 0.5, 0.75, 0.875, 1.0]


def test_the_page_shows_which_word_became_which_label(corpora: Made, tmp_path: Path, wording: Wording) -> None:
    sources, words = corpora
    page = read(sources, _settings(translate=["ratings"])).page
    assert page is not None
    html = page.html()
    wording.page(html)
    (chart,) = page.charts
    rows = chart.table.rows
    word = next(row for row in rows if str(row[0]).startswith("iemocap: Excited"))
    assert f"({words['iemocap']['Excited']})" in str(word[0])
    assert "left out" in html
    assert "Translation between labels and ratings" in html
    assert read(sources[:1], _settings()).page is None
    assert run(["read", "tables", str(_tables(sources, tmp_path)), "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "corpora.html").is_file()


def test_the_page_of_corpora_counts_no_speaker_for_utterances_of_unknown_ones(corpora: Made) -> None:
    both = read(corpora[0], _settings())
    own = both.utterances.frame.filter(pl.col("speaker").is_not_null())["corpus"].unique().sort()[0]
    of_own = pl.col("corpus") == own
    unknown = of_own & (pl.int_range(pl.len()).over("corpus") == 0)
    people = Utterances.of(
        both.utterances.frame.with_columns(speaker=pl.when(~unknown).then("speaker")), about=both.utterances.about
    )
    known = people.frame.filter(of_own)["speaker"].drop_nulls().n_unique()
    section = _corpora(people, both.votes, [own])
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert table.rows[0][2] == known


def _tables(sources: list[Source], folder: Path) -> Path:
    read(sources, _settings()).write(folder / "made")
    return folder / "made"


def test_ratings_are_translated_only_on_request_and_their_error_is_printed(
    corpora: Made,
) -> None:
    plain, corpus = read(corpora[0], _settings()), read(corpora[0], _settings(translate=["ratings"]))
    assert "translated-ratings" not in plain.votes.frame["annotator"].to_list()
    added = corpus.votes.frame.filter(annotator="translated-ratings")
    assert added.filter(pl.col("utterance_id").str.starts_with("crema_d/")).height == 40
    assert added["source"].unique().to_list() == ["proxy"]
    assert added.select(pl.col("valence", "arousal", "dominance").is_between(0, 1).all()).row(0) == (True,) * 3
    assert corpus.votes.about.annotators["translated-ratings"].trained_on_these_votes == "out_of_fold"
    assert {score.of for score in corpus.scores} == {"valence", "arousal", "dominance"}
    for score in corpus.scores:
        assert score.error.estimate < score.without, score
        assert score.votes > 0
    assert corpus.findings.frame.filter(kind="translation_error").height == 3
    # the votes that were there are unchanged
    assert corpus.votes.frame.filter(source="human").equals(plain.votes.frame)


def test_labels_are_translated_from_ratings_for_a_corpus_without_labels(corpora: Made, tmp_path: Path) -> None:
    rows = ["clip,rater,val,aro,dom", *(f"u{clip},r{rater},{1 + clip},5,4" for clip in range(5) for rater in range(3))]
    (tmp_path / "rated.csv").write_text("\n".join(rows))
    columns = {"utterance_id": "clip", "annotator": "rater"}
    columns |= dict(zip(ATTRIBUTES, ("val", "aro", "dom"), strict=True))
    rated = TableSource.model_validate(
        {
            "corpus": "rated",
            "source": tmp_path / "rated.csv",
            "columns": {
                "utterance_id": "clip",
                "annotator": "rater",
                "valence": "val",
                "arousal": "aro",
                "dominance": "dom",
            },
            "scales": {"valence": (1, 5), "arousal": (1, 5), "dominance": (1, 5)},
        }
    )
    corpus = read([*corpora[0], rated], _settings(translate=["labels"]))
    added = corpus.votes.frame.filter(annotator="translated-labels")
    sums = added.group_by("utterance_id").agg(pl.col("weight").sum()).sort("utterance_id")
    assert sums["weight"].to_list() == pytest.approx([1.0] * 5)
    most = added.sort("weight").group_by("utterance_id").last().sort("utterance_id")["label"].to_list()
    assert most[-1] == "happy"
    assert most[0] == "angry"
    (score,) = corpus.scores
    assert score.error.estimate < score.without


def test_a_translation_without_corpora_to_learn_from_or_votes_to_score_it_is_refused(
    corpora: Made,
) -> None:
    sources, _ = corpora
    with pytest.raises(SettingsError, match="both labels and ratings"):
        read(sources[2:], _settings(translate=["ratings"]))
    with pytest.raises(SettingsError, match="nothing to translate"):
        read(sources[:2], _settings(translate=["ratings"]))
    with pytest.raises(SettingsError, match="held-out"):
        read(sources, ReadSettings(taxonomy=TAXONOMY, translate=("ratings",)))


def test_the_softmax_finds_the_weights_that_made_the_votes_and_label_means_the_means() -> None:
    rng = np.random.default_rng(0)
    inputs = features(rng.random((4000, 2)))
    weights = rng.normal(0, 1, (inputs.shape[1], 3))
    scores = inputs @ weights
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    tally = np.array([rng.multinomial(5, chance) for chance in chances], dtype=float)
    learned = softmax_weights(inputs, tally, ridge=1e-6)
    guessed = np.exp(inputs @ learned)
    assert np.abs(guessed / guessed.sum(axis=1, keepdims=True) - chances).max() < 0.05
    means = np.array([[0.1], [0.5], [0.9]])
    given = shares(tally, tally.sum(axis=0) / tally.sum())
    assert label_means(given, given @ means).ravel() == pytest.approx(means.ravel(), abs=0.01)


def test_votes_of_a_translation_are_a_valid_table(corpora: Made, tmp_path: Path) -> None:
    read(corpora[0], _settings(translate=["ratings"])).write(tmp_path)
    assert "translated-ratings" in Votes.read(tmp_path / "votes.parquet").about.annotators


def test_fused_ratings_of_a_corpus_without_ratings_come_from_the_calibrated_translation(corpora: Made) -> None:
    corpus = read(corpora[0], _settings(translate=["ratings"]))
    fused = Attributes().fit(corpus.votes).predict(corpus.votes)
    crema = fused.filter(pl.col("utterance_id").str.starts_with("crema_d/"))
    kept = corpus.votes.frame.filter(~pl.col("held_out") & pl.col("utterance_id").str.starts_with("crema_d/"))
    angry = kept.group_by("utterance_id").agg((pl.col("label") == "angry").mean()).join(crema, on="utterance_id")
    assert angry.select(pl.corr("label", "arousal")).item() > 0.5
    plain = Attributes().fit(read(corpora[0], _settings()).votes).predict(read(corpora[0], _settings()).votes)
    assert plain.filter(pl.col("utterance_id").str.starts_with("crema_d/"))["arousal"].n_unique() == 1
