"""The items of an export: one row each with audio, distribution, label and split, and findings."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ambiguity import THIRDS, Cuts
from alm_proxies.audio.folder import SOUNDS
from alm_proxies.ballots import which_count, with_shares_of_votes
from alm_proxies.cards import how_to_allow, stays_because
from alm_proxies.columns import did_you_mean
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.printable import counted
from alm_proxies.seeds import generator
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.table_checks import refuse_no_rows
from alm_proxies.table_splits import speakers_on_two_sides
from alm_proxies.tables import ATTRIBUTES, Finding, Labels, Utterances, Votes
from alm_proxies.uris import is_remote

TIE = 1e-9
"""Labels with a smaller difference in shares are equally likely."""


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """The rows of an export, in order, and their labels.

    Columns: utterance_id, key (safe as a file name), corpus, audio (absolute path, or null), start, end, duration,
    speaker, dialogue, gender, language, transcript, split, weight, ambiguity, entropy, concentration, valence,
    arousal, dominance, label (plurality; null if there is none), votes (list, one count per label), restricted,
    recipe, and p_<label>.
    """

    frame: pl.DataFrame
    labels: tuple[str, ...]
    settings: ExportSettings
    utterances: Utterances
    cuts: Cuts = THIRDS
    """The normalised entropies at which ambiguity is cut into low, medium and high."""
    target: Path = Path()
    """The folder of the finished export."""
    scales: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """The scale of each corpus's ratings, as the votes state it; none for ranks, or without votes."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """Distributions, rows x labels."""
        return self.frame.select([f"p_{label}" for label in self.labels]).to_numpy().astype(np.float64)

    def __len__(self) -> int:
        return self.frame.height

    def where(self, kept: pl.Expr | pl.Series) -> Items:
        """Some of the rows."""
        return self.with_frame(self.frame.filter(kept))

    def with_frame(self, frame: pl.DataFrame) -> Items:
        """The same export with other rows."""
        return replace(self, frame=frame)

    def resolved(self, file: str) -> str:
        """A recording's absolute path in the finished export; URLs are unchanged."""
        return file if os.path.isabs(file) or "://" in file else str(self.target / file)  # noqa: PTH117  # every row

    def by_split(self) -> dict[str, Items]:
        """The rows of each split, in order of first appearance; rows without one are train."""
        names = self.frame["split"].fill_null("train")
        return {name: self.where(names == name) for name in names.unique(maintain_order=True).to_list()}


def items_of(
    labels: Labels, utterances: Utterances, settings: ExportSettings, votes: Votes | None = None
) -> tuple[Items, list[Finding]]:
    """Labels joined with their utterances, with labels renamed, restricted corpora marked, and findings."""
    refuse_no_rows(labels.frame, "labels")
    refuse_no_rows(utterances.frame, "utterances")
    label_findings: list[Finding] = []
    if settings.targets == "votes":
        labels, label_findings = with_shares_of_votes(labels, votes, utterances)
    names, merged = _renamed(labels, settings.map)
    frame = labels.frame.select(
        "utterance_id", "concentration", "human_votes", "proxy_votes", "entropy", "ambiguity", *ATTRIBUTES, "weight"
    ).with_columns(pl.DataFrame(merged, schema=[f"p_{name}" for name in names]))
    about = utterances.frame.select(
        "utterance_id", "corpus", "audio", "start", "end", "duration", "speaker", "dialogue", "gender", "language",
        "transcript", "split", "recipe",
    )  # fmt: skip
    joined = frame.join(about, on="utterance_id", how="inner", maintain_order="left")
    findings = [*label_findings, *_missing(labels, about, joined)]
    joined = joined.with_columns(label=_plurality(joined, names)).with_columns(_paths(joined, utterances))
    joined, more = _restricted(joined, settings)
    findings += more + speakers_on_two_sides(joined["speaker"], joined["split"], "in more than one split")
    findings += _in_no_split(joined)
    ids = joined["utterance_id"]
    joined = joined.with_columns(key=_pseudonym(ids, settings.seed) if settings.pseudonyms else _keys(ids))
    joined = joined.with_columns(_votes(joined, labels.taxonomy, names, settings.map, votes))
    if settings.pseudonyms:
        joined = joined.with_columns(_pseudonym(joined[name], settings.seed) for name in ("speaker", "dialogue"))
    scales = votes.about.scales if votes is not None else {}
    return Items(joined, names, settings, utterances, labels.cuts, scales=scales), findings


def with_one_label(items: Items) -> tuple[Items, list[Finding]]:
    """The rows for a format with one label: ties are left out, broken, or spread over several rows."""
    ties = items.frame["label"].is_null()
    count = int(ties.sum())
    if not count:
        return items, []
    policy = items.settings.ties
    example = items.frame.filter(ties)["utterance_id"][0]
    done = {
        "leave_out": "left out",
        "first": "given the first of their labels",
        "spread": "written once for each of their labels",
    }[policy]
    tied = "several most likely labels and"
    which = counted(count, f"utterance has {tied} is", f"utterances have {tied} are")
    message = f"{which} {done} (ties = {policy})"
    finding = Finding("export", "tied_labels", message, utterance_id=example, count=count)
    if policy == "leave_out":
        if count == len(items):
            fix = "Set ties to first or spread, or choose a format that holds distributions."
            raise InputError(f"nothing can be exported: {message}", fix=fix)
        return items.where(~ties), [finding]
    shares = items.shares
    top = shares >= shares.max(1, keepdims=True) - TIE
    rows: list[int] = []
    picked: list[str] = []
    parts: list[float] = []
    for row, tied in enumerate(top):
        at = np.flatnonzero(tied)
        at = at[:1] if policy == "first" else at
        rows += [row] * len(at)
        picked += [items.labels[k] for k in at]
        parts += [1 / len(at)] * len(at)
    frame = items.frame[rows].with_columns(label=pl.Series(picked), weight=pl.col("weight") * pl.Series(parts))
    number = frame.select(pl.int_range(pl.len()).over("utterance_id")).to_series()
    key = pl.when(number > 0).then(pl.col("key") + "-" + (number + 1).cast(pl.String)).otherwise(pl.col("key"))
    return items.with_frame(frame.with_columns(apart(frame.select(key).to_series()))), [finding]


def refuse_split_names(names: Iterable[str]) -> None:
    """Raise for a split that cannot be part of a file's name, as "a/b", which would name a file in another folder."""
    for name in names:
        if not name.strip(" .") or re.search(r"[/\\\x00-\x1f\x7f]", name):
            fix = "Rename the split, or choose a format that is one table, such as csv."
            raise InputError(f"the split {name!r} cannot be part of a file's name", fix=fix)


def by_split_name(items: Items, names: dict[str, str], other: str = "{}") -> Iterator[tuple[str, Items]]:
    """The items of each split under a trainer's name for it; other splits keep their names."""
    merged: dict[str, list[str]] = {}
    for split in items.by_split():
        merged.setdefault(names.get(split, other.format(split)), []).append(split)
    refuse_split_names(merged)
    column = items.frame["split"].fill_null("train")
    for name, splits in merged.items():
        yield name, items.where(column.is_in(splits))


def _renamed(labels: Labels, names: Mapping[str, str]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    if unknown := [label for label in names if label not in labels.taxonomy]:
        fix = f"{did_you_mean(unknown[0], labels.taxonomy)} The labels are {', '.join(labels.taxonomy)}.".strip()
        raise SettingsError(f"map names {unknown[0]!r}, which is not a label", fix=fix)
    called = [names.get(label, label) for label in labels.taxonomy]
    kept = tuple(dict.fromkeys(called))
    shares = labels.distributions()
    merged = np.zeros((len(shares), len(kept)))
    for column, name in enumerate(called):
        merged[:, kept.index(name)] += shares[:, column]
    return kept, merged / merged.sum(1, keepdims=True)


def _missing(labels: Labels, about: pl.DataFrame, joined: pl.DataFrame) -> list[Finding]:
    if not joined.height:
        fix = "Give the utterances file of these labels."
        raise InputError("no label belongs to one of these utterances", fix=fix)
    findings = []
    if (lost := labels.frame.height - joined.height) > 0:
        example = labels.frame.join(about, on="utterance_id", how="anti")["utterance_id"][0]
        message = f"{counted(lost, 'label')} without an utterance in the utterances file left out"
        fix = "Give the utterances file of these labels."
        findings.append(Finding("export", "not_described", message, fix, utterance_id=example, count=lost))
    without = about.join(labels.frame, on="utterance_id", how="anti")
    if without.height:
        message = f"{counted(without.height, 'utterance')} without a label left out"
        example = without["utterance_id"][0]
        findings.append(Finding("export", "without_labels", message, utterance_id=example, count=without.height))
    return findings


def _plurality(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.Series:
    shares = frame.select([f"p_{name}" for name in names]).to_numpy()
    top = shares >= shares.max(1, keepdims=True) - TIE
    chosen = zip(shares.argmax(1).tolist(), (top.sum(1) == 1).tolist(), strict=True)
    return pl.Series("label", [names[place] if clear else None for place, clear in chosen], dtype=pl.String)


def _paths(frame: pl.DataFrame, utterances: Utterances) -> pl.Series:
    """Absolute paths, or URLs unchanged; null if there is no recording."""
    paths: list[str | None] = []
    roots = {corpus: Path(root).absolute() for corpus, root in utterances.about.roots.items()}
    here = Path.cwd()
    for corpus, audio in frame.select("corpus", "audio").iter_rows():
        if audio is None or is_remote(audio):
            paths.append(audio)
        else:
            paths.append(str(roots.get(corpus, here) / audio.removeprefix("file://")))
    return pl.Series("audio", paths, dtype=pl.String)


def _restricted(frame: pl.DataFrame, settings: ExportSettings) -> tuple[pl.DataFrame, list[Finding]]:
    reasons = {
        corpus: stays_because(corpus, named=settings.may_leave, folder=settings.cards)
        for corpus in frame["corpus"].unique().sort().to_list()
    }
    stay = [corpus for corpus, reason in reasons.items() if reason is not None]
    marked = frame.with_columns(restricted=pl.col("corpus").is_in(stay))
    findings = []
    for corpus in stay:
        held = marked.filter((pl.col("corpus") == corpus) & pl.col("transcript").is_not_null()).height
        if held and settings.transcripts:
            message = f"{counted(held, 'transcript is', 'transcripts are')} not written: {reasons[corpus]}"
            fix = how_to_allow(corpus, settings.cards)
            findings.append(Finding("export", "kept_back", message, fix, where=corpus, count=held))
    hidden = pl.lit(value=not settings.transcripts) | pl.col("restricted")
    return marked.with_columns(transcript=pl.when(hidden).then(None).otherwise(pl.col("transcript"))), findings


def _in_no_split(frame: pl.DataFrame) -> list[Finding]:
    """A finding if some items have no split, where others have one."""
    without = frame.filter(pl.col("split").is_null())
    if not 0 < without.height < frame.height:
        return []
    message = f"{counted(without.height, 'utterance')} without a split, which count as train"
    fix = "Leave them out if their speakers may be of another split, as those of unknown speakers may."
    example = without["utterance_id"][0]
    return [Finding("export", "counts_as_train", message, fix, utterance_id=example, count=without.height)]


def _keys(ids: pl.Series) -> pl.Series:
    """Portable file names without an ending, one for each utterance.

    The ending of a recording in an id is left out, other characters become '-', repeated names get a number.
    """
    return apart(re.sub(r"[^A-Za-z0-9_.-]+", "-", _without_ending(name)).strip(".-")[:150] or "item" for name in ids)


def _without_ending(name: str) -> str:
    ending = next((ending for ending in SOUNDS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def apart(names: Iterable[str]) -> pl.Series:
    """The names as keys, repeated ones with a number; some systems take names that differ only in case for the same."""
    seen: Counter[str] = Counter()
    keys = []
    for name in names:
        key = name
        while key.lower() in seen:
            seen[name.lower()] += 1
            key = f"{name}~{seen[name.lower()]}"
        seen[key.lower()] = 1
        keys.append(key)
    return pl.Series("key", keys, dtype=pl.String)


def _votes(
    frame: pl.DataFrame,
    taxonomy: tuple[str, ...],
    names: tuple[str, ...],
    called: Mapping[str, str],
    votes: Votes | None,
) -> pl.Series:
    """Human votes for each label of the export, held-out ones left out; null if no votes were given."""
    if votes is None:
        return pl.Series("votes", [None] * frame.height, dtype=pl.List(pl.Float64))
    human = votes.frame.filter(which_count("human")).with_columns(
        pl.col("label").replace({label: called.get(label, label) for label in taxonomy})
    )
    counts = human.group_by("utterance_id", "label").agg(pl.col("weight").sum())
    wide = frame.select("utterance_id")
    columns = []
    for name in names:
        label_counts = counts.filter(pl.col("label") == name).select("utterance_id", pl.col("weight").alias(name))
        columns.append(
            wide.join(label_counts, on="utterance_id", how="left", maintain_order="left")[name].fill_null(0.0)
        )
    return pl.DataFrame(columns).select(pl.concat_list(names).alias("votes")).to_series()


def _pseudonym(values: pl.Series, seed: int) -> pl.Series:
    known = values.drop_nulls().unique().sort().to_list()
    order = generator(seed, "export", values.name).permutation(len(known))
    width = len(str(len(known)))
    kind = {"utterance_id": "item"}.get(values.name, values.name)
    names = {value: f"{kind}{place + 1:0{width}d}" for value, place in zip(known, order.tolist(), strict=True)}
    return values.replace_strict(names, default=None, return_dtype=pl.String)
