"""The label files of MSP-Podcast in the shapes of all releases: every worker's answer, and the published consensus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.errors import TableError
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import Unread, json_content, listing, not_the_corpus, text_lines
from alm_proxies.stages.read.rows import read_rows
from alm_proxies.stages.read.sources import finding
from alm_proxies.tables import Finding

RATINGS = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
TEXT = pl.String()
# The primary emotion may be any free text: the pattern is anchored at the beginning and at the A: V: D: tail.
_TAIL = (
    r"\s*A:\s*(?<arousal>[^;]*?)\s*;\s*V:\s*(?<valence>[^;]*?)\s*;\s*D:\s*(?<dominance>[^;]*?)\s*;?\s*$"
)  # fmt: skip
_WORKER = rf"^\s*(?<worker>WORKER\d+)\s*;\s*(?<primary>.*?)\s*;\s*(?<secondary>.*?)\s*;{_TAIL}"
_CLIP = r"^\s*(?<clip>[^;]+\.(?i:wav|flac))\s*;"
_OF_A_CLIP = r"^\s*MSP-PODCAST_"
_AGREED = rf"^[^;]+;\s*(?<code>[A-Z])\s*;{_TAIL}"
_FORM = "WORKER00000007; Happy; Happy,Amused; A:5.000000; V:6.000000; D:4.000000;"
_CLIP_FORM = "MSP-PODCAST_0001_0008.wav; H; A:5.0; V:5.5; D:4.5;"
_ANSWERS = {"clip": TEXT, "worker": TEXT, "primary": TEXT, "secondary": TEXT, **dict.fromkeys(RATINGS, TEXT)}
_CLIPS = {"clip": TEXT, "code": TEXT, **dict.fromkeys((*RATINGS, "speaker", "gender", "split"), TEXT)}
_ORIGINAL = "Take the original file."


def answers_of(path: Path) -> tuple[pl.DataFrame, pl.DataFrame, list[Finding]]:
    """Every worker's answer, the columns of each clip in the same file, and findings."""
    if path.suffix.lower() == ".txt":
        return _from_text(path)
    answers, findings = _from_json(path) if path.suffix.lower() == ".json" else _from_csv(path)
    return answers, pl.DataFrame(schema=_CLIPS), findings


def no_answers() -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables of answers and of clips of a release without a file of workers' answers."""
    return pl.DataFrame(schema=_ANSWERS), pl.DataFrame(schema=_CLIPS)


def _from_csv(path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """Answers from a CSV file with a row per worker: in columns (1.6, 2.0) or in one cell (1.7 to 1.12)."""
    named = {"primary": "EmoClass_Major", "secondary": "EmoClass_Second", **RATINGS}
    rows = read_rows(path, ["FileName", "EmoDetail", "Workers", "WorkerID", *named.values()])
    rows.need("FileName")
    nameless = rows.frame["FileName"].is_null()
    rows.refuse(nameless, "FileName", "has no clip name", _ORIGINAL)
    if "EmoDetail" in rows.columns:
        cells = rows.frame.select(clip="FileName", cell="EmoDetail")
        return _workers(cells, lambda row: rows.place(row, "EmoDetail"))
    worker = "WorkerID" if "WorkerID" in rows.columns else "Workers"
    rows.need(worker, *named.values())
    answers = rows.frame.select(clip="FileName", worker=worker, **named)
    anonymous = answers["worker"].is_null()
    rows.refuse(anonymous, worker, "has no worker name", _ORIGINAL)
    return answers.cast(_ANSWERS), []  # type: ignore[arg-type]  # polars takes a schema by name


def _from_text(path: Path) -> tuple[pl.DataFrame, pl.DataFrame, list[Finding]]:
    """Answers from labels.txt: a line per clip, followed by a line per worker.

    A line that begins with a clip's name begins its answers, whatever follows the name: they are of no clip before it,
    and of none at all where the name is cut.
    """
    lines = pl.DataFrame({"line": text_lines(path)}, schema={"line": TEXT}).with_row_index("row")
    lines = lines.with_columns(pl.col("line").str.extract_groups(_CLIP).alias("head")).unnest("head")
    header = pl.col("clip").is_not_null()
    clips = lines.filter(header).with_columns(pl.col("line").str.extract_groups(_AGREED).alias("agreed"))
    clips = clips.unnest("agreed")
    if not clips["code"].count():
        raise not_the_corpus(path, "MSP-Podcast", f"lines such as {_CLIP_FORM!r} in {path}")
    _refuse_twice(path, clips)
    unread = Unread()
    for row, line in clips.filter(pl.col("code").is_null()).select("row", "line").iter_rows():
        unread.add(path, row + 1, line)
    cut = pl.when(~header & pl.col("line").str.contains(_OF_A_CLIP)).then(pl.lit(""))
    lines = lines.with_columns(of=pl.coalesce("clip", cut).forward_fill().fill_null(""))
    rest = lines.filter(~header & (pl.col("line").str.strip_chars() != ""))
    cells = rest.select(clip=pl.when(pl.col("of") != "").then("of"), cell="line")
    answers, findings = _workers(cells, lambda row: f"{path}, line {rest['row'][row] + 1}")
    return answers, clips.select("clip", "code", *RATINGS), [*unread.findings(_CLIP_FORM), *findings]


def _refuse_twice(path: Path, clips: pl.DataFrame) -> None:
    """Raise TableError if two lines name one clip."""
    own = clips.select("row", clip=pl.col("clip").str.replace(r"\.[^.]*$", ""))
    for row, clip in own.filter(~pl.col("clip").is_first_distinct()).iter_rows():
        first = own.filter(pl.col("clip") == clip)["row"][0]
        fix = "Keep one of the two, with the answers below it."
        raise TableError(f"{clip} occurs twice, first in line {first + 1}", where=f"{path}, line {row + 1}", fix=fix)


def _workers(cells: pl.DataFrame, place: Callable[[int], str]) -> tuple[pl.DataFrame, list[Finding]]:
    """Workers' answers from cells with a whole answer each; others, and those of no clip, are left out, counted."""
    answers = cells.with_row_index("row").with_columns(pl.col("cell").str.extract_groups(_WORKER).alias("parts"))
    answers = answers.unnest("parts")
    read = pl.col("worker").is_not_null() & pl.col("clip").is_not_null()
    odd = answers.filter(~read)
    findings = []
    if odd.height:
        text = str(odd["cell"][0] or "")[:60]
        were = counted(odd.height, "answer could not be read and was", "answers could not be read and were")
        message = f"{were} left out, the first is {text!r}"
        where = place(odd["row"][0])
        findings.append(finding("unread_lines", message, fix=f"One looks like: {_FORM}", where=where, count=odd.height))
    return answers.filter(read).select(list(_ANSWERS)), findings


def _from_json(path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """Answers from JSON: {clip: {worker: answer}} (2.0), or {clip: {"Workers": [{"Name": ...}]}} (1.6, MSP-Face)."""
    columns: dict[str, list[str | None]] = {name: [] for name in _ANSWERS}
    odd = []
    for clip, workers in _json(path).items():
        listed = workers.get("Workers") if isinstance(workers, dict) else None
        if isinstance(listed, list):
            pairs = [(answer.get("Name") if isinstance(answer, dict) else None, answer) for answer in listed]
        elif isinstance(workers, dict):
            pairs = list(workers.items())
        else:
            raise _odd_json(path, clip)
        for name, answer in pairs:
            if not isinstance(answer, dict):
                odd.append(clip)
                continue
            values = (clip, name, answer.get("EmoClass_Major"), answer.get("EmoClass_Second"))
            for column, value in zip(columns.values(), (*values, *map(answer.get, RATINGS.values())), strict=True):
                column.append(None if value is None else str(value))
    answers = pl.DataFrame(columns, schema=_ANSWERS)
    nameless = answers.filter(pl.col("worker").is_null())["clip"]
    are, were = ("answer", "answers"), "without a worker's name left out, of"
    findings = listing("no_rater", nameless, are, were, str(path))
    not_read = ("answer is no object and was", "answers are no objects and were")
    findings += listing("unread_lines", odd, not_read, "left out, of", str(path))
    return answers.filter(pl.col("worker").is_not_null()), findings


def _json(path: Path) -> dict[str, Any]:
    content = json_content(path)
    if not isinstance(content, dict) or not content:
        raise TableError("is not an object with a key for each clip", where=str(path), fix=_ORIGINAL)
    return content


def _odd_json(path: Path, clip: str) -> TableError:
    return TableError(f"the entry {clip!r} is not an object", where=str(path), fix=_ORIGINAL)


def published_in(path: Path) -> pl.DataFrame:
    """The consensus file: letter, attributes, speaker, gender and split of every clip."""
    named = {"code": "EmoClass", **RATINGS, "speaker": "SpkrID", "gender": "Gender", "split": "Split_Set"}
    if path.suffix.lower() == ".json":
        rows: dict[str, list[str | None]] = {name: [] for name in _CLIPS}
        for clip, entry in _json(path).items():
            entry = entry[0] if isinstance(entry, list) and entry else entry
            if not isinstance(entry, dict):
                raise _odd_json(path, clip)
            rows["clip"].append(clip)
            for name, theirs in named.items():
                value = entry.get(theirs, entry.get("EmoClass_Major") if name == "code" else None)
                rows[name].append(None if value is None else str(value))
        return pl.DataFrame(rows, schema=_CLIPS)
    table = read_rows(path, ["FileName", *named.values()])
    table.need("FileName", "EmoClass")
    there = [pl.col(theirs).cast(TEXT).alias(name) for name, theirs in named.items() if theirs in table.columns]
    consensus = table.frame.select(pl.col("FileName").alias("clip"), *there)
    repeated = ~consensus["clip"].is_first_distinct()
    table.refuse(repeated, "FileName", "occurs twice", "Keep one row per clip.")
    absent = [pl.lit(None, TEXT).alias(name) for name in _CLIPS if name not in consensus.columns]
    return consensus.with_columns(absent).select(list(_CLIPS))
