"""What a run says: before it asks, and the findings it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import OpenAIServe
from alm_proxies.progress import say
from alm_proxies.stages.annotate.figures import counted, in_money
from alm_proxies.stages.annotate.injection import injection_findings
from alm_proxies.stages.annotate.ledger import Ledger, Lost
from alm_proxies.stages.annotate.limits import AGAIN, Halt
from alm_proxies.stages.annotate.outcomes import findings_of
from alm_proxies.stages.annotate.plan import STAGE, Plan
from alm_proxies.tables import Finding, Findings


def findings_after(
    plans: Sequence[Plan], ledger: Ledger, stopped: Mapping[int, str], left: int, halt: Halt | None
) -> Findings:
    """What a run has to say when it is over: why it stopped, what is missing and why."""
    found = [finding for plan in plans for finding in plan.findings]
    if ledger.lost.requests:
        lost = ledger.lost
        message = f"{lost.requests} requests for {lost.draws} votes were in flight when an earlier run was killed"
        message = f"{message}; they should have cost {lost.price:.4f}"
        found.append(Finding(STAGE, "lost_in_flight", message, count=lost.draws))
    raise_it = "Raise the limit if this is right, and run it again."
    found += [Finding(STAGE, "stopped", message, raise_it) for message in stopped.values()]
    again = AGAIN if not stopped else raise_it
    if halt is not None and halt.reason:
        again = halt.fix
        found.append(Finding(STAGE, "stopped", halt.reason, again))
    if left:
        message = (
            f"{counted(left, 'planned vote')} {'was' if left == 1 else 'were'} not asked for; as every planned vote"
        )
        message = f"{message} has its row, votes.parquet says failed of them"
        found.append(Finding(STAGE, "not_cast", message, again, count=left))
    unseeded = """SELECT COUNT(*) FROM vote v JOIN planned_annotator p ON p.annotator = v.annotator
        WHERE v.seeded = 0 AND v.cell >= 0 AND v.status = 'ok' AND v.draw < p.votes
        AND v.utterance IN (SELECT utterance FROM planned_utterance)"""
    (number,) = ledger.sql.execute(unseeded).fetchone()
    if number:
        come = "votes come" if number > 1 else "vote comes"
        message = f"{number:,} {come} from engines that do not honour a seed for each draw: asking again gives others"
        found.append(Finding(STAGE, "not_seeded", message, count=number))
    return Findings.gather([*found, *out_of_the_table(ledger), *findings_of(ledger), *injection_findings(ledger)])


def say_lost(lost: Lost, quiet: bool) -> None:
    """Say what a kill of the run before may have cost."""
    if lost.requests:
        say(
            f"the run before was killed: {lost.requests} requests for {lost.draws} votes were in flight; "
            f"they are asked again and may be paid twice ({lost.price:.4f})",
            quiet=quiet,
        )


def say_plan(plan: Plan, injection: Plan, expected: float, measured: Mapping[str, float], quiet: bool) -> None:
    """Say what is to be asked, and what was found on the way."""
    there = plan.planned - plan.missing
    resumed = f"{there:,} of {counted(plan.planned, 'vote')} have their outcome, " if there else ""
    asked = f"{counted(plan.missing, 'vote')} to be asked about {counted(plan.utterances.height, 'utterance')}"
    if injection.missing:
        asked += (
            f", {injection.missing:,} more about {injection.utterances.height // 2} of them with injected transcripts"
        )
    known = [seat.annotator.name in measured for seat in plan.seats if seat.missing.any()]
    price = "at no price"
    if expected:
        way = "what its votes have cost so far" if all(known) else "the price table"
        way = way if all(known) or not any(known) else "what votes have cost so far and the price table"
        price = f"for about {in_money(expected)}, by {way}"
    say(f"{resumed}{asked}, {price}", quiet=quiet)
    for finding in (*plan.findings, *injection.findings):
        say(f"{finding.kind}: {finding.message}", quiet=quiet)


def say_missing(paths: Sequence[str], quiet: bool) -> None:
    """Say which recordings are not there, so that no annotator is asked about them."""
    if paths:
        gone = len(set(paths))
        message = f"{counted(gone, 'recording')} {'is' if gone == 1 else 'are'} not there and not asked about"
        say(f"{message}: {paths[0]}{' ...' if gone > 1 else ''}", quiet=quiet)


def say_trial(annotator: Annotator, price: float, quiet: bool) -> None:
    """Say before that a server is asked a few questions which are no votes, and what that should cost."""
    if isinstance(annotator.serve, OpenAIServe):
        cost = f", about {in_money(price)}" if price else ""
        say(
            f"{annotator.name}: about a dozen small questions first, to find out what the server can do{cost}",
            quiet=quiet,
        )


def out_of_the_table(ledger: Ledger) -> list[Finding]:
    """Votes that are paid and in the ledger, and that the plan of now does not ask for: they are not in votes.parquet.

    Those of an annotator that has changed since are told where the plan is made.
    """
    voted = "FROM vote v JOIN annotator a ON a.id = v.annotator"
    panel = "SELECT name FROM annotator WHERE id IN (SELECT annotator FROM planned_annotator)"
    others = f"SELECT a.name, COUNT(*) {voted} WHERE a.name NOT IN ({panel}) AND a.name NOT LIKE '% %' GROUP BY a.name"
    found = []
    kept = "in the ledger and not in votes.parquet"
    for name, count in ledger.sql.execute(others):
        message = f"{counted(count, 'vote')} of {name}, cast before, are {kept}, which holds the panel of this command"
        fix = f"Name {name}'s file with --annotator too to have both."
        found.append(Finding(STAGE, "not_in_votes", message, fix, where=name, count=count))
    beyond = f"""SELECT a.name, p.votes, COUNT(*), MAX(v.draw) + 1 {voted}
        JOIN planned_annotator p ON p.annotator = a.id WHERE v.draw >= p.votes GROUP BY a.name, p.votes"""
    for name, votes, count, most in ledger.sql.execute(beyond):
        message = f"{counted(count, 'vote')} of {name} beyond the {votes} an utterance asked for now are {kept}"
        found.append(
            Finding(STAGE, "not_in_votes", message, f"Write --votes {most} to have them.", where=name, count=count)
        )
    elsewhere = f"""SELECT a.name, COUNT(*), COUNT(DISTINCT v.utterance) {voted}
        JOIN planned_annotator p ON p.annotator = a.id
        WHERE v.draw < p.votes AND v.utterance NOT IN (SELECT utterance FROM planned_utterance) GROUP BY a.name"""
    for name, count, utterances in ledger.sql.execute(elsewhere):
        about = f"about {counted(utterances, 'utterance')} that this command does not plan"
        message = f"{counted(count, 'vote')} of {name} {about} are {kept}"
        fix = "Leave --limit out, or name the same utterances, to have them."
        found.append(Finding(STAGE, "not_in_votes", message, fix, where=name, count=count))
    return found
