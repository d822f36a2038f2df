"""Label Studio's JSON export: tasks become utterances, their annotations votes of the people who made them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import polars as pl

from alm_proxies.ballots import is_crowd
from alm_proxies.cards import Card
from alm_proxies.errors import InputError, SettingsError, TableError
from alm_proxies.nearest import known_names
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import json_content, listing, on_unit_scales, scales_in
from alm_proxies.stages.read.formats.label_studio import LabelStudioSource
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.splits import split_word
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import ATTRIBUTES, CROWD, Finding

_OURS = ("utterance_id", "audio", "speaker", "gender", "language", "transcript", "split")
_USUAL = ("emotion", "label")
_TEXT, _NUMBER = pl.String(), pl.Float64()
_FIX = 'Export the project as "JSON": a list of tasks with their annotations.'


@dataclass(slots=True)
class _Heard:
    """Annotations as they are read, one row each."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    people: set[tuple[str, str]] = field(default_factory=set)


def read_label_studio(source: LabelStudioSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The tasks of a Label Studio project and the votes of its annotators."""
    path = _file(source.source)
    tasks = _tasks(path)
    controls = _controls(tasks)
    label = _control(source.label, controls.get("choices", []), path)
    if source.secondary and source.secondary not in controls.get("choices", []):
        raise _no_control(source.secondary, controls.get("choices", []), path, "secondary")
    ratings: dict[str, str] = {name: name for name in ATTRIBUTES} | {**source.ratings}
    heard = _Heard()
    rows = []
    where = source.corpus
    for task in tasks:
        described = _described(task, source)
        rows.append(described)
        for annotation in task["annotations"]:
            _answer(annotation, str(described["utterance_id"]), label, source.secondary, ratings, heard)
    utterances = _unique(pl.DataFrame(rows, schema=dict.fromkeys((*_OURS, "corpus"), _TEXT)), path)
    schema = {"utterance_id": _TEXT, "annotator": _TEXT, "word": pl.List(_TEXT), "secondary": pl.List(_TEXT)}
    extra = {"lead_time": _NUMBER, "saw_prediction": pl.Boolean()}
    frame = pl.DataFrame(heard.rows, schema={**schema, **dict.fromkeys(ATTRIBUTES, _NUMBER), **extra})
    frame = frame.with_columns(source=pl.lit("human"))
    known = card.model_copy(update={"scales": {**card.scales, **source.scales}})
    frame, wrong = on_unit_scales(frame, known, where, "or --scales {name}=1:5 (scales)")
    frame = frame.with_columns(prefixed("utterance_id", where), prefixed("annotator", where))
    votes, lost = vocabulary.votes(frame, where)
    findings = [*_findings(heard, votes, str(path)), *wrong, *lost]
    silent = utterances.filter(~pl.col("utterance_id").is_in(votes["utterance_id"].implode()))["utterance_id"].to_list()
    findings += listing("no_votes", silent, ("task has", "tasks have"), "no vote", where)
    return Part(utterances, votes, (path,), findings, root=path.parent, scales=scales_in(frame, known))


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    files = sorted(path for path in source.glob("*.json") if path.is_file())
    if len(files) == 1:
        return files[0]
    message = f"is a folder with {len(files)} JSON files"
    raise InputError(message, where=str(source), fix="Name the exported file itself.")


def _tasks(path: Path) -> list[dict[str, Any]]:
    content = json_content(path)
    if not isinstance(content, list) or not content:
        raise TableError("is not a list of tasks", where=str(path), fix=_FIX)
    for number, task in enumerate(content, start=1):
        valid = isinstance(task, dict) and isinstance(task.get("data"), dict)
        if not valid or not isinstance(task.get("annotations"), list):
            raise TableError("has no data or no annotations", where=f"{path}, task {number}", fix=_FIX)
    return content


def _controls(tasks: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The names of the controls that were answered, by their type."""
    controls: dict[str, dict[str, None]] = {}
    for task in tasks:
        for annotation in task["annotations"]:
            for result in _results(annotation):
                controls.setdefault(str(result.get("type")), {})[str(result.get("from_name"))] = None
    return {kind: list(names) for kind, names in controls.items()}


def _results(annotation: Any) -> list[dict[str, Any]]:
    results = annotation.get("result") if isinstance(annotation, dict) else None
    return [result for result in results if isinstance(result, dict)] if isinstance(results, list) else []


def _control(named: str, choices: list[str], path: Path) -> str:
    """The Choices control with the emotion: the one named, the only one, or the one of a usual name."""
    if named:
        if named in choices:
            return named
        raise _no_control(named, choices, path, "label")
    usual = [name for name in _USUAL if name in choices]
    if len(choices) == 1 or usual:
        return usual[0] if usual else choices[0]
    if not choices:
        raise TableError("holds no answer of a Choices control", where=str(path), fix=_FIX)
    fix = f"Say which one holds the emotion: --label NAME (label). There are: {', '.join(choices)}."
    raise SettingsError(f"has {len(choices)} Choices controls", where=str(path), fix=fix)


def _no_control(named: str, choices: list[str], path: Path, key: str) -> SettingsError:
    fix = known_names(named, choices)
    return SettingsError(f"has no answered Choices control {named!r} ({key})", where=str(path), fix=fix)


def _described(task: Mapping[str, Any], source: LabelStudioSource) -> dict[str, str | None]:
    """The utterance of a task, from its data; its id is the task's number where nothing names it."""
    data = task["data"]
    values: dict[str, str | None] = {}
    for name in _OURS:
        value = data.get(source.columns.get(name, name))  # type: ignore[call-overload]  # the names of our columns
        values[name] = None if value is None or isinstance(value, dict | list) else str(value)
    if values["audio"] is not None:
        values["audio"] = _recording(values["audio"])
    stem = Path(values["audio"]).stem if values["audio"] else ""
    own = values["utterance_id"] or stem or f"task-{task.get('id')}"
    values["utterance_id"] = own if own.startswith(f"{source.corpus}/") else f"{source.corpus}/{own}"
    if values["speaker"] is not None:
        values["speaker"] = f"{source.corpus}/{values['speaker'].removeprefix(f'{source.corpus}/')}"
    gender = (values["gender"] or "").lower()
    values["gender"] = gender if gender in ("female", "male", "other") else None
    values["split"] = split_word(values["split"]) if values["split"] else None
    return {**values, "corpus": source.corpus}


def _recording(address: str) -> str:
    """The path in an address of Label Studio's own file storage; any other path or address as it is."""
    parts = urlsplit(address)
    if parts.path.rstrip("/").endswith("/data/local-files"):
        return parse_qs(parts.query).get("d", [address])[0]
    return unquote(parts.path) if parts.path.startswith("/data/") and not parts.scheme else address


def _unique(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """One row an utterance; tasks of the same utterance must describe it alike."""
    alike = frame.unique(maintain_order=True)
    again = alike.filter(~pl.col("utterance_id").is_first_distinct())
    if again.height:
        fix = "Name the key that distinguishes them: --columns utterance_id=KEY (columns)."
        message = f"two tasks are {again['utterance_id'][0]!r} and describe it differently"
        raise TableError(message, where=str(path), fix=fix)
    return alike


def _answer(
    annotation: Any,
    utterance: str,
    label: str,
    secondary: str,
    ratings: Mapping[str, str],
    heard: _Heard,
) -> None:
    """One annotation as a row; skips and empty ones are counted."""
    if not isinstance(annotation, dict):
        heard.odd.append(utterance)
        return
    if annotation.get("was_cancelled"):
        heard.skipped.append(utterance)
        return
    row: dict[str, Any] = {"utterance_id": utterance, "annotator": _person(annotation)}
    by_rating = {control: name for name, control in ratings.items()}
    for result in _results(annotation):
        name, kind, value = str(result.get("from_name")), str(result.get("type")), result.get("value")
        value = value if isinstance(value, dict) else {}
        if kind == "choices" and name in (label, secondary):
            chosen = value.get("choices")
            words = [str(word) for word in chosen] if isinstance(chosen, list) else []
            ours = "word" if name == label else "secondary"
            row[ours] = list(dict.fromkeys([*(row.get(ours) or []), *words])) or None  # a result for each region
        elif kind in ("rating", "number") and name in by_rating and by_rating[name] not in row:
            row[by_rating[name]] = _number(value.get(kind))
        else:
            heard.others[name] = heard.others.get(name, 0) + 1
    if row.get("word") is None and not any(row.get(name) is not None for name in ATTRIBUTES):
        heard.empty.append(utterance)
        return
    if (utterance, row["annotator"]) in heard.people and not is_crowd(f"/{row['annotator']}"):
        heard.again.append(utterance)
    heard.people.add((utterance, row["annotator"]))
    row["lead_time"] = _number(annotation.get("lead_time"))
    row["saw_prediction"] = bool(annotation.get("prediction") or annotation.get("parent_prediction"))
    heard.rows.append(row)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _person(annotation: Mapping[str, Any]) -> str:
    """A name for who made an annotation: their number, or a digest of their e-mail address, which is not kept.

    Those of whom nothing is known may be several people, and are a crowd.
    """
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("id", by.get("email"))
    if isinstance(by, int) and not isinstance(by, bool):
        return f"rater{by}"
    return f"rater-{hashlib.sha256(str(by).encode()).hexdigest()[:8]}" if by else CROWD.strip("/")


def _findings(heard: _Heard, votes: pl.DataFrame, where: str) -> list[Finding]:
    were = ("annotation was", "annotations were")
    findings = listing("no_vote", heard.skipped, were, "skipped by the rater", where)
    answer = ("annotation answers", "annotations answer")
    findings += listing("no_vote", heard.empty, answer, "nothing that is read", where)
    findings += listing("unread_lines", heard.odd, were, "left out, as only an object can be read", where)
    again = ("annotation is a further one", "annotations are further ones")
    rest = "of the same rater for the same task; each counts as a vote"
    findings += listing("answered_again", heard.again, again, rest, where)
    saw = int(votes["saw_prediction"].sum()) if "saw_prediction" in votes.columns else 0
    if saw:
        of = f"{counted(saw, 'vote')} of raters who could see a model's prediction"
        message = f"{of}, which may have influenced what they voted for"
        fix = "They carry saw_prediction = true; compare them with the others before you rely on them."
        findings.append(finding("saw_prediction", message, fix=fix, where=where, count=saw))
    if heard.others:
        shown = ", ".join(f"{name!r} ({count})" for name, count in sorted(heard.others.items()))
        message = f"answers of other controls were not taken: {shown}"
        fix = "Name controls with --label, --secondary and --ratings."
        findings.append(finding("columns_not_taken", message, fix=fix, where=where, count=sum(heard.others.values())))
    return findings
