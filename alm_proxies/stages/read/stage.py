"""read: label files of any format become Utterances and Votes; every loss is a finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import polars as pl

from alm_proxies.about import about_of
from alm_proxies.ballots import without_consensus
from alm_proxies.cards import Card, card_of, forbids_copies, known_cards
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import could_not_read, digest_file, digest_of
from alm_proxies.nearest import did_you_mean
from alm_proxies.plugins import load_named, plugin
from alm_proxies.printable import counted
from alm_proxies.remote.at_hand import AtHand
from alm_proxies.settings import deciding, settings_of
from alm_proxies.shown import Shown
from alm_proxies.stages.read.aligned import aligned
from alm_proxies.stages.read.formats.tables import TablesSource
from alm_proxies.stages.read.hold_out import hold_out
from alm_proxies.stages.read.kept_votes import Earlier, drawn_anew, earlier_votes, together
from alm_proxies.stages.read.proxies import as_proxy
from alm_proxies.stages.read.recordings import found_in_folder
from alm_proxies.stages.read.remote import fetched, left_there, without_secrets_in
from alm_proxies.stages.read.settings import HoldOut, Reader, ReadSettings, Source
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.stages.read.splits import kept_splits, split_by_speaker
from alm_proxies.stages.read.translate import Score, translated
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import About, Finding, Findings, Labels, MadeBy, Utterances, Votes, combine
from alm_proxies.taxonomy import taxonomy_of
from alm_proxies.uris import remote_of

if TYPE_CHECKING:
    from alm_proxies.report.page import Page

__all__ = ["Corpus", "HoldOut", "ReadSettings", "Source", "read"]

Read = Callable[[Source, Vocabulary, Card], Part]
_NO_SPEAKER = "unknown_speaker"


@dataclass(frozen=True, slots=True, repr=False)
class Corpus(Shown):
    """The result of read: utterances, votes, findings, and soft labels if the source has them."""

    utterances: Utterances
    votes: Votes
    findings: Findings
    labels: Labels | None = None
    scores: tuple[Score, ...] = ()
    """The errors of a translation between labels and ratings, if one was asked for."""

    @property
    def page(self) -> Page | None:
        """What became of each corpus's words, ratings and losses, if there are several corpora."""
        if self.utterances.frame["corpus"].n_unique() < 2:
            return None
        from alm_proxies.stages.read.corpus_map import map_page

        return map_page(self.utterances, self.votes, self.findings, self.scores)

    @property
    def line(self) -> str:
        """The number of utterances and votes."""
        return f"{counted(len(self.utterances), 'utterance')}, {counted(self.cast, 'vote')}"

    @property
    def counts(self) -> dict[str, float]:
        """The number of utterances, votes and left-out votes."""
        return {"utterances": len(self.utterances), "votes": self.cast, "left_out": self.left_out}

    @property
    def cast(self) -> int:
        """The number of votes; one that is shared among labels has several rows."""
        return number_of(without_consensus(self.votes).frame)

    @property
    def consensus_labels(self) -> int:
        """The number of rows that are published consensus labels, which are not votes."""
        return len(self.votes) - len(without_consensus(self.votes))

    @property
    def left_out(self) -> int:
        """The number of votes without a label of the taxonomy, or without some; they count even if a rating is kept."""
        votes = without_consensus(self.votes).frame
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


def number_of(votes: pl.DataFrame) -> int:
    """The number of votes in these rows, as one that is shared among labels has several."""
    return votes.height if (votes["weight"] == 1).all() else votes.select(Votes.KEY[:-1]).n_unique()


def read(sources: Source | Sequence[Source], settings: ReadSettings | None = None) -> Corpus:
    """The tables of one or more sources together; the same files, settings and seed give the same tables."""
    settings = settings or ReadSettings()
    sources = [sources] if isinstance(sources, Source) else list(sources)
    if other := next((source for source in sources if not isinstance(source, Source)), None):
        fix = 'Give a source of its format, such as CremaDSource(source=Path("CREMA-D")).'
        raise SettingsError(f"{other!r} is no source", where="read", fix=fix)
    if not sources:
        raise SettingsError("there is nothing to read", fix="Add a source: a [[read]] block, or FORMAT and SOURCE.")
    named = [_named(source) for source in sources]
    _refuse_one_folder_for_two(named)
    with fetched(named, [reader_of(source) for source in named]) as (local, hand):
        return _read(local, [remote_of(source.source) for source in named], settings, hand)


def _refuse_one_folder_for_two(sources: Sequence[Source]) -> None:
    """Raise if the recordings of two sources would be written into one folder, where names may be the same."""
    places = [extract.absolute() for source in sources if (extract := getattr(source, "extract", None)) is not None]
    if len(set(places)) < len(places):
        place = next(place for place in places if places.count(place) > 1)
        message = "recordings of two sources would be written into one folder, where one may replace another"
        raise SettingsError(message, where=str(place), fix="Give each source a folder of its own (extract).")


def _read(named: Sequence[Source], uris: Sequence[str | None], settings: ReadSettings, hand: AtHand) -> Corpus:
    """The tables of sources on this machine; `uris` are the addresses that they were fetched from."""
    parts = []
    for source, uri in zip(named, uris, strict=True):
        part = _part(source, settings, None if uri is None else partial(left_there, uri=uri, hand=hand))
        parts.append((source, part))
    findings = [known for _, part in parts for known in part.findings]
    tables: list[tuple[Utterances, Votes, Labels | None]] = []
    before: list[Earlier | None] = []
    known: set[str] = set()
    others = {source.corpus for source, part in parts if not part.bare}
    # Sources with votes only come after those that describe the utterances, whatever their order in the file.
    for source, part in sorted(parts, key=lambda pair: pair[1].bare):
        described, losses = _described(part, source, known, source.corpus in others, settings.seed)
        if any(loss.kind == _NO_SPEAKER for loss in losses):  # those of no split are all without a known speaker
            findings = [each for each in findings if each.kind != _NO_SPEAKER or each not in part.findings]
        known.update(described["utterance_id"].to_list())
        findings += losses
        people, votes, soft = _checked(part, described, source, settings)
        if source.proxy is not None:
            of_part = Utterances.of(part.utterances, about=people.about, where=str(source.source))
            votes, losses = as_proxy(votes, soft, of_part, source, part.inputs)
            findings += losses
            soft = None
        before.append(earlier_votes(source, votes))
        findings += drawn_anew(source, settings.hold_out)
        tables.append((people, votes, soft))
    inputs = {
        _input(path, source): digest_file(path)
        for source, part in parts
        for path in (*part.inputs, *source.further_files.values())
    }
    recorded = [deciding(chosen) for chosen in (settings, *named)]
    made_by = MadeBy(stage="read", settings_digest=digest_of(recorded), inputs=inputs)
    utterances = combine(*(table for table, _, _ in tables))
    votes = combine(*(table for _, table, _ in tables))
    labels = [table for _, _, table in tables if table is not None]
    findings += _not_described(votes, utterances)
    earlier = together([table for table in before if table is not None])
    if settings.hold_out is not None or earlier is not None:
        votes, held = hold_out(votes, utterances, settings.hold_out, settings.seed, earlier)
        findings += held
    votes, stated = aligned(votes, utterances, settings.align_ratings)
    findings += stated
    scores: list[Score] = []
    if settings.translate:
        votes, stated, scores = translated(votes, utterances, settings.translate, settings.seed)
        findings += stated
    corpus = Corpus(
        Utterances(utterances.frame, utterances.about.with_(made_by=made_by)),
        Votes(votes.frame, votes.about.with_(made_by=made_by)),
        Findings(Findings.gather(findings).frame, About(made_by=made_by)),
        _signed(combine(*labels), made_by) if labels else None,
    )
    return replace(corpus, scores=tuple(scores))


def _not_described(votes: Votes, utterances: Utterances) -> list[Finding]:
    """A finding if there are votes on utterances that no source has."""
    others = votes.frame.select("utterance_id").join(utterances.frame, on="utterance_id", how="anti")["utterance_id"]
    if not len(others):
        return []
    message = f"{counted(len(others), 'vote is', 'votes are')} on {counted(others.n_unique(), 'utterance')} that no "
    message += f"source describes, such as {others.min()!r}"
    fix = "Compare their ids with those of the utterances: without speaker, split and recording they are of little use."
    return [finding("not_described", message, fix=fix, count=len(others))]


def _signed(labels: Labels, made_by: MadeBy) -> Labels:
    return Labels(labels.frame, labels.about.with_(made_by=made_by))


def _input(path: Path, source: Source) -> str:
    """The name of an input: its corpus and its path within the source."""
    inside = path.relative_to(source.source) if path.is_relative_to(source.source) else Path(path.name)
    return f"{source.corpus}/{path.name if inside == Path() else inside.as_posix()}"


def reader_of(source: Source) -> Reader:
    """The reader of a source's format."""
    return cast(Reader, plugin("readers", source.format).load())


def _named(source: Source) -> Source:
    """The source as its format's own class, with its corpus named."""
    kind = reader_of(source).settings
    if not isinstance(source, kind):
        source = settings_of(kind, source.model_dump(exclude_unset=True, by_alias=True), f"the source {source.source}")
    if re.search("[\ud800-\udfff]", str(source.source.absolute())):
        fix = "Rename the file or folder: tables keep its path as text."
        raise InputError("has a name that is not valid UTF-8", where=ascii(str(source.source)), fix=fix)
    if not source.corpus and source.format in ("table", "huggingface"):
        fix = 'Give its utterance ids a prefix: corpus = "my_corpus" (--corpus my_corpus).'
        raise SettingsError("a table does not name its corpus", where=str(source.source), fix=fix)
    return source.model_copy(update={"corpus": source.corpus or source.format})


def _card(source: Source, settings: ReadSettings) -> Card:
    """The card of a source's corpus, or of its format if the corpus has none."""
    card = card_of(source.corpus, settings.cards)
    return card if card.path is not None else card_of(source.format, settings.cards)


def _part(source: Source, settings: ReadSettings, left: Callable[[Part], Part] | None) -> Part:
    if not source.source.exists():
        fix = "Check the path. A pipeline takes it from source in its [[read]] block, or from --set read.source=PATH."
        raise InputError("there is no such file or folder", where=str(source.source), fix=fix)
    labels = _labels(source, settings)
    vocabulary = Vocabulary(labels, source.map, getattr(source, "several_labels", "share"))
    reader = cast(Read, load_named(reader_of(source).function))
    try:
        part = _given(reader(source, vocabulary, _card(source, settings)), source)
        part = left(part) if left is not None else part
        if "audio" in part.utterances.columns:
            cleaned = without_secrets_in(part.utterances, str(source.source), part.findings)
            part = replace(part, utterances=cleaned)
        if source.recordings is not None:
            part = found_in_folder(part, source.recordings, str(source.source))
        # a proxy's utterances are described by other sources; alone, it describes its own
        return replace(part, bare=True) if source.proxy is not None else part
    except OSError as error:
        raise could_not_read(error.filename or source.source, error) from error


def _given(part: object, source: Source) -> Part:
    """What a reader gave; an error if it is no Part, or its utterances or votes have no utterance_id."""
    where, fix = str(source.source), f"Correct the reader of the format {source.format!r}."
    if not isinstance(part, Part):
        message = f"its reader gave {type(part).__name__}, not Part(utterances, votes, inputs, findings)"
        raise InputError(message, where=where, fix=fix)
    for name, frame in (("utterances", part.utterances), ("votes", part.votes)):
        if "utterance_id" not in frame.columns:
            message = f"the {name} that its reader gave have no column utterance_id: {', '.join(frame.columns)}"
            raise InputError(message, where=where, fix=fix)
    return part


def _labels(source: Source, settings: ReadSettings) -> tuple[str, ...]:
    wanted = settings.taxonomy or _own_labels(source) or _card(source, settings).taxonomy
    if wanted is None:
        near = did_you_mean(source.corpus, known_cards(settings.cards))
        fix = f"{near} Name a taxonomy: msp8, iemocap4, crema6 ..., or the labels in order: angry,happy,sad.".strip()
        raise SettingsError(f"the labels of {source.corpus} are not known", where=str(source.source), fix=fix)
    return taxonomy_of(wanted).labels


def _own_labels(source: Source) -> tuple[str, ...] | None:
    """The labels in the metadata of our tables."""
    votes = source.source / "votes.parquet"
    return about_of(votes).taxonomy if isinstance(source, TablesSource) and votes.is_file() else None


def _described(
    part: Part, source: Source, known: set[str], elsewhere: bool, seed: int
) -> tuple[pl.DataFrame, list[Finding]]:
    """The new utterances of a part, split if asked for; `elsewhere` is true if other sources describe its corpus."""
    findings: list[Finding] = []
    frame = part.utterances
    again = frame.filter(pl.col("utterance_id").is_in(list(known))) if known else frame.clear()
    if again.height and not part.bare:
        message = (
            f"has {counted(again.height, 'utterance')} that another source has too, such as "
            f"{again['utterance_id'][0]!r}"
        )
        fix = "Give each source its own corpus name, map its votes alone, or read another modality of the corpus as a "
        fix += 'proxy: as = "proxy:NAME" (--as proxy:NAME).'
        raise InputError(message, where=str(source.source), fix=fix)
    if part.bare and known:
        frame = frame.join(again, on="utterance_id", how="anti", maintain_order="left")
        if frame.height and elsewhere:
            message = (
                f"{counted(frame.height, 'utterance is', 'utterances are')} described by no other source, such as "
                f"{frame['utterance_id'][0]!r}"
            )
            fix = "Compare their ids with those of the other sources."
            where = str(source.source)
            findings.append(finding("not_described", message, fix=fix, where=where, count=frame.height))
    if (split := source.split_of_speakers) is not None:
        frame, losses = split_by_speaker(frame, split, seed, source.corpus, kept_splits(source, frame))
        findings += losses
    return frame, findings


def _stays(described: pl.DataFrame, source: Source, settings: ReadSettings, before: About) -> tuple[str, ...]:
    """The corpora whose cards forbid copies, or that were read so `before`: later stages may not know these cards."""
    card = _card(source, settings)
    by_format = card.path is not None and not card.may_leave
    corpora = described["corpus"].unique().to_list() if "corpus" in described.columns else [source.corpus]
    now = {corpus for corpus in corpora if by_format or forbids_copies(corpus, settings.cards)}
    return tuple(sorted({*before.stays, *now}))


def _checked(
    part: Part, described: pl.DataFrame, source: Source, settings: ReadSettings
) -> tuple[Utterances, Votes, Labels | None]:
    about = part.about or About(
        scales={source.corpus: part.scales} if part.scales else {},
        roots={source.corpus: str(part.root.absolute())} if part.root is not None else {},
    )
    if source.proxy is not None:  # its ratings are from 0 to 1 here; the corpus's scale is that of its raters
        about = about.with_(scales={})
    about = about.with_(taxonomy=_labels(source, settings), stays=_stays(described, source, settings, about))
    where = str(source.source)
    utterances = Utterances.of(described, about=about, where=where)
    votes = Votes.of(part.votes, about=about, where=where)
    return utterances, votes, Labels.of(part.labels, about=about, where=where) if part.labels is not None else None
