"""The four tables every stage reads and writes: Utterances, Votes, Labels, Findings, checked when they are built.

Each wraps a polars frame (`.frame`) and its metadata (`.about`, stored as JSON in the Parquet file).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import METADATA_KEY, About, AnnotatorCard, MadeBy, together
from alm_proxies.ambiguity import THIRDS, Cuts, Rule, cuts_of, level
from alm_proxies.beside import where_they_are, with_beside
from alm_proxies.columns import Column, conform, refuse_clashes, refuse_other_frames, refuse_where
from alm_proxies.content import ContentDigest
from alm_proxies.contracts import CONTRACT, upgraded_frame
from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.files import canonical_json, whole
from alm_proxies.finding import Finding
from alm_proxies.finding_kinds import NOT_DECLARED, SEVERITIES, severity_of
from alm_proxies.remote.at_hand import at_hand, table_in
from alm_proxies.renamed import renamed
from alm_proxies.shown import findings_html, frame_html, frame_text
from alm_proxies.table_checks import (
    ATTRIBUTES,
    SUM_TOLERANCE,
    check_draws,
    check_labels,
    check_sources,
    check_status,
    not_a_recipe,
    refuse_repeats,
    refuse_secrets,
    with_entropy,
)
from alm_proxies.table_files import load_table, refuse_other_suffix
from alm_proxies.taxonomy import labels_checked, taxonomy_of
from alm_proxies.uris import remote_of

_TEXT, _NUMBER, _WHOLE, _FLAG = pl.String(), pl.Float64(), pl.Int32(), pl.Boolean()
__all__ = [
    "ATTRIBUTES",
    "CONSENSUS",
    "CROWD",
    "STATUSES",
    "About",
    "AnnotatorCard",
    "Finding",
    "Findings",
    "Labels",
    "MadeBy",
    "Utterances",
    "Votes",
    "combine",
]

CONSENSUS = "/consensus"
"""Suffix of the annotator of published consensus labels, which are not votes."""
CROWD = "/crowd"
"""Suffix of the annotator of votes with unknown raters."""
STATUSES = ("ok", "refused", "unparsable", "out_of_vocabulary", "failed")


@dataclass(frozen=True, slots=True, repr=False)
class _Table:
    frame: pl.DataFrame
    about: About

    KEY: ClassVar[tuple[str, ...]] = ()
    COLUMNS: ClassVar[tuple[Column, ...]] = ()

    @classmethod
    def of(
        cls,
        frame: pl.DataFrame,
        *,
        taxonomy: str | Sequence[str] | None = None,
        about: About | None = None,
        where: str | None = None,
    ) -> Self:
        """Fill, cast and check a frame; an error names file, column, row and fix."""
        about = about or About()
        where = where or cls.__name__.lower()
        refuse_other_frames(frame, where)
        frame = _with_new_names(frame, cls.__name__)
        if taxonomy is not None:
            named = taxonomy_of(taxonomy).labels
            if about.taxonomy and about.taxonomy != named:
                raise TableError(
                    f"has the taxonomy {', '.join(about.taxonomy)}, not {', '.join(named)}",
                    where=where,
                    fix="Leave --taxonomy out, or read the corpus again with the taxonomy wanted.",
                )
            about = about.with_(taxonomy=named)
        checked, about = cls._checked(frame, about, where)
        return cls(checked, about)

    @classmethod
    def read(cls, path: str | Path, *, taxonomy: str | Sequence[str] | None = None) -> Self:
        """Read a table from Parquet, CSV or JSON lines; a file with only the required columns and no metadata is valid.

        Files of earlier contracts are upgraded in memory. The path may be an address: s3://bucket/votes.parquet. A
        folder of results stands for the table in it.
        """
        if remote_of(path) is not None:
            with at_hand([path]) as hand:
                return cls.read(hand.path(path), taxonomy=taxonomy)
        file = table_in(Path(path), cls.__name__.lower())
        frame, about = load_table(file, cls.text_columns())
        table = cls.of(upgraded_frame(frame, cls.__name__), taxonomy=taxonomy, about=about, where=str(file))
        return table.placed(file)

    @classmethod
    def text_columns(cls) -> list[str]:
        """The columns whose values stay text when a CSV file is read, whatever they look like."""
        return ["utterance_id", *(column.name for column in cls.COLUMNS if column.dtype == _TEXT)]

    def write(self, path: str | Path) -> None:
        """Write the table atomically as Parquet, sorted by key; the same table gives the same bytes."""
        refuse_other_suffix(path)
        frame = self.frame.sort(self.KEY, nulls_last=False, maintain_order=True) if self.KEY else self.frame
        with whole(path) as temporary:
            frame.write_parquet(temporary, metadata=metadata_of(self.stated_at(Path(path))))

    def placed(self, _: Path) -> Self:
        """The table as it is read from a path."""
        return self

    def stated_at(self, _: Path) -> About:
        """The metadata for a file at a path."""
        return self.about

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        return frame_text(type(self).__name__, self.frame, self.taxonomy)

    def _repr_html_(self) -> str:
        return frame_html(type(self).__name__, self.frame, self.taxonomy)

    def content_digest(self) -> str:
        """The content digest of the table; it does not depend on paths, version and provenance."""
        digest = ContentDigest(self.KEY)
        digest.update(self.content())
        return digest.hexdigest(self.stated())

    def content(self) -> pl.DataFrame:
        """The rows of the digest."""
        return self.frame

    def stated(self) -> dict[str, Any]:
        """The part of the metadata that results may depend on, as plain JSON."""
        return self.about.plain("contract", "version", "roots", "beside", "stays", "made_by")

    @property
    def taxonomy(self) -> tuple[str, ...]:
        """The ordered labels."""
        return self.about.taxonomy

    @classmethod
    def _checked(cls, frame: pl.DataFrame, about: About, where: str) -> tuple[pl.DataFrame, About]:
        raise TypeError(f"{cls.__name__} has no checks")


@dataclass(frozen=True, slots=True, repr=False)
class Utterances(_Table):
    """Utterances, one row each, key utterance_id; columns the contract does not name are group columns."""

    KEY: ClassVar[tuple[str, ...]] = ("utterance_id",)
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("utterance_id", _TEXT, needed=True, nullable=False),
        Column("corpus", _TEXT, default="", nullable=False),
        Column("audio", _TEXT),
        Column("start", _NUMBER, low=0.0),
        Column("end", _NUMBER, low=0.0, low_open=True),
        Column("duration", _NUMBER, low=0.0),
        Column("speaker", _TEXT),
        Column("dialogue", _TEXT),
        Column("turn", _WHOLE),
        Column("gender", _TEXT, allowed=("female", "male", "other")),
        Column("language", _TEXT),
        Column("transcript", _TEXT),
        Column("intended", _TEXT),
        Column("split", _TEXT),
        Column("recipe", _TEXT),
    )

    @classmethod
    def _checked(cls, frame: pl.DataFrame, about: About, where: str) -> tuple[pl.DataFrame, About]:
        frame = conform(frame, cls.COLUMNS, where)
        refuse_repeats(frame, cls.KEY, where)
        refuse_secrets(frame["audio"], where)
        late = (frame["start"] >= frame["end"]).fill_null(False)
        refuse_where(late, frame["start"], "is not before end", where, "start and end are seconds, start < end.")
        recipes = frame["recipe"].drop_nulls()
        if recipes.len():
            wrong = frame["recipe"].map_elements(not_a_recipe, return_dtype=pl.Boolean).fill_null(False)
            fix = "A recipe is {parents: [[id, share] ...], effects: [[name, {...}] ...], seed}."
            refuse_where(wrong, frame["recipe"], "is not a recipe", where, fix)
        return frame, about

    def placed(self, path: Path) -> Self:
        """The table with recordings that lie in a folder of results where they are now."""
        return self if not self.about.beside else type(self)(*where_they_are(self.frame, self.about, path))

    def stated_at(self, path: Path) -> About:
        """The metadata, with the folders of recordings that belong to the results at this path."""
        return with_beside(self.frame, self.about, path)

    @property
    def group_columns(self) -> list[str]:
        """The columns outside the contract."""
        known = {column.name for column in self.COLUMNS}
        return [name for name in self.frame.columns if name not in known]


@dataclass(frozen=True, slots=True, repr=False)
class Votes(_Table):
    """The votes table: one row per vote (several rows if a draw is shared among labels), key utterance_id to label."""

    KEY: ClassVar[tuple[str, ...]] = ("utterance_id", "annotator", "draw", "label")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("utterance_id", _TEXT, needed=True, nullable=False),
        Column("annotator", _TEXT, needed=True, nullable=False),
        Column("source", _TEXT, default="human", nullable=False, allowed=("human", "proxy")),
        Column("draw", _WHOLE, nullable=False, low=0),
        Column("label", _TEXT, needed=True),
        Column("weight", _NUMBER, default=1.0, nullable=False, low=0.0, high=1.0, low_open=True),
        Column("secondary", pl.List(pl.String())),
        *(Column(name, _NUMBER, low=0.0, high=1.0) for name in ATTRIBUTES),
        Column("status", _TEXT, default="ok", nullable=False, allowed=STATUSES),
        Column("held_out", _FLAG, default=False, nullable=False),
        Column("stated", _TEXT),
    )

    @classmethod
    def _checked(cls, frame: pl.DataFrame, about: About, where: str) -> tuple[pl.DataFrame, About]:
        if "draw" not in frame.columns and {"utterance_id", "annotator"} <= set(frame.columns):
            frame = frame.with_columns(draw=pl.int_range(pl.len(), dtype=pl.Int32).over("utterance_id", "annotator"))
        frame = conform(frame, cls.COLUMNS, where)
        check_labels(frame, about, where)
        check_status(frame, where)
        check_sources(frame, where)
        check_draws(frame, cls.KEY, where)
        return frame, about

    def content(self) -> pl.DataFrame:
        """The contract's columns except `stated`, on which no result depends."""
        return self.frame.select(column.name for column in self.COLUMNS if column.name != "stated")


@dataclass(frozen=True, slots=True, repr=False)
class Labels(_Table):
    """The labels table: one distribution per utterance, p_<label> in taxonomy order, with its strength in votes."""

    KEY: ClassVar[tuple[str, ...]] = ("utterance_id",)
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("concentration", _NUMBER, low=0.0, low_open=True),
        Column("human_votes", _NUMBER, default=0.0, nullable=False, low=0.0),
        Column("proxy_votes", _NUMBER, default=0.0, nullable=False, low=0.0),
        Column("concentration_gain", _NUMBER, default=0.0, nullable=False),
        Column("entropy", _NUMBER),
        Column("ambiguity", _TEXT),
        *(c for a in ATTRIBUTES for c in (Column(a, _NUMBER, low=0.0, high=1.0), Column(f"{a}_sd", _NUMBER, low=0.0))),
        Column("weight", _NUMBER, default=1.0, nullable=False, low=0.0),
    )

    @classmethod
    def _checked(cls, frame: pl.DataFrame, about: About, where: str) -> tuple[pl.DataFrame, About]:
        stated = tuple(name[2:] for name in frame.columns if name.startswith("p_"))
        if not about.taxonomy:
            if not stated:
                raise TableError("has no p_<label> columns", where=where, fix="A Labels file has one for every label.")
            about = about.with_(taxonomy=_labels_of(stated, where))
        if surplus := [name for name in stated if name not in about.taxonomy]:
            fix = f"The taxonomy is {', '.join(about.taxonomy)}."
            raise TableError(f"has the column p_{surplus[0]}, a label outside its taxonomy", where=where, fix=fix)
        shares = tuple(
            Column(f"p_{label}", _NUMBER, needed=True, nullable=False, low=-1e-12, high=1.0 + SUM_TOLERANCE)
            for label in about.taxonomy
        )
        head = Column("utterance_id", _TEXT, needed=True, nullable=False)
        frame = conform(frame, (head, *shares, *cls.COLUMNS), where)
        refuse_repeats(frame, cls.KEY, where)
        return with_entropy(frame, shares, where, about.ambiguity or THIRDS), about

    def cut(self, rule: Rule) -> Labels:
        """The labels with their ambiguity cut by a rule: "thirds", "quantiles", or two normalised entropies."""
        cuts = cuts_of(rule, self.frame["entropy"].to_numpy())
        about = self.about.with_(ambiguity=None if cuts == THIRDS else cuts)
        return Labels(self.frame.with_columns(ambiguity=level(pl.col("entropy"), cuts)), about)

    @property
    def cuts(self) -> Cuts:
        """The normalised entropies at which ambiguity is cut into low, medium and high."""
        return self.about.ambiguity or THIRDS

    def distributions(self) -> NDArray[np.float64]:
        """The shares as an array, rows x labels in taxonomy order."""
        return self.frame.select([f"p_{label}" for label in self.taxonomy]).to_numpy().astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True, repr=False)
class Findings(_Table):
    """The findings table: everything a stage left out or corrected."""

    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("stage", _TEXT, needed=True, nullable=False),
        Column("kind", _TEXT, needed=True, nullable=False),
        Column("severity", _TEXT, nullable=False, allowed=SEVERITIES),
        Column("utterance_id", _TEXT),
        Column("where", _TEXT),
        Column("message", _TEXT, needed=True, nullable=False),
        Column("fix", _TEXT, default="", nullable=False),
        Column("count", pl.Int64(), default=1, nullable=False, low=0),
    )

    @classmethod
    def gather(cls, findings: Iterable[Finding], stage: str = "") -> Findings:
        """A table of findings, in the given order; `stage` is set on those without one."""
        rows = [
            {**asdict(finding), "severity": finding.severity, "stage": finding.stage or stage} for finding in findings
        ]
        schema = {column.name: column.dtype for column in cls.COLUMNS}
        return cls.of(pl.DataFrame(rows, schema=schema) if rows else pl.DataFrame(schema=schema))

    @classmethod
    def _checked(cls, frame: pl.DataFrame, about: About, where: str) -> tuple[pl.DataFrame, About]:
        if "severity" not in frame.columns and frame.schema.get("kind") == pl.String():
            severity = pl.col("kind").map_elements(severity_of, return_dtype=pl.String())
            frame = frame.with_columns(severity=severity.fill_null(NOT_DECLARED))
        return conform(frame, cls.COLUMNS, where), about

    def _repr_html_(self) -> str:
        return findings_html(self.frame)

    def counts(self) -> dict[str, int]:
        """The number of findings of each kind, most frequent first."""
        table = self.frame.group_by("kind").agg(pl.col("count").sum()).sort(["count", "kind"], descending=[True, False])
        return dict(table.iter_rows())


def _labels_of(stated: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The labels that a file's columns name."""
    try:
        return taxonomy_of(labels_checked(stated)).labels
    except SettingsError as error:
        raise TableError(error.message, where=where, fix=error.fix) from None


def _with_new_names(frame: pl.DataFrame, table: str) -> pl.DataFrame:
    upgraded = upgraded_frame(frame, table)
    for old, new in zip(frame.columns, upgraded.columns, strict=True):
        if old != new:
            renamed(f"the column {old} of {table}", new, stacklevel=4)
    return upgraded


def metadata_of(about: About) -> dict[str, str]:
    """A table's metadata as stored in Parquet."""
    from alm_proxies import __version__

    about = about.with_(contract=CONTRACT, version=__version__)
    return {METADATA_KEY: canonical_json(about.plain())}


T = TypeVar("T", bound=_Table)


def combine(*given: T | Iterable[T]) -> T:
    """Combine several tables of one type, given one by one or as a list.

    Repeated ids, an annotator with two digests and different taxonomies are errors.
    """
    tables = [table for item in given for table in ([item] if isinstance(item, _Table) else item)]
    if not tables:
        raise InputError("there is nothing to combine", fix="Give at least one table.")
    kind = type(tables[0])
    if any(type(table) is not kind for table in tables):
        raise InputError("tables of different kinds cannot be combined", fix="Combine Votes with Votes, and so on.")
    if len(tables) == 1:
        return tables[0]
    about = together([table.about for table in tables])
    refuse_clashes([table.frame for table in tables], kind.__name__)
    frame = pl.concat([table.frame for table in tables], how="diagonal_relaxed")
    where = f"{len(tables)} {kind.__name__} tables together"
    try:
        return kind.of(frame, about=about, where=where)
    except TableError as error:
        if kind is Votes and frame.select(Votes.KEY).is_duplicated().any():
            fix = "Give each file once. Votes on another modality of a corpus are read as a proxy: --as proxy:NAME."
            raise TableError(error.message, where=error.where, fix=fix) from None
        raise
