"""Speaker-disjoint splits: shares of the utterances, or folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.errors import InputError, TableError
from alm_proxies.printable import counted
from alm_proxies.seeds import generator
from alm_proxies.stages.read.rows import read_rows
from alm_proxies.stages.read.settings import UTTERANCES, Source, shares_of
from alm_proxies.stages.read.sources import prefixed
from alm_proxies.tables import Finding

_ROUNDS = 200
SPLITS = {
    "training": "train", "validation": "development", "valid": "development", "val": "development",
    "dev": "development", "eval": "development", "testing": "test", "test1": "test",
}  # fmt: skip
Floats = NDArray[np.float64]


def split_word(word: str) -> str:
    """The name of a split; usual words for train, development and test are translated."""
    lowered = word.lower()
    return SPLITS.get(lowered, lowered if lowered in ("train", "development", "test") else word)


def kept_splits(source: Source, utterances: pl.DataFrame) -> dict[str, str]:
    """The split of each speaker of these utterances that has one in the table of an earlier split.

    Empty if the source names no such table; a table that has none of the speakers is refused. Other speakers in it, as
    of the other corpora of a combined table, may have any split.
    """
    speakers: set[str] = set(utterances["speaker"].drop_nulls()) if "speaker" in utterances.columns else set()
    if source.keep_splits is None or source.split_of_speakers is None or not speakers:
        return {}
    path = source.keep_splits / UTTERANCES if source.keep_splits.is_dir() else source.keep_splits
    rows = read_rows(path)
    known = shares_of(source.split_of_speakers)
    table = rows.words("speaker", "split").with_columns(prefixed("speaker", source.corpus))
    ours = table["speaker"].is_in(list(speakers)).fill_null(value=False)
    rows.refuse(
        ours & ~table["split"].is_in(list(known)).fill_null(value=True),
        "split",
        f"is no split of {source.split_of_speakers!r}, which makes {', '.join(known)}",
        "Ask for the split that it was made by.",
    )
    if not ours.any():
        message = f"has no speaker of {source.corpus}, so it keeps no split"
        fix = f"Name the table that an earlier read of {source.corpus} wrote, or leave keep_splits out (--keep-splits)."
        raise TableError(message, where=str(path), fix=fix)
    table = table.filter(ours).drop_nulls().unique().sort("speaker", "split")
    twice = table.filter(pl.col("speaker").is_duplicated())["speaker"]
    if len(twice):
        raise TableError(f"has speaker {twice[0]!r} in several splits", where=str(path), fix="Keep one split of each.")
    return dict(table.iter_rows())


def split_by_speaker(
    utterances: pl.DataFrame, wanted: str, seed: int, corpus: str, kept: Mapping[str, str] | None = None
) -> tuple[pl.DataFrame, list[Finding]]:
    """The utterances with a speaker-disjoint split, its sizes as near to the shares as the speakers allow.

    Speakers in `kept` have the split that it states. The others are assigned, largest first, to the split that lacks
    most utterances; then they are moved and swapped while that brings the sizes nearer. Speakers of equal size are
    ordered by the seed. An utterance without a speaker belongs to no split (null).
    """
    shares = shares_of(wanted)
    if "speaker" not in utterances.columns:
        utterances = utterances.with_columns(speaker=pl.lit(None, dtype=pl.String))
    sizes = Counter(utterances["speaker"].drop_nulls().to_list())
    unknown = utterances["speaker"].null_count()
    if len(sizes) < len(shares):
        are = counted(len(sizes), "speaker is", "speakers are")
        known = f"only {are} known" if sizes else "the speakers are not known"
        raise InputError(
            f"cannot be split by speaker into {len(shares)}: {known}",
            where=corpus,
            fix="Give the column of the speakers, ask for fewer splits, or leave split out.",
        )
    names = list(shares)
    before = {speaker: split for speaker, split in (kept or {}).items() if speaker in sizes}
    speakers = sorted(set(sizes) - set(before))
    order = generator(seed, "split", corpus).permutation(len(speakers))
    ranked = sorted((speakers[i] for i in order), key=lambda speaker: -sizes[speaker])
    placed = _placed(
        [sizes[speaker] for speaker in ranked],
        np.array(list(shares.values())) * sum(sizes.values()),
        [(names.index(split), sizes[speaker]) for speaker, split in before.items()],
    )
    split = before | {speaker: names[place] for speaker, place in zip(ranked, placed, strict=True)}
    findings = []
    came = utterances.height - utterances["split"].null_count() if "split" in utterances.columns else 0
    if came:
        message = f"the split that came with {counted(came, 'utterance')} was replaced by {wanted}"
        findings.append(Finding("read", "split_replaced", message, where=corpus, count=came))
    if unknown:
        message = f"{counted(unknown, 'utterance')} without a known speaker, so in no split"
        findings.append(
            Finding("read", "unknown_speaker", message, "Give their speakers.", where=corpus, count=unknown)
        )
    assigned = pl.col("speaker").replace_strict(split, default=None, return_dtype=pl.String).alias("split")
    return utterances.with_columns(assigned), findings


def _placed(sizes: Sequence[int], target: Floats, kept: Sequence[tuple[int, int]]) -> list[int]:
    """The split of each speaker; sizes are sorted, largest first. `kept` are the splits and sizes of further ones."""
    filled = np.zeros(len(target))
    heads = np.zeros(len(target), dtype=np.int64)
    for place, size in kept:
        filled[place] += size
        heads[place] += 1
    placed: list[int] = []
    for number, size in enumerate(sizes):
        empty = np.flatnonzero(heads == 0)
        # The last speakers are kept for splits that would otherwise be empty.
        among = empty if len(sizes) - number <= len(empty) > 0 else np.arange(len(target))
        place = int(among[np.argmax((target - filled)[among])])
        placed.append(place)
        filled[place] += size
        heads[place] += 1
    for _ in range(_ROUNDS):
        if not _improved(placed, sizes, target, filled, heads):
            break
    return placed


def _improved(
    placed: list[int], sizes: Sequence[int], target: np.ndarray, filled: np.ndarray, heads: np.ndarray
) -> bool:
    """Make the move or swap that brings the sizes nearest to their targets; False if none does."""
    # Speakers of one size in one split are alike, so one of each stands for all.
    alike = {(place, size): number for number, (place, size) in enumerate(zip(placed, sizes, strict=True))}
    now = np.abs(filled - target)
    best, moves = -1e-9, list[tuple[int, int]]()
    for (a, size_a), first in alike.items():
        if heads[a] > 1:
            for b in range(len(target)):
                gain = abs(filled[a] - size_a - target[a]) + abs(filled[b] + size_a - target[b]) - now[a] - now[b]
                if b != a and gain < best:
                    best, moves = gain, [(first, b)]
        for (b, size_b), other in alike.items():
            d = size_a - size_b
            gain = abs(filled[a] - d - target[a]) + abs(filled[b] + d - target[b]) - now[a] - now[b]
            if a < b and gain < best:
                best, moves = gain, [(first, b), (other, a)]
    for number, place in moves:
        filled[placed[number]] -= sizes[number]
        heads[placed[number]] -= 1
        placed[number] = place
        filled[place] += sizes[number]
        heads[place] += 1
    return bool(moves)
