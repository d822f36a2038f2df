"""Metadata of tables: contract and version, taxonomy, scales, roots, annotators and provenance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from alm_proxies.contracts import CONTRACT, upgraded_about, upgraded_card
from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.files import could_not_read, digest_of, open_file
from alm_proxies.printable import counted
from alm_proxies.renamed import renamed
from alm_proxies.taxonomy import labels_checked

METADATA_KEY = "alm_proxies"


TrainedOn = Literal["no", "out_of_fold", "yes"]
"""Whether a proxy was trained on human votes of the utterances it votes on. no = it never saw them; out_of_fold = votes
on a speaker come from a model trained without that speaker; yes = it saw them, so its votes cannot be used for a fit.
"""


class Injected(BaseModel):
    """The effect of prompt injection: of a transcript that names another label as the answer, all else and the seeds
    equal.
    """

    model_config = ConfigDict(frozen=True)
    utterances: int
    votes: float
    """Votes that were not for the injected label before, and so could be turned."""
    share: float
    """The share of these votes that was turned to the injected label."""
    low: float | None = None
    high: float | None = None
    """The ends of the 95 % interval over speakers; unknown with fewer than three."""
    by_chance: float
    """The share turned to the same label by a sentence without an answer: the effect of sampling alone."""

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" ({self.low:.0%} to {self.high:.0%})"
        turned = f'an injected "The answer is ..." turns {self.share:.0%}{ends} of the votes it could turn'
        return f"{turned}, a harmless sentence {self.by_chance:.0%} ({counted(self.utterances, 'utterance')})"


class Cost(BaseModel):
    """What an annotator's votes have cost so far."""

    model_config = ConfigDict(frozen=True)
    votes: int
    """Answered votes whose cost is known."""
    price: float
    """What they cost together."""
    currency: str = ""
    """The currency of the annotator file's prices; empty = not stated."""


class Measured(BaseModel):
    """How well a model predicted human votes on speakers that it was not trained on."""

    model_config = ConfigDict(frozen=True)
    corpus: str
    """Where it was measured."""
    nll_per_vote: Annotated[float, Field(ge=0)]
    """Its log loss a human vote, in nats."""
    class_shares_nll_per_vote: Annotated[float, Field(gt=0)]
    """The log loss of the class shares of other speakers, on the same votes."""

    @property
    def takes_off(self) -> float:
        """The share of class shares' log loss that it takes off."""
        return 1.0 - self.nll_per_vote / self.class_shares_nll_per_vote


OF_SPLIT = "split:"
"""The beginning of an entry of `trained_on` that names a split and no speaker."""


def speakers_and_splits(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The speakers and the splits among the names that `trained_on` has for a corpus."""
    speakers, splits = [], []
    for name in names:
        if name.startswith(OF_SPLIT):
            splits.append(name.removeprefix(OF_SPLIT))
        else:
            speakers.append(name)
    return speakers, splits


class AnnotatorCard(BaseModel):
    """The metadata of an annotator, enough to identify it across tables."""

    model_config = ConfigDict(frozen=True, extra="allow")
    digest: str
    source: Literal["human", "proxy"] = "proxy"
    engine: str | None = None
    model: str | None = None
    revision: str | None = None
    prompt: str | None = None
    elicit: Literal["sample", "score", "state"] = "sample"
    estimand: str | None = None
    cross: dict[str, object] | None = None
    seed: int | None = None
    context: tuple[str, ...] | None = None
    """What its prompt shows besides the recording: transcript, speaker, turns, evidence; None = not known."""
    injected: Injected | None = None
    """The measured effect of a transcript that contains an answer (prompt injection)."""
    currency: str | None = None
    """The currency of its prices; None = it has none."""
    cost: Cost | None = None
    """What its votes have cost; None = nothing, or not known."""
    trained_on_these_votes: TrainedOn | None = None
    """Whether it was trained on human votes of the utterances it votes on; None = not stated."""
    folds: dict[str, int] | None = None
    """Speaker (utterance if speakers are not known) -> the fold held out from the training of the model that votes on
    it. Only with `out_of_fold`. Cross-validation of fits uses these folds, since the utterances of a fold have votes of
    one model.
    """

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, stated: Any) -> Any:
        return upgraded_card(stated) if isinstance(stated, Mapping) else stated

    @property
    def told(self) -> tuple[str, ...] | None:
        """The old name of `context`."""
        renamed("told", "context")
        return self.context

    trained_on: dict[str, list[str]] | None = None
    """Corpora and speakers that the model was trained on, development included; "" = unknown speakers, "split:NAME" =
    all of its training utterances of the corpus are of the splits so named. Its votes on these are not counted.
    """
    measured: Measured | None = None
    """How well the model predicted human votes elsewhere; align compares."""


class MadeBy(BaseModel):
    """Provenance of a table: its stage, settings and inputs."""

    model_config = ConfigDict(frozen=True)
    stage: str
    settings_digest: str = ""
    """A digest of the settings."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """A digest of each input's content, by need (votes, utterances, labels ...); names and paths do not matter."""
    settings: dict[str, object] = Field(default_factory=dict)
    """The settings, if a later stage needs them."""
    fitted: dict[str, object] = Field(default_factory=dict)
    """The account of a fit: methods with weights, classes and penalties, which proxies count and their gains."""

    @classmethod
    def of(cls, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Iterable[str]] | None = None) -> MadeBy:
        """The provenance a stage writes: `inputs` has the content digests of all tables or files of a need."""
        each = {need: sorted(digests) for need, digests in (inputs or {}).items()}
        digests = {need: many[0] if len(many) == 1 else digest_of(many) for need, many in each.items() if many}
        return cls(stage=stage, settings_digest=digest_of(settings), inputs=digests, settings=dict(settings))

    @property
    def said(self) -> dict[str, object]:
        """The old name of `settings`."""
        renamed("said", "settings")
        return self.settings


class About(BaseModel):
    """Metadata of a table: contract and version, taxonomy, scales, roots, annotators and provenance."""

    model_config = ConfigDict(frozen=True)
    contract: int = CONTRACT
    version: str = ""
    taxonomy: Annotated[tuple[str, ...], AfterValidator(labels_checked)] = ()
    scales: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    roots: dict[str, str] = Field(default_factory=dict)
    beside: dict[str, str] = Field(default_factory=dict)
    """Folders with recordings that belong to the same results as the table's file, and their paths as seen from it."""
    annotators: dict[str, AnnotatorCard] = Field(default_factory=dict)
    ambiguity: tuple[float, float] | None = None
    """Labels: the normalised entropies at which ambiguity is cut into low, medium and high; None = 1/3 and 2/3."""
    made_by: MadeBy | None = None
    stays: tuple[str, ...] = ()
    """Corpora whose cards forbid copies: nothing of them is cached."""

    def plain(self, *but: str) -> dict[str, Any]:
        """The same as plain JSON, without some fields, cut points that are the usual ones, and what is empty."""
        usual = {"ambiguity"} if self.ambiguity is None else set[str]()
        usual |= {name for name in ("stays", "beside") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude={*but, *usual})

    def with_(self, **changes: object) -> About:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)


def about_of(path: Path) -> About:
    """The metadata of a Parquet file; empty if it has none."""
    try:
        with open_file(path) as stream:
            text = pl.read_parquet_metadata(stream).get(METADATA_KEY)
    except OSError as error:
        raise could_not_read(path, error) from error
    except pl.exceptions.PolarsError as error:
        fix = "Write it again, or check that it was copied whole."
        raise TableError("cannot be read as Parquet", where=str(path), fix=fix) from error
    if text is None:
        return About()
    try:
        stated = json.loads(text)
        contract = stated.get("contract", CONTRACT) if isinstance(stated, dict) else None
        if isinstance(contract, int) and contract > CONTRACT:
            fix = "Update alm-proxies to read it."
            raise TableError(f"was written under contract {contract}, newer than {CONTRACT}", where=str(path), fix=fix)
        return About.model_validate(upgraded_about(stated) if isinstance(stated, dict) else stated)
    except json.JSONDecodeError as error:
        fix = "Check that it was copied whole, or write it again."
        raise TableError(f"has metadata that is not JSON ({error.msg})", where=str(path), fix=fix) from None
    except SettingsError as error:
        raise TableError(error.message, where=str(path), fix=error.fix) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TableError(f"has metadata that cannot be understood ({place}: {first['msg']})", where=str(path)) from None


def together(parts: Sequence[About]) -> About:
    """The combined metadata of several tables; different taxonomies, or two meanings of a name, are refused."""
    taxonomies = list(dict.fromkeys(part.taxonomy for part in parts if part.taxonomy))
    if len(taxonomies) > 1:
        raise InputError(
            f"the tables have different taxonomies: {' / '.join(', '.join(t) for t in taxonomies)}",
            fix="Read each corpus again with one taxonomy and a map for the labels outside it.",
        )
    return About(
        taxonomy=taxonomies[0] if taxonomies else (),
        scales=_merged([part.scales for part in parts], "corpus", "scales"),
        roots=_merged([part.roots for part in parts], "corpus", "roots"),
        annotators=_merged([part.annotators for part in parts], "annotator", "descriptions (digests)"),
        ambiguity=parts[0].ambiguity if len({part.ambiguity for part in parts}) == 1 else None,
        stays=tuple(sorted({corpus for part in parts for corpus in part.stays})),
    )


V = TypeVar("V")
_APART = {
    "corpus": "Read both parts of the corpus in one run, or one of them under another name (read --corpus NAME).",
    "annotator": (
        "Make one of them again under another name (listen --name NAME, read --as proxy:NAME, name = in an annotator "
        "file), or give only one of them."
    ),
}
"""How two things of one name become two names, or one thing."""


def _merged(parts: Sequence[dict[str, V]], noun: str, message: str) -> dict[str, V]:
    merged: dict[str, V] = {}
    for part in parts:
        for name, value in part.items():
            known = merged.setdefault(name, value)
            both_cards = isinstance(known, AnnotatorCard) and isinstance(value, AnnotatorCard)
            same = known.digest == value.digest if both_cards else known == value  # type: ignore[attr-defined]
            if not same:
                raise InputError(
                    f"the {noun} {name!r} has two different {message} in these tables",
                    fix=_APART[noun],
                )
            if _injected_votes(value) > _injected_votes(known):
                merged[name] = value
            if isinstance(known, AnnotatorCard) and isinstance(value, AnnotatorCard):
                both = {"trained_on": all_trained_on(known.trained_on, value.trained_on)}
                merged[name] = merged[name].model_copy(update=both)  # type: ignore[attr-defined]
    return merged


def all_trained_on(
    first: dict[str, list[str]] | None, other: dict[str, list[str]] | None
) -> dict[str, list[str]] | None:
    """The corpora and speakers of both; splits only where both state theirs."""
    joined: dict[str, list[str]] = {}
    for corpus in sorted({**(first or {}), **(other or {})}):
        both = [stated[corpus] for stated in (first, other) if stated and corpus in stated]
        parts = [speakers_and_splits(names) for names in both]
        kept = both if all(splits for _, splits in parts) else [speakers for speakers, _ in parts]
        joined[corpus] = sorted({name for names in kept for name in names})
    return joined or None


def _injected_votes(value: object) -> float:
    """The evidence behind a card's measured injection: of two cards of an annotator the one with more is kept."""
    return value.injected.votes if isinstance(value, AnnotatorCard) and value.injected is not None else -1.0
