"""Read: label files of any kind become Utterances and Votes, with everything lost on the way written down."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, cast

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict

from alm_proxies.cards import Card, card_of, known_cards
from alm_proxies.columns import did_you_mean
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import could_not_read, digest_file, digest_of
from alm_proxies.stages.read.hold_out import HoldOut, hold_out, hold_out_of
from alm_proxies.stages.read.sources import Part, Source, finding
from alm_proxies.stages.read.splits import split_by_speaker
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import About, Finding, Findings, Labels, MadeBy, Utterances, Votes, combine
from alm_proxies.taxonomy import checked_taxonomy, taxonomy_of

__all__ = ["FORMATS", "Corpus", "Format", "HoldOut", "ReadSettings", "Source", "hold_out_of", "read"]


@dataclass(frozen=True, slots=True)
class Format:
    """A reader by name: imported when it is first asked for, and what a source of it may say beyond the rest."""

    reader: str
    takes: frozenset[str]


Reader = Callable[[Source, Vocabulary, Card], Part]
_EVERY = frozenset({"corpus", "format", "source", "map", "split"})
_TABLE = "columns constants counts probabilities groups files scales encoding several_labels"
FORMATS: dict[str, Format] = {
    "crema_d": Format("alm_proxies.stages.read.crema_d:read_crema_d", frozenset({"modality"})),
    "table": Format("alm_proxies.stages.read.table:read_table", frozenset(_TABLE.split())),
}


class ReadSettings(BaseModel):
    """What holds for all sources together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    taxonomy: Annotated[str | tuple[str, ...], AfterValidator(checked_taxonomy)] | None = None
    """The labels wanted, by name or in order; those of the corpus's card, if it is left out."""
    seed: int = 0
    """What splits and held-out votes are drawn by."""
    hold_out: HoldOut | None = None
    """Which human votes no fit may see; without it nothing can be evaluated."""
    cards: Path | None = None
    """A folder of data cards of your own."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was read: utterances, votes, findings, and soft labels where the source holds them."""

    utterances: Utterances
    votes: Votes
    findings: Findings
    labels: Labels | None = None

    @property
    def left_out(self) -> int:
        """How many rows of the votes bring no label that was asked for: lost words count though a rating is kept."""
        votes = self.votes.frame
        lost = pl.col("label").is_null() & pl.col("stated").is_not_null()
        return votes.filter((pl.col("status") != "ok") | lost).height

    def write(self, folder: str | Path) -> list[Path]:
        """Write utterances, votes, findings (and labels) as Parquet into a folder; the files written."""
        tables = {"utterances": self.utterances, "votes": self.votes, "labels": self.labels, "findings": self.findings}
        written = []
        for name, table in tables.items():
            if table is not None:
                path = Path(folder) / f"{name}.parquet"
                table.write(path)
                written.append(path)
        return written


def read(sources: Source | Sequence[Source], settings: ReadSettings | None = None) -> Corpus:
    """The tables of one or more sources together; the same files, settings and seed give the same tables."""
    settings = settings or ReadSettings()
    sources = [sources] if isinstance(sources, Source) else list(sources)
    if not sources:
        raise SettingsError("there is nothing to read", fix="Name a source: a [[read]] block, or FORMAT and SOURCE.")
    named = [_named(source) for source in sources]
    parts = [(source, _part(source, settings)) for source in named]
    findings = [told for _, part in parts for told in part.findings]
    tables: list[tuple[Utterances, Votes, Labels | None]] = []
    known: set[str] = set()
    others = {source.corpus for source, part in parts if not part.bare}
    # What only speaks of utterances comes behind what describes them, whatever their order in the file.
    for source, part in sorted(parts, key=lambda pair: pair[1].bare):
        described, told = _described(part, source, known, source.corpus in others, settings.seed)
        known.update(described["utterance_id"].to_list())
        findings += told
        tables.append(_checked(part, described, source, settings))
    inputs = {str(path): digest_file(path) for _, part in parts for path in part.inputs}
    made_by = MadeBy(stage="read", settings_digest=digest_of([_said(settings), *map(_said, named)]), inputs=inputs)
    utterances = combine(*(table for table, _, _ in tables))
    votes = combine(*(table for _, table, _ in tables))
    soft = [table for _, _, table in tables if table is not None]
    if settings.hold_out is not None:
        votes, told = hold_out(votes, utterances, settings.hold_out, settings.seed)
        findings += told
    return Corpus(
        Utterances(utterances.frame, utterances.about.with_(made_by=made_by)),
        Votes(votes.frame, votes.about.with_(made_by=made_by)),
        Findings(Findings.gather(findings).frame, About(made_by=made_by)),
        _signed(combine(*soft), made_by) if soft else None,
    )


def _signed(labels: Labels, made_by: MadeBy) -> Labels:
    return Labels(labels.frame, labels.about.with_(made_by=made_by))


def _said(model: BaseModel) -> object:
    return model.model_dump(mode="json")


def _named(source: Source) -> Source:
    """The source with its corpus named, of a known format, saying only what that format takes."""
    known = FORMATS.get(source.format)
    if known is None:
        fix = f"{did_you_mean(source.format, FORMATS)} There are: {', '.join(FORMATS)}.".strip()
        raise SettingsError(f"there is no format {source.format!r}", fix=fix)
    takes = _EVERY | known.takes
    for name in sorted(source.model_fields_set - takes):
        fix = f"Leave it out; this format takes {', '.join(sorted(takes))}."
        raise SettingsError(f"the format {source.format} takes no {name!r}", where=str(source.source), fix=fix)
    if re.search("[\ud800-\udfff]", str(source.source.absolute())):
        fix = "Rename the file or folder: tables keep its path as text."
        raise InputError("has a name that is no text", where=ascii(str(source.source)), fix=fix)
    if not source.corpus and source.format == "table":
        fix = 'Give its utterance ids a prefix: corpus = "my_corpus" (--corpus my_corpus).'
        raise SettingsError("a table does not say which corpus it is", where=str(source.source), fix=fix)
    return source.model_copy(update={"corpus": source.corpus or source.format})


def _card(source: Source, settings: ReadSettings) -> Card:
    """The card of a source's corpus, or of its format if the corpus has none."""
    card = card_of(source.corpus, settings.cards)
    return card if card.path is not None else card_of(source.format, settings.cards)


def _part(source: Source, settings: ReadSettings) -> Part:
    labels = _labels(source, settings)
    vocabulary = Vocabulary(labels, source.map, source.several_labels)
    module, function = FORMATS[source.format].reader.split(":")
    reader = cast(Reader, getattr(import_module(module), function))
    try:
        return reader(source, vocabulary, _card(source, settings))
    except OSError as error:
        raise could_not_read(error.filename or source.source, error) from error


def _labels(source: Source, settings: ReadSettings) -> tuple[str, ...]:
    wanted = settings.taxonomy or _card(source, settings).taxonomy
    if wanted is None:
        near = did_you_mean(source.corpus, known_cards(settings.cards))
        fix = f"{near} Name a taxonomy: msp8, iemocap4, crema6 ..., or the labels in order: angry,happy,sad.".strip()
        raise SettingsError(f"nothing says which labels {source.corpus} has", where=str(source.source), fix=fix)
    return taxonomy_of(wanted).labels


def _described(
    part: Part, source: Source, known: set[str], elsewhere: bool, seed: int
) -> tuple[pl.DataFrame, list[Finding]]:
    """The utterances a part adds to those known, split if asked for; `elsewhere`: others describe its corpus."""
    findings: list[Finding] = []
    frame = part.utterances
    again = frame.filter(pl.col("utterance_id").is_in(list(known))) if known else frame.clear()
    if again.height and not part.bare:
        message = f"brings {again.height} utterances that another source brought, such as {again['utterance_id'][0]!r}"
        fix = "Give each source its own corpus name, or map its votes alone."
        raise InputError(message, where=str(source.source), fix=fix)
    if part.bare and known:
        frame = frame.join(again, on="utterance_id", how="anti", maintain_order="left")
        if frame.height and elsewhere:
            message = (
                f"{frame.height} utterances are described by no other source, such as {frame['utterance_id'][0]!r}"
            )
            fix = "Compare their ids with those of the other sources."
            where = str(source.source)
            findings.append(finding("not_described", message, fix=fix, where=where, count=frame.height))
    if source.split is not None:
        frame, told = split_by_speaker(frame, source.split, seed, source.corpus)
        findings += told
    return frame, findings


def _checked(
    part: Part, described: pl.DataFrame, source: Source, settings: ReadSettings
) -> tuple[Utterances, Votes, Labels | None]:
    about = About(
        taxonomy=_labels(source, settings),
        scales={source.corpus: part.scales} if part.scales else {},
        roots={source.corpus: str(part.root.absolute())} if part.root is not None else {},
    )
    where = str(source.source)
    utterances = Utterances.of(described, about=about, where=where)
    votes = Votes.of(part.votes, about=about, where=where)
    return utterances, votes, Labels.of(part.labels, about=about, where=where) if part.labels is not None else None
