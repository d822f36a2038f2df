"""What each annotator does to a label: by the estimator kept beside the labels, or by a new fit where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import About, about_of
from alm_proxies.ballots import refuse_other_taxonomy, which_count
from alm_proxies.contracts import upgraded_frame
from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.progress import Progress
from alm_proxies.stages.fuse.kept import kept_beside
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.stages.fuse.stage import fuse
from alm_proxies.table_files import is_text, readable, scan_table
from alm_proxies.table_parts import PART_ROWS
from alm_proxies.tables import Findings, Utterances, Votes, combine
from alm_proxies.trained_on import without_trained_on_votes
from alm_proxies.votes_parts import WHOLE_ROWS as _WHOLE_ROWS
from alm_proxies.votes_parts import VotesInParts, are_big, read_in_parts

if TYPE_CHECKING:
    from alm_proxies.estimators.counts import Counts
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.estimator import Estimator

_CLOSE = 1e-4
"""Shares of a label that differ by less are the same."""
_MOST_TABLES = 6
"""Of more votes tables than this, only all together are tried."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The method behind a label, and what each annotator does to the label."""

    method: str
    influence: list[dict[str, Any]] = field(default_factory=list)


class OtherVotesError(InputError):
    """Votes that do not give the label."""


def votes_on(path: Path, utterance_id: str, taxonomy: Sequence[str] = ()) -> Votes:
    """The votes of a file on one utterance; the others are not held. `taxonomy` is that of a file without one."""
    about = About() if is_text(path) else about_of(path)
    stated = None if about.taxonomy else taxonomy or None
    lazy = scan_table(path, Votes.text_columns())
    if "utterance_id" not in lazy.collect_schema():
        return Votes.read(path, taxonomy=stated)  # says what is missing
    with readable(path):
        frame = lazy.filter(pl.col("utterance_id").cast(pl.String()) == utterance_id).collect(engine="streaming")
    return Votes.of(upgraded_frame(frame, Votes.__name__), taxonomy=stated, about=about, where=str(path))


def traced(
    labels: Path,
    label: Mapping[str, Any],
    files: Sequence[Path],
    settings: FuseSettings,
    utterances: Utterances | None,
    notes: list[str],
) -> Trace:
    """What each annotator does to one row of a labels file, by votes files that give this row.

    The estimator is the one beside the labels; without it all votes are fitted again. Raises OtherVotesError where the
    votes give another label.
    """
    taxonomy = tuple(name[2:] for name in label if name.startswith("p_"))
    tables = [votes_on(path, label["utterance_id"], taxonomy) for path in files]
    for table in tables:
        refuse_other_taxonomy(table, taxonomy)
    cast = {table.content_digest(): table for table in tables if table.frame.height}
    if not cast:
        fix = "Name the votes files that fuse was given: --votes FILE ..."
        raise InputError(f"there is no vote on {label['utterance_id']!r}", where="votes", fix=fix)
    kept = kept_beside(labels)
    if kept is None:
        estimator, copies = _fitted(files, settings, utterances, taxonomy)
        if not hasattr(estimator, "posterior"):
            notes.append("dawid_skene weighs raters together: what one of them does to the label is not shown")
            return Trace(estimator.name)
    else:
        estimator, copies = kept
    if utterances is not None:  # its row alone: a join with a million rows for each annotator takes seconds
        own = utterances.frame.filter(pl.col("utterance_id") == label["utterance_id"])
        utterances = Utterances(own, utterances.about)
    try:
        return Trace(estimator.name, _influence(estimator, copies, label, list(cast.values()), settings, utterances))
    except OtherVotesError:
        made_by = about_of(labels).made_by
        if kept is not None or utterances is not None or made_by is None or "utterances" not in made_by.inputs:
            raise
        message = "the votes are fitted again, without the utterances that fuse was given, which gives other labels"
        raise InputError(message, where=str(labels), fix="Name them too: --utterances FILE.") from None


def _fitted(
    files: Sequence[Path], settings: FuseSettings, utterances: Utterances | None, taxonomy: Sequence[str]
) -> tuple[Estimator | DawidSkene, tuple[str, ...]]:
    """The estimator fitted to all votes of these files, and the annotators that are copies of others.

    Big files are read part by part, except for dawid_skene, whose fit needs all votes at once.
    """
    from alm_proxies.stages.fuse.labels import Fusion

    if settings.method == "dawid_skene" or not are_big(files, _WHOLE_ROWS):
        all_votes = combine(*(Votes.read(path, taxonomy=taxonomy) for path in files))
        fused = fuse(all_votes, settings, utterances=utterances, quiet=True)
        return fused.estimator, _copies(fused.findings)

    def fit(big: VotesInParts) -> tuple[Estimator, tuple[str, ...]]:
        with Progress("reading votes", quiet=True) as progress:
            parts = ((votes, utterances) for votes, _ in big.parts(progress))
            fusion = Fusion.of(parts, settings, quiet=True, described="")  # their digest is not needed
        return fusion.estimator, _copies(Findings.gather(fusion.findings))

    big = VotesInParts(tuple(files), None, taxonomy, (), PART_ROWS // 4)
    with TemporaryDirectory(prefix="alm-proxies-") as folder:
        return read_in_parts(big, Path(folder), fit, quiet=True)


def _copies(findings: Findings) -> tuple[str, ...]:
    return tuple(findings.frame.filter(kind="copied_annotator")["where"].to_list())


def _influence(
    estimator: Any,
    copies: Sequence[str],
    label: Mapping[str, Any],
    cast: Sequence[Votes],
    settings: FuseSettings,
    utterances: Utterances | None,
) -> list[dict[str, Any]]:
    from alm_proxies.estimators.counts import counts_of
    from alm_proxies.estimators.trials import influence

    read = partial(
        counts_of, merge=settings.merge, utterances=utterances, columns=settings.columns, consensus=settings.consensus
    )
    first: AlmProxiesError | None = None
    for some in _choices(cast):
        try:
            votes, _ = without_trained_on_votes(combine(*some), utterances, stage="fuse")
            shares = _shares(estimator, copies, votes, read)
        except AlmProxiesError as error:  # such as one table that repeats another
            first = first or error
            continue
        if np.abs(shares - np.array([label[f"p_{name}"] for name in votes.taxonomy])).max() < _CLOSE:
            return influence(estimator, votes, label["utterance_id"], read, copies).to_dicts()
        first = first or _others(label, votes, shares, settings)
    assert first is not None
    raise first


def _choices(cast: Sequence[Votes]) -> Iterator[Sequence[Votes]]:
    """All tables together, then some of them, the larger choices first."""
    yield cast
    for size in range(len(cast) - 1, 0, -1) if len(cast) <= _MOST_TABLES else ():
        yield from combinations(cast, size)


def _shares(
    estimator: Estimator, copies: Sequence[str], votes: Votes, read: Callable[[Votes], Counts]
) -> NDArray[np.float64]:
    counts = read(Votes(votes.frame.filter(~pl.col("annotator").is_in(copies)), votes.about))
    mean: NDArray[np.float64] = estimator.posterior(estimator.aligned(counts)).mean[0]
    return mean


def _others(
    label: Mapping[str, Any], votes: Votes, shares: NDArray[np.float64], settings: FuseSettings
) -> OtherVotesError:
    human, proxy = (
        float(votes.frame.filter(which_count(side, consensus=settings.consensus))["weight"].sum())
        for side in ("human", "proxy")
    )
    stated, counted = (
        f"{name} {share:.3f}"
        for name, share in (
            max(((name, label[f"p_{name}"]) for name in votes.taxonomy), key=lambda pair: pair[1]),
            max(zip(votes.taxonomy, shares.tolist(), strict=True), key=lambda pair: pair[1]),
        )
    )
    return OtherVotesError(
        f"the labels were not fused from these votes: {label['utterance_id']} has {stated} from "
        f"{label['human_votes']:g} human and {label['proxy_votes']:g} proxy votes, and the {human:g} and {proxy:g} "
        f"votes here give {counted}",
        where="votes",
        fix="Give the votes files that fuse was given, or fuse these votes.",
    )
