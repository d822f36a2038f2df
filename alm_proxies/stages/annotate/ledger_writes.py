"""Writes to the ledger, within a transaction of the caller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from alm_proxies.about import AnnotatorCard
from alm_proxies.stages.annotate.ledger_file import VOTE_COLUMNS
from alm_proxies.stages.annotate.records import Outcome, Totals, Written

_VALUES = ", ".join("?" * VOTE_COLUMNS)


def apply(sql: sqlite3.Connection, before: Totals, written: Written, *, again: bool = False) -> Totals:
    """Apply one write; gives the totals after it. `again` skips rows that exist already."""
    insert = "INSERT OR IGNORE" if again else "INSERT"
    if written.heard:
        sql.executemany("INSERT OR REPLACE INTO material VALUES (?, ?, ?)", [row[:3] for row in written.heard])
        sql.executemany("INSERT OR REPLACE INTO audio VALUES (?, ?, ?, ?)", [row[3:] for row in written.heard])
    if written.sending:
        sql.executemany(f"{insert} INTO in_flight VALUES (?, ?, ?)", written.sending)
    if written.arrived:
        sql.executemany("DELETE FROM in_flight WHERE id = ?", [(number,) for number in written.arrived])
    if written.outcomes:
        sql.executemany(f"{insert} INTO vote VALUES ({_VALUES})", written.outcomes)
    if written.lost:
        sql.executemany("INSERT INTO lost VALUES (?, ?, ?, ?)", written.lost)
    price = sum(outcome.price for outcome in written.outcomes) + sum(lost.price for lost in written.lost)
    for trial in written.trials:
        row = sql.execute("SELECT price FROM trial WHERE id = ?", (trial.number,)).fetchone()
        price += trial.price - (row[0] if row else 0.0)
        sql.execute("INSERT OR REPLACE INTO trial VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", trial)
    answered = sum(outcome.status != "failed" for outcome in written.outcomes)
    after = Totals(before.sequence + 1, before.answered + answered, before.price + price)
    sql.execute("UPDATE total SET sequence = ?, answered = ?, price = ? WHERE id = 1", after)
    return after


def recounted(sql: sqlite3.Connection, known: Totals) -> Totals:
    """The totals of the rows, which are also stored in the ledger."""
    answered = sum(
        sql.execute(f"SELECT TOTAL(status != 'failed') FROM {table}").fetchone()[0] for table in ("vote", "set_aside")
    )
    price = sum(
        sql.execute(f"SELECT TOTAL(price) FROM {table}").fetchone()[0]
        for table in ("vote", "set_aside", "lost", "trial")
    )
    if abs(price - known.price) <= 1e-6 * max(1.0, known.price):
        price = known.price  # the same sum, added in another order
    totals = Totals(known.sequence, int(answered), float(price))
    sql.execute("UPDATE total SET sequence = ?, answered = ?, price = ? WHERE id = 1", totals)
    return totals


def move_aside(sql: sqlite3.Connection, why: str, where: str, values: Sequence[Any]) -> int:
    """Move votes into the table of votes set aside, with the reason; gives their number."""
    cursor = sql.execute(f"INSERT INTO set_aside SELECT vote.*, ? FROM vote WHERE {where}", (why, *values))
    sql.execute(f"DELETE FROM vote WHERE {where}", values)
    return cursor.rowcount


def annotator_id(sql: sqlite3.Connection, card: AnnotatorCard, name: str) -> int:
    """The number of the annotator with this name and the digest and seed of the card."""
    key = (name, card.digest, card.seed)
    sql.execute("INSERT OR IGNORE INTO annotator (name, digest, seed) VALUES (?, ?, ?)", key)
    where = "WHERE name = ? AND digest = ? AND seed IS ?"
    sql.execute(f"UPDATE annotator SET card = ? {where}", (card.model_dump_json(), *key))
    (number,) = sql.execute(f"SELECT id FROM annotator {where}", key).fetchone()
    return int(number)


def storable(outcome: Outcome) -> Outcome:
    """The row with text that SQLite can store: lone surrogates from a broken reply become question marks."""
    if outcome.raw.isascii() and (outcome.stated is None or outcome.stated.isascii()):
        return outcome
    return Outcome._make(v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for v in outcome)


_COPIED = ", ".join(f"v.{name}" for name in Outcome._fields[3:])
_BOTH = "JOIN a ON a.old = v.annotator JOIN u ON u.old = v.utterance"
_SAME = "w.annotator = a.new AND w.utterance = u.new AND w.draw = v.draw"
_BETTER = "(v.status = 'ok' AND w.status != 'ok' OR v.status != 'failed' AND w.status = 'failed')"
_PARTS = ("status", "raw", "request", "price", "at")
_EQUAL = " AND ".join(f"w.{name} IS v.{name}" for name in _PARTS)
"""The same answer: the two ledgers are copies of one, or one was merged from the other."""
_KEY_AND_PARTS = ", ".join(("annotator", "utterance", "draw", *_PARTS))
_HERE = f"(SELECT 1 FROM main.vote w WHERE {_SAME} AND {_EQUAL})"
_ASIDE = "SELECT 1 FROM temp.aside k WHERE k.annotator = a.new AND k.utterance = u.new AND k.draw = v.draw AND "
_ASIDE += " AND ".join(f"k.{name} IS v.{name}" for name in _PARTS)
_VOID = f"EXISTS ({_ASIDE} AND why != 'cast twice')"
"""A vote that a ledger has set aside, because it failed or no longer holds, is no vote in any other."""
_VOID_THERE = f"""(SELECT v.why FROM temp.theirs v WHERE v.annotator = w.annotator AND v.utterance = w.utterance
    AND v.draw = w.draw AND {_EQUAL} AND v.why != 'cast twice' LIMIT 1)"""
_REPLACED = f"EXISTS (SELECT 1 FROM other.vote v {_BOTH} WHERE {_SAME} AND {_BETTER} AND NOT {_VOID})"
_SET_ASIDE_THERE = f"v.draw, {', '.join(f'v.{name}' for name in _PARTS)}, v.why FROM other.set_aside v {_BOTH}"
_LOST = "requests, draws, price, why"
_LOST_HERE = " AND ".join(f"m.{name} IS o.{name}" for name in _LOST.split(", "))
_FLYING = "in flight when merged"
_KNOWN_LATER = (
    f"instr(why, '{_FLYING} (') = 1 AND EXISTS (SELECT 1 FROM json_each(?) e"
    " WHERE instr(why, e.key) > 0 AND CAST(substr(why, instr(why, ', ') + 2) AS INTEGER) < e.value)"
)
"""The reason of requests in flight has the identity of their ledger and its number of writes then."""
_MORE_LOST = (
    f"INSERT INTO lost SELECT {_LOST} FROM"
    f" (SELECT *, ROW_NUMBER() OVER (PARTITION BY {_LOST}) AS place FROM other.lost) AS o"
    f" WHERE place > (SELECT COUNT(*) FROM main.lost m WHERE {_LOST_HERE}) AND NOT ({_KNOWN_LATER})"
)
"""Requests without a vote have no time: of equal ones, as many are kept as the ledger has that has most of them."""

_SAME_TRIAL = "m.annotator = t.annotator AND m.at = t.at"
_NOT_SETTLED = "('in flight', 'killed')"
_SETTLED_THERE = (
    f"DELETE FROM main.trial AS m WHERE m.state IN {_NOT_SETTLED} AND EXISTS (SELECT 1 FROM other.trial t"
    f" WHERE {_SAME_TRIAL} AND (t.state NOT IN {_NOT_SETTLED} OR m.state = 'in flight'))"
)
"""A trial has the time at which it was booked in every state: of two states the later one is kept."""
_NEW_TRIALS = f" WHERE NOT EXISTS (SELECT 1 FROM main.trial m WHERE {_SAME_TRIAL})"


def sequences(sql: sqlite3.Connection, schema: str) -> dict[str, int]:
    """The number of writes up to which a ledger has itself, and those that were copied into it, by identity."""
    row = sql.execute(f"SELECT value FROM {schema}.about WHERE key = 'sequences'").fetchone()
    kept = {} if row is None else {str(name): int(number) for name, number in json.loads(row[0]).items()}
    own = sql.execute(f"SELECT ledger, sequence FROM {schema}.total WHERE id = 1").fetchall()
    return kept | {str(name): int(number) for name, number in own}


def take_lost(sql: sqlite3.Connection, before: Mapping[str, int], there: Mapping[str, int], *, again: bool) -> None:
    """Copy the requests without a vote of the ledger `other`; `again` if part of it may have been taken before.

    `before` and `there` are the `sequences` of this ledger and the other: of requests that were in flight when a ledger
    was copied, a later copy of it knows more.
    """
    ((own, sequence),) = sql.execute("SELECT ledger, sequence FROM other.total").fetchall()
    if again:
        later = {**there, own: sequence + 1}  # its own requests in flight are copied below
        sql.execute(f"DELETE FROM main.lost WHERE {_KNOWN_LATER}", (json.dumps(later),))
        sql.execute(_MORE_LOST, (json.dumps(before),))
    else:
        sql.execute("INSERT INTO lost SELECT * FROM other.lost")
    if before.get(own, 0) <= sequence:
        sql.execute(
            f"INSERT INTO lost SELECT *, '{_FLYING} ({own}, {sequence})' FROM"
            " (SELECT COUNT(*) AS requests, SUM(draws), SUM(price) FROM other.in_flight) WHERE requests > 0"
        )


def take_statements(*, again: bool) -> tuple[str, ...]:
    """The statements that copy all else of the ledger `other`; `again` if part of it may have been taken before."""
    return (
        "INSERT OR IGNORE INTO utterance (name) SELECT name FROM other.utterance ORDER BY id",
        "INSERT OR IGNORE INTO annotator (name, digest, seed, card)"
        " SELECT name, digest, seed, card FROM other.annotator ORDER BY id",
        "CREATE TEMP TABLE u AS SELECT o.id AS old, m.id AS new FROM other.utterance o"
        " JOIN main.utterance m USING (name)",
        "CREATE TEMP TABLE a AS SELECT o.id AS old, m.id AS new FROM other.annotator o"
        " JOIN main.annotator m ON m.name = o.name AND m.digest = o.digest AND m.seed IS o.seed",
        "CREATE UNIQUE INDEX temp.u_old ON u (old)",
        "CREATE UNIQUE INDEX temp.u_new ON u (new)",
        "INSERT OR IGNORE INTO audio SELECT * FROM other.audio",
        f"INSERT OR IGNORE INTO material SELECT a.new, u.new, v.digest FROM other.material v {_BOTH}",
        f"CREATE TEMP TABLE theirs AS SELECT a.new AS annotator, u.new AS utterance, {_SET_ASIDE_THERE}",
        "CREATE INDEX temp.theirs_of ON theirs (annotator, utterance, draw)",
        f"INSERT INTO set_aside SELECT w.*, {_VOID_THERE} FROM main.vote w WHERE {_VOID_THERE} IS NOT NULL",
        f"DELETE FROM main.vote AS w WHERE {_VOID_THERE} IS NOT NULL",
        f"DELETE FROM main.set_aside AS w WHERE why = 'cast twice' AND {_VOID_THERE} IS NOT NULL",
        f"CREATE TEMP TABLE aside AS SELECT {_KEY_AND_PARTS}, why FROM main.set_aside",
        "CREATE INDEX temp.aside_of ON aside (annotator, utterance, draw)",
        f"CREATE TEMP TABLE replaced AS SELECT * FROM main.vote w WHERE {_REPLACED}",
        "INSERT INTO set_aside SELECT *, 'cast twice' FROM temp.replaced",
        f"INSERT INTO temp.aside SELECT {_KEY_AND_PARTS}, 'cast twice' FROM temp.replaced",
        "DELETE FROM main.vote WHERE (annotator, utterance, draw) IN (SELECT annotator, utterance, draw FROM replaced)",
        f"INSERT INTO set_aside SELECT a.new, u.new, v.draw, {_COPIED}, 'cast twice' FROM other.vote v {_BOTH}"
        f" JOIN main.vote w ON {_SAME} WHERE NOT ({_EQUAL}) AND NOT EXISTS ({_ASIDE})",
        f"INSERT OR IGNORE INTO vote SELECT a.new, u.new, v.draw, {_COPIED} FROM other.vote v {_BOTH}"
        f" WHERE NOT {_VOID}",
        "DELETE FROM main.set_aside AS v WHERE why = 'cast twice' AND EXISTS (SELECT 1 FROM main.vote w WHERE"
        f" w.annotator = v.annotator AND w.utterance = v.utterance AND w.draw = v.draw AND {_EQUAL})",
        f"INSERT INTO set_aside SELECT a.new, u.new, v.draw, {_COPIED}, v.why FROM other.set_aside v {_BOTH}"
        f" WHERE NOT EXISTS ({_ASIDE}) AND NOT EXISTS {_HERE}",
        *((_SETTLED_THERE,) if again else ()),
        "INSERT INTO trial SELECT NULL, annotator, state, requests, audio_seconds, tokens_in, tokens_out, price, at"
        f" FROM other.trial t{_NEW_TRIALS if again else ''} ORDER BY id",
        "INSERT INTO planned_utterance (utterance) SELECT u.new FROM other.planned_utterance v"
        " JOIN u ON u.old = v.utterance WHERE u.new NOT IN (SELECT utterance FROM main.planned_utterance)"
        " ORDER BY v.position",
        "INSERT INTO planned_annotator SELECT a.new, v.votes FROM other.planned_annotator v"
        " JOIN a ON a.old = v.annotator WHERE true ON CONFLICT DO UPDATE SET votes = MAX(votes, excluded.votes)",
        "INSERT OR IGNORE INTO injection SELECT a.new, u.new, v.label, v.speaker, t.new, c.new"
        f" FROM other.injection v {_BOTH} JOIN a t ON t.old = v.told JOIN a c ON c.old = v.control",
        *(f"DROP TABLE temp.{table}" for table in ("replaced", "aside", "theirs", "u", "a")),
    )


_KEY_BY_NAMES = "u.name, a.name, a.digest, a.seed, v.draw"
_NAMES = "JOIN {0}.utterance u ON u.id = v.utterance JOIN {0}.annotator a ON a.id = v.annotator"
_THEIR_PARTS = ", ".join(f"v.{name}" for name in _PARTS)
LACKED = f"""SELECT COUNT(*) FROM (
    SELECT {_KEY_BY_NAMES}, {_THEIR_PARTS} FROM other.vote v {_NAMES.format("other")} WHERE v.status != 'failed'
    AND NOT EXISTS (SELECT 1 FROM main.vote w JOIN main.utterance x ON x.id = w.utterance
        JOIN main.annotator b ON b.id = w.annotator
        WHERE x.name = u.name AND b.name = a.name AND b.digest = a.digest AND b.seed IS a.seed AND w.draw = v.draw)
    EXCEPT SELECT {_KEY_BY_NAMES}, {_THEIR_PARTS} FROM main.set_aside v {_NAMES.format("main")}
    WHERE v.why != 'cast twice')"""
"""The number of votes of the ledger `other` that are not in this one, and that this one has not set aside."""

HAS = f"""DELETE FROM temp.rest WHERE (annotator, utterance, draw, at) IN (SELECT b.id, x.id, v.draw, v.at FROM (
    SELECT annotator, utterance, draw, at FROM other.vote UNION ALL
    SELECT annotator, utterance, draw, at FROM other.set_aside) v {_NAMES.format("other")}
    JOIN main.utterance x ON x.name = u.name
    JOIN main.annotator b ON b.name = a.name AND b.digest = a.digest AND b.seed IS a.seed)"""
"""Removes the votes that the ledger `other` has, or has set aside, from the table `rest`."""
