"""audformat: columns of raters become votes, tables of counts a crowd's, tables of shares soft labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import InputError
from alm_proxies.printable import counted
from alm_proxies.stages.read.audformat_header import Database, DatabaseTable, Rater, database
from alm_proxies.stages.read.corpus_files import consensus_of, listing, on_unit_scales, scales_in
from alm_proxies.stages.read.formats.audformat import AudformatSource
from alm_proxies.stages.read.mapping import number
from alm_proxies.stages.read.recordings import recordings_absent
from alm_proxies.stages.read.rows import Rows
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.table_checks import sum_across
from alm_proxies.tables import ATTRIBUTES, CROWD, Finding

_CLOCK = r"^\s*(?:(\d+) days?,? )?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)\s*$"
_SECONDS = r"^\s*(\d+(?:\.\d+)?)\s*s?\s*$"
_MOST = 100_000
_NO_AGREEMENT = "no_agreement"
_LANGUAGES = {"eng": "en", "deu": "de", "fra": "fr", "spa": "es", "ita": "it", "rus": "ru", "zho": "zh", "jpn": "ja"}
_GENDERS = {"f": "female", "m": "male", "woman": "female", "man": "male"}
_KEY = ["file", "start", "end"]


@dataclass(slots=True)
class _Read:
    """What the tables hold, as it is read."""

    answers: list[pl.DataFrame] = field(default_factory=list)
    counts: list[pl.DataFrame] = field(default_factory=list)
    shares: list[pl.DataFrame] = field(default_factory=list)
    voted: list[pl.DataFrame] = field(default_factory=list)
    described: list[pl.DataFrame] = field(default_factory=list)
    inputs: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    rated: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_audformat(source: AudformatSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The files and segments of the database with the votes of its raters."""
    base = database(source)
    corpus = source.corpus
    gathered = _Read(inputs=[base.path])
    for table in base.tables(source.tables):
        _read_table(base, table, corpus, gathered)
    if not gathered.voted:
        fix = f"Name the scheme of the labels: --scheme NAME (scheme); now it is {base.scheme!r}."
        raise InputError("has no table with votes, counts or shares of labels", where=str(base.path), fix=fix)
    utterances, findings = _utterances(base, gathered, corpus)
    scales = dict(card.scales)
    for name, columns in gathered.rated.items():
        stated = base.scales(name, columns)
        scales |= {name: stated} if stated is not None else {}  # type: ignore[dict-item]  # an attribute's name
    known = card.model_copy(update={"scales": scales})
    answers = pl.concat(gathered.answers, how="diagonal") if gathered.answers else pl.DataFrame(schema=_ANSWER)
    rated = [pl.col(name).is_not_null() for name in ATTRIBUTES if name in answers.columns]
    empty = ~pl.any_horizontal(pl.col("word").is_not_null(), *rated)
    silent = answers.filter(empty & (pl.col("annotator") != consensus_of(corpus))).height
    answers = _agreed(answers.filter(~empty), corpus, findings)
    findings += _answered_again(answers, corpus)
    if silent:
        message = f"{counted(silent, 'cell')} of raters without a vote: empty"
        findings.append(finding("no_vote", message, where=corpus, count=silent))
    answers, wrong = on_unit_scales(answers, known, corpus, "or minimum and maximum into its scheme in db.yaml")
    votes, lost = vocabulary.votes(answers, corpus)
    if gathered.counts:
        counts = _counted_once(gathered, votes, base, corpus, findings)
        tallied, more = vocabulary.tallied(counts, corpus)
        votes, lost = pl.concat([votes, tallied], how="diagonal"), [*lost, *more]
    votes = votes.sort("utterance_id", "annotator", "draw", "label", nulls_last=True)
    soft = None
    if gathered.shares:
        shares = pl.concat(gathered.shares, how="diagonal")
        _refuse_several(shares, "that have shares of labels for", base)
        soft, more = _soft(shares.drop("table"), vocabulary, corpus)
        lost = [*lost, *more]
    findings += gathered.findings
    fix = "Copy db.yaml again if it was cut, or delete what is left of an earlier database."
    words, rest = ("file of a table is", "files of tables are"), "not read, as db.yaml does not name it"
    findings += listing("table_not_named", base.not_named, words, rest, str(base.root), fix)
    findings += listing("columns_not_taken", gathered.others, ("column", "columns"), "not read", str(base.path))
    inputs = tuple(dict.fromkeys(gathered.inputs))
    findings += [*wrong, *lost]
    return Part(utterances, votes, inputs, findings, labels=soft, root=base.root, scales=scales_in(answers, known))


_ANSWER = {"utterance_id": pl.String(), "annotator": pl.String(), "source": pl.String(), "word": pl.String()}


def _agreed(answers: pl.DataFrame, corpus: str, findings: list[Finding]) -> pl.DataFrame:
    """The answers with each published label once, and none where the database states that raters did not agree."""
    published = pl.col("annotator") == consensus_of(corpus)
    without = answers.filter(published & (pl.col("word") == _NO_AGREEMENT))["utterance_id"].unique()
    if len(without):
        has = counted(len(without), "utterance has", "utterances have")
        message = f"{has} no published majority label ({_NO_AGREEMENT}); the votes are read"
        findings.append(finding("no_majority", message, where=corpus, count=len(without)))
    again = ~pl.struct("utterance_id", "word").is_first_distinct() & pl.col("word").is_not_null()
    split = pl.col("utterance_id").is_in(without.implode())
    return pl.concat([answers.filter(~published), answers.filter(published).filter(~again & ~split)])


def _answered_again(answers: pl.DataFrame, corpus: str) -> list[Finding]:
    """A finding with the number of labels and ratings of raters who had given theirs for the utterance before."""
    ours = pl.col("annotator").is_in([corpus + CROWD, consensus_of(corpus)])
    again: list[str] = []
    for name in (name for name in ("word", *ATTRIBUTES) if name in answers.columns):
        given = answers.filter(~ours & pl.col(name).is_not_null())
        again += given.filter(~pl.struct("utterance_id", "annotator").is_first_distinct())["utterance_id"].to_list()
    words, rest = ("answer comes", "answers come"), "from a rater who had answered before; each counts as a vote"
    fix = "Name the tables to read, if several hold the same answers: --tables NAME (tables)."
    return listing("answered_again", again, words, rest, corpus, fix)


def _counted_once(
    gathered: _Read, votes: pl.DataFrame, base: Database, corpus: str, findings: list[Finding]
) -> pl.DataFrame:
    """The counts, without those of utterances whose votes were read one by one; an error if two tables count them."""
    counts = pl.concat(gathered.counts)
    _refuse_several(counts, "that count the votes on", base)
    counts = counts.drop("table")
    single = votes.filter((pl.col("source") == "human") & (pl.col("annotator") != consensus_of(corpus)))
    again = pl.col("utterance_id").is_in(single["utterance_id"].implode())
    if count := int(counts.filter(again)["count"].sum()):
        message = f"{counted(count, 'counted vote')} left out, of utterances whose votes are read one by one"
        fix = "Name the tables to read: --tables NAME (tables)."
        findings.append(finding("counted_twice", message, fix=fix, where=corpus, count=count))
    return counts.filter(~again)


def _refuse_several(rows: pl.DataFrame, which: str, base: Database) -> None:
    """Raise if several tables have counts or shares of one utterance."""
    tables = rows.group_by("utterance_id").agg(pl.col("table").unique().sort()).sort("utterance_id")
    several = tables.filter(pl.col("table").list.len() > 1)
    if several.height:
        whose, names = several.row(0)
        more = f" and {counted(several.height - 1, 'other')}" if several.height > 1 else ""
        message = f"has several tables {which} {whose!r}{more}: {', '.join(names)}"
        fix = "Name those to read, such as the ones of the voice: --tables NAME (tables)."
        raise InputError(message, where=str(base.path), fix=fix)


def _read_table(base: Database, table: DatabaseTable, corpus: str, gathered: _Read) -> None:
    """Add a table's votes and what it says of its utterances."""
    if not table.voted and not table.described:
        return
    rows = base.rows(table.name)
    gathered.inputs.append(Path(rows.path))
    described = [*table.described.values()]
    columns = [*table.words, *table.ratings, *table.counts.values(), *table.shares.values(), *described]
    rows.need("file", *(("start", "end") if table.segmented else ()), *columns)
    place = _places(rows, table, corpus)
    if table.voted:
        again = ~place["utterance_id"].is_first_distinct()
        rows.refuse(again, "file", "has the id of an earlier row", "Keep one row of each file or segment.")
        if not rows.frame.height:
            message, fix = f"the table {table.name!r} has no rows", "Check that it was copied whole."
            gathered.findings.append(finding("no_votes", message, fix=fix, where=rows.path))
        gathered.voted.append(place.with_columns(split=pl.lit(table.split, dtype=pl.String)))
        gathered.others += [f"{table.name}/{column}" for column in table.others]
    if described:
        given = [rows.frame[theirs].cast(pl.String).alias(ours) for ours, theirs in table.described.items()]
        gathered.described.append(place.hstack(given))
    for name, (attribute, _) in table.ratings.items():
        gathered.rated.setdefault(attribute, []).append(f"{table.name}/{name}")
    gathered.answers += _answers(rows, table, place["utterance_id"], corpus)
    for many, kept in ((table.counts, gathered.counts), (table.shares, gathered.shares)):
        if not many:
            continue
        cells = [number(rows.frame[column], rows, column, label).alias(label) for label, column in many.items()]
        for label, cell in zip(many, cells, strict=True):
            unusable = (cell % 1 != 0) if many is table.counts else (cell > 1)
            fix = f"Counts are whole numbers from 0 to {_MOST}, shares are from 0 to 1."
            rows.refuse(unusable | ~cell.is_between(0, _MOST), many[label], "is out of range", fix)
        if missing := sum(cell.null_count() for cell in cells):
            message = f"{counted(missing, 'number')} of votes or shares missing, taken as 0"
            gathered.findings.append(finding("missing_number", message, where=rows.path, count=missing))
        wide = pl.DataFrame([place["utterance_id"], *cells])
        if many is table.shares:
            kept.append(wide.with_columns(table=pl.lit(table.name)))
            continue
        long = wide.unpivot(index="utterance_id", variable_name="word", value_name="count").drop_nulls("count")
        who = {"annotator": pl.lit(corpus + CROWD), "source": pl.lit("human"), "table": pl.lit(table.name)}
        kept.append(long.with_columns(pl.col("count").cast(pl.Int64), **who))


def _places(rows: Rows, table: DatabaseTable, corpus: str) -> pl.DataFrame:
    """File, start and end of each row, and the id of its utterance."""
    frame = rows.frame
    rows.refuse(frame["file"].is_null(), "file", "is not a file", "Fill that column in every row.")
    none = pl.lit(None, dtype=pl.Float64)
    place = frame.select(pl.col("file").cast(pl.String)).with_columns(start=none, end=none)
    own = pl.col("file").str.replace(r"\.[A-Za-z0-9]{1,5}$", "")
    if table.segmented:
        place = place.with_columns(_times(rows, "start"), _times(rows, "end"))
        second = [pl.col(name).round(6).cast(pl.String).fill_null("") for name in ("start", "end")]
        own = pl.concat_str([own, pl.lit("#"), second[0], pl.lit("-"), second[1]])
    return place.with_columns((pl.lit(f"{corpus}/") + own).alias("utterance_id"))


def _times(rows: Rows, name: str) -> pl.Series:
    """Seconds from pandas' time spans ("0 days 00:00:01.500000", "1.5s") or from numbers."""
    given = rows.frame[name]
    if given.dtype.is_numeric():
        return given.cast(pl.Float64)
    given = given.cast(pl.String)
    parts = given.str.extract_groups(_CLOCK).struct.unnest().cast(pl.Float64, strict=False)
    days, hours, minutes, seconds = (parts[parts.columns[place]] for place in range(4))
    clock = days.fill_null(0) * 86400 + hours.fill_null(0) * 3600 + minutes * 60 + seconds
    plain = given.str.extract(_SECONDS, 1).cast(pl.Float64, strict=False)
    values = clock.zip_with(clock.is_not_null(), plain)
    odd = given.is_not_null() & values.is_null() & (given.str.strip_chars() != "NaT")
    rows.refuse(odd, name, "is not a time", 'Write it as "0 days 00:00:01.5" or "1.5s".')
    return values.alias(name)


def _answers(rows: Rows, table: DatabaseTable, ids: pl.Series, corpus: str) -> list[pl.DataFrame]:
    """A frame for each rater's answers: a label, ratings, or both of one row."""
    raters: dict[Rater, tuple[list[str], dict[str, str]]] = {}
    for column, rater in table.words.items():
        raters.setdefault(rater, ([], {}))[0].append(column)
    for column, (attribute, rater) in table.ratings.items():
        raters.setdefault(rater, ([], {}))[1].setdefault(attribute, column)
    frames = []
    for rater, (words, ratings) in raters.items():
        for place, word in enumerate(words or [""]):
            label = (
                rows.frame[word].cast(pl.String).str.strip_chars()
                if word
                else ids.clear().extend_constant(None, len(ids))
            )
            cells = [ids, label.set(label == "", None).alias("word")]
            if not place:
                cells += [number(rows.frame[c], rows, c, name).alias(name) for name, c in ratings.items()]
            frames.append(pl.DataFrame(cells).with_columns(**_who(rater, corpus)))
    return frames


def _who(rater: Rater, corpus: str) -> dict[str, pl.Expr]:
    """Annotator and source: a model is a proxy, a label that the corpus publishes the consensus."""
    if rater.kind == "machine":
        return {"annotator": pl.lit(rater.name), "source": pl.lit("proxy")}
    named = {"published": consensus_of(corpus), "human": f"{corpus}/{rater.name}"}
    return {"annotator": pl.lit(named.get(rater.kind, corpus + CROWD)), "source": pl.lit("human")}


def _soft(shares: pl.DataFrame, vocabulary: Vocabulary, where: str) -> tuple[pl.DataFrame, list[Finding]]:
    """Soft labels that sum to 1; rows without a share of a label are counted."""
    cells = {name: shares[name].fill_null(0.0) for name in shares.columns if name != "utterance_id"}
    soft, findings = vocabulary.shares(cells, where)
    total = soft.select(sum_across(soft.columns)).to_series()
    soft = soft.select(pl.all() / total).insert_column(0, shares["utterance_id"]).filter(total > 0)
    if empty := int((total <= 0).sum()):
        message = f"{counted(empty, 'utterance')} without a share of any label, so without a soft label"
        findings.append(finding("no_label", message, where=where, count=empty))
    return soft, findings


def _utterances(base: Database, gathered: _Read, corpus: str) -> tuple[pl.DataFrame, list[Finding]]:
    """The files and segments with votes, and what any table says of them or of their files."""
    places = pl.concat(gathered.voted).group_by("utterance_id", maintain_order=True).agg(
        *(pl.col(name).first() for name in _KEY), pl.col("split").drop_nulls().first(),
        splits=pl.col("split").drop_nulls().n_unique(),
    )  # fmt: skip
    findings = _differing(places.filter(pl.col("splits") > 1)["utterance_id"].to_list(), "split", corpus)
    places = places.drop("splits")
    differing: dict[str, list[str]] = {}
    for frame in gathered.described:
        ours = [name for name in frame.columns if name not in ("utterance_id", *_KEY)]
        for key in ("utterance_id", "file"):
            about = frame.filter(pl.col("start").is_null()) if key == "file" else frame
            about = about.group_by(key).agg(pl.col(name).drop_nulls().first() for name in ours)
            places = places.join(about, on=key, how="left", suffix="_more", maintain_order="left")
            both = [name for name in ours if f"{name}_more" in places.columns]
            for name in both:
                unlike = places.filter(pl.col(name) != pl.col(f"{name}_more"))["utterance_id"]
                differing.setdefault(name, []).extend(unlike)
            merged = [pl.coalesce(name, f"{name}_more").alias(name) for name in both]
            places = places.with_columns(merged).drop(f"{name}_more" for name in both)
    language = [_LANGUAGES.get(each, each) for each in base.languages]
    if "language" not in places.columns and len(language) == 1:
        places = places.with_columns(language=pl.lit(language[0]))
    if "speaker" in places.columns:
        if "gender" not in places.columns:
            people = base.speakers()
            known = [people.get(str(name), {}) for name in places["speaker"]]
            gender = [each.get("gender", each.get("sex")) for each in known]
            stated = [None if each is None else str(each) for each in gender]
            places = places.with_columns(gender=pl.Series(stated, dtype=pl.String))
        places = places.with_columns(prefixed("speaker", corpus))
    for name, differs in differing.items():
        findings += _differing(dict.fromkeys(differs), name, corpus)
    if "gender" in places.columns:
        gender_of = pl.col("gender").str.to_lowercase().replace(_GENDERS)
        before = places["gender"].count()
        places = places.with_columns(gender=pl.when(gender_of.is_in(["female", "male", "other"])).then(gender_of))
        if lost := before - places["gender"].count():
            message = f"the gender of {counted(lost, 'utterance')} is not female, male or other, and was left empty"
            findings.append(finding("unknown_gender", message, where=corpus, count=lost))
    places = places.rename({"file": "audio"}).with_columns(corpus=pl.lit(corpus))
    return places, findings + recordings_absent(places["audio"].to_list(), base.root)


def _differing(items: Iterable[str], name: str, corpus: str) -> list[Finding]:
    words = (f"utterance has another {name}", f"utterances have another {name}")
    return listing("files_differ", items, words, "in a further table; the first is taken", corpus)
