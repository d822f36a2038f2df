"""Maps a corpus's words to the labels of a taxonomy, with findings for what is merged, moved or left outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from alm_proxies.nearest import did_you_mean
from alm_proxies.printable import counted
from alm_proxies.stages.read.sources import finding
from alm_proxies.tables import ATTRIBUTES, CROWD, Finding
from alm_proxies.taxonomy import Meaning, covering, folded, meanings

_SHOWN = 20
_NEAR = 1000
_WHOSE = ["utterance_id", "annotator"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The taxonomy, the user's map to it, and how several labels in one answer count."""

    labels: tuple[str, ...]
    mapping: Mapping[str, str]
    several: Literal["each", "share", "first"] = "share"

    def meanings(self, words: pl.Series) -> dict[str, Meaning]:
        """The label of each distinct word."""
        return meanings(sorted(words.drop_nulls().unique().to_list()), self.labels, self.mapping)

    def votes(self, heard: pl.DataFrame, where: str) -> tuple[pl.DataFrame, list[Finding]]:
        """Votes with labels from answers in words, one row per answer.

        `heard` has utterance_id, annotator, source, word (text, or a list where an answer may name several) and may
        have draw, weight, secondary (a list), valence, arousal, dominance and status.
        """
        frame = heard.with_row_index("_answer")
        if "weight" not in frame.columns:
            frame = frame.with_columns(weight=pl.lit(1.0))
        several = isinstance(frame.schema["word"], pl.List)
        findings: list[Finding] = []
        if several:
            frame, findings = self._one_word_a_row(frame, where)
        meaning = self.meanings(frame["word"])
        spoken = dict(frame.group_by("word").agg(pl.len()).drop_nulls("word").iter_rows())
        frame = self._labelled(frame, meaning)
        frame = self._numbered(frame, by_label=not several)
        frame = frame.with_columns(status=_status(frame))
        if several:
            frame = _one_row_a_label(frame)
        findings += _word_findings(meaning, spoken, "vote", where)
        if "secondary" in frame.columns:
            frame, besides, lost = self._secondary(frame, where)
            spoken = {word: spoken.get(word, 0) + besides.get(word, 0) for word in {**spoken, **besides}}
            findings += lost
        return frame.drop("_answer", "word"), findings + self._not_used(spoken, "vote says", where)

    def tallied(self, counts: pl.DataFrame, where: str) -> tuple[pl.DataFrame, list[Finding]]:
        """Votes from counts (utterance_id, annotator, source, word, count): draws 0..n-1 in label order."""
        frame = counts.filter(pl.col("count") > 0)
        meaning = self.meanings(frame["word"])
        spoken = dict(frame.group_by("word").agg(pl.col("count").sum()).iter_rows())
        frame = self._labelled(frame, meaning).sort(
            *_WHOSE, self._place(), "stated", nulls_last=True, maintain_order=True
        )
        frame = frame[np.repeat(np.arange(frame.height), frame["count"].to_numpy())]
        frame = frame.with_columns(status=_status(frame), draw=pl.int_range(pl.len(), dtype=pl.Int32).over(_WHOSE))
        findings = [*_word_findings(meaning, spoken, "vote", where), *self._not_used(spoken, "vote says", where)]
        return frame.drop("count", "word"), findings

    def shares(self, shares: dict[str, pl.Series], where: str) -> tuple[pl.DataFrame, list[Finding]]:
        """Columns p_<label> from columns of shares named by words; the mass of words outside is counted, not
        redistributed.
        """
        meaning = self.meanings(pl.Series(list(shares), dtype=pl.String))
        height = len(next(iter(shares.values())))
        mass = {label: np.zeros(height) for label in self.labels}
        findings: list[Finding] = []
        for word, series in shares.items():
            label = meaning[word].label
            values = series.to_numpy()
            if label is not None:
                mass[label] += values
                continue
            rows = int((values > 0).sum())
            message = f"{values.sum():.6g} utterances' worth of soft labels is {word!r}, "
            if meaning[word].how == "outside":
                findings.append(finding("outside", f"{message}left outside by the map", where=where, count=rows))
            else:
                message += "which is not a label: left outside"
                findings.append(finding("mass_outside", message, fix=_fix(word), where=where, count=rows))
        findings += self._not_used(dict.fromkeys(shares, 1), "soft label names", where)
        return pl.DataFrame({f"p_{label}": values for label, values in mass.items()}), findings

    def _one_word_a_row(self, frame: pl.DataFrame, where: str) -> tuple[pl.DataFrame, list[Finding]]:
        many = pl.col("word").list.len().fill_null(0) > 1
        answers = frame.filter(many).height
        if not answers:
            return frame.with_columns(pl.col("word").list.first()), []
        named = f"{counted(answers, 'answer')} named several labels"
        if self.several == "first":
            rest = frame.filter(many)["word"].list.len().sum() - answers
            message = f"{named}, of which {rest} after the first left out"
            frame = frame.with_columns(pl.col("word").list.first())
            return frame, [finding("several_labels", message, where=where, count=answers)]
        if self.several == "share":
            message = f"{named}, which share a vote"
            shared = pl.col("weight") / pl.col("word").list.len().fill_null(1).clip(1)
            frame = frame.with_columns(weight=shared).explode("word")
        else:
            message = f"{named}, a vote each"
            frame = frame.drop("draw", strict=False).explode("word").drop("_answer").with_row_index("_answer")
        return frame, [finding("several_labels", message, where=where, count=answers)]

    def _labelled(self, frame: pl.DataFrame, meaning: dict[str, Meaning]) -> pl.DataFrame:
        labels = {word: became.label for word, became in meaning.items()}
        mapped = pl.col("word").replace_strict(labels, default=None, return_dtype=pl.String)
        frame = frame.with_columns(label=mapped)
        return frame.with_columns(stated=pl.when(pl.col("word").ne_missing(pl.col("label"))).then("word"))

    def _place(self) -> pl.Expr:
        order = {label: place for place, label in enumerate(self.labels)}
        return pl.col("label").replace_strict(order, default=len(order), return_dtype=pl.Int32)

    def _numbered(self, frame: pl.DataFrame, *, by_label: bool) -> pl.DataFrame:
        """Draw numbers where none are given: by content for a crowd, otherwise in the order of the file.

        A crowd's answers are in label order, then by words, ratings and secondary labels, so that the order of the rows
        decides nothing, such as which of its votes are held out.
        """
        rank = pl.col("_answer").rank("dense").over(_WHOSE).cast(pl.Int32) - 1
        # one row per answer, in the order of the file: ranks are places
        draw = pl.int_range(pl.len(), dtype=pl.Int32).over(_WHOSE) if by_label else rank
        crowd = pl.col("annotator").str.ends_with(CROWD)
        if frame.select(crowd.any()).item():
            said: list[str | pl.Expr] = [self._place(), "stated"]
            if not by_label:
                word = pl.concat_str(self._place().cast(pl.String).str.zfill(9), pl.col("stated").fill_null(""))
                frame = frame.with_columns(_said=word.sort().str.join(";").over("_answer"))
                said = ["_said"]
            rest = [pl.col("secondary").list.join(";")] if "secondary" in frame.columns else []
            frame = frame.sort(*_WHOSE, *said, *_there(frame), *rest, "_answer", nulls_last=True)
            draw = pl.when(crowd).then(pl.col("_answer").rle_id().cast(pl.Int32).over(_WHOSE)).otherwise(rank)
            frame = frame.drop("_said", strict=False)
        given = [pl.col("draw").cast(pl.Int32)] if "draw" in frame.columns else []
        return frame.with_columns(draw=pl.coalesce(*given, draw))

    def _not_used(self, spoken: Mapping[str, int], nobody: str, where: str) -> list[Finding]:
        """A finding for every key of the map that matches no word, with the nearest word."""
        if not self.mapping:
            return []
        used = set(covering(spoken, self.labels, self.mapping).values())
        words = sorted(spoken, key=lambda word: (-spoken[word], word))[:_NEAR]
        findings = []
        for key in (key for key in self.mapping if folded(key) not in used):
            listed = ", ".join(map(_short, words[:_SHOWN])) + (" ..." if len(words) > _SHOWN else "")
            fix = f"{did_you_mean(key, words)} The words are: {listed or 'none'}.".strip()
            findings.append(finding("map_not_used", f"the map names {key!r}, which no {nobody}", fix=fix, where=where))
        return findings

    def _secondary(self, frame: pl.DataFrame, where: str) -> tuple[pl.DataFrame, dict[str, int], list[Finding]]:
        named = frame.filter(pl.col("secondary").list.len() > 0)["secondary"].explode()
        meaning = self.meanings(named)
        spoken = dict(named.value_counts(name="n").drop_nulls("secondary").iter_rows())
        labels = {word: became.label for word, became in meaning.items()}
        each = pl.element().replace_strict(labels, default=None, return_dtype=pl.String)
        mapped = pl.col("secondary").list.eval(each).list.drop_nulls().list.unique(maintain_order=True)
        mapped = pl.when(mapped.list.len() > 0).then(mapped)
        return frame.with_columns(secondary=mapped), spoken, _word_findings(meaning, spoken, "secondary label", where)


def _status(frame: pl.DataFrame) -> pl.Expr:
    something = pl.any_horizontal(pl.col("label").is_not_null(), *(pl.col(a).is_not_null() for a in _there(frame)))
    status = pl.when(something).then(pl.lit("ok")).when(pl.col("word").is_not_null()).then(pl.lit("out_of_vocabulary"))
    derived = status.otherwise(pl.lit("unparsable"))
    if "status" not in frame.columns:
        return derived
    given = pl.col("status")
    return pl.when(given.is_not_null() & (given != "ok")).then(given).otherwise(derived)


def _there(frame: pl.DataFrame) -> list[str]:
    return [name for name in ATTRIBUTES if name in frame.columns]


def _one_row_a_label(frame: pl.DataFrame) -> pl.DataFrame:
    key = [*_WHOSE, "draw", "label"]
    if frame.select(key).is_unique().all():
        return frame
    rest = [pl.col(name).first() for name in frame.columns if name not in (*key, "weight", "stated")]
    stated = pl.col("stated").drop_nulls().unique(maintain_order=True).str.join("; ")
    merged = frame.group_by(key, maintain_order=True).agg(pl.col("weight").sum(), stated, *rest)
    return merged.with_columns(stated=pl.when(pl.col("stated") != "").then("stated")).select(frame.columns)


def _word_findings(meaning: dict[str, Meaning], spoken: Mapping[str, int], thing: str, where: str) -> list[Finding]:
    """A finding for every word that was mapped or lost, most frequent first; rare words and synonyms share one."""
    findings = _synonyms(meaning, spoken, thing, where)
    often = sorted(((spoken.get(word, 0), word) for word, became in meaning.items() if became.how != "same"))[::-1]
    tail = {word: count for count, word in often if meaning[word].how == "unknown"}
    for word in list(tail)[:_SHOWN]:
        del tail[word]
    for count, word in often:
        became = meaning[word]
        if became.how == "mapped":
            message = f"{counted(count, thing)} {word!r} became {became.label!r} by the map"
            findings.append(finding("mapped", message, where=where, count=count))
        elif became.how == "outside":
            message = f"{counted(count, thing)} {word!r} {'is' if count == 1 else 'are'} left outside by the map"
            findings.append(finding("outside", message, where=where, count=count))
        elif word not in tail:
            message = f"{_are(count, thing)} {_short(word)}, which is not a label"
            findings.append(finding("out_of_vocabulary", message, fix=_fix(word), where=where, count=count))
    if tail:
        count, first = sum(tail.values()), _short(next(iter(tail)))
        message = f"{_are(count, thing)} one of {len(tail)} further words that are not labels, such as {first}"
        findings.append(
            finding("out_of_vocabulary", message, fix="Map them, or leave them outside.", where=where, count=count)
        )
    return findings


def _synonyms(meaning: dict[str, Meaning], spoken: Mapping[str, int], thing: str, where: str) -> list[Finding]:
    """One finding for all words that were taken as the label they are a usual synonym of."""
    taken = [
        (spoken.get(word, 0), word, became.label)
        for word, became in meaning.items()
        if became.how == "same" and became.label is not None and folded(word) != folded(became.label)
    ]
    if not taken:
        return []
    taken.sort(key=lambda item: (-item[0], item[1]))
    count = sum(times for times, _, _ in taken)
    shown = ", ".join(f"{word!r} as {label!r} ({times})" for times, word, label in taken[:_SHOWN])
    message = f"{_are(count, thing)} a usual synonym of a label: {shown}" + (" ..." if len(taken) > _SHOWN else "")
    fix = f'If one means something else, map it: map = {{ "{taken[0][1]}" = "<label>" }} (--map), or "outside".'
    return [finding("synonyms", message, fix=fix, where=where, count=count)]


def _are(count: int, thing: str) -> str:
    return counted(count, f"{thing} is", f"{thing}s are")


def _short(word: str) -> str:
    return repr(word if len(word) <= 60 else word[:57] + "...")


def _fix(word: str) -> str:
    return f'Map it: map = {{ "{word[:60]}" = "<label>" }} (--map), or "outside".'
