"""balance: give labels weights (or whole copies) that bring classes and groups to wanted shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from alm_proxies.arguments import checked
from alm_proxies.ballots import counting_of
from alm_proxies.columns import did_you_mean
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import make_folder, write_json
from alm_proxies.posterior import no_posterior
from alm_proxies.printable import counted
from alm_proxies.settings import deciding
from alm_proxies.shown import Shown
from alm_proxies.stages.balance.methods import by_reference, by_weights
from alm_proxies.stages.balance.settings import NAMED, BalanceSettings
from alm_proxies.stages.balance.weights import Balance
from alm_proxies.stages.balance.wishes import Wish
from alm_proxies.tables import Finding, Findings, Labels, MadeBy, Utterances
from alm_proxies.trained_on import passed_on

if TYPE_CHECKING:
    from alm_proxies.report.page import Page
    from alm_proxies.stages.balance.copies import Copied


@dataclass(frozen=True, slots=True, repr=False)
class Balanced(Shown):
    """The result of balance: labels, utterances, the page, metrics and findings."""

    labels: Labels
    utterances: Utterances
    metrics: dict[str, Any]
    page: Page
    findings: Findings
    recordings: int | None = None
    """The number of recordings that generated items or copies needed; None if none was needed."""
    left_out: int = 0
    """The number of these that could not be used."""

    @property
    def counts(self) -> dict[str, float]:
        """The number of labels, and of balanced ones."""
        return {"labels": len(self.labels), "balanced": self.metrics["utterances"]}

    @property
    def line(self) -> str:
        """A summary in one line."""
        count, size = self.metrics["utterances"], self.metrics["effective_size"]
        if copies := self.metrics.get("copies"):
            return (
                f"{counted(count, 'label')} became {counted(copies['items'], 'item')}, {copies['augmented']:,} of them "
                f"augmented copies; farthest from its wanted share: {copies['worst']}, by "
                f"{100 * copies['worst_error']:.2f} points"
            )
        if generated := self.metrics.get("generated"):
            mixed = f"{generated['items']:,} of {generated['tried']:,} generated items kept; "
        elif reference := self.metrics.get("reference"):
            mixed = f"{counted(reference['items'], 'item fills', 'items fill')} up rare classes; "
        else:
            mixed = ""
        reached = "all wanted shares reached" if self.metrics["met"] else "not all wanted shares reached"
        return f"{mixed}{counted(count, 'label')} weighted, {reached}, effective sample size {size:,.0f}"


@checked
def balance(
    labels: Labels,
    utterances: Utterances,
    folder: str | Path,
    settings: BalanceSettings | None = None,
) -> Balanced:
    """Compute weights that reach the wanted shares, as close to the given weights as possible.

    Only the splits of `settings.splits`, and utterances without a split, are balanced; every other row keeps its
    weight. With `settings.copies.size` there are whole copies instead of weights, and every copy after the first is
    augmented. `settings.method = "reference"` is the paper's method, a baseline. labels.parquet, utterances.parquet,
    report.html and metrics.json are written into the folder.
    """
    from alm_proxies.compare.plain import plain, reasons_in
    from alm_proxies.stages.balance.page import page_of

    settings, folder = settings or BalanceSettings(), Path(folder)
    wanted = _shares_of(settings, labels.taxonomy)
    digests = {"labels": [labels.content_digest()], "utterances": [utterances.content_digest()]}
    why_not = no_posterior(labels)
    method = by_reference if settings.method == "reference" else by_weights
    reached = method(labels, utterances, settings, wanted, folder)
    labels, utterances, rows = reached.labels, reached.utterances, reached.rows
    wishes, solution, findings = reached.wishes, reached.solution, reached.findings
    weights = pl.DataFrame({"utterance_id": rows["utterance_id"], "_new": solution.weights})
    frame = labels.frame.join(weights, on="utterance_id", how="left", maintain_order="left")
    frame = frame.with_columns(weight=pl.coalesce("_new", "weight")).drop("_new")
    counting = counting_of(labels.about)  # for comparisons with these labels, votes are counted like in fuse
    wish = settings.classes
    stated = {**deciding(settings), "classes": Path(wish).name if isinstance(wish, str) else wish}
    stated = {**(counting.model_dump(mode="json") if counting else {}), **stated, **passed_on(labels.about)}
    made_by = MadeBy.of("balance", stated, digests)
    balanced = Labels.of(frame, about=labels.about.with_(made_by=made_by), where="labels")
    metrics: dict[str, Any] = {**_metrics(reached.part, wishes, solution), **reached.metrics}
    sections, items, recordings = reached.sections, reached.items, reached.recordings
    if settings.copies.size is not None:
        from alm_proxies.stages.balance.copies import with_copies
        from alm_proxies.stages.balance.examples import copies_section

        copied = with_copies(balanced, utterances, rows, solution.weights, wishes, settings, folder)
        balanced, utterances = copied.labels, copied.utterances
        metrics["copies"] = _metrics_of_copies(copied, wishes)
        findings += copied.findings
        recordings |= copied.recordings
        sections.append(copies_section(copied, wishes))
        items.append(copied.items)
    if items:
        from alm_proxies.stages.balance.examples import examples_section

        examples, more = examples_section(balanced, utterances, pl.concat(items), settings)
        findings += more
        sections += examples
    if settings.evaluation.splits:
        from alm_proxies.stages.balance.evaluation import evaluation_set

        evaluation = evaluation_set(balanced, utterances, settings, why_not)
        balanced, utterances = evaluation.labels, evaluation.utterances
        metrics["evaluation"] = evaluation.metrics
        findings += evaluation.findings
        sections += [evaluation.section] if evaluation.section is not None else []
    metrics = plain(metrics)
    metrics["reasons"] = reasons_in(metrics, _reasons(findings))
    added = {name for made in reached.items for name in made["utterance_id"]}
    page = page_of(reached.part, wishes, solution, findings, stated, sections, added)
    gathered = Findings.gather(findings, "balance")
    needed, lost = len(recordings.needed) or None, len(recordings.lost)
    result = Balanced(balanced, utterances, metrics, page, gathered, needed, lost)
    _write(result, folder)
    return result


def _write(result: Balanced, folder: Path) -> None:
    make_folder(folder)
    result.labels.write(folder / "labels.parquet")
    result.utterances.write(folder / "utterances.parquet")
    result.page.write(folder / "report.html")
    write_json(folder / "metrics.json", result.metrics)


def _shares_of(settings: BalanceSettings, taxonomy: tuple[str, ...]) -> dict[str, float] | None:
    """The mean distribution of the Labels file in `classes`, if it names one."""
    wish = settings.classes
    if not isinstance(wish, str) or wish in NAMED:
        return None
    if not Path(wish).exists():
        fix = f"{did_you_mean(wish, NAMED)} Write uniform, square_root, keep, shares, or a Labels file.".strip()
        raise SettingsError(f"classes = {wish!r} is neither a known target nor a file", fix=fix)
    other = Labels.read(wish, taxonomy=taxonomy)
    weights = other.frame["weight"].to_numpy()
    if not weights.sum() > 0:
        raise InputError("all rows have the weight 0, so there are no shares", where=wish, fix="Give another file.")
    return dict(zip(taxonomy, (weights @ other.distributions() / weights.sum()).tolist(), strict=True))


def _metrics(labels: Labels, wishes: list[Wish], solution: Balance) -> dict[str, Any]:
    return {
        "utterances": len(labels),
        "effective_size": solution.effective_size,
        "largest_weight": float(solution.weights.max()),
        "met": solution.met,
        "worst_error": float(np.abs(solution.error).max(initial=0.0)),
        "shares": [
            {"kind": wish.kind, "name": wish.name, "before": wish.today, "wanted": wish.target, "after": float(reached)}
            for wish, reached in zip(wishes, solution.reached, strict=True)
        ],
    }


def _reasons(findings: list[Finding]) -> dict[str, str]:
    """The reason for each figure that may be null, by its path."""
    not_generated = next((finding.message for finding in findings if finding.kind == "not_generated"), "")
    return {
        "generated": not_generated,
        "generated/controls/*/rate": "no utterance could be tried: another emotion needs two utterances of the same "
        "speaker and words with different labels",
    }


def _metrics_of_copies(copied: Copied, wishes: list[Wish]) -> dict[str, Any]:
    worst = copied.worst
    return {
        "items": copied.kept + copied.items.height,
        "augmented": copied.items.height,
        "effects": dict(copied.items.group_by("effect").len().sort("effect").iter_rows()),
        "worst": f"{wishes[worst].kind} {wishes[worst].name}",
        "worst_error": float(abs(copied.reached[worst] - copied.wanted[worst])),
        "shares": [
            {"kind": wish.kind, "name": wish.name, "after": float(share)}
            for wish, share in zip(wishes, copied.reached, strict=True)
        ],
    }
