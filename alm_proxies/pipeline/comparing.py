"""Runs side by side: the labels or predictions of several runs, paired on the same held-out votes, as one page.

A run is the output of a pipeline (each run of its [vary] separately), a folder with a labels.parquet, or a labels file.
Runs with predictions are compared by these, others by their fused labels. Only runs with the same held-out votes are
paired: if a varied seed holds out other votes, or simulates another corpus, or the taxonomy is varied, runs are
compared within each set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alm_proxies.errors import InputError
from alm_proxies.files import digest_of, read_text, write_json
from alm_proxies.printable import counted
from alm_proxies.remote.at_hand import refuse_elsewhere, table_in
from alm_proxies.tables import Finding, Findings, Labels, Utterances, Votes, combine

if TYPE_CHECKING:
    from alm_proxies.report.page import Page, Table
    from alm_proxies.stages.evaluate.stage import Evaluation

PAGE, METRICS = "compare.html", "compare.metrics.json"
_MANIFEST = "manifest.json"
_LEVEL = 0.05
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run: its labels by name, and the files of its votes and utterances."""

    name: str
    labels: Path
    votes: tuple[Path, ...] = ()
    utterances: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """The sets of runs on the same held-out votes, and the page that compares them."""

    evaluations: tuple[Evaluation, ...]
    page: Page
    findings: Findings
    left_out: tuple[str, ...] = field(default=())
    """Runs that share their held-out votes with no other."""

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of an evaluation for every set."""
        return {"sets": [evaluation.metrics for evaluation in self.evaluations]}

    @property
    def line(self) -> str:
        """The headline of the page, and the number of runs that are not in it."""
        return self.page.headline + (f" ({len(self.left_out)} of the runs left out)" if self.left_out else "")

    def write(self, path: Path) -> None:
        """Write the page, and its figures beside it."""
        self.page.write(path)
        write_json(path.with_name(f"{path.stem}.metrics.json"), self.metrics)


def runs_in(path: Path) -> list[ComparedRun]:
    """The runs in the folder of a pipeline, or the labels in any other folder or file."""
    if path.suffix == ".parquet" and path.is_file():
        return [ComparedRun(path.stem, path)]
    manifest = path / _MANIFEST
    if manifest.is_file():
        return _of_manifest(path, json.loads(read_text(manifest)))
    if (path / "labels.parquet").is_file():
        return [ComparedRun(path.name, path / "labels.parquet")]
    fix = "Give the folder of a pipeline, a folder with a labels.parquet, or a labels file."
    message = "holds no run" if path.exists() else "there is no such file or folder"
    raise InputError(message, where=str(path), fix=fix)


def compare_runs(
    runs: Sequence[ComparedRun], *, votes: Sequence[Path] = (), utterances: Path | None = None, seed: int = 0
) -> Compared:
    """Compare runs on the same held-out votes; `votes` and `utterances` are for runs without their own."""
    refuse_elsewhere([*votes, *([] if utterances is None else [utterances])])
    votes = [table_in(path, "votes") for path in votes]
    people_given = () if utterances is None else (table_in(utterances, "utterances"),)
    sets: dict[str, list[tuple[ComparedRun, Votes, Utterances]]] = {}
    for run in runs:
        own, people = run.votes or votes, run.utterances or people_given
        if lacking := [name for name, files in (("votes", own), ("utterances", people)) if not files]:
            fix = f"Name its {' and '.join(lacking)}: {' '.join(f'--{name} {name.upper()}' for name in lacking)}."
            raise InputError(f"brings no {' and no '.join(lacking)}", where=run.name, fix=fix)
        table = combine(*(Votes.read(path) for path in own))
        keys = table.frame.filter("held_out").select("utterance_id", "annotator", "draw", "label")
        if not keys.height:
            fix = "Hold votes out when reading the corpus: [hold_out]."
            raise InputError("no vote is held out, so runs cannot be compared", where=run.name, fix=fix)
        digest = digest_of({"labels": table.taxonomy, "votes": keys.sort(keys.columns).rows()})
        sets.setdefault(digest, []).append((run, table, combine(*(Utterances.read(path) for path in people))))
    several = [members for members in sets.values() if len(members) > 1]
    alone = tuple(members[0][0].name for members in sets.values() if len(members) == 1)
    if not several:
        fix = "Vary something that leaves the taxonomy and the seed of [hold_out] and [simulate] as they are."
        raise InputError("no two runs have the same held-out votes and taxonomy, so none can be paired", fix=fix)
    from alm_proxies.stages.evaluate.stage import EvaluateSettings, evaluate

    evaluations = []
    for members in several:
        labels = {run.name: Labels.read(run.labels) for run, _, _ in members}
        first = members[0]
        settings = EvaluateSettings(baseline=first[0].name, seed=seed)
        evaluations.append(evaluate(labels, first[1], first[2], settings))
    findings = [_not_paired(alone)] if alone else []
    together = combine(Findings.gather(findings, "compare"), *(evaluation.findings for evaluation in evaluations))
    return Compared(tuple(evaluations), _page(evaluations, alone), together, alone)


def _not_paired(alone: Sequence[str]) -> Finding:
    """The runs that are left out, because no other has their held-out votes."""
    shown = ", ".join(alone[:_SHOWN]) + (" ..." if len(alone) > _SHOWN else "")
    message = f"no other run has the held-out votes of {shown} in its taxonomy: left out of the comparison"
    fix = "Compare runs of one corpus with the same taxonomy, hold_out and seed."
    return Finding.of("run_not_paired", message, fix, count=len(alone))


def compare_varied(folder: Path) -> Path | None:
    """Compare the runs of a [vary]; gives the path of the page, or None if the runs cannot be paired."""
    from alm_proxies.progress import say

    try:
        compare_runs(runs_in(folder)).write(folder / PAGE)
    except InputError as error:
        say(f"  the runs of [vary] are not compared: {error}")
        return None
    return folder / PAGE


def _of_manifest(folder: Path, manifest: dict[str, Any]) -> list[ComparedRun]:
    stages = manifest["stages"]
    runs = []
    for number, run in enumerate(manifest["runs"]):
        places = {place: stages[place] for place in run["stages"] if place in stages}

        def files(stage: str, name: str, places: dict[str, Any] = places) -> dict[str, Path]:
            return {
                record["name"] or stage: folder / place / name
                for place, record in places.items()
                if record["stage"] == stage and (folder / place / name).is_file()
            }

        labels = files("predict", "labels.parquet") or files("fuse", "labels.parquet")
        chosen = ", ".join(f"{key} {_word(value)}" for key, value in run["chosen"].items())
        for name, path in labels.items():
            words = [chosen or (folder.name if len(manifest["runs"]) == 1 else f"run {number}")]
            words += [name] if len(labels) > 1 else []
            read = (tuple(files("read", name).values()) for name in ("votes.parquet", "utterances.parquet"))
            runs.append(ComparedRun(": ".join(words), path, *read))
    return runs


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _page(evaluations: Sequence[Evaluation], alone: Sequence[str]) -> Page:
    """A table of all runs and pairs, then the sections of evaluate for each set."""
    from alm_proxies.report.page import Block, Section, Text
    from alm_proxies.stages.evaluate.page import PAIRS

    sections = []
    for place, evaluation in enumerate(evaluations, 1):
        title = "Runs side by side" if len(evaluations) == 1 else f"Set {place}: runs side by side"
        scored = evaluation.metrics
        size = f"{counted(scored['utterances'], 'utterance')} with {counted(scored['held_out_votes'], 'held-out vote')}"
        lead = (
            f"{size}, the same for every run. Differences are paired, with 95 % intervals over speakers. A run is "
            "marked better only where a sign-flip test over speakers is significant at 5 %, corrected for all pairs of "
            f"the table (Holm).{_too_few(scored)}"
        )
        blocks: list[Block] = [_runs_table(evaluation.metrics), _pairs_table(evaluation.metrics)]
        if alone and place == 1:
            blocks.append(Text(f"No other run has the held-out votes of: {'; '.join(alone)}."))
        sections.append(Section(title, lead, tuple(blocks)))
    first = evaluations[0].page
    rest = [section for section in first.sections if section.title != PAIRS] if len(evaluations) == 1 else []
    better = [pair for evaluation in evaluations for pair in _pairs(evaluation.metrics) if pair["better"]]
    count = sum(len(_pairs(evaluation.metrics)) for evaluation in evaluations)
    headline = f"{len(better)} of {count} pairs of runs differ significantly in log loss"
    if count and not better and all(_too_few(evaluation.metrics) for evaluation in evaluations):
        headline = "too few speakers to judge which runs differ in log loss"
    if len(evaluations) == 1:
        best = min(_runs(evaluations[0].metrics), key=lambda item: _or_infinite(item[1]["nll_per_vote"]["value"]))
        headline += f"; {best[0]} has the lowest"
    return replace(first, kind="Comparison of runs", headline=headline, sections=(*sections, *rest))


def _runs(metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    from alm_proxies.stages.evaluate.measured import SHARES

    return [(name, values) for name, values in metrics["methods"].items() if name != SHARES]


def _pairs(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pair of runs with its difference, and the better run if it is significant among all pairs."""
    names = [name for name, _ in _runs(metrics)]
    baseline = metrics["baseline"]
    pairs = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            sign = 1.0
            difference = metrics["pairs"].get(f"{first} less {second}")
            if difference is None:  # the baseline's pairs stand with the methods
                other, sign = (second, -1.0) if first == baseline else (first, 1.0)
                difference = metrics["methods"][other]["less_baseline"]
            value, *ends = [
                difference[end] if difference[end] is None else sign * difference[end]
                for end in ("value", "low", "high")
            ]
            low, high = ends if sign > 0 else ends[::-1]
            pairs.append(
                {
                    "first": first, "second": second, "value": value, "low": low, "high": high,
                    "p_value": difference["p_value"], "better": None, "speakers": difference.get("speakers", 0),
                }
            )  # fmt: skip
    tested = [pair for pair in pairs if pair["p_value"] is not None and pair["value"] is not None]
    known = sorted(tested, key=lambda pair: pair["p_value"])
    for place, pair in enumerate(known):
        if pair["p_value"] * (len(known) - place) >= _LEVEL:
            break
        pair["better"] = pair["first"] if pair["value"] < 0 else pair["second"]
    return pairs


def _or_infinite(value: float | None) -> float:
    """A log loss, which is null where it is infinite."""
    return math.inf if value is None else value


def _too_few(metrics: dict[str, Any]) -> str:
    """That no pair can be significant with so few speakers, where the lowest p-value is 2^(1 - S); else empty."""
    pairs = [pair for pair in _pairs(metrics) if pair["speakers"]]
    if not pairs:
        return ""
    needed = 1
    while 2.0 ** (1 - needed) * len(pairs) >= _LEVEL:
        needed += 1
    if (speakers := max(pair["speakers"] for pair in pairs)) >= needed:
        return ""
    return f" With {counted(speakers, 'speaker')} no difference can be significant: it takes {needed}."


def _runs_table(metrics: dict[str, Any]) -> Table:
    from alm_proxies.compare.sections import JSD, LOG_LOSS
    from alm_proxies.report.page import Cell, Column, Table

    rows: list[list[Cell]] = []
    for name, values in _runs(metrics):
        ambiguity = values["ambiguity"]
        rows.append(
            [
                name, _interval(values["nll_per_vote"]), _interval(values["jsd_base2"]),
                _interval(values["dirichlet_multinomial_nll"]),
                None if ambiguity is None else _interval(ambiguity["rank_correlation"]),
            ]
        )  # fmt: skip
    columns = [
        Column("Run"),
        LOG_LOSS,
        JSD,
        Column("Strength, nats per vote", 3, "Dirichlet-multinomial log loss of held-out counts; lower is better."),
        Column("Ambiguity, rank correlation", 2, "Of predicted and observed disagreement (Spearman's)."),
    ]
    return Table.of(columns, rows)


def _pairs_table(metrics: dict[str, Any]) -> Table:
    from alm_proxies.report.page import Cell, Column, Table

    rows: list[list[Cell]] = [
        [pair["first"], pair["second"], _interval(pair), pair["p_value"], pair["better"]] for pair in _pairs(metrics)
    ]
    columns = [
        Column("First"),
        Column("Second"),
        Column("Log loss, first minus second", 3, "Below zero the first is better.", signed=True),
        Column("p", 4, "Of a sign-flip test over speakers, this pair alone.", chance=True),
        Column("Better", 3, "Where it is significant among all pairs."),
    ]
    return Table.of(columns, rows, "Runs in pairs")


def _interval(value: dict[str, Any] | None) -> Any:
    from alm_proxies.interval import Interval

    if value is None or value["value"] is None:
        return None
    low, high = (float("nan") if value[end] is None else value[end] for end in ("low", "high"))
    return Interval(value["value"], low, high)
