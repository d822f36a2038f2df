"""Reports of a run: messages before it asks, and its findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alm_proxies.audio.clip import LONGEST
from alm_proxies.printable import counted, in_money
from alm_proxies.progress import say
from alm_proxies.stages.annotate.injection import injection_findings
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.limits import AGAIN, Halt
from alm_proxies.stages.annotate.outcomes import STAGE
from alm_proxies.stages.annotate.plan import Plan, Plans
from alm_proxies.stages.annotate.prices import Expected, currency_of
from alm_proxies.tables import Finding, Findings

_MOST_SHOWN = 200
"""Maximum letters of an example."""
_FIXES = {
    "missing": "Restore the recordings, or fix their root in the utterances file, then run the same command again.",
    "too_long": (
        "Name the part to ask about by start and end in the utterances table. "
        f'Up to {LONGEST:g} s, too_long = "crop" in the annotator file asks about the beginning.'
    ),
    "forbidden": "Leave these recordings out if the server declines them; or see whether the key may use the model.",
    "no_scores": 'Use a server that scores words (vLLM), or elicit = "sample".',
}
_LOSS_FIX = "Keep ledger.sqlite, its -wal file (if there is one) and ledger.journal together."


def findings_after(
    plans: Sequence[Plan],
    ledger: Ledger,
    stopped: Mapping[int, str],
    left: int,
    halt: Halt | None,
    more: Iterable[Finding] = (),
) -> Findings:
    """The findings of a finished run: the reason if it stopped, and missing votes."""
    findings = [finding for plan in plans for finding in plan.findings]
    findings += [Finding(STAGE, kind, message, _LOSS_FIX) for kind, message in ledger.notes]
    if ledger.lost.requests:
        lost = ledger.lost
        message = f"{_in_flight(lost.requests, lost.draws)} when an earlier run was killed"
        message = f"{message}; they are booked at their maximum cost, {in_money(lost.price, ledger.currency())}"
        findings.append(Finding(STAGE, "lost_in_flight", message, count=lost.draws))
    raise_it = "If this is correct, raise the limit and run it again."
    findings += [Finding(STAGE, "stopped", message, raise_it) for message in stopped.values()]
    again = AGAIN if not stopped else raise_it
    if halt is not None and halt.reason:
        again = halt.fix
        findings.append(Finding(STAGE, "stopped", halt.reason, again))
    findings += more
    if left:
        were = "was" if left == 1 else "were"
        message = f"{counted(left, 'planned vote')} {were} not requested; they are failed in votes.parquet"
        findings.append(Finding(STAGE, "not_cast", message, again, count=left))
    number = ledger.unseeded()
    if number:
        come = "votes come" if number > 1 else "vote comes"
        message = (
            f"{number:,} {come} from engines that do not honour a seed for each draw, so they are not reproducible"
        )
        findings.append(Finding(STAGE, "not_seeded", message, count=number))
    return Findings.gather([*findings, *out_of_the_table(ledger), *findings_of(ledger), *injection_findings(ledger)])


def findings_of(ledger: Ledger) -> list[Finding]:
    """Findings on planned votes that are not ok, by annotator and kind, with one utterance as an example."""
    findings = []
    for failure in ledger.not_ok():
        reason = f"{failure.status.replace('_', ' ')} ({failure.kind.replace('_', ' ')})"
        message = f"{counted(failure.votes, 'vote')} of {failure.annotator}: {reason}, e.g. {failure.example}"
        message = f"{message}: {failure.raw[:_MOST_SHOWN]!r}"
        fix = _FIXES.get(failure.kind, "") if failure.status == "failed" else ""
        findings.append(Finding(STAGE, failure.status, message, fix, failure.example, failure.kind, failure.votes))
    return findings


def _in_flight(requests: int, draws: int) -> str:
    were = "was" if requests == 1 else "were"
    return f"{counted(requests, 'request')} for {counted(draws, 'vote')} {were} in flight"


def say_opened(ledger: Ledger, quiet: bool) -> None:
    """Print the notes on opening the ledger: losses, restored votes, and requests that were in flight at a kill."""
    for _, message in ledger.notes:
        say(message, quiet=quiet)
    lost = ledger.lost
    if lost.requests:
        say(
            f"the run before was killed: {_in_flight(lost.requests, lost.draws)}; "
            f"they are requested again and may be paid twice ({in_money(lost.price, ledger.currency())})",
            quiet=quiet,
        )


def say_plan(plans: Plans, expected: Expected, quiet: bool) -> None:
    """Print the planned requests, their expected cost, and findings."""
    plan, injection = plans.both
    say_missing(plans.gone, quiet)
    done = plan.planned - plan.missing
    resumed = f"{done:,} of {counted(plan.planned, 'vote')} have an outcome, " if done else ""
    planned = f"{counted(plan.missing, 'vote')} to request on {counted(plan.utterances.height, 'utterance')}"
    if injection.missing:
        utterances = injection.utterances.height // 2
        planned += f", {injection.missing:,} more on {utterances} of them with injected transcripts"
    measured = [member.annotator.name in expected.measured for member in plan.members if member.missing.any()]
    price = "free of charge"
    if expected.price:
        currency = currency_of(member.annotator for member in plan.members)
        source = "measured prices" if all(measured) else "the price table"
        source = source if all(measured) or not any(measured) else "measured prices and the price table"
        price = f"for about {in_money(expected.price, currency)}, by {source}"
    say(f"{resumed}{planned}, {price}", quiet=quiet)
    for finding in (*plan.findings, *injection.findings):
        say(f"{finding.kind}: {finding.message}", quiet=quiet)


def say_missing(paths: Sequence[str], quiet: bool) -> None:
    """Print which recordings are missing; no annotator is asked about them."""
    if paths:
        missing = len(set(paths))
        message = f"{counted(missing, 'recording')} {'is' if missing == 1 else 'are'} missing and not used"
        say(f"{message}: {paths[0]}{' ...' if missing > 1 else ''}", quiet=quiet)


def out_of_the_table(ledger: Ledger) -> list[Finding]:
    """Findings on votes in the ledger that this plan does not contain: they are paid, but not in votes.parquet.

    Votes of annotators that have changed are reported by the plan.
    """
    findings = []
    kept = "in the ledger and not in votes.parquet"
    for name, count in ledger.of_others():
        message = f"{counted(count, 'vote')} of {name}, cast before, are {kept}, which holds the panel of this command"
        fix = f"Name {name}'s file with --annotator too to have both."
        findings.append(Finding(STAGE, "not_in_votes", message, fix, where=name, count=count))
    for name, votes, count, most in ledger.beyond():
        message = f"{counted(count, 'vote')} of {name} beyond the {votes} per utterance asked for now are {kept}"
        fix = f"Write --votes {most} to have them."
        findings.append(Finding(STAGE, "not_in_votes", message, fix, where=name, count=count))
    for name, count, utterances in ledger.about_others():
        about = f"about {counted(utterances, 'utterance')} that this command does not plan"
        message = f"{counted(count, 'vote')} of {name} {about} are {kept}"
        fix = "Leave --limit out, or name the same utterances, to have them."
        findings.append(Finding(STAGE, "not_in_votes", message, fix, where=name, count=count))
    return findings
