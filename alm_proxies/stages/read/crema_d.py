"""CREMA-D: tabulatedVotes.csv (counts; raters not known) or finishedResponses.csv (one row per answer, with rater)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import InputError
from alm_proxies.files import could_not_read, open_file
from alm_proxies.printable import counted
from alm_proxies.stages.read.crema_d_recordings import NAMES, with_audio
from alm_proxies.stages.read.formats.crema_d import CremaDSource
from alm_proxies.stages.read.rows import Rows, read_rows
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import CROWD, Finding

TABULATED, RESPONSES, FIRST_CLICKS = "tabulatedVotes.csv", "finishedResponses.csv", "finishedEmoResponses.csv"
DEMOGRAPHICS = "VideoDemographics.csv"
MODALITIES = {"voice": "1", "face": "2", "audio-visual": "3"}
WORDS = {"A": "angry", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
INTENDED = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
_CLIP = rf"^(\d{{4}})_({'|'.join(SENTENCES)})_({'|'.join(INTENDED)})_(LO|MD|HI|XX)$"
Tables = tuple[pl.DataFrame, pl.DataFrame, list[Finding]]
_PRACTICE = ["7443", "7444"]
_SLOW = 10_000
_MOST = 100_000


def read_crema_d(source: CremaDSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The clips of CREMA-D and their votes on one modality."""
    labels = _label_file(source.source)
    root = labels.parent.parent if labels.parent.name == "processedResults" else labels.parent
    inputs = [labels]
    if labels.name == TABULATED:
        utterances, votes, findings = _tabulated(labels, source, vocabulary)
    else:
        utterances, votes, findings = _responses(labels, source, vocabulary)
        if (root / FIRST_CLICKS).is_file():
            inputs.append(root / FIRST_CLICKS)
    utterances = _described(utterances, source.corpus)
    utterances, silent = with_audio(utterances, root, source)
    utterances, people = _with_actors(utterances, root, source.corpus)
    if (root / DEMOGRAPHICS).is_file():
        inputs.append(root / DEMOGRAPHICS)
    return Part(utterances, votes, tuple(inputs), [*findings, *silent, *people], root=root)


def _label_file(source: Path) -> Path:
    if source.is_file():
        if source.name in (TABULATED, RESPONSES):
            return source
        fix = f"Name {TABULATED}, {RESPONSES} or the folder with one of them."
        raise InputError("is not a label file of CREMA-D", where=str(source), fix=fix)
    if not source.is_dir():
        raise could_not_read(source, FileNotFoundError())
    for path in (source / RESPONSES, source / TABULATED, source / "processedResults" / TABULATED):
        if path.is_file():
            return path
    fix = f"Name the folder of {TABULATED} or {RESPONSES}."
    raise InputError("has no label file of CREMA-D", where=str(source), fix=fix)


def _tabulated(path: Path, source: CremaDSource, vocabulary: Vocabulary) -> Tables:
    rows = _read(path, ["", *WORDS, "fileName"])
    number = rows.frame[""]
    known = number.str.contains(r"^[123]\d{5}$")
    rows.refuse(~known.fill_null(False), "", "is not 1, 2 or 3 and five digits", "Take the original file.")
    mine = number.str.starts_with(MODALITIES[source.modality])
    _refuse_clips(rows, mine)
    counts = rows.frame.select("fileName", *WORDS).with_columns(_whole(rows, letter, mine) for letter in WORDS)
    counts = counts.filter(mine)
    if not counts.height:
        raise InputError(f"has no votes on the {source.modality}", where=str(path), fix="Choose another modality.")
    repeated = mine & ~rows.frame.select(pl.struct("fileName", pl.col("").str.head(1)).is_first_distinct()).to_series()
    rows.refuse(repeated, "fileName", "has two rows of this modality", "Keep one of them.")
    utterances = counts.select(clip="fileName")
    long = counts.rename(WORDS).unpivot(index="fileName", variable_name="word", value_name="count")
    heard = long.select(
        pl.col("fileName").alias("utterance_id"),
        pl.lit(source.corpus + CROWD).alias("annotator"),
        pl.lit("human").alias("source"),
        "word",
        "count",
    ).with_columns(prefixed("utterance_id", source.corpus))
    votes, findings = vocabulary.tallied(heard, source.corpus)
    silent = int((counts.select(pl.sum_horizontal(list(WORDS))).to_series() == 0).sum())
    if silent:
        message = f"{counted(silent, 'clip has', 'clips have')} no vote"
        findings.append(finding("no_votes", message, where=str(path), count=silent))
    return utterances, votes, findings


def _whole(rows: Rows, letter: str, mine: pl.Series) -> pl.Series:
    counts = rows.frame[letter].str.strip_chars().cast(pl.Int64, strict=False)
    wrong = mine & (counts.is_null() | ~counts.is_between(0, _MOST).fill_null(False))
    rows.refuse(wrong, letter, "is not a number of votes", f"A whole number from 0 to {_MOST} is needed.")
    return counts


def _refuse_clips(rows: Rows, mine: pl.Series) -> None:
    clips = rows.frame["fileName"].str.contains(_CLIP).fill_null(False)
    message = "is not a clip name of CREMA-D, <actor>_<sentence>_<emotion>_<level>"
    rows.refuse(mine & ~clips, "fileName", message, "Take the original file.")


def _responses(path: Path, source: CremaDSource, vocabulary: Vocabulary) -> Tables:
    wanted = ["localid", "ans", "queryType", "clipNum", "questNum", "clipName", "sessionNums", "respEmo"]
    rows = _read(path, wanted)
    frame = rows.frame.with_row_index("row")
    kind = frame["queryType"].str.strip_chars()
    known = list(MODALITIES.values())
    rows.refuse(
        ~kind.is_in(known).fill_null(False),
        "queryType",
        "is not a modality",
        "Use 1 (voice), 2 (face) or 3 (both).",
    )
    frame = frame.filter(kind == MODALITIES[source.modality])
    where = str(path)
    findings: list[Finding] = []

    def left_out(kept: pl.Expr, kind: str, message: str) -> None:
        nonlocal frame
        before = frame.height
        frame = frame.filter(kept.fill_null(False))
        if before > frame.height:
            count = before - frame.height
            findings.append(finding(kind, f"{counted(count, 'answer')} left out: {message}", where=where, count=count))

    practice = pl.col("clipNum").str.strip_chars().is_in(_PRACTICE) | pl.col("clipName").str.contains("practice")
    left_out(~practice.fill_null(False), "practice", "they are on the practice clips")
    left_out(pl.col("clipName").str.contains(_CLIP), "not_a_clip", "their clipName is not a clip of CREMA-D")
    left_out(pl.col("localid").is_not_null(), "no_rater", "they have no rater")
    clicks = path.parent / FIRST_CLICKS
    if clicks.is_file():
        left_out(
            ~_asked().is_in(_slow(clicks).implode()).fill_null(False),
            "distracted",
            "the first click took over 10 seconds",
        )
    else:
        message = f"answers with a first click after more than 10 seconds are kept, because {FIRST_CLICKS} is missing"
        fix = f"Put {FIRST_CLICKS} beside it to get the same votes as in {TABULATED}."
        findings.append(finding("not_filtered", message, fix=fix, where=where))
    answer = pl.col("ans").str.strip_chars()
    letter = answer.str.extract(r"^([A-Z])(?:_.*)?$")
    spelled = answer.str.contains(r"^[A-Z]_\d+$").fill_null(False)
    frame = frame.with_columns(letter=pl.coalesce(letter, pl.col("respEmo")), whole=spelled)
    odd = frame.filter(~pl.col("whole") & pl.col("letter").is_in(list(WORDS))).height
    if odd:
        message = f"{counted(odd, 'answer has', 'answers have')} no level from 0 to 100; the emotion is still read"
        findings.append(finding("no_level", message, where=where, count=odd))
    # Of several answers of one rater on one clip, the first with a level is kept, else the first in the file.
    frame = frame.sort(~pl.col("whole"), "row")
    left_out(
        pl.struct("localid", "clipName").is_first_distinct(), "repeated", "their rater answered for this clip twice"
    )
    frame = frame.sort("row")
    heard = frame.select(
        pl.col("clipName").alias("utterance_id"),
        pl.col("localid").alias("annotator"),
        pl.lit("human").alias("source"),
        pl.coalesce(pl.col("letter").replace_strict(WORDS, default=None, return_dtype=pl.String), "ans").alias("word"),
    ).with_columns(prefixed("utterance_id", source.corpus), prefixed("annotator", source.corpus))
    if not heard.height:
        raise InputError(f"has no votes on the {source.modality}", where=where, fix="Choose another modality.")
    utterances = frame.select(clip="clipName").unique(maintain_order=True)
    votes, lost = vocabulary.votes(heard, source.corpus)
    return utterances, votes, findings + lost


def _asked() -> pl.Expr:
    return pl.concat_str("sessionNums", "queryType", "questNum", separator=" ")


def _slow(path: Path) -> pl.Series:
    rows = _read(path, ["sessionNums", "queryType", "questNum", "ttr"])
    time = rows.frame["ttr"].str.strip_chars().cast(pl.Float64, strict=False)
    return rows.frame.filter((time > _SLOW).fill_null(False)).select(_asked().alias("asked"))["asked"].drop_nulls()


def _read(path: Path, wanted: list[str]) -> Rows:
    with open_file(path) as stream:
        if stream.read(30).startswith(b"version https://git-lfs"):
            fix = "Run `git lfs pull` in the corpus's folder."
            raise InputError("is only a pointer to a file in Git LFS", where=f"{path}, line 1", fix=fix)
    rows = read_rows(path, wanted)
    rows.need(*wanted)
    named = [pl.col(name).replace(NAMES) for name in ("fileName", "clipName") if name in wanted]
    return replace(rows, frame=rows.frame.with_columns(named))


def _described(utterances: pl.DataFrame, corpus: str) -> pl.DataFrame:
    parts = {"actor": 1, "sentence": 2, "acted": 3}
    frame = utterances.with_columns(pl.col("clip").str.extract(_CLIP, n).alias(name) for name, n in parts.items())
    return frame.select(
        (pl.lit(f"{corpus}/") + pl.col("clip")).alias("utterance_id"),
        pl.lit(corpus).alias("corpus"),
        pl.col("clip").alias("own"),
        "actor",
        (pl.lit(f"{corpus}/") + pl.col("actor")).alias("speaker"),
        pl.lit("en").alias("language"),
        pl.col("sentence").replace_strict(SENTENCES).alias("transcript"),
        pl.col("acted").replace_strict(INTENDED).alias("intended"),
    )


def _with_actors(utterances: pl.DataFrame, root: Path, corpus: str) -> tuple[pl.DataFrame, list[Finding]]:
    path = root / DEMOGRAPHICS
    if not path.is_file():
        return utterances.drop("actor"), []
    rows = _read(path, ["ActorID", "Age", "Sex", "Race", "Ethnicity"])
    repeated = rows.frame["ActorID"].is_duplicated()
    rows.refuse(repeated, "ActorID", "occurs twice", "Keep one row per actor.")
    people = rows.frame.select(
        pl.col("ActorID").str.strip_chars().alias("actor"),
        pl.col("Sex").str.strip_chars().str.to_lowercase().alias("gender"),
        *(pl.col(name).alias(name.lower()) for name in ("Age", "Race", "Ethnicity")),
    )
    known = pl.col("gender").is_in(["female", "male", "other"])
    people = people.with_columns(gender=pl.when(known).then("gender"))
    described = utterances.join(people, on="actor", how="left", maintain_order="left").drop("actor")
    unknown = described["gender"].null_count()
    if not unknown:
        return described, []
    message = f"{counted(unknown, 'clip is', 'clips are')} of actors without a gender in {DEMOGRAPHICS}"
    return described, [finding("no_gender", message, where=corpus, count=unknown)]
