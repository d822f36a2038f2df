"""Named read-only queries of a ledger."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.about import AnnotatorCard
from alm_proxies.printable import one_currency
from alm_proxies.stages.annotate.ledger_file import reported
from alm_proxies.stages.annotate.records import Cast, Compared, Failure, Member, Row, rows_of, share_of

_PLANNED = "v.utterance IN (SELECT utterance FROM planned_utterance)"
_PANEL = "JOIN planned_annotator p ON p.annotator = v.annotator"
_VOTED = "FROM vote v JOIN annotator a ON a.id = v.annotator"
_INJECTED = "SELECT told FROM injection UNION SELECT control FROM injection"
_INJECTION = "FROM injection i JOIN planned_annotator p ON p.annotator = i.annotator"
_INJECTION_CAST = (
    f"{_INJECTION} JOIN vote v ON v.annotator IN (i.told, i.control) AND v.utterance = i.utterance AND v.draw < p.votes"
)
# CROSS keeps SQLite from reading all votes to find those of a few utterances.
_COMPARED = f"""SELECT a.name, u.name, i.speaker, i.label, v.label, v.more, t.label, t.more, c.label, c.more
    {_INJECTION}
    JOIN annotator a ON a.id = i.annotator JOIN utterance u ON u.id = i.utterance
    CROSS JOIN vote v ON v.annotator = a.id AND v.utterance = u.id AND v.draw < p.votes AND v.status = 'ok'
    JOIN vote t ON t.annotator = i.told AND t.utterance = i.utterance AND t.draw = v.draw AND t.status != 'failed'
    JOIN vote c ON c.annotator = i.control AND c.utterance = i.utterance AND c.draw = v.draw AND c.status != 'failed'
    ORDER BY a.name, u.name, v.draw"""
_AT_ONCE = 20_000
"""Batch size of queries about many utterances."""

P = ParamSpec("P")
T = TypeVar("T")


def _question(method: Callable[Concatenate[Questions, P], T]) -> Callable[Concatenate[Questions, P], T]:
    """Errors of SQLite become one sentence that names the ledger."""

    def asked(self: Questions, /, *arguments: P.args, **named: P.kwargs) -> T:
        with reported(self.path, reading=True):
            return method(self, *arguments, **named)

    asked.__doc__, asked.__name__ = method.__doc__, method.__name__
    return asked


class Questions:
    """The queries; `Ledger` adds the writes."""

    path: Path
    _sql: sqlite3.Connection

    @_question
    def about(self, key: str) -> str | None:
        """A value that the ledger keeps about itself."""
        row = self._sql.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    @_question
    def taxonomy(self) -> tuple[str, ...]:
        """The labels of its votes."""
        labels = json.loads(self.about("taxonomy") or "[]")
        return tuple(str(label) for label in labels)

    @_question
    def panel(self) -> list[Member]:
        """The planned annotators, in the order in which they were first planned."""
        query = """SELECT a.id, a.name, a.card, p.votes FROM planned_annotator p JOIN annotator a ON a.id = p.annotator
            ORDER BY a.id"""
        rows = self._sql.execute(query)
        return [Member(int(number), str(name), str(card), int(votes)) for number, name, card, votes in rows]

    @_question
    def cards(self) -> dict[str, AnnotatorCard]:
        """The cards of the planned annotators, by name."""
        return {member.name: AnnotatorCard.model_validate_json(member.card) for member in self.panel()}

    def currency(self) -> str:
        """The currency that its planned annotators state; empty if none does."""
        return one_currency(card.currency for card in self.cards().values())

    @_question
    def identities(self) -> dict[str, str]:
        """Digest and seed of the planned annotators, by name; an annotator with others is a different one."""
        query = "SELECT name, digest, seed FROM annotator WHERE id IN (SELECT annotator FROM planned_annotator)"
        return {str(name): f"{digest} {seed}" for name, digest, seed in self._sql.execute(query)}

    @_question
    def planned_utterances(self) -> int:
        """Number of planned utterances."""
        return int(self._sql.execute("SELECT COUNT(*) FROM planned_utterance").fetchone()[0])

    def planned_by_name(self) -> Iterator[tuple[list[str], list[int]]]:
        """Names and numbers of the planned utterances, sorted by name, in batches."""
        with reported(self.path, reading=True):
            cursor = self._sql.execute(
                "SELECT u.name, u.id FROM utterance u WHERE u.id IN (SELECT utterance FROM planned_utterance)"
                " ORDER BY u.name"
            )
            while batch := cursor.fetchmany(_AT_ONCE):
                yield [str(name) for name, _ in batch], [int(number) for _, number in batch]

    @_question
    def cast(self, annotator: int, votes: int, utterances: Sequence[int]) -> list[Row]:
        """Rows of the Votes table for the votes of an annotator on these utterances."""
        query = """SELECT v.utterance, v.draw, v.status, v.label, v.more, v.stated FROM json_each(?) n
            CROSS JOIN vote v ON v.annotator = ? AND v.utterance = n.value AND v.draw < ?"""
        rows: list[Row] = []
        for vote in self._sql.execute(query, (json.dumps(list(utterances)), annotator, votes)):
            rows += rows_of(*vote)
        return rows

    @_question
    def done(self, annotator: int, votes: int) -> NDArray[np.bool_]:
        """Whether each draw below `votes` has an outcome, by utterance number and draw."""
        (last_number,) = self._sql.execute("SELECT COALESCE(MAX(id), 0) FROM utterance").fetchone()
        rows = int(last_number) + 1
        cast = self._sql.execute(
            "SELECT utterance, COUNT(*), MAX(draw) FROM vote WHERE annotator = ? GROUP BY utterance", (annotator,)
        )
        gaps: list[int] = []
        lengths = np.zeros(rows, dtype=np.int64)
        for utterance, count, last in cast:
            if not 0 <= utterance < rows:
                continue  # an utterance without a name in the ledger is in no plan
            if count == last + 1:
                lengths[utterance] = count
            else:
                gaps.append(utterance)
        done: NDArray[np.bool_] = np.arange(votes) < lengths[:, None]
        for utterance in gaps:
            query = "SELECT draw FROM vote WHERE annotator = ? AND utterance = ? AND draw < ?"
            for (draw,) in self._sql.execute(query, (annotator, utterance, votes)):
                done[utterance, draw] = True
        return done

    @_question
    def number_of(self, name: str, digest: str, seed: int | None) -> int | None:
        """The number of the annotator with this name, digest and seed, if the ledger has it."""
        where = "name = ? AND digest = ? AND seed IS ?"
        row = self._sql.execute(f"SELECT id FROM annotator WHERE {where}", (name, digest, seed)).fetchone()
        return None if row is None else int(row[0])

    @_question
    def failed(self, annotator: int, votes: int) -> list[tuple[int, int]]:
        """Utterance and draw of the failed votes of an annotator."""
        query = "SELECT utterance, draw FROM vote WHERE annotator = ? AND draw < ? AND status = 'failed'"
        return [(int(utterance), int(draw)) for utterance, draw in self._sql.execute(query, (annotator, votes))]

    @_question
    def paid_for(self, annotator: int) -> float:
        """Cost of an annotator's votes, including those set aside."""
        total = "SELECT TOTAL(price) FROM {} WHERE annotator = ?"
        return float(sum(self._sql.execute(total.format(t), (annotator,)).fetchone()[0] for t in ("vote", "set_aside")))

    @_question
    def numbers(self, names: pl.Series) -> pl.Series:
        """The numbers of utterances in the order of the names; null for unknown ones."""
        cursor = self._sql.execute("SELECT name, id FROM utterance")
        schema = {"name": pl.String, "number": pl.Int64}
        parts = [pl.DataFrame(schema=schema)]
        while batch := cursor.fetchmany(_AT_ONCE):
            parts.append(pl.DataFrame(batch, schema=schema, orient="row"))
        wanted = names.rename("name").to_frame()
        return wanted.join(pl.concat(parts), on="name", how="left", maintain_order="left")["number"]

    @_question
    def material(self, annotators: Iterable[int], utterances: Sequence[int]) -> dict[int, dict[int, str]]:
        """Digests of the recording and texts that annotators were given, by annotator and utterance."""
        query = """SELECT m.utterance, m.digest FROM json_each(?) n
            CROSS JOIN material m ON m.annotator = ? AND m.utterance = n.value"""
        wanted = json.dumps(list(utterances))
        digests = {number: dict(self._sql.execute(query, (wanted, number))) for number in annotators}
        return {number: by_utterance for number, by_utterance in digests.items() if by_utterance}

    @_question
    def recordings(self, paths: Sequence[str]) -> dict[str, tuple[int, int, str]]:
        """Size, time of change and digest of recordings when they were sent, by path."""
        query = """SELECT a.path, a.size, a.changed, a.digest FROM json_each(?) n
            CROSS JOIN audio a ON a.path = n.value"""
        return {str(row[0]): tuple(row[1:]) for row in self._sql.execute(query, (json.dumps(list(paths)),))}

    @_question
    def failed_as(self, *kinds: str, injected: bool = False) -> list[int]:
        """Utterances with votes that failed for one of these reasons."""
        which = _INJECTED if injected else "SELECT annotator FROM planned_annotator"
        query = f"""SELECT DISTINCT utterance FROM vote
            WHERE status = 'failed' AND kind IN ({", ".join("?" * len(kinds))}) AND annotator IN ({which})"""
        return [int(number) for (number,) in self._sql.execute(query, kinds)]

    @_question
    def votes_of_earlier_versions(self, number: int, name: str) -> int:
        """Number of votes cast under this name with another model, prompt, sampling, labels or seed."""
        query = "SELECT COUNT(*) FROM vote WHERE annotator IN (SELECT id FROM annotator WHERE name = ? AND id != ?)"
        return int(self._sql.execute(query, (name, number)).fetchone()[0])

    @_question
    def tally(self, annotator: int) -> tuple[dict[str, int], dict[str, float]]:
        """The requested votes of an annotator: their number by status, and the total weight of every label."""
        statuses: dict[str, int] = {}
        labels: dict[str, float] = {}
        requested = "FROM vote WHERE annotator = ? AND tries > 0"
        counted = self._sql.execute(f"SELECT status, label, COUNT(*) {requested} GROUP BY status, label", (annotator,))
        for status, label, count in counted:
            statuses[status] = statuses.get(status, 0) + count
            if label is not None:
                labels[label] = labels.get(label, 0.0) + count
        shared = """SELECT json_extract(share.value, '$[0]'), SUM(json_extract(share.value, '$[1]'))
            FROM vote, json_each(vote.more, '$.shares') AS share WHERE annotator = ? GROUP BY 1"""
        for label, weight in self._sql.execute(shared, (annotator,)):
            labels[str(label)] = labels.get(str(label), 0.0) + float(weight)
        return statuses, labels

    @_question
    def answered_since(self, annotator: int, since: float) -> tuple[int, float]:
        """Number and cost of an annotator's answered votes since a time, without restored ones, which have no price."""
        answered = "tries > 0 AND status != 'failed' AND kind != 'restored' AND at >= ?"
        query = f"SELECT COUNT(*), TOTAL(price) FROM vote WHERE annotator = ? AND {answered}"
        count, price = self._sql.execute(query, (annotator, since)).fetchone()
        return int(count), float(price)

    @_question
    def latest(self, annotator: int) -> float:
        """The time of an annotator's latest vote; 0 without votes."""
        return float(
            self._sql.execute("SELECT COALESCE(MAX(at), 0) FROM vote WHERE annotator = ?", (annotator,)).fetchone()[0]
        )

    @_question
    def spent(self) -> float:
        """Total cost so far: votes, failures, votes set aside, requests lost in flight, and probes of servers."""
        return float(self._sql.execute("SELECT price FROM total WHERE id = 1").fetchone()[0])

    @_question
    def tried_out(self) -> tuple[int, float]:
        """Number and price of the requests that probed servers."""
        requests, price = self._sql.execute("SELECT TOTAL(requests), TOTAL(price) FROM trial").fetchone()
        return int(requests), float(price)

    @_question
    def next_trial(self) -> int:
        """An unused number for a trial."""
        return int(self._sql.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM trial").fetchone()[0])

    @_question
    def spent_on_plan(self) -> float:
        """Cost of the planned votes, including failures, votes set aside, and votes with an injected sentence."""
        planned = "v.annotator = p.annotator AND v.draw < p.votes"
        where = f"(EXISTS (SELECT 1 FROM planned_annotator p WHERE {planned}) OR v.annotator IN ({_INJECTED}))"
        total = f"SELECT TOTAL(v.price) FROM {{}} v WHERE {_PLANNED} AND {where}"
        return float(sum(self._sql.execute(total.format(table)).fetchone()[0] for table in ("vote", "set_aside")))

    @_question
    def not_ok(self) -> list[Failure]:
        """The planned votes that are not ok, counted by annotator and kind."""
        query = f"""SELECT a.name, v.status, v.kind, COUNT(*), u.name, MIN(v.raw) {_VOTED} {_PANEL}
            JOIN utterance u ON u.id = v.utterance WHERE v.status != 'ok' AND v.draw < p.votes AND {_PLANNED}
            GROUP BY a.name, v.status, v.kind ORDER BY a.name, v.status, v.kind"""
        return [
            Failure(str(n), str(s), str(k), int(c), str(u), str(r)) for n, s, k, c, u, r in self._sql.execute(query)
        ]

    @_question
    def not_ok_votes(self) -> list[dict[str, Any]]:
        """The planned votes that are not ok, by utterance, annotator and kind, each with one reply or message."""
        query = f"""SELECT u.name AS utterance_id, a.name AS annotator, v.status, v.kind, COUNT(*) AS count,
            MIN(v.raw) AS raw {_VOTED} {_PANEL} JOIN utterance u ON u.id = v.utterance
            WHERE v.status != 'ok' AND v.draw < p.votes AND {_PLANNED}
            GROUP BY u.name, a.name, v.status, v.kind ORDER BY u.name, a.name, v.status, v.kind"""
        return self._named_rows(query)

    @_question
    def by_status(self) -> dict[str, int]:
        """Number of planned votes with an outcome, by status."""
        query = (
            f"SELECT v.status, COUNT(*) FROM vote v {_PANEL} WHERE v.draw < p.votes AND {_PLANNED} GROUP BY v.status"
        )
        return {str(status): int(count) for status, count in self._sql.execute(query)}

    @_question
    def unseeded(self) -> int:
        """Number of planned votes from engines that do not honour a seed per draw."""
        query = f"""SELECT COUNT(*) FROM vote v {_PANEL}
            WHERE v.seeded = 0 AND v.cell >= 0 AND v.status = 'ok' AND v.draw < p.votes AND {_PLANNED}"""
        return int(self._sql.execute(query).fetchone()[0])

    @_question
    def of_others(self) -> list[tuple[str, int]]:
        """Names of annotators that are not planned, and the numbers of their votes."""
        panel = "SELECT name FROM annotator WHERE id IN (SELECT annotator FROM planned_annotator)"
        query = f"""SELECT a.name, COUNT(*) {_VOTED} WHERE a.name NOT IN ({panel}) AND a.name NOT LIKE '% %'
            GROUP BY a.name"""
        return [(str(name), int(count)) for name, count in self._sql.execute(query)]

    @_question
    def beyond(self) -> list[tuple[str, int, int, int]]:
        """Planned annotators with more votes per utterance than planned: name, planned, extra votes, maximum."""
        query = f"""SELECT a.name, p.votes, COUNT(*), MAX(v.draw) + 1 {_VOTED} {_PANEL} WHERE v.draw >= p.votes
            GROUP BY a.name, p.votes"""
        return [(str(name), int(votes), int(n), int(most)) for name, votes, n, most in self._sql.execute(query)]

    @_question
    def about_others(self) -> list[tuple[str, int, int]]:
        """Votes of planned annotators on utterances that are not planned: name, votes, utterances."""
        query = f"""SELECT a.name, COUNT(*), COUNT(DISTINCT v.utterance) {_VOTED} {_PANEL}
            WHERE v.draw < p.votes AND NOT {_PLANNED} GROUP BY a.name"""
        return [(str(name), int(count), int(utterances)) for name, count, utterances in self._sql.execute(query)]

    @_question
    def held(self) -> dict[str, int]:
        """Number of votes in the ledger by annotator, planned or not."""
        query = f"SELECT a.name, COUNT(*) {_VOTED} WHERE a.name NOT LIKE '% %' GROUP BY a.name ORDER BY a.name"
        return {str(name): int(count) for name, count in self._sql.execute(query)}

    @_question
    def set_aside_so_far(self) -> int:
        """Number of votes set aside."""
        return int(self._sql.execute("SELECT COUNT(*) FROM set_aside").fetchone()[0])

    @_question
    def in_flight(self) -> tuple[int, float]:
        """Number and maximum cost of requests in flight, now or when a run was killed."""
        count, price = self._sql.execute("SELECT COUNT(*), TOTAL(price) FROM in_flight").fetchone()
        return int(count), float(price)

    @_question
    def progress(self, seconds: float) -> list[Cast]:
        """The progress of every planned annotator, with its votes of the last `seconds`."""
        utterances, since = self.planned_utterances(), time.time() - seconds
        progress: list[Cast] = []
        for member in self.panel():
            own = f"FROM vote v WHERE v.annotator = ? AND v.draw < ? AND {_PLANNED}"
            key = (member.number, member.votes)
            by_status = dict(self._sql.execute(f"SELECT v.status, COUNT(*) {own} GROUP BY v.status", key))
            with_answer = "v.tries > 0 AND v.status != 'failed' AND v.kind != 'restored'"
            (answered,) = self._sql.execute(f"SELECT COUNT(*) {own} AND {with_answer}", key).fetchone()
            price = sum(
                self._sql.execute(f"SELECT TOTAL(v.price) {own.replace('vote', table, 1)}", key).fetchone()[0]
                for table in ("vote", "set_aside")
            )
            late = f"SELECT COUNT(*), COALESCE(MIN(at), 0) {own} AND v.at > ? AND v.tries > 0"
            recent, first = self._sql.execute(late, (*key, since)).fetchone()
            planned = utterances * member.votes
            progress.append(Cast(member.name, planned, by_status, answered, float(price), recent, float(first)))
        return progress

    @_question
    def injected_so_far(self) -> tuple[int, int, int]:
        """Numbers of votes with an injected sentence: planned, with an outcome, failed."""
        (planned,) = self._sql.execute(f"SELECT COALESCE(SUM(2 * p.votes), 0) {_INJECTION}").fetchone()
        query = f"SELECT COUNT(*), TOTAL(v.status = 'failed') {_INJECTION_CAST}"
        cast, failed = self._sql.execute(query).fetchone()
        return int(planned), int(cast), int(failed)

    def compared(self) -> Iterator[tuple[str, list[Compared]]]:
        """Per annotator, the draws with all three votes: without a sentence, with it, and with the control."""
        with reported(self.path, reading=True):
            for name, own in groupby(self._sql.execute(_COMPARED), key=lambda row: str(row[0])):
                yield (
                    name,
                    [
                        Compared(
                            str(utterance),
                            str(speaker or utterance),
                            *(share_of(label, *votes[place : place + 2]) for place in (0, 2, 4)),
                        )
                        for _, utterance, speaker, label, *votes in own
                    ],
                )

    @_question
    def replies(self, utterance: str) -> list[dict[str, Any]]:
        """Every planned vote on an utterance with its label, raw reply, cell, request digest, tokens and price."""
        query = f"""SELECT a.name AS annotator, v.draw, v.label, v.cell, v.status, v.kind, v.raw, v.request, v.latency,
            v.tokens_in, v.tokens_out, v.price {_VOTED} {_PANEL} JOIN utterance u ON u.id = v.utterance
            WHERE u.name = ? AND v.draw < p.votes ORDER BY a.name, v.draw"""
        return self._named_rows(query, utterance)

    def _named_rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        cursor = self._sql.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]
