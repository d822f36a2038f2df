"""Training data of models by corpus and speaker: their predictions on it are no test and are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from alm_proxies.about import OF_SPLIT, About, Measured, speakers_and_splits
from alm_proxies.tables import Finding, Labels, Utterances, Votes

KEY = "trained_on"
"""The key in made_by's settings for the corpora and speakers of the model's training."""
MEASURED = "measured"
"""The key for how well the model predicted its development speakers."""


def trained_on_of(about: About) -> dict[str, list[str]]:
    """The corpora and speakers that the model of these predictions was trained on; empty for other labels."""
    kept = about.made_by.settings.get(KEY) if about.made_by is not None else None
    if not isinstance(kept, Mapping):
        return {}
    return {str(corpus): [str(speaker) for speaker in speakers] for corpus, speakers in kept.items()}


def measured_of(about: About) -> Measured | None:
    """How well the model of these predictions predicted its development speakers; None if they do not state it."""
    stated = about.made_by.settings.get(MEASURED) if about.made_by is not None else None
    return None if stated is None else Measured.model_validate(stated)


def passed_on(about: About) -> dict[str, object]:
    """What labels made of these predictions state of their model, for made_by's settings; empty for other labels."""
    kept = about.made_by.settings if trained_on_of(about) and about.made_by is not None else {}
    return {key: kept[key] for key in (KEY, MEASURED) if key in kept}


def trained_on_by(utterances: pl.DataFrame) -> dict[str, list[str]]:
    """What a model of these utterances was trained on, by corpus: its speakers ("" = unknown), and where each of the
    corpus's utterances has a split, these splits as "split:NAME". The frame has corpus, speaker and the split that
    divides utterances of unknown speakers too (with_dividing_splits).
    """
    by_corpus = utterances.group_by(pl.col("corpus").fill_null("")).agg("speaker", "split").sort("corpus")
    known = {}
    for corpus, speakers, splits in by_corpus.iter_rows():
        named = set() if None in splits else {f"{OF_SPLIT}{split}" for split in splits}
        known[corpus] = sorted({speaker or "" for speaker in speakers} | named)
    return known


def with_dividing_splits(utterances: pl.DataFrame) -> pl.DataFrame:
    """The utterances with the splits of those corpora alone whose split divides utterances of unknown speakers too.

    A split by speaker, such as read makes, has no utterance of an unknown speaker: the same name in another table of
    the corpus, without speakers, may be that of another split. The frame has corpus, speaker and split.
    """
    divides = (pl.col("speaker").is_null() & pl.col("split").is_not_null()).any().over(pl.col("corpus").fill_null(""))
    return utterances.with_columns(split=pl.when(divides).then("split"))


def meets(utterances: pl.DataFrame, trained_on: Mapping[str, Sequence[str]]) -> pl.Series:
    """True where an utterance's corpus and speaker were trained on; the frame has corpus, speaker and split.

    An unknown speaker, here or in training, may be any of the corpus, so such utterances count as trained on, but for
    those of a split that no training utterance is of: there the corpus itself keeps them apart.
    """
    known = pl.repeat(False, pl.len())
    for corpus, names in trained_on.items():
        speakers, splits = speakers_and_splits(names)
        speaker, split = pl.col("speaker"), pl.col("split")
        either = pl.lit("" in speakers) | speaker.is_null()
        unsure = either & (split.is_null() | split.is_in(splits)) if splits else either
        known = known | ((pl.col("corpus") == corpus) & (unsure | speaker.is_in(speakers).fill_null(False)))
    return utterances.select(meets=known).to_series()


def without_trained_on(labels: Labels, utterances: Utterances, *, stage: str) -> tuple[Labels, list[Finding]]:
    """Predictions without those for corpora and speakers their model was trained on, and a finding that counts them.

    Labels without a model are returned unchanged, and so are predictions of one that does not state its training, with
    a finding. An utterance that is not in the table counts as trained on if its id begins with the corpus's name.
    """
    trained_on = trained_on_of(labels.about)
    if not trained_on:
        made_by = labels.about.made_by
        if made_by is None or made_by.stage != "predict":
            return labels, []
        message = f"the model {made_by.settings.get('model', '')!s} does not state the speakers that it was trained on"
        fix = f"Let its recipe write {KEY} into model.json; predictions for these speakers would be no test of it."
        return labels, [Finding(stage, "trained_on_unknown", message, fix)]
    met, apart = _met(labels.frame["utterance_id"], utterances, trained_on)
    findings = _apart_by_split(labels.frame["utterance_id"].filter(apart), trained_on, stage, "predictions")
    if not met.any():
        return labels, findings
    message = (
        f"utterances of {_named(trained_on)} whose speakers the model was trained on, or are not known: its "
        "predictions there are no test of it"
    )
    fix = "Give the speakers where they are not known, predict utterances of other speakers, or train without these."
    finding = Finding(stage, "trained_on", message, fix, count=int(met.sum()))
    return Labels(labels.frame.filter(~met), labels.about), [finding, *findings]


def without_trained_on_votes(votes: Votes, utterances: Utterances | None, *, stage: str) -> tuple[Votes, list[Finding]]:
    """Votes without those of proxies on corpora and speakers they were trained on, and a finding for each such proxy.

    Votes of proxies without such metadata are returned unchanged. Without a table of utterances speakers are not known,
    so all votes on a corpus used for training are left out.
    """
    out = pl.repeat(False, len(votes.frame), eager=True)
    findings = []
    for name, card in sorted(votes.about.annotators.items()):
        if not card.trained_on:
            continue
        own = votes.frame["annotator"] == name
        met, apart = _met(votes.frame["utterance_id"], utterances, card.trained_on)
        met = own & met
        ids = votes.frame["utterance_id"].filter(own & apart)
        findings += _apart_by_split(ids, card.trained_on, stage, "votes", where=name)
        if not met.any():
            continue
        out = out | met
        message = (
            f"utterances of {_named(card.trained_on)} whose speakers {name!r} was trained on, or are not known: its "
            "votes there do not count"
        )
        fix = "Give the speakers where they are not known, train it without these, or take predictions out of fold."
        count = votes.frame.filter(met)["utterance_id"].n_unique()
        findings.append(Finding(stage, "proxy_trained_on", message, fix, where=name, count=count))
    return (Votes(votes.frame.filter(~out), votes.about) if out.any() else votes), findings


def _met(
    ids: pl.Series, utterances: Utterances | None, trained_on: Mapping[str, Sequence[str]]
) -> tuple[pl.Series, pl.Series]:
    """Which of these utterances were trained on, and which differ from these by their split alone.

    For an utterance in no table it is whether its id begins with the corpus's name.
    """
    frame = ids.to_frame("utterance_id")
    if utterances is None:
        frame = frame.with_columns(pl.lit(None, pl.String()).alias(name) for name in ("corpus", "speaker", "split"))
    else:
        about = utterances.frame.select("utterance_id", "corpus", "speaker", "split")
        frame = frame.join(about, on="utterance_id", how="left", maintain_order="left")
    own = pl.col("utterance_id").str.split("/").list.first()
    frame = frame.with_columns(corpus=pl.col("corpus").fill_null(own))
    met = meets(frame, trained_on)
    without_splits = {corpus: speakers_and_splits(names)[0] for corpus, names in trained_on.items()}
    return met, meets(frame, without_splits) & ~met


def _apart_by_split(
    apart: pl.Series, trained_on: Mapping[str, Sequence[str]], stage: str, noun: str, where: str | None = None
) -> list[Finding]:
    """The finding for the utterances whose `noun` count because the corpus's split is another than that of all training
    utterances.
    """
    if apart.is_empty():
        return []
    message = (
        f"utterances of {_named(trained_on)} whose speaker, or a speaker of the training, is unknown: their {noun} "
        "count, as the split of the corpus keeps them apart"
    )
    fix = "Leave utterances of unknown speakers out if the split is not by speaker."
    return [Finding(stage, "apart_by_split", message, fix, where=where, count=apart.n_unique())]


def _named(trained_on: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(sorted(name or "a corpus without a name" for name in trained_on))
