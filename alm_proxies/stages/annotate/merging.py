"""The command merge: the ledgers of several shards into one, with its votes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alm_proxies.about import MadeBy
from alm_proxies.errors import InputError
from alm_proxies.printable import counted
from alm_proxies.stages.annotate.injection import injection_findings
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledger_file import take_back
from alm_proxies.stages.annotate.ledgers import SHARD, ledgers_in, status_of
from alm_proxies.stages.annotate.lock import OneWriter
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.stages.annotate.reporting import findings_of
from alm_proxies.stages.annotate.votes_table import write_votes
from alm_proxies.tables import Finding, Findings, Votes

_UNFINISHED = ".merging"
"""The folder, within that of the result, in which a ledger is merged before it takes the place of an earlier one."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of merging ledgers."""

    votes: Votes
    findings: Findings


def merge(folders: Sequence[str | Path], folder: str | Path) -> Merged:
    """Merge the ledgers of shards into one, with its Votes and Findings; their annotators must be the same.

    An earlier merge in the folder stays until the new one is complete and has all of its votes.
    """
    target, table = Path(folder) / "ledger.sqlite", Path(folder) / "votes.parquet"
    named = list({path.resolve(): path for shard in folders for path in ledgers_in(shard)}.values())
    sources = [path for path in named if path.resolve() != target.resolve()]
    earlier = [path for path in named if path not in sources]
    taxonomy, findings = _common_taxonomy(sources or named), list[Finding]()
    _refuse_own_votes(target)
    with OneWriter(target.with_suffix(".lock"), merging=True) as lock:  # until the tables are written
        _refuse_own_votes(target)  # again, because annotate may have ended meanwhile
        twice = _build(target, sources, earlier, taxonomy)
        with Ledger.open(target, lock=lock) as ledger:
            if twice:
                were = "vote was" if twice == 1 else "votes were"
                message = f"{twice:,} {were} in several ledgers; one of each is kept, an ok one where there is one"
                findings.append(Finding(STAGE, "cast_twice", message, count=twice))
            now = status_of(ledger)
            if now.waiting:
                fix = "Run the shards that are not complete again, then merge again."
                message = f"{counted(now.waiting, 'planned vote')} not cast yet"
                findings.append(Finding(STAGE, "not_cast", message, fix, count=now.waiting))
            findings += _missing(json.loads(ledger.about("shards") or "[]"))
            write_votes(ledger, table, taxonomy, MadeBy(stage=STAGE))
            gathered = Findings.gather([*findings, *findings_of(ledger), *injection_findings(ledger)])
            gathered.write(Path(folder) / "findings.parquet")
            return Merged(Votes.read(table), gathered)


def _build(target: Path, sources: Sequence[Path], earlier: Sequence[Path], taxonomy: tuple[str, ...]) -> int:
    """Merge into the place of the target; gives the number of votes that several ledgers have.

    `earlier` is the target itself, if its folder is one of those to merge.
    """
    unfinished = target.parent / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with Ledger.open(unfinished / target.name) as ledger:
            ledger.keep("merged", "yes")
            ledger.keep("taxonomy", json.dumps(taxonomy))
            twice = max((ledger.take(path) for path in sources), default=0)
            taken = list(sources)
            only_there = ledger.lacks(target) if target.is_file() else 0
            if only_there or (earlier and ledger.lacks_ledgers(target)):
                if not earlier:
                    message = f"contains {counted(only_there, 'vote')} of an earlier merge that none of the folders has"
                    fix = "Name this folder among those to merge too, or write to another folder."
                    raise InputError(message, where=str(target), fix=fix)
                _common_taxonomy([*sources, target])
                twice, taken = ledger.take(target), [*sources, target]
            ledger.keep("shards", json.dumps(sorted(_shards_of(taken))))
        _replace(unfinished / target.name, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return twice


def _replace(new: Path, target: Path) -> None:
    """Put a closed ledger in the place of another, so that a crash leaves one of the two."""
    take_back(target)
    for name in (f"{target.name}-wal", f"{target.name}-shm", f"{target.name}-journal"):
        target.with_name(name).unlink(missing_ok=True)
    target.with_suffix(".journal").unlink(missing_ok=True)
    new.replace(target)
    if (journal := new.with_suffix(".journal")).exists():
        journal.replace(target.with_suffix(".journal"))


def _shards_of(sources: Iterable[Path]) -> set[tuple[int, int]]:
    """The shards that ledgers are or were merged from, as (I, N); the whole is 1 of 1."""
    shards: set[tuple[int, int]] = set()
    for path in sources:
        if match := SHARD.fullmatch(path.name):
            shards.add((int(match[1]), int(match[2])))
            continue
        with Ledger.look(path) as ledger:
            kept = ledger.about("shards")
        shards.update((int(number), int(of)) for number, of in json.loads(kept) if kept) if kept else shards.add((1, 1))
    return shards


def _missing(shards: Iterable[Sequence[int]]) -> list[Finding]:
    """A finding if no division of the utterances into shards is complete."""
    there: dict[int, set[int]] = {}
    for number, of in shards:
        there.setdefault(of, set()).add(number)
    missing = {of: sorted(set(range(1, of + 1)) - numbers) for of, numbers in sorted(there.items())}
    if not missing or not all(missing.values()):
        return []
    names = ", ".join(f"{number}/{of}" for of, numbers in missing.items() for number in numbers)
    count = sum(map(len, missing.values()))
    message = f"no folder has the {'shard' if count == 1 else 'shards'} {names}"
    fix = "Annotate what is missing, name the folders of all shards, and merge again."
    return [Finding(STAGE, "shard_missing", message, fix, count=count)]


def _refuse_own_votes(target: Path) -> None:
    """Raise for a ledger that annotate wrote: a merge would replace it."""
    if target.is_file():
        with Ledger.look(target) as ledger:
            merged = ledger.about("merged") == "yes"
        if not merged:
            fix = "Choose another folder for the merged ledger."
            raise InputError("contains votes that were cast here, not merged", where=str(target), fix=fix)


def _common_taxonomy(sources: Sequence[Path]) -> tuple[str, ...]:
    """The labels of the ledgers; refuses ledgers with different labels, annotators or losses."""
    known: dict[str, tuple[str, Path]] = {}
    taxonomies: dict[tuple[str, ...], Path] = {}
    for path in sources:
        with Ledger.look(path) as ledger:
            for kind, note in ledger.notes:
                if kind == "ledger_loss":
                    raise InputError(f"{note[0].upper()}{note[1:]}", where=str(path), fix="Run this shard again first.")
            taxonomies.setdefault(ledger.taxonomy(), path)
            for name, identity in ledger.identities().items():
                before = known.setdefault(name, (identity, path))
                if before[0] != identity:
                    raise InputError(
                        f"the annotator {name!r} is not the same in {before[1]}",
                        where=str(path),
                        fix="Annotate the shards with one annotator file and one seed.",
                    )
    if len(taxonomies) != 1:
        raise InputError(
            "there is nothing to merge" if not taxonomies else "the ledgers have different labels",
            where=", ".join(map(str, taxonomies.values())) or None,
            fix="Name the folders of the shards of one corpus.",
        )
    return next(iter(taxonomies))
