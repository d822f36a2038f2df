"""The verb annotate: parse, call, print; with --status and --merge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from alm_proxies.cli.commands import Output, votes_of
from alm_proxies.cli.outcome import Common, Outcome, finished
from alm_proxies.errors import SettingsError
from alm_proxies.tables import Findings, Utterances, Votes

_COMMON = Common()


def annotate(
    utterances: Path | None = None,
    *,
    output: Output,
    annotator: list[str] | None = None,
    votes: int | None = None,
    human: list[Path] | None = None,
    taxonomy: str | None = None,
    budget: float | None = None,
    limit: int | None = None,
    shard: str | None = None,
    injection: int | None = None,
    max_minutes: float | None = None,
    may_leave: list[str] | None = None,
    cards: str | None = None,
    seed: int = 0,
    status: bool = False,
    merge: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    common: Common = _COMMON,
) -> Outcome:
    """Ask audio-language models for votes; run it again to resume.

    Parameters
    ----------
    utterances
        The utterances file.
    output
        The folder of the ledger and the votes.
    annotator
        An annotator file, or the name of a shipped one, such as embedded; several make a panel.
    votes
        Votes an utterance of every annotator; else what each file says. Raise it later and pay the difference.
    human
        Human votes: collapse is judged by them, and a pilot is drawn fairly.
    taxonomy
        The labels, where the files do not say: a name such as msp8, or angry,happy,sad.
    budget
        What may be spent in all, earlier runs into the same folder included.
    limit
        A pilot: only so many utterances, a fair sample of all; the price is extrapolated.
    shard
        I/N: only the Ith of N parts, with a ledger of its own; merge them at the end.
    injection
        How many utterances are asked about twice more, to see how many votes a transcript turns that tells the answer;
        else 20, or a tenth of the utterances where that is fewer; 0 = none. Only where a prompt tells transcripts.
    max_minutes
        Stop cleanly after so long.
    may_leave
        A corpus that may be sent over the network although its card says that it stays.
    cards
        A folder with data cards of your own.
    seed
        With utterance, annotator and draw, this alone decides a draw's seed.
    status
        Only say how far the folder's ledgers are.
    merge
        Make one ledger and votes file out of those in these folders.
    """
    from alm_proxies.stages.annotate.ledgers import merge as merge_ledgers
    from alm_proxies.stages.annotate.ledgers import status as status_of

    if status:
        found = status_of(output)
        data = {"ledgers": [{**asdict(one), "waiting": one.waiting, "minutes_left": one.minutes_left} for one in found]}
        return Outcome("\n".join(str(one) for one in found), data, as_json=common.json)
    if merge:
        merged = merge_ledgers(merge, output)
        return _annotated(merged.votes, merged.findings, f"votes of {len(merge)} folders", output, common)
    if utterances is None or not annotator:
        message = "an utterances file" if utterances is None else "an annotator"
        fix = "Write: alm-proxies annotate UTTERANCES --annotator A.toml -o DIR."
        raise SettingsError(f"annotate needs {message}", fix=fix)
    from alm_proxies.annotators.annotator import Annotator
    from alm_proxies.settings import settings_of
    from alm_proxies.stages.annotate.figures import in_money
    from alm_proxies.stages.annotate.stage import AnnotateSettings
    from alm_proxies.stages.annotate.stage import annotate as work

    said = {
        "panel": annotator, "votes": votes, "seed": seed, "budget": budget, "limit": limit,
        "shard": shard, "injection": injection, "max_minutes": max_minutes,
        "may_leave": may_leave or (), "cards": cards,
    }  # fmt: skip
    settings = settings_of(AnnotateSettings, said, "annotate")
    heard = votes_of(human, taxonomy) if human else None
    spoken = Utterances.read(utterances, taxonomy=taxonomy or (heard.taxonomy if heard is not None else None))
    made = work(spoken, [Annotator.read(path) for path in annotator], output, settings, votes=heard, quiet=common.quiet)
    if made.interrupted:
        raise KeyboardInterrupt
    spent = made.spent
    line = (
        f"{spent.cast:,} of {spent.planned:,} votes cast, {spent.cast_now:,} of them now, {in_money(spent.price)} spent"
    )
    if spent.cast < spent.planned:
        line += f", {spent.planned - spent.cast:,} not asked for"
    if spent.whole is not None:
        line += f", about {in_money(spent.whole)} for all utterances"
    return _annotated(made.votes, made.findings, line, output, common, asdict(spent))


def _annotated(
    votes: Votes,
    findings: Findings,
    line: str,
    output: Path,
    common: Common,
    spent: Mapping[str, Any] | None = None,
) -> Outcome:
    draws = votes.frame.select("utterance_id", "annotator", "draw", "status").unique()
    left = int((draws["status"] != "ok").sum())
    counts = {"planned": draws.height, "ok": draws.height - left}
    cards = votes.about.annotators.items()
    turned = {name: card.injected for name, card in cards if card.injected is not None}
    line = "; ".join([f"{line}, in {output}", *(f"{name}: {one}" for name, one in turned.items())])
    outcome = finished(line, counts, findings, output, common, left, draws.height)
    injected = {name: one.model_dump() for name, one in turned.items()}
    return replace(outcome, data={**outcome.data, "injected": injected, **({"spent": dict(spent)} if spent else {})})
