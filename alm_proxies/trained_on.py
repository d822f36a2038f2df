"""Training data of models by corpus and speaker: their predictions on it are no test and are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from alm_proxies.about import About, Measured
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


def meets(utterances: pl.DataFrame, trained_on: Mapping[str, Sequence[str]]) -> pl.Series:
    """True where an utterance's corpus and speaker were trained on; the frame has corpus and speaker.

    An unknown speaker, here or in training, may be any of the corpus, so such utterances count as trained on.
    """
    known = pl.repeat(False, pl.len())
    for corpus, speakers in trained_on.items():
        of_corpus = pl.col("corpus") == corpus
        if "" in speakers:
            known = known | of_corpus
        else:
            known = known | (of_corpus & (pl.col("speaker").is_null() | pl.col("speaker").is_in(list(speakers))))
    return utterances.select(meets=known).to_series()


def without_trained_on(labels: Labels, utterances: Utterances, *, stage: str) -> tuple[Labels, list[Finding]]:
    """Predictions without those for corpora and speakers their model was trained on, and a finding that counts them.

    Labels without a model are returned unchanged. An utterance that is not in the table counts as trained on if its id
    begins with the corpus's name.
    """
    trained_on = trained_on_of(labels.about)
    if not trained_on:
        return labels, []
    met = _met(labels.frame["utterance_id"], utterances, trained_on)
    if not met.any():
        return labels, []
    message = (
        f"predictions for speakers of {_named(trained_on)} that the model was trained on, which are not a test of it"
    )
    fix = "Predict utterances of other speakers, or train without these."
    finding = Finding(stage, "trained_on", message, fix, count=int(met.sum()))
    return Labels(labels.frame.filter(~met), labels.about), [finding]


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
        met = (votes.frame["annotator"] == name) & _met(votes.frame["utterance_id"], utterances, card.trained_on)
        if not met.any():
            continue
        out = out | met
        message = f"votes of {name!r} on speakers of {_named(card.trained_on)} that it was trained on"
        fix = "Train it without these speakers, or take predictions out of fold."
        count = votes.frame.filter(met)["utterance_id"].n_unique()
        findings.append(Finding(stage, "proxy_trained_on", message, fix, where=name, count=count))
    return (Votes(votes.frame.filter(~out), votes.about), findings) if findings else (votes, [])


def _met(ids: pl.Series, utterances: Utterances | None, trained_on: Mapping[str, Sequence[str]]) -> pl.Series:
    """Which of these utterances were trained on; for one in no table, whether its id begins with the corpus's name."""
    frame = ids.to_frame("utterance_id")
    if utterances is None:
        frame = frame.with_columns(corpus=pl.lit(None, pl.String()), speaker=pl.lit(None, pl.String()))
    else:
        about = utterances.frame.select("utterance_id", "corpus", "speaker")
        frame = frame.join(about, on="utterance_id", how="left", maintain_order="left")
    own = pl.col("utterance_id").str.split("/").list.first()
    return meets(frame.with_columns(corpus=pl.col("corpus").fill_null(own)), trained_on)


def _named(trained_on: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(sorted(name or "a corpus without a name" for name in trained_on))
