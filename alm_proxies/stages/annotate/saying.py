"""What a run says: before it asks, and the findings it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alm_proxies.progress import say
from alm_proxies.stages.annotate.injection import injection_findings
from alm_proxies.stages.annotate.ledger import Ledger, Lost
from alm_proxies.stages.annotate.limits import Halt
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
        what = f"{lost.requests} requests for {lost.draws} votes were in flight when an earlier run was killed"
        what = f"{what}; they should have cost {lost.price:.4f}"
        found.append(Finding(STAGE, "lost_in_flight", what, count=lost.draws))
    raise_it = "Raise the limit if this is right, and run it again."
    found += [Finding(STAGE, "stopped", what, raise_it) for what in stopped.values()]
    again = "Run the same command again to go on."
    if halt is not None and halt.reason:
        found.append(Finding(STAGE, "stopped", halt.reason, again))
    if left:
        found.append(Finding(STAGE, "not_cast", f"{left} planned votes have not been cast", again, count=left))
    planned = "annotator IN (SELECT annotator FROM planned_annotator)"
    unseeded = f"SELECT COUNT(*) FROM vote WHERE seeded = 0 AND cell >= 0 AND status = 'ok' AND {planned}"
    (number,) = ledger.sql.execute(unseeded).fetchone()
    if number:
        what = f"{number} votes come from engines that do not honour a seed for each draw: asking again gives others"
        found.append(Finding(STAGE, "not_seeded", what, count=number))
    return Findings.gather([*found, *findings_of(ledger), *injection_findings(ledger)])


def say_lost(lost: Lost, quiet: bool) -> None:
    """Say what a kill of the run before may have cost."""
    if lost.requests:
        say(
            f"the run before was killed: {lost.requests} requests for {lost.draws} votes were in flight; "
            f"they are asked again and may be paid twice ({lost.price:.4f})",
            quiet=quiet,
        )


def say_plan(plan: Plan, injection: Plan, expected: float, quiet: bool) -> None:
    """Say what is to be asked, and what was found on the way."""
    there = plan.planned - plan.missing
    resumed = f"{there} of {plan.planned} votes are there, " if there else ""
    asked = f"{plan.missing} votes to be asked about {plan.utterances.height} utterances"
    if injection.missing:
        asked += (
            f", {injection.missing} more about {injection.utterances.height // 2} of them with injected transcripts"
        )
    say(f"{resumed}{asked}, about {expected:.2f}", quiet=quiet)
    for finding in (*plan.findings, *injection.findings):
        say(f"{finding.kind}: {finding.what}", quiet=quiet)
