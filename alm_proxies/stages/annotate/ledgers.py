"""Ledgers seen from outside: how far each one is, and many of them made into one."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alm_proxies.about import Injected, MadeBy
from alm_proxies.errors import InputError
from alm_proxies.stages.annotate.figures import counted, in_money
from alm_proxies.stages.annotate.injection import injection_findings, injections, with_injections
from alm_proxies.stages.annotate.ledger import Ledger, Outcome
from alm_proxies.stages.annotate.outcomes import findings_of, votes_of
from alm_proxies.tables import Finding, Findings, Votes

STAGE = "annotate"
_RECENT = 600.0
"""Seconds back from now over which the rate is taken."""
_COPIED = Outcome._fields[3:]


@dataclass(frozen=True, slots=True)
class Status:
    """How far one ledger is."""

    ledger: str
    planned: int
    cast: dict[str, int]
    """Planned votes with an outcome, by status."""
    set_aside: int
    in_flight: int
    price: float
    rate: float
    """Votes a minute of late; 0 where nothing came of late."""
    price_planned: float
    """What the votes planned now have cost."""
    annotators: dict[str, int]
    """Every annotator that the ledger holds votes of, planned now or not, and how many."""
    injected: dict[str, dict[str, float | None]]
    """What injected transcripts did to the votes of each annotator, as far as that was measured."""

    @property
    def waiting(self) -> int:
        """Planned votes without an outcome."""
        return self.planned - sum(self.cast.values())

    @property
    def minutes_left(self) -> float | None:
        """At this rate, or None where nothing is coming."""
        return self.waiting / self.rate if self.rate else None

    @property
    def price_left(self) -> float:
        """What the waiting votes will cost if they cost what the others did."""
        cast = sum(self.cast.values())
        return self.price_planned / cast * self.waiting if cast else 0.0

    def __str__(self) -> str:
        cast = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(self.cast.items())) or "none"
        left = f", about {self.minutes_left:.0f} min left at {self.rate:.0f} a minute" if self.minutes_left else ""
        cost = f"; {in_money(self.price)} spent, about {in_money(self.price_left)} to come" if self.price else ""
        cost = cost if self.waiting else cost.split(",")[0]
        flying = f", {self.in_flight} requests in flight" if self.in_flight else ""
        aside = f", {self.set_aside} set aside" if self.set_aside else ""
        waiting = f"{self.waiting} waiting{flying}{left}{cost}"
        turned = "".join(f"; {name}: {Injected.model_validate(one)}" for name, one in self.injected.items())
        held = ", ".join(f"{count:,} of {name}" for name, count in self.annotators.items())
        held = f"; votes in the ledger: {held}" if held else ""
        return f"{self.ledger}: {self.planned} votes planned, cast: {cast}{aside}; {waiting}{held}{turned}"


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of merging ledgers."""

    votes: Votes
    findings: Findings


def status(folder: str | Path) -> list[Status]:
    """How far every ledger in a folder is; another process may be writing them."""
    return [_status(path) for path in ledgers_in(folder)]


def ledgers_in(folder: str | Path) -> list[Path]:
    """The ledgers in a folder, or an error."""
    found = sorted(Path(folder).glob("ledger*.sqlite"))
    if not found:
        raise InputError("holds no ledger", where=str(folder), fix="Name a folder that annotate has written to.")
    return found


def merge(folders: Sequence[str | Path], folder: str | Path) -> Merged:
    """One ledger, Votes and Findings out of those of many shards; an annotator that differs between them is refused."""
    target = Path(folder) / "ledger.sqlite"
    sources = [path for one in folders for path in ledgers_in(one) if path.resolve() != target.resolve()]
    taxonomy, findings = _refuse_what_differs(sources), list[Finding]()
    _forget_earlier_merger(target)
    with Ledger.open(target) as ledger:
        ledger.keep("merged", "yes")
        ledger.keep("taxonomy", json.dumps(taxonomy))
        twice = max(_take(ledger, path) for path in sources)
        for path in sources:
            with Ledger.look(path) as source:
                ledger.add_tried_out(*source.tried_out())
        if twice:
            were = "vote was" if twice == 1 else "votes were"
            message = f"{twice:,} {were} in several ledgers; one of each is kept, an ok one where there is one"
            findings.append(Finding(STAGE, "cast_twice", message, count=twice))
        now = _status_of(ledger)
        if now.waiting:
            fix = "Run the shards that are not complete again, then merge again."
            findings.append(
                Finding(
                    STAGE, "not_cast", f"{counted(now.waiting, 'planned vote')} not cast yet", fix, count=now.waiting
                )
            )
        votes = with_injections(votes_of(ledger, taxonomy, MadeBy(stage=STAGE)), ledger)
        gathered = Findings.gather([*findings, *findings_of(ledger), *injection_findings(ledger)])
    votes.write(Path(folder) / "votes.parquet")
    gathered.write(Path(folder) / "findings.parquet")
    return Merged(votes, gathered)


def _forget_earlier_merger(target: Path) -> None:
    if not target.is_file():
        return
    with Ledger.look(target) as ledger:
        merged = ledger.about("merged") == "yes"
    if not merged:
        fix = "Choose a folder of its own for what is merged."
        raise InputError("holds votes that were cast here, not merged", where=str(target), fix=fix)
    for path in (target, target.with_name(f"{target.name}-wal"), target.with_name(f"{target.name}-shm")):
        path.unlink(missing_ok=True)


def _status(path: Path) -> Status:
    with Ledger.look(path) as ledger:
        return _status_of(ledger)


def _status_of(ledger: Ledger) -> Status:
    sql = ledger.sql
    (utterances,) = sql.execute("SELECT COUNT(*) FROM planned_utterance").fetchone()
    (votes,) = sql.execute("SELECT COALESCE(SUM(votes), 0) FROM planned_annotator").fetchone()
    cast: Counter[str] = Counter()
    query = """SELECT v.status, COUNT(*) FROM vote v JOIN planned_annotator p ON p.annotator = v.annotator
        WHERE v.draw < p.votes AND v.utterance IN (SELECT utterance FROM planned_utterance) GROUP BY v.status"""
    cast.update(dict(sql.execute(query)))
    since = time.time() - _RECENT
    recent, first = sql.execute("SELECT COUNT(*), MIN(at) FROM vote WHERE at > ? AND tries > 0", (since,)).fetchone()
    spread = max(time.time() - first, 1.0) if recent else 1.0
    (aside,) = sql.execute("SELECT COUNT(*) FROM set_aside").fetchone()
    (flying,) = sql.execute("SELECT COUNT(*) FROM in_flight").fetchone()
    rate = 60.0 * recent / spread
    injected = {name: one.model_dump() for name, one in injections(ledger).items()}
    held = """SELECT a.name, COUNT(*) FROM vote v JOIN annotator a ON a.id = v.annotator WHERE a.name NOT LIKE '% %'
        GROUP BY a.name ORDER BY a.name"""
    return Status(
        ledger=str(ledger.path),
        planned=utterances * votes,
        cast=dict(cast),
        set_aside=aside,
        in_flight=flying,
        price=ledger.spent(),
        rate=rate,
        price_planned=ledger.spent_on_plan(),
        annotators=dict(sql.execute(held)),
        injected=injected,
    )


def _refuse_what_differs(sources: Sequence[Path]) -> tuple[str, ...]:
    known: dict[str, tuple[str, Path]] = {}
    taxonomies: dict[tuple[str, ...], Path] = {}
    for path in sources:
        with Ledger.look(path) as ledger:
            taxonomies.setdefault(tuple(json.loads(ledger.about("taxonomy") or "[]")), path)
            rows = ledger.sql.execute(
                "SELECT name, digest, seed FROM annotator WHERE id IN (SELECT annotator FROM planned_annotator)"
            )
            for name, digest, seed in rows:
                said, before = known.setdefault(name, (f"{digest} {seed}", path))
                if said != f"{digest} {seed}":
                    raise InputError(
                        f"the annotator {name!r} is not the same in {before}",
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


def _take(ledger: Ledger, path: Path) -> int:
    """Copy another ledger's content; gives how many votes were there already. Of a vote cast twice both stay paid."""
    copied = ", ".join(f"v.{name}" for name in _COPIED)
    both = "JOIN a ON a.old = v.annotator JOIN u ON u.old = v.utterance"
    same = "w.annotator = a.new AND w.utterance = u.new AND w.draw = v.draw"
    failed = f"w.status = 'failed' AND EXISTS (SELECT 1 FROM other.vote v {both} WHERE {same})"
    ledger.sql.execute("ATTACH DATABASE ? AS other", (f"{path.resolve().as_uri()}?mode=ro",))
    try:
        with ledger.transaction() as sql:
            for statement in (
                "INSERT OR IGNORE INTO utterance (name) SELECT name FROM other.utterance ORDER BY id",
                "INSERT OR IGNORE INTO annotator (name, digest, seed, card)"
                " SELECT name, digest, seed, card FROM other.annotator ORDER BY id",
                "CREATE TEMP TABLE u AS SELECT o.id AS old, m.id AS new"
                " FROM other.utterance o JOIN main.utterance m USING (name)",
                "CREATE TEMP TABLE a AS SELECT o.id AS old, m.id AS new FROM other.annotator o"
                " JOIN main.annotator m ON m.name = o.name AND m.digest = o.digest AND m.seed IS o.seed",
                "CREATE UNIQUE INDEX temp.u_old ON u (old)",
                "INSERT OR IGNORE INTO audio SELECT * FROM other.audio",
                f"INSERT OR IGNORE INTO material SELECT a.new, u.new, v.digest FROM other.material v {both}",
                f"INSERT INTO set_aside SELECT w.*, 'cast twice' FROM main.vote w WHERE {failed}",
                f"DELETE FROM main.vote AS w WHERE {failed}",
                f"INSERT INTO set_aside SELECT a.new, u.new, v.draw, {copied}, 'cast twice'"
                f" FROM other.vote v {both} JOIN main.vote w ON {same}",
                f"INSERT OR IGNORE INTO vote SELECT a.new, u.new, v.draw, {copied} FROM other.vote v {both}",
                f"INSERT INTO set_aside SELECT a.new, u.new, v.draw, {copied}, v.why FROM other.set_aside v {both}",
                "INSERT INTO lost SELECT * FROM other.lost",
                "INSERT INTO lost SELECT * FROM (SELECT COUNT(*) AS requests, SUM(draws), SUM(price)"
                " FROM other.in_flight) WHERE requests > 0",
                "INSERT INTO planned_utterance (utterance) SELECT u.new FROM other.planned_utterance v"
                " JOIN u ON u.old = v.utterance"
                " WHERE u.new NOT IN (SELECT utterance FROM main.planned_utterance) ORDER BY v.position",
                "INSERT INTO planned_annotator SELECT a.new, v.votes FROM other.planned_annotator v"
                " JOIN a ON a.old = v.annotator WHERE true"
                " ON CONFLICT DO UPDATE SET votes = MAX(votes, excluded.votes)",
                "INSERT OR IGNORE INTO injection SELECT a.new, u.new, v.label, v.speaker, t.new, c.new"
                f" FROM other.injection v {both} JOIN a t ON t.old = v.told JOIN a c ON c.old = v.control",
                "DROP TABLE temp.u",
                "DROP TABLE temp.a",
            ):
                sql.execute(statement)
            (twice,) = sql.execute("SELECT COUNT(*) FROM set_aside WHERE why = 'cast twice'").fetchone()
    finally:
        ledger.sql.execute("DETACH DATABASE other")
    return int(twice)
