"""balance: labels in, the same labels with weights (or whole copies) that bring classes and groups to wanted shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import counting_of
from alm_proxies.columns import did_you_mean
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import make_folder, write_json
from alm_proxies.settings import deciding
from alm_proxies.stages.balance.settings import NAMED, BalanceSettings
from alm_proxies.stages.balance.weights import TOLERANCE, Balance, balanced
from alm_proxies.stages.balance.wishes import Wish, wishes_of, with_targets
from alm_proxies.tables import Finding, Findings, Labels, MadeBy, Utterances

if TYPE_CHECKING:
    from alm_proxies.report.page import Page, Section
    from alm_proxies.stages.balance.copies import Copied
    from alm_proxies.stages.balance.generated import Generated

Array = NDArray[np.float64]
_FEW = 0.2
"""An effective sample size under this share of the utterances is worth a warning."""


@dataclass(frozen=True, slots=True)
class Balanced:
    """Balanced labels, the utterances they are of, the page that shows what was done, its figures, and findings."""

    labels: Labels
    utterances: Utterances
    metrics: dict[str, Any]
    page: Page
    findings: Findings

    @property
    def counts(self) -> dict[str, float]:
        """How many labels there are, and how many of them were balanced."""
        return {"labels": len(self.labels), "balanced": self.metrics["utterances"]}

    @property
    def line(self) -> str:
        """What came of it, in words."""
        count, size = self.metrics["utterances"], self.metrics["effective_size"]
        if copies := self.metrics.get("copies"):
            return (
                f"{count:,} labels became {copies['items']:,} items, {copies['augmented']:,} of them augmented copies; "
                f"furthest from its wanted share: {copies['worst']}, by {100 * copies['worst_error']:.2f} points"
            )
        if generated := self.metrics.get("generated"):
            mixed = f"{generated['items']:,} of {generated['tried']:,} generated items kept; "
        else:
            mixed = ""
        reached = "all wanted shares reached" if self.metrics["met"] else "not all wanted shares reached"
        return f"{mixed}{count:,} labels weighted, {reached}, effective sample size {size:,.0f}"


def balance(
    labels: Labels,
    utterances: Utterances,
    folder: str | Path,
    settings: BalanceSettings | None = None,
) -> Balanced:
    """The labels with weights that bring the wanted shares about, staying as close to the given weights as possible.

    Only the splits of `settings.splits`, and utterances without a split, are balanced; every other row keeps its
    weight. With `settings.copies.size` there are whole copies in place of weights, and every copy beyond the first is
    augmented. labels.parquet, utterances.parquet, report.html and metrics.json are written into the folder.
    """
    from alm_proxies.stages.balance.page import page_of

    settings, folder = settings or BalanceSettings(), Path(folder)
    wanted = _shares_of(settings, labels.taxonomy)
    digests = {"labels": [labels.content_digest()], "utterances": [utterances.content_digest()]}
    part, rows, findings = _part(labels, utterances, settings)
    wishes, more = wishes_of(part, rows, settings, wanted)
    findings += more
    solution = _solve(part, rows, wishes, settings)
    generated = None
    if settings.generated.size is not None:
        from alm_proxies.stages.balance.generated import Generated, generate, with_generated

        made_items = generate(part, rows, utterances, solution.weights, settings, folder)
        if isinstance(made_items, Generated):
            generated = made_items
            findings += generated.findings
            labels, utterances = with_generated(labels, utterances, generated, settings, folder)
            part, rows, _ = _part(labels, utterances, settings)
            wishes = with_targets(wishes_of(part, rows, settings, wanted)[0], wishes)
            solution = _solve(part, rows, wishes, settings)
        else:
            findings.append(made_items)
    findings += [*_unmet(wishes, solution), *_beyond(solution), *_uneven(solution)]
    weights = pl.DataFrame({"utterance_id": rows["utterance_id"], "_new": solution.weights})
    frame = labels.frame.join(weights, on="utterance_id", how="left", maintain_order="left")
    frame = frame.with_columns(weight=pl.coalesce("_new", "weight")).drop("_new")
    counting = counting_of(labels.about)  # whoever compares with these labels counts votes as fuse did
    wish = settings.classes
    stated = {**deciding(settings), "classes": Path(wish).name if isinstance(wish, str) else wish}
    made_by = MadeBy.of("balance", {**(counting.model_dump(mode="json") if counting else {}), **stated}, digests)
    made = Labels.of(frame, about=labels.about.with_(made_by=made_by), where="labels")
    metrics = _metrics(part, wishes, solution)
    sections: list[Section] = []
    items: list[pl.DataFrame] = []
    if generated is not None:
        from alm_proxies.stages.balance.examples import generated_section

        metrics["generated"] = _metrics_of_generated(generated)
        sections.append(generated_section(generated))
        items.append(generated.items)
    if settings.copies.size is not None:
        from alm_proxies.stages.balance.copies import with_copies
        from alm_proxies.stages.balance.examples import copies_section

        copied = with_copies(made, utterances, rows, solution.weights, wishes, settings, folder)
        made, utterances = copied.labels, copied.utterances
        metrics["copies"] = _metrics_of_copies(copied, wishes)
        findings += copied.findings
        sections.append(copies_section(copied, wishes))
        items.append(copied.items)
    if items:
        from alm_proxies.stages.balance.examples import examples_section

        examples, more = examples_section(made, utterances, pl.concat(items), settings)
        findings += more
        sections += examples
    page = page_of(part, wishes, solution, findings, stated, sections)
    result = Balanced(made, utterances, metrics, page, Findings.gather(findings, "balance"))
    _write(result, folder)
    return result


def _part(
    labels: Labels, utterances: Utterances, settings: BalanceSettings
) -> tuple[Labels, pl.DataFrame, list[Finding]]:
    """The labels to balance, the same rows beside what is known of their utterances, and what was found."""
    joined, findings = _joined(labels, utterances)
    chosen = _chosen(joined, settings)
    rows = joined.filter(chosen)
    if not rows.height:
        known = ", ".join(sorted(joined["split"].drop_nulls().unique())) or "none"
        fix = f"The splits there are: {known}. Write splits = [...] for the ones to balance."
        raise InputError(f"no labelled utterance is in the split {' or '.join(settings.splits)}", fix=fix)
    findings += _speakers_on_both_sides(joined, chosen)
    if not rows["weight"].sum() > 0:
        raise InputError("every utterance to balance has the weight 0", fix="Give labels whose weights are above 0.")
    return Labels(rows.select(labels.frame.columns), labels.about), rows, findings


def _write(result: Balanced, folder: Path) -> None:
    make_folder(folder)
    result.labels.write(folder / "labels.parquet")
    result.utterances.write(folder / "utterances.parquet")
    result.page.write(folder / "report.html")
    write_json(folder / "metrics.json", result.metrics)


def _joined(labels: Labels, utterances: Utterances) -> tuple[pl.DataFrame, list[Finding]]:
    """Labels beside what is known of their utterances, in the labels' order."""
    clash = [name for name in utterances.frame.columns if name in labels.frame.columns and name != "utterance_id"]
    about = utterances.frame.drop(clash)
    joined = labels.frame.join(about, on="utterance_id", how="inner", maintain_order="left")
    findings = []
    if not joined.height:
        first = labels.frame["utterance_id"].head(1).to_list()
        fix = "Give the utterances file that the labels were made with."
        raise InputError(f"no label belongs to one of these utterances ({', '.join(first) or 'no labels'})", fix=fix)
    lost = labels.frame.join(about, on="utterance_id", how="anti")
    if lost.height:
        message = f"{lost.height:,} labels belong to no utterance of the utterances file and keep their weights"
        fix = "Give the utterances file that the labels were made with."
        example = lost["utterance_id"][0]
        findings.append(Finding("balance", "not_described", message, fix, utterance_id=example, count=lost.height))
    without = about.join(labels.frame, on="utterance_id", how="anti")
    if without.height:
        message = f"{without.height:,} utterances have no labels and are not balanced"
        example = without["utterance_id"][0]
        findings.append(Finding("balance", "without_labels", message, utterance_id=example, count=without.height))
    return joined, findings


def _chosen(joined: pl.DataFrame, settings: BalanceSettings) -> pl.Series:
    return (joined["split"].is_null() | joined["split"].is_in(list(settings.splits))).rename("chosen")


def _speakers_on_both_sides(joined: pl.DataFrame, chosen: pl.Series) -> list[Finding]:
    sides = joined.select("speaker", chosen).drop_nulls("speaker").group_by("speaker").agg(pl.col("chosen").n_unique())
    both = sides.filter(pl.col("chosen") > 1)["speaker"].sort()
    if not len(both):
        return []
    message = f"{len(both):,} speakers are in the balanced splits and in others, such as {both[0]!r}"
    fix = "Split by speaker (read --split speakers:.7,.1,.2): else a model is tested on voices it was trained on."
    return [Finding("balance", "speaker_in_two_splits", message, fix, count=len(both))]


def _shares_of(settings: BalanceSettings, taxonomy: tuple[str, ...]) -> dict[str, float] | None:
    """The mean distribution of the Labels file that `classes` names, if it names one."""
    wish = settings.classes
    if not isinstance(wish, str) or wish in NAMED:
        return None
    if not Path(wish).exists():
        fix = f"{did_you_mean(wish, NAMED)} Write uniform, square_root, keep, shares, or a Labels file.".strip()
        raise SettingsError(f"classes = {wish!r} is neither a known target nor a file", fix=fix)
    other = Labels.read(wish, taxonomy=taxonomy)
    weights = other.frame["weight"].to_numpy()
    if not weights.sum() > 0:
        raise InputError("every row has the weight 0, so that it has no shares", where=wish, fix="Give another file.")
    return dict(zip(taxonomy, (weights @ other.distributions() / weights.sum()).tolist(), strict=True))


def _solve(labels: Labels, rows: pl.DataFrame, wishes: list[Wish], settings: BalanceSettings) -> Balance:
    speakers = None
    if settings.cap.speaker is not None:
        names = rows["speaker"].fill_null(pl.concat_str(pl.lit("\0"), rows["utterance_id"]))  # unknown: each its own
        speakers = names.rank("dense").to_numpy().astype(np.int64) - 1
    return balanced(
        np.stack([wish.feature for wish in wishes], axis=1),
        np.array([wish.target for wish in wishes]),
        start=labels.frame["weight"].to_numpy().astype(np.float64),
        cap=settings.cap.utterance,
        speakers=speakers,
        speaker_cap=settings.cap.speaker,
    )


def _unmet(wishes: list[Wish], solution: Balance) -> list[Finding]:
    found = []
    for wish, reached in zip(wishes, solution.reached, strict=True):
        if abs(reached - wish.target) > TOLERANCE:
            message = (
                f"{wish.kind} {wish.name}: a share of {wish.target:.1%} was asked for, {reached:.1%} is as near as "
                f"weights come to all wishes together (today {wish.today:.1%})"
            )
            fix = "Ask for less (classes = square_root), raise the caps, or add utterances."
            found.append(Finding("balance", "wish_not_met", message, fix, where=f"{wish.kind} {wish.name}"))
    return found


def _beyond(solution: Balance) -> list[Finding]:
    """The limits that could not be kept."""
    found = []
    for whose, limit, most in solution.over:
        if whose == "speaker":
            message = f"one speaker has {most:.1%} of all weight, where cap.speaker allows {limit:.1%}"
        else:
            message = f"the largest weight is {most:.2f}, where cap.utterance allows {limit:g}"
        fix = "Allow more: there are too few speakers or utterances with weight to share it among."
        found.append(Finding("balance", "cap_not_held", message, fix, where=whose))
    return found


def _uneven(solution: Balance) -> list[Finding]:
    count, size = len(solution.weights), solution.effective_size
    if size >= _FEW * count:
        return []
    message = f"the weights are so uneven that {count:,} utterances carry the information of {size:,.0f}"
    fix = "Ask for less (classes = square_root), or set a cap (utterance = 5)."
    return [Finding("balance", "few_effective", message, fix, count=count)]


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


def _metrics_of_generated(generated: Generated) -> dict[str, Any]:
    return {
        "items": generated.items.height,
        "tried": generated.tried,
        "threshold_nats": generated.threshold,
        "controls": [
            {"name": one.name, "tried": one.tried, "rate": one.rate if one.tried else None, "blind": one.blind}
            for one in generated.controls
        ],
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
