"""Explain a label: every vote, reply, prompt and weight behind it, and the errors of its utterance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.about import about_of
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import PromptContext
from alm_proxies.audio.folder import recordings_in
from alm_proxies.errors import AlmProxiesError, InputError
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.recorded import Manifest
from alm_proxies.pipeline.replies import Replies, replies_of, votes_with_replies
from alm_proxies.pipeline.tracing import Trace, traced, votes_on
from alm_proxies.printable import in_money, one_currency
from alm_proxies.remote.at_hand import refuse_elsewhere, table_in
from alm_proxies.report.drawing import listed
from alm_proxies.settings import settings_of
from alm_proxies.stages.annotate.askable import with_turns
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.stage import read_panel
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.stages.registry import STAGES
from alm_proxies.table_files import read_parquet, scan_table
from alm_proxies.tables import ATTRIBUTES, Labels, Utterances, combine
from alm_proxies.taxonomy import from_unit

_MOST_NEAR = 3
"""The most ids that an error proposes."""
_OF_ONE_DRAW = ("source", "annotator", "draw", "status", "held_out", "file")


@dataclass(frozen=True, slots=True)
class Explained:
    """The evidence behind one label."""

    utterance: dict[str, Any]
    """The row of the utterance."""
    label: dict[str, Any]
    """Its row of Labels; empty if there is none."""
    votes: list[dict[str, Any]]
    """Every vote, held-out ones included; proxies with their raw reply, cell, request digest, tokens and price, which
    are those of the whole draw where it has a row for each label. Where files differ in a vote, each has its file."""
    prompts: list[dict[str, Any]]
    """The prompt and the model of each annotator, by cell."""
    influence: list[dict[str, Any]]
    """For each annotator, how the label would change without it."""
    method: str
    """The estimator that made the label."""
    notes: list[str]
    """Notes on evidence that could not be shown in its original form."""
    scales: dict[str, tuple[float, float]]
    """The corpus's scales of valence, arousal and dominance; ratings of votes and label are kept in 0..1."""
    others: list[dict[str, Any]] = field(default_factory=list)
    """Its rows in other Labels tables, such as predictions, each with its file."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Errors: votes that are not ok, a recording that could not be used."""

    def lines(self) -> Iterator[str]:
        """The explanation as text."""
        yield f"{self.utterance['utterance_id']}  {_facts(self.utterance)}".rstrip()
        if self.label:
            strength = self.label["concentration"]
            worth = f", strength {strength:.1f} votes" if strength is not None else ""
            gain = f"{self.label['concentration_gain']:+.1f}"
            yield f"label ({self.method}{worth}; proxies add {gain} to its strength): {_shares(self.label)}"
        if self.label and (rated := self._ratings(self.label)):
            yield f"mean rating, estimated: {rated}"
        for other in self.others:
            yield f"{other['file']}: {_shares(other)}"
        yield "votes:" if self.votes else "votes: none here"
        price = 0.0
        for _, own in groupby(self.votes, key=lambda vote: [vote.get(name) for name in _OF_ONE_DRAW]):
            rows = list(own)
            price += rows[0].get("price") or 0.0  # the price of a draw, which a row for each label has
            yield self._vote(rows)
        if price:
            currency = one_currency(vote.get("currency") for vote in self.votes)
            yield f"these votes cost {in_money(price, currency)}"
        for row in self.failures:
            who = f" {row['annotator']}" if row["annotator"] else ""
            yield f"failed: {row['stage']}{who}: {row['kind']} x {row['count']}: {row['message']}"
        if self.influence:
            yield "without an annotator the label would move by (total variation), and it adds to the strength:"
        for row in (row for row in self.influence if row["votes"] > 0):
            yield f"  {row['annotator']}: {row['moved']:.3f}; {-row['concentration']:+.2f}"
        for prompt in self.prompts:
            yield f"prompt of {prompt['annotator']} ({prompt['model']}), cell {prompt['cell']}:"
            yield from (f"  | {line}" for line in prompt["text"].splitlines())
        yield from (f"note: {note}" for note in self.notes)

    def _vote(self, rows: list[dict[str, Any]]) -> str:
        """The label of one draw, or the shares of its labels, largest first."""
        vote = rows[0]
        felt = self._ratings(vote)
        if len(rows) == 1:
            message = f"{vote['label'] or vote['stated'] or '-'}{f'  {felt}' if felt else ''} x {vote['weight']:.3g}"
        else:
            shares = sorted(rows, key=lambda row: -row["weight"])
            message = "  ".join(f"{row['label']} {row['weight']:.3f}" for row in shares) + (f"  {felt}" if felt else "")
        held = ", held out" if vote["held_out"] else ""
        raw = f"  reply {vote['raw']!r}" if vote.get("raw") else ""
        number = vote.get("cell")
        cell = f"  cell {number}" if number is not None and number >= 0 else ""
        who = f"  {vote['source']:5}  {vote['annotator']} #{vote['draw']}"
        file = f"  in {vote['file']}" if vote.get("file") else ""
        return f"{who}: {message} ({vote['status']}{held}){cell}{raw}{file}"

    def _ratings(self, rated: dict[str, Any]) -> str:
        """Ratings on the scale of the corpus's raters."""
        there = [name for name in ATTRIBUTES if rated.get(name) is not None]
        ends = {name: self.scales.get(name, (0.0, 1.0)) for name in there}
        return ", ".join(
            f"{name} {float(from_unit(rated[name], *ends[name])):.3g} ({ends[name][0]:g} to {ends[name][1]:g})"
            for name in there
        )


def explain(
    folder: str | Path,
    utterance_id: str,
    *,
    number: int = 0,
    votes: Sequence[str | Path] = (),
    utterances: str | Path | None = None,
) -> Explained:
    """Every vote, reply, prompt and weight behind one label; `number` chooses among the runs of [vary], from 0.

    `folder` may be a labels file: `votes` and `utterances` are what it was fused from, these a file or a folder of
    recordings.
    """
    refuse_elsewhere([*votes, *([] if utterances is None else [utterances])])
    outputs = Outputs.of(folder)
    folder = outputs.folder
    manifest = Manifest.of(outputs.manifest, outputs.markers, folder)
    runs = manifest.runs
    if not 0 <= number < len(runs):
        raise InputError(f"there is no run {number}", where=str(folder), fix=f"There are runs 0 to {len(runs) - 1}.")
    places = {Path(place).parts[0]: folder / place for place in runs[number].stages}
    of_run = _of_run(outputs, [folder / place for place in runs[number].stages])
    if votes or utterances is not None or not {"read", "fuse"} <= set(places):
        people = None if utterances is None else table_in(Path(utterances), "utterances")
        given = tuple(table_in(Path(path), "votes") for path in votes)
        return _anywhere(of_run if len(runs) > 1 else outputs, utterance_id, manifest, places, given, people)
    table = Utterances.read(places["read"] / "utterances.parquet")
    row = _row(table.frame, utterance_id, places["read"] / "utterances.parquet")
    file = places["fuse"] / "labels.parquet"
    label = _row(Labels.read(file).frame, utterance_id, file)
    files = [places[name] / "votes.parquet" for name in ("read", "annotate", "listen") if name in places]
    read = {path: votes_on(path, utterance_id, table.taxonomy) for path in files}
    cast = combine(*read.values())
    replies = replies_of([path for path in of_run.ledgers if path.parent == places.get("annotate")], utterance_id)
    stated = manifest.settings(_name(places["fuse"], folder))
    notes: list[str] = []
    trace = _trace(file, label, files, stated, table, notes)
    prompts = _prompts(manifest, places, folder, table, row, replies, cast.taxonomy, notes)
    return Explained(
        utterance=row,
        label=label,
        votes=votes_with_replies({path: votes.frame for path, votes in read.items()}, replies, folder),
        prompts=prompts,
        influence=trace.influence,
        method=trace.method,
        notes=notes,
        scales=cast.about.scales.get(row["corpus"], {}),
        others=[other for path, other in _label_rows(outputs, utterance_id).items() if path.parent != places["fuse"]],
        failures=_failures(of_run, utterance_id),
    )


def _anywhere(
    outputs: Outputs,
    utterance_id: str,
    manifest: Manifest,
    places: dict[str, Path],
    given: tuple[Path, ...] = (),
    people: Path | None = None,
) -> Explained:
    """The explanation in a folder without a fused run, or from given files: all evidence on an utterance."""
    notes: list[str] = []
    described = outputs.tables["utterances"] if people is None else (people,)
    tables = {path: recordings_in(path) if path.is_dir() else Utterances.read(path) for path in described}
    having = {path: table for path, table in tables.items() if _has(table.frame, utterance_id)}
    rows = {path: _row(table.frame, utterance_id, outputs.folder) for path, table in having.items()}
    _refuse_two(outputs, utterance_id, rows)
    row, utterances = next(iter(rows.values()), None), next(iter(having.values()), None)
    others = _label_rows(outputs, utterance_id)
    taxonomy = next((about_of(path).taxonomy for path in others), ())
    files = list(given) or list(outputs.tables["votes"])
    read = {path: votes_on(path, utterance_id, taxonomy) for path in files}
    cast = {path: votes for path, votes in read.items() if votes.frame.height}
    replies = replies_of(outputs.ledgers, utterance_id)
    if row is None and not cast and not others and not replies:
        every = [*described, *files, *outputs.tables["labels"]]
        known = [read_parquet(path, ["utterance_id"]) for path in every if path.suffix == ".parquet"]
        _row(pl.concat(known) if known else pl.DataFrame(schema=_NO_IDS), utterance_id, outputs.place)
    label: dict[str, Any] = {}
    trace = Trace("")
    fused = next((path for path in others if _is_fused(path)), None)
    if fused is not None:
        label = {key: value for key, value in others.pop(fused).items() if key != "file"}
        made_by = about_of(fused).made_by
        stated = made_by.settings if made_by is not None else {}
        trace = _trace(fused, label, files, stated, utterances, notes, must=bool(given))
    prompts: list[dict[str, Any]] = []
    if replies and "annotate" in places and utterances is not None and row is not None and cast:
        labels = next(iter(cast.values())).taxonomy
        prompts = _prompts(manifest, places, outputs.folder, utterances, row, replies, labels, notes)
    elif replies:
        notes.append("prompts are shown only for the folder of a pipeline, which names the annotator files")
    frames = {path: votes.frame for path, votes in cast.items()}
    scales = next((votes.about.scales for votes in cast.values() if votes.about.scales), {})
    return Explained(
        utterance=row or {"utterance_id": utterance_id},
        label=label,
        votes=votes_with_replies(frames, replies, outputs.folder),
        prompts=prompts,
        influence=trace.influence,
        method=trace.method,
        notes=notes,
        scales=scales.get(str((row or {}).get("corpus", utterance_id.split("/")[0])), {}),
        others=list(others.values()),
        failures=_failures(outputs, utterance_id),
    )


_NO_IDS = {"utterance_id": pl.String}


def _of_run(outputs: Outputs, places: Sequence[Path]) -> Outputs:
    """The outputs without those of stages that belong to other runs of [vary], or to earlier forms of the file."""

    def is_own(path: Path) -> bool:
        inside = path.relative_to(outputs.folder).parts
        return inside[0] not in STAGES or any(place in path.parents for place in places)

    tables = {kind: tuple(filter(is_own, paths)) for kind, paths in outputs.tables.items()}
    return replace(outputs, tables=tables, ledgers=tuple(filter(is_own, outputs.ledgers)))


def _trace(
    labels: Path,
    label: dict[str, Any],
    files: Sequence[Path],
    stated: dict[str, Any],
    utterances: Utterances | None,
    notes: list[str],
    *,
    must: bool = False,
) -> Trace:
    """What each annotator does to a label; a note, or if it must be shown an error, where the votes that were found do
    not show it.
    """
    try:
        return traced(labels, label, files, settings_of(FuseSettings, stated, str(labels)), utterances, notes)
    except AlmProxiesError as error:
        if must:
            raise
        notes.append(f"what each annotator does to the label cannot be shown: {error}")
        return Trace(str(stated.get("method", "")))


def _refuse_two(outputs: Outputs, utterance_id: str, rows: dict[Path, dict[str, Any]]) -> None:
    """Raise where tables give the id to utterances of several corpora or speakers: their votes are not of one label."""
    for name in ("corpus", "speaker"):
        values = {row[name]: outputs.named(path) for path, row in rows.items() if row[name] is not None}
        if len(values) > 1:
            (first, here), (second, there) = list(values.items())[:2]
            message = f"{utterance_id!r} is an utterance of the {name} {first!r} in {here} and of {second!r} in {there}"
            fix = "Name the folder of one of them, or its files: --utterances and --votes."
            raise InputError(message, where=str(outputs.folder), fix=fix)


def _label_rows(outputs: Outputs, utterance_id: str) -> dict[Path, dict[str, Any]]:
    """The row of an utterance in each Labels table that has one."""
    own = pl.col("utterance_id") == utterance_id
    rows = {path: scan_table(path, ()).filter(own).collect() for path in outputs.tables["labels"]}
    return {path: {"file": outputs.named(path), **row.row(0, named=True)} for path, row in rows.items() if row.height}


def _is_fused(path: Path) -> bool:
    made_by = about_of(path).made_by
    return made_by is not None and made_by.stage == "fuse"


def _failures(outputs: Outputs, utterance_id: str) -> list[dict[str, Any]]:
    return outputs.clips().filter(pl.col("utterance_id") == utterance_id).to_dicts()


def _has(frame: pl.DataFrame, utterance_id: str) -> bool:
    return utterance_id in frame["utterance_id"]


def _shares(label: dict[str, Any]) -> str:
    shares = {key[2:]: value for key, value in label.items() if key.startswith("p_")}
    return "  ".join(f"{name} {share:.3f}" for name, share in sorted(shares.items(), key=lambda pair: -pair[1]))


def _row(frame: pl.DataFrame, utterance_id: str, where: Path) -> dict[str, Any]:
    rows = frame.filter(pl.col("utterance_id") == utterance_id)
    if not rows.height:
        ids, asked = frame["utterance_id"], utterance_id.strip().lower()
        near = (
            ids.filter(ids.str.to_lowercase().str.contains(asked, literal=True))
            .unique()
            .sort()
            .head(_MOST_NEAR)
            .to_list()
        )
        first = ids.head(1).to_list()
        meant = f"Did you mean {listed([repr(each) for each in near], 'or')}?" if asked and near else ""
        fix = meant or f"The first there is: {', '.join(first) or 'none'}."
        raise InputError(f"there is no utterance {utterance_id!r}", where=str(where), fix=fix)
    return rows.row(0, named=True)


def _prompts(
    manifest: Manifest,
    places: dict[str, Path],
    folder: Path,
    utterances: Utterances,
    row: dict[str, Any],
    replies: Replies,
    taxonomy: tuple[str, ...],
    notes: list[str],
) -> list[dict[str, Any]]:
    """The prompts of a pipeline's annotators; a note where their files cannot be read."""
    prompts: list[dict[str, Any]] = []
    if "annotate" in places:
        stated = manifest.settings(_name(places["annotate"], folder))
        own = replies.get(places["annotate"], {})
        try:
            prompts.extend(_prompts_of(stated, places["annotate"], utterances, row, own, taxonomy, notes))
        except AlmProxiesError as error:
            notes.append(f"prompts cannot be shown: {error}")
    return prompts


def _prompts_of(
    stated: dict[str, Any],
    place: Path,
    utterances: Utterances,
    row: dict[str, Any],
    replies: Mapping[tuple[str, int], dict[str, Any]],
    taxonomy: tuple[str, ...],
    notes: list[str],
) -> Iterator[dict[str, Any]]:
    settings = settings_of(AnnotateSettings, stated, str(place))
    kept = place / "evidence.parquet"
    evidence = dict(read_parquet(kept).iter_rows()) if kept.exists() else {}
    cards = about_of(place / "votes.parquet").annotators
    for annotator in read_panel(settings):
        ready = annotator.ready(taxonomy)
        card = cards.get(ready.name)
        if card is None or card.digest != ready.digest:
            notes.append(f"the file of {ready.name} was changed since: its prompt is shown as it is now")
        cells = sorted(
            {reply["cell"] for (name, _), reply in replies.items() if name == ready.name and reply["cell"] >= 0}
        )
        frame = pl.DataFrame([row], schema=utterances.frame.schema)
        values = with_turns(frame, utterances.frame, ready.prompt.turns).row(0, named=True)
        values["evidence"] = evidence.get(row["utterance_id"])
        for cell in cells:
            text = _text(ready, cell, values)
            yield {"annotator": ready.name, "model": ready.model_name, "cell": cell, "text": text}


def _text(annotator: Annotator, place: int, row: dict[str, Any]) -> str:
    question = annotator.question(annotator.cells[place], None, PromptContext.of(row, annotator.prompt.turns))
    return "\n".join(str(part) for turn in question.turns for part in turn.parts)


def _name(place: Path, folder: Path) -> str:
    return str(place.relative_to(folder))


def _facts(row: dict[str, Any]) -> str:
    shown = ("speaker", "gender", "duration", "intended", "split", "transcript")
    return "  ".join(f"{name} {row[name]!r}" for name in shown if row.get(name) is not None)
