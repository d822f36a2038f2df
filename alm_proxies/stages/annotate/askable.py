"""The utterances to ask about: those with a recording, in an order of which every prefix is a representative sample."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.places import Places
from alm_proxies.errors import SettingsError
from alm_proxies.files import is_there, whole
from alm_proxies.printable import counted
from alm_proxies.remote.buckets import need_packages
from alm_proxies.stages.annotate.human_votes import HumanVotes
from alm_proxies.stages.annotate.injection import InjectedTexts, injected_texts, injection_sample
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.tables import Finding, Utterances
from alm_proxies.uris import is_remote

_COLUMNS = ("utterance_id", "corpus", "path", "keep", "start", "end", "duration", "speaker", "transcript", "dialogue")


def shard_of(text: str | None) -> tuple[int, int] | None:
    """ "2/8" as (2, 8): the second of eight shards."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise SettingsError(f"{text!r} is not a shard", fix="Write I/N with I from 1 to N, e.g. 2/8.")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, slots=True)
class ToAsk:
    """What the panel is asked about."""

    every: pl.DataFrame
    """All utterances that can be asked about, including those beyond the limit of a pilot."""
    frame: pl.DataFrame
    """Those of this shard and pilot, in asking order, with earlier turns and evidence for prompts that show them, and
    whether their recording is gone."""
    injected: InjectedTexts
    injected_of_every: pl.DataFrame
    """The utterances that the injection would take without a limit."""
    findings: tuple[Finding, ...]


def to_ask(
    utterances: Utterances,
    panel: Sequence[Annotator],
    settings: AnnotateSettings,
    human: HumanVotes | None,
    folder: Path,
) -> ToAsk:
    """The utterances to ask about and all that prompts show of them; evidence is kept in the folder."""
    every, findings = askable(utterances, settings.cards)
    frame = chosen(every, settings, human)
    frame = with_turns(frame, utterances.frame, max((annotator.prompt.turns for annotator in panel), default=0))
    frame = with_gone(frame)
    if any("evidence" in annotator.prompt.context_fields for annotator in panel):
        evidence, more = _evidence(every, folder)
        findings += more
        frame = frame.join(evidence, on="utterance_id", how="left", maintain_order="left")
    shard = shard_of(settings.shard)
    injected = injected_texts(frame, panel, settings.injection, shard, settings.seed)
    return ToAsk(every, frame, injected, injection_sample(every, settings.injection, shard), tuple(findings))


def askable(utterances: Utterances, cards: Path | None) -> tuple[pl.DataFrame, list[Finding]]:
    """The utterances that have a recording, with its path or address, and whether a copy of it may be cached; the
    others are findings.
    """
    frame = utterances.frame
    roots = utterances.about.roots
    remote = pl.col("audio").str.contains(r"^[A-Za-z][A-Za-z0-9+.-]+://") & ~pl.col("audio").str.starts_with("file://")
    need_packages(frame.filter(remote)["audio"])
    no_audio = pl.col("audio").is_null()
    findings: list[Finding] = []
    for kind, which, message, fix in (
        ("no_audio", no_audio & pl.col("recipe").is_null(), "without a recording", "Fill the column audio."),
        ("not_rendered", no_audio & pl.col("recipe").is_not_null(), "that are only recipes", "Render them first."),
    ):
        left_out = frame.filter(which)["utterance_id"].sort()
        if left_out.len():
            text = f"{counted(left_out.len(), 'utterance')} {message}, not asked about"
            findings.append(Finding(STAGE, kind, text, fix, utterance_id=left_out[0], count=left_out.len()))
    frame = frame.filter(pl.col("audio").is_not_null())
    root = pl.lit(None, pl.String)
    if roots:
        root = pl.col("corpus").replace_strict(roots, default=None, return_dtype=pl.String)
    plain = pl.col("audio").str.strip_prefix("file://")
    path = pl.when(root.is_null() | plain.str.starts_with("/") | remote).then(plain).otherwise(root + "/" + plain)
    places = Places(utterances.about, cards)
    private = [corpus for corpus in frame["corpus"].unique() if not places.keeps(corpus)]
    return frame.with_columns(path=path, keep=~pl.col("corpus").is_in(private)), findings


def is_gone(path: str) -> bool:
    """Whether a recording is known to be missing; a remote one is looked for when it is opened."""
    return not is_remote(path) and not is_there(path)


def in_fair_order(frame: pl.DataFrame, seed: int, strata: Sequence[str]) -> pl.DataFrame:
    """The rows in random order, except that every prefix contains the strata in proportion."""
    drawn = _hashes(frame["utterance_id"], f"{seed}\x1f")
    keys = frame.select("utterance_id", *strata).with_columns(drawn.alias("drawn")).with_row_index("row")
    ordered = keys.sort("drawn", "utterance_id")
    place = (pl.int_range(pl.len()).over(strata) + 0.5) / pl.len().over(strata) if strata else pl.col("drawn")
    rows = ordered.with_columns(place=place).sort("place", "drawn", "utterance_id")["row"]
    return frame[rows]


def with_turns(frame: pl.DataFrame, everything: pl.DataFrame, count: int) -> pl.DataFrame:
    """Adds `turns`: (speaker, transcript) of up to `count` earlier turns of the dialogue, oldest first.

    Turns without a transcript are among them: how many are shown differs between annotators of a panel.
    """
    if count == 0:
        return frame
    dialogues = everything.filter(pl.col("dialogue").is_not_null()).sort("dialogue", "turn", "start", "utterance_id")
    turn = pl.struct("speaker", "transcript")
    before = [turn.shift(back).over("dialogue") for back in range(count, 0, -1)]
    turns = pl.concat_list(before).list.drop_nulls()
    return frame.join(
        dialogues.select("utterance_id", turns=turns), on="utterance_id", how="left", maintain_order="left"
    )


def chosen(every: pl.DataFrame, settings: AnnotateSettings, human: HumanVotes | None) -> pl.DataFrame:
    """The utterances of this shard and pilot, in asking order."""
    shard = shard_of(settings.shard)
    if shard is not None:
        every = every.filter(_hashes(every["utterance_id"]) % shard[1] == shard[0] - 1)
    frame, strata = _with_human_label(every.select(_COLUMNS), human)
    frame = in_fair_order(frame, settings.seed, strata)
    return (frame.head(settings.limit) if settings.limit is not None else frame).select(_COLUMNS)


def _hashes(names: pl.Series, before: str = "") -> pl.Series:
    """A number below 2^64 for every name, the same on every machine."""
    hashes = (
        int.from_bytes(hashlib.blake2b((before + name).encode("utf-8", "replace"), digest_size=8).digest(), "big")
        for name in names
    )
    return pl.Series("drawn", np.fromiter(hashes, dtype=np.uint64, count=len(names)))


def _with_human_label(frame: pl.DataFrame, human: HumanVotes | None) -> tuple[pl.DataFrame, list[str]]:
    if human is None:
        return frame, ["corpus"]
    return frame.join(human.labels, on="utterance_id", how="left", maintain_order="left"), ["corpus", "human_label"]


def with_gone(frame: pl.DataFrame) -> pl.DataFrame:
    """Adds `gone`: whether the recording is known to be missing."""
    paths = frame["path"].unique()
    gone = paths.filter(pl.Series([is_gone(path) for path in paths], dtype=pl.Boolean))
    return frame.with_columns(gone=pl.col("path").is_in(gone.implode()))


def _evidence(frame: pl.DataFrame, folder: Path) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Measured prosody in words, also written into the folder, and findings on recordings without."""
    from alm_proxies.annotators.evidence import evidence_of

    evidence = evidence_of(frame, folder / "features")
    columns = {"utterance_id": list(evidence.by_utterance), "evidence": list(evidence.by_utterance.values())}
    table = pl.DataFrame(columns, schema={"utterance_id": pl.String, "evidence": pl.String})
    with whole(folder / "evidence.parquet") as temporary:
        table.write_parquet(temporary)
    return table, evidence.findings
