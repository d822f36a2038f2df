"""Every vote, reply, prompt and weight behind one label of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.errors import InputError
from alm_proxies.files import read_text
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.plan import context_of, with_turns
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.stage import read_panel
from alm_proxies.stages.fuse.settings import FuseSettings
from alm_proxies.stages.fuse.stage import Fused, fuse
from alm_proxies.table_files import read_parquet
from alm_proxies.tables import ATTRIBUTES, Labels, Utterances, Votes, combine
from alm_proxies.taxonomy import from_unit


@dataclass(frozen=True, slots=True)
class Explained:
    """What is behind one label."""

    utterance: dict[str, Any]
    """The utterance, as the readers left it."""
    label: dict[str, Any]
    """Its row of Labels."""
    votes: list[dict[str, Any]]
    """Every vote, held-out ones included; proxies with their raw reply, cell, request digest, tokens and price."""
    prompts: list[dict[str, Any]]
    """What each annotator was asked in each cell, and by which model."""
    influence: list[dict[str, Any]]
    """For each annotator, how the label would change without it."""
    method: str
    """The estimator that made the label."""
    notes: list[str]
    """What could not be shown as it was."""
    scales: dict[str, tuple[float, float]]
    """The corpus's scales of valence, arousal and dominance; ratings of votes and label are kept in 0..1."""

    def lines(self) -> Iterator[str]:
        """The same for people."""
        yield f"{self.utterance['utterance_id']}  {_facts(self.utterance)}"
        shares = {key[2:]: value for key, value in self.label.items() if key.startswith("p_")}
        said = "  ".join(f"{name} {share:.3f}" for name, share in sorted(shares.items(), key=lambda pair: -pair[1]))
        strength = self.label["concentration"]
        worth = f", as firm as {strength:.1f} votes" if strength is not None else ""
        gain = f"{self.label['concentration_gain']:+.1f}"
        yield f"label ({self.method}{worth}; proxies add {gain} to its strength): {said}"
        if felt := self._felt(self.label):
            yield f"rated: {felt}"
        yield "votes:"
        for vote in self.votes:
            felt = self._felt(vote)
            message = f"{vote['label'] or vote['stated'] or '-'}{f'  {felt}' if felt else ''}"
            held = ", held out" if vote["held_out"] else ""
            raw = f"  reply {vote['raw']!r}" if vote.get("raw") else ""
            cell = f"  cell {vote['cell']}" if vote.get("cell") is not None else ""
            yield (
                f"  {vote['source']:5}  {vote['annotator']} #{vote['draw']}: {message} x {vote['weight']:.3g}"
                f" ({vote['status']}{held}){cell}{raw}"
            )
        if self.influence:
            yield "without an annotator the label would move by (total variation), and it adds to the strength:"
        for row in (row for row in self.influence if row["votes"] > 0):
            yield f"  {row['annotator']}: {row['moved']:.3f}; {-row['concentration']:+.2f}"
        for prompt in self.prompts:
            yield f"asked by {prompt['annotator']} ({prompt['model']}), cell {prompt['cell']}:"
            yield from (f"  | {line}" for line in prompt["text"].splitlines())
        yield from (f"note: {note}" for note in self.notes)

    def _felt(self, rated: dict[str, Any]) -> str:
        """Ratings on the scale that the corpus's raters had."""
        there = [name for name in ATTRIBUTES if rated.get(name) is not None]
        ends = {name: self.scales.get(name, (0.0, 1.0)) for name in there}
        return ", ".join(
            f"{name} {float(from_unit(rated[name], *ends[name])):.3g} ({ends[name][0]:g} to {ends[name][1]:g})"
            for name in there
        )


def explain(folder: str | Path, utterance_id: str, *, number: int = 0) -> Explained:
    """Every vote, reply, prompt and weight behind one label; `number` chooses among the runs of [vary], from 0."""
    folder = Path(folder)
    manifest = _manifest(folder)
    runs = manifest["runs"]
    if not 0 <= number < len(runs):
        raise InputError(f"there is no run {number}", where=str(folder), fix=f"There are runs 0 to {len(runs) - 1}.")
    places = {Path(place).parts[0]: folder / place for place in runs[number]["stages"]}
    if "fuse" not in places:
        raise InputError("this run fused nothing", where=str(folder), fix="Write [fuse] in its pipeline file.")
    utterances = Utterances.read(places["read"] / "utterances.parquet")
    row = _row(utterances.frame, utterance_id, places["read"] / "utterances.parquet")
    label = _row(Labels.read(places["fuse"] / "labels.parquet").frame, utterance_id, places["fuse"] / "labels.parquet")
    files = [places[name] / "votes.parquet" for name in ("read", "annotate", "listen") if name in places]
    votes = combine(*(Votes.read(path) for path in files))
    own = votes.frame.filter(pl.col("utterance_id") == utterance_id).sort("source", "annotator", "draw", "label")
    replies = _replies(places["annotate"], utterance_id) if "annotate" in places else {}
    settings = FuseSettings.model_validate(manifest["stages"][_name(places["fuse"], folder)]["task"]["settings"])
    fused = fuse(votes, settings, utterances=utterances)
    notes: list[str] = []
    prompts = list(_prompts(manifest, places, folder, utterances, row, replies, votes, notes))
    return Explained(
        utterance=row,
        label=label,
        votes=[{**vote, **replies.get((vote["annotator"], vote["draw"]), {})} for vote in own.to_dicts()],
        prompts=prompts,
        influence=_influence(fused, votes, utterance_id, settings, utterances, notes),
        method=fused.estimator.name,
        notes=notes,
        scales=votes.about.scales.get(row["corpus"], {}),
    )


def _influence(
    fused: Fused,
    votes: Votes,
    utterance_id: str,
    settings: FuseSettings,
    utterances: Utterances,
    notes: list[str],
) -> list[dict[str, Any]]:
    from alm_proxies.estimators.counts import counts_of
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.trials import influence

    if isinstance(fused.estimator, DawidSkene):
        notes.append("dawid_skene weighs raters together: what one of them does to the label is not shown")
        return []
    read = partial(
        counts_of, merge=settings.merge, utterances=utterances, columns=settings.columns, consensus=settings.consensus
    )
    return influence(fused.estimator, votes, utterance_id, read).to_dicts()


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        fix = "Name the folder of a run that has finished (the pipeline file's folder)."
        raise InputError("holds no manifest.json", where=str(folder), fix=fix)
    try:
        manifest: dict[str, Any] = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", where=str(path), fix="Run the pipeline file again.") from None
    return manifest


def _row(frame: pl.DataFrame, utterance_id: str, where: Path) -> dict[str, Any]:
    found = frame.filter(pl.col("utterance_id") == utterance_id)
    if not found.height:
        near = frame.filter(pl.col("utterance_id").str.ends_with(utterance_id))["utterance_id"].head(1).to_list()
        first = frame["utterance_id"].head(1).to_list()
        fix = f"Did you mean {near[0]!r}?" if near else f"The first there is: {', '.join(first) or 'none'}."
        raise InputError(f"there is no utterance {utterance_id!r}", where=str(where), fix=fix)
    return found.row(0, named=True)


def _replies(folder: Path, utterance_id: str) -> dict[tuple[str, int], dict[str, Any]]:
    replies = {}
    for path in sorted(folder.glob("ledger*.sqlite")):
        with Ledger.look(path) as ledger:
            for reply in ledger.replies(utterance_id):
                replies[reply.pop("annotator"), reply.pop("draw")] = reply
    return replies


def _prompts(
    manifest: dict[str, Any],
    places: dict[str, Path],
    folder: Path,
    utterances: Utterances,
    row: dict[str, Any],
    replies: dict[tuple[str, int], dict[str, Any]],
    votes: Votes,
    notes: list[str],
) -> Iterator[dict[str, Any]]:
    if "annotate" not in places:
        return
    stage = manifest["stages"][_name(places["annotate"], folder)]
    settings = AnnotateSettings.model_validate(stage["task"]["settings"])
    kept = places["annotate"] / "evidence.parquet"
    evidence = dict(read_parquet(kept).iter_rows()) if kept.exists() else {}
    for annotator in read_panel(settings):
        ready = annotator.ready(votes.taxonomy)
        card = votes.about.annotators.get(ready.name)
        if card is None or card.digest != ready.digest:
            notes.append(f"the file of {ready.name} was changed since: its prompt is shown as it is now")
        cells = sorted(
            {reply["cell"] for (name, _), reply in replies.items() if name == ready.name and reply["cell"] >= 0}
        )
        frame = pl.DataFrame([row], schema=utterances.frame.schema)
        told = with_turns(frame, utterances.frame, ready.prompt.turns).row(0, named=True)
        told["evidence"] = evidence.get(row["utterance_id"])
        for place in cells:
            text = _text(ready, place, told)
            yield {"annotator": ready.name, "model": ready.model_name, "cell": place, "text": text}


def _text(annotator: Annotator, place: int, row: dict[str, Any]) -> str:
    question = annotator.question(annotator.cells[place], None, context_of(row, annotator.prompt.turns))
    return "\n".join(str(part) for turn in question.turns for part in turn.parts)


def _name(place: Path, folder: Path) -> str:
    return str(place.relative_to(folder))


def _facts(row: dict[str, Any]) -> str:
    shown = ("speaker", "gender", "duration", "intended", "split", "transcript")
    return "  ".join(f"{name} {row[name]!r}" for name in shown if row.get(name) is not None)
