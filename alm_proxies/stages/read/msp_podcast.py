"""MSP-Podcast: every worker's vote from labels_detailed.csv, .json or labels.txt of any release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.errors import TableError
from alm_proxies.printable import counted
from alm_proxies.stages.read.corpus_files import (
    Unread,
    consensus_of,
    json_content,
    listing,
    names_in,
    not_the_corpus,
    on_unit_scales,
    scales_in,
    text_lines,
    with_recordings,
)
from alm_proxies.stages.read.formats.msp_podcast import MspPodcastSource
from alm_proxies.stages.read.rows import read_rows
from alm_proxies.stages.read.sources import Part, finding, prefixed
from alm_proxies.stages.read.splits import split_word
from alm_proxies.stages.read.vocabulary import Vocabulary
from alm_proxies.tables import Finding
from alm_proxies.taxonomy import folded

_DETAILED = ("labels_detailed.csv", "labels_detailed.json", "labels.txt")
_PUBLISHED_FILES = ("labels_consensus.csv", "labels_concensus.csv", "labels_consensus.json", "labels_concensus.json")
_LABEL_FOLDERS = ("labels", "label")
_AUDIO_FOLDERS = ("audios", "audio")
_CONTAINERS = (".wav", ".flac")
_LOOKED_FOR = "Labels/labels_detailed.csv, Labels/labels_detailed.json or Labels/labels.txt"
# The primary emotion may be any free text: the pattern is anchored at the beginning and at the A: V: D: tail.
_WORKER = (
    r"^\s*(?<worker>WORKER\d+)\s*;\s*(?<primary>.+?)\s*;\s*(?<secondary>.*?)\s*;"
    r"\s*A:\s*(?<arousal>[0-9.]+)\s*;\s*V:\s*(?<valence>[0-9.]+)\s*;\s*D:\s*(?<dominance>[0-9.]+)\s*;?\s*$"
)
_CLIP = (
    r"^\s*(?<clip>[^;]+\.(?:wav|flac))\s*;\s*(?<code>[A-Z])\s*;"
    r"\s*A:\s*(?<arousal>[0-9.]+)\s*;\s*V:\s*(?<valence>[0-9.]+)\s*;\s*D:\s*(?<dominance>[0-9.]+)\s*;?\s*$"
)
_FORM = "WORKER00000007; Happy; Happy,Amused; A:5.000000; V:6.000000; D:4.000000;"
_RATINGS = {"arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
_NO_AGREEMENT = "X"
_TEXT = pl.String()
_ANSWERS = {"clip": _TEXT, "worker": _TEXT, "primary": _TEXT, "secondary": _TEXT, **dict.fromkeys(_RATINGS, _TEXT)}
_CLIPS = {"clip": _TEXT, "code": _TEXT, **dict.fromkeys((*_RATINGS, "speaker", "gender", "split"), _TEXT)}


@dataclass(slots=True)
class _Release:
    """The files of a release that are there."""

    root: Path
    detailed: Path | None = None
    consensus: Path | None = None
    others: dict[str, Path] = field(default_factory=dict)


def read_msp_podcast(source: MspPodcastSource, vocabulary: Vocabulary, card: Card) -> Part:
    """The clips of MSP-Podcast with every worker's vote and the published consensus."""
    release = _files(source.source)
    answers, clips, findings = _answers(release)
    published = _published(release.consensus) if release.consensus is not None else clips
    utterances, losses = _utterances(release, source, answers, published)
    where = source.corpus
    findings += [*losses, *_not_numbers(answers, where)]
    heard = pl.concat(
        [_answered(answers, source.corpus, vocabulary), _agreed(published, source.corpus)], how="diagonal"
    )
    heard, wrong = on_unit_scales(heard, card, where)
    votes, lost = vocabulary.votes(heard, where)
    votes = votes.with_columns(stated=pl.coalesce("free_text", "stated")).drop("free_text")
    no_majority = int((published["code"] == _NO_AGREEMENT).sum())
    if no_majority:
        message = f"{counted(no_majority, 'clip has', 'clips have')} no published consensus (X); the votes are read"
        findings.append(finding("no_majority", message, where=where, count=no_majority))
    silent = utterances.filter(~pl.col("utterance_id").is_in(votes["utterance_id"].implode()))["utterance_id"]
    rest = "no vote (the labels of some tests are withheld)"
    findings += listing("no_votes", silent.to_list(), ("clip has", "clips have"), rest, where)
    inputs = [path for path in (release.detailed, release.consensus, *release.others.values()) if path is not None]
    findings += [*wrong, *lost]
    return Part(utterances, votes, tuple(inputs), findings, root=release.root, scales=scales_in(heard, card))


def _files(source: Path) -> _Release:
    """The label files of a release, from its folder, its folder of labels, or a label file."""
    if source.is_file():
        folder, named = source.parent, source
        if source.name.lower() not in (*_DETAILED, *_PUBLISHED_FILES):
            raise not_the_corpus(source, "MSP-Podcast", _LOOKED_FOR)
    else:
        folder, named = source, None
        inner = [source / name for name in names_in(source) if name.lower() in _LABEL_FOLDERS]
        folder = inner[0] if inner else folder
    there = {name.lower(): folder / name for name in names_in(folder)}
    root = folder.parent if folder.name.lower() in _LABEL_FOLDERS else folder
    beside = {name.lower(): root / name for name in names_in(root)}
    release = _Release(root, _first(there, _DETAILED), _first(there, _PUBLISHED_FILES))
    if named is not None and named.name.lower() in _DETAILED:
        release.detailed = named
    if release.detailed is None and release.consensus is None:
        raise not_the_corpus(source, "MSP-Podcast", _LOOKED_FOR)
    for name in ("partitions.txt", "speaker_ids.txt"):
        path = beside.get(name, there.get(name))
        if path is not None:
            release.others[name] = path
    return release


def _first(there: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((there[name] for name in names if name in there), None)


def _answers(release: _Release) -> tuple[pl.DataFrame, pl.DataFrame, list[Finding]]:
    """Every worker's answer, the columns of each clip in the same file, and findings."""
    nothing = pl.DataFrame(schema=_CLIPS)
    path = release.detailed
    if path is None:
        message = "has the published consensus only, and no votes of workers"
        fix = f"Put {' or '.join(_DETAILED)} beside it."
        return (
            pl.DataFrame(schema=_ANSWERS),
            nothing,
            [finding("no_votes", message, fix=fix, where=str(release.consensus))],
        )
    if path.suffix.lower() == ".json":
        return _from_json(path), nothing, []
    if path.suffix.lower() == ".txt":
        return _from_text(path)
    answers, findings = _from_csv(path)
    return answers, nothing, findings


def _from_csv(path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """Answers from a CSV file with a row per worker: in columns (1.6, 2.0) or in one cell (1.7 to 1.12)."""
    named = {"primary": "EmoClass_Major", "secondary": "EmoClass_Second", **_RATINGS}
    rows = read_rows(path, ["FileName", "EmoDetail", "Workers", "WorkerID", *named.values()])
    rows.need("FileName")
    nameless = rows.frame["FileName"].is_null()
    rows.refuse(nameless, "FileName", "has no clip name", "Take the original file.")
    if "EmoDetail" in rows.columns:
        cells = rows.frame.select(clip="FileName", cell="EmoDetail")
        return _workers(cells, lambda row: rows.place(row, "EmoDetail"))
    worker = "WorkerID" if "WorkerID" in rows.columns else "Workers"
    rows.need(worker, *named.values())
    answers = rows.frame.select(clip="FileName", worker=worker, **named)
    anonymous = answers["worker"].is_null()
    rows.refuse(anonymous, worker, "has no worker name", "Take the original file.")
    return answers.cast(_ANSWERS), []  # type: ignore[arg-type]  # polars takes a schema by name


def _from_text(path: Path) -> tuple[pl.DataFrame, pl.DataFrame, list[Finding]]:
    """Answers from labels.txt: a line per clip, followed by a line per worker."""
    lines = pl.DataFrame({"line": text_lines(path)}, schema={"line": _TEXT}).with_row_index("row")
    lines = lines.with_columns(pl.col("line").str.extract_groups(_CLIP).alias("head")).unnest("head")
    header = pl.col("clip").is_not_null()
    clips = lines.filter(header).select("clip", "code", *_RATINGS)
    rest = lines.with_columns(pl.col("clip").forward_fill().alias("of")).filter(
        ~header & (pl.col("line").str.strip_chars() != "")
    )
    cells = rest.select(clip="of", cell=pl.when(pl.col("of").is_not_null()).then("line"))
    answers, findings = _workers(cells, lambda row: f"{path}, line {rest['row'][row] + 1}")
    if not clips.height:
        raise not_the_corpus(
            path, "MSP-Podcast", f"lines such as 'MSP-PODCAST_0001_0008.wav; H; A:5.0; V:5.5; D:4.5;' in {path}"
        )
    return answers, clips, findings


def _workers(cells: pl.DataFrame, place: Callable[[int], str]) -> tuple[pl.DataFrame, list[Finding]]:
    """Workers' answers from cells with a whole answer each; cells of another form are left out and counted."""
    answers = cells.with_row_index("row").with_columns(pl.col("cell").str.extract_groups(_WORKER).alias("parts"))
    answers = answers.unnest("parts")
    odd = answers.filter(pl.col("worker").is_null())
    findings = []
    if odd.height:
        text = str(odd["cell"][0] or "")[:60]
        were = counted(odd.height, "answer could not be read and was", "answers could not be read and were")
        message = f"{were} left out, the first is {text!r}"
        where = place(odd["row"][0])
        findings.append(finding("unread_lines", message, fix=f"One looks like: {_FORM}", where=where, count=odd.height))
    return answers.filter(pl.col("worker").is_not_null()).select(list(_ANSWERS)), findings


def _from_json(path: Path) -> pl.DataFrame:
    """Answers from JSON: {clip: {worker: answer}} (2.0), or {clip: {"Workers": [{"Name": ...}]}} (1.6, MSP-Face)."""
    columns: dict[str, list[str | None]] = {name: [] for name in _ANSWERS}
    for clip, workers in _json(path).items():
        listed = workers.get("Workers") if isinstance(workers, dict) else None
        if isinstance(listed, list):
            pairs = [(answer.get("Name"), answer) for answer in listed if isinstance(answer, dict)]
        elif isinstance(workers, dict):
            pairs = [(name, answer) for name, answer in workers.items() if isinstance(answer, dict)]
        else:
            raise _odd_json(path, clip)
        for name, answer in pairs:
            values = (clip, name, answer.get("EmoClass_Major"), answer.get("EmoClass_Second"))
            for column, value in zip(columns.values(), (*values, *map(answer.get, _RATINGS.values())), strict=True):
                column.append(None if value is None else str(value))
    return pl.DataFrame(columns, schema=_ANSWERS).filter(pl.col("worker").is_not_null())


def _json(path: Path) -> dict[str, Any]:
    content = json_content(path)
    if not isinstance(content, dict) or not content:
        raise TableError("is not an object with a key for each clip", where=str(path), fix="Take the original file.")
    return content


def _odd_json(path: Path, clip: str) -> TableError:
    return TableError(f"the entry {clip!r} is not an object", where=str(path), fix="Take the original file.")


def _published(path: Path) -> pl.DataFrame:
    """The consensus file: letter, attributes, speaker, gender and split of every clip."""
    named = {"code": "EmoClass", **_RATINGS, "speaker": "SpkrID", "gender": "Gender", "split": "Split_Set"}
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
    there = [pl.col(theirs).cast(_TEXT).alias(name) for name, theirs in named.items() if theirs in table.columns]
    consensus = table.frame.select(pl.col("FileName").alias("clip"), *there)
    repeated = ~consensus["clip"].is_first_distinct()
    table.refuse(repeated, "FileName", "occurs twice", "Keep one row per clip.")
    absent = [pl.lit(None, _TEXT).alias(name) for name in _CLIPS if name not in consensus.columns]
    return consensus.with_columns(absent).select(list(_CLIPS))


def _answered(answers: pl.DataFrame, corpus: str, vocabulary: Vocabulary) -> pl.DataFrame:
    """The workers' answers as Vocabulary.votes takes them."""
    secondary = pl.col("secondary").fill_null("").str.split(",").list.eval(pl.element().str.strip_chars())
    return answers.select(
        utterance_id=_own(pl.col("clip")),
        annotator=pl.lit(f"{corpus}/") + pl.col("worker").str.strip_chars(),
        source=pl.lit("human"),
        word=_folded(pl.col("primary").str.strip_chars(), vocabulary),
        free_text=pl.when(_is_free(pl.col("primary"), vocabulary)).then(pl.col("primary").str.strip_chars()),
        secondary=secondary.list.eval(_folded(pl.element(), vocabulary)).list.eval(
            pl.element().filter(pl.element() != "")
        ),
        **_ratings(),
    ).with_columns(prefixed("utterance_id", corpus))


def _agreed(published: pl.DataFrame, corpus: str) -> pl.DataFrame:
    """The published consensus as votes of the annotator "consensus", which counts as a vote only if asked for."""
    agreed = published.filter(pl.col("code").is_not_null() & (pl.col("code") != _NO_AGREEMENT))
    return agreed.select(
        utterance_id=_own(pl.col("clip")),
        annotator=pl.lit(consensus_of(corpus)),
        source=pl.lit("human"),
        word=pl.col("code").str.strip_chars(),
        free_text=pl.lit(None, _TEXT),
        **_ratings(),
    ).with_columns(prefixed("utterance_id", corpus))


def _ratings() -> dict[str, pl.Expr]:
    return {name: pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) for name in _RATINGS}


def _not_numbers(answers: pl.DataFrame, where: str) -> list[Finding]:
    """A finding for every attribute with ratings that are not numbers; they are left out."""
    findings = []
    for name, rating in _ratings().items():
        odd = answers.filter(pl.col(name).is_not_null() & rating.is_null())[name]
        words = (f"rating of {name} is not a number and was", f"ratings of {name} are not numbers and were")
        findings += listing("missing_number", odd.to_list(), words, "left out", where)
    return findings


def _own(clip: pl.Expr) -> pl.Expr:
    """A clip's own id: its file name without the suffix."""
    return clip.str.strip_chars().str.replace(r"(?i)\.(wav|flac)$", "")


def _is_free(word: pl.Expr, vocabulary: Vocabulary) -> pl.Expr:
    """Whether an answer is "Other" with the worker's own words, and the map does not name it."""
    mapped = sorted({folded(key) for key in vocabulary.mapping})
    lowered = word.str.strip_chars().str.to_lowercase()
    return lowered.str.contains(r"^other\W+\w") & ~lowered.is_in(mapped)


def _folded(word: pl.Expr, vocabulary: Vocabulary) -> pl.Expr:
    """The answer, with every "Other-..." as "Other": the worker's own words are kept in the column `stated`."""
    return pl.when(_is_free(word, vocabulary)).then(pl.lit("Other")).otherwise(word)


def _utterances(
    release: _Release, source: MspPodcastSource, answers: pl.DataFrame, published: pl.DataFrame
) -> tuple[pl.DataFrame, list[Finding]]:
    """Every clip that a label file, Partitions.txt or Speaker_ids.txt names."""
    where = source.corpus
    names = ["speaker", "gender", "split"]
    known = published.select(
        own=_own(pl.col("clip")),
        **{name: pl.col(name) if name in published.columns else pl.lit(None, _TEXT) for name in names},
    )
    own = [known.select("own"), answers.select(own=_own(pl.col("clip")))]
    findings: list[Finding] = []
    for name, fill in (("partitions.txt", _partitions), ("speaker_ids.txt", _speaker_ids)):
        if name in release.others:
            frame, losses = fill(release.others[name])
            findings += losses
            own.append(frame.select("own"))
            known = known.join(frame, on="own", how="full", coalesce=True, suffix="_other", maintain_order="left")
            both = [column for column in names if f"{column}_other" in known.columns]
            known = known.with_columns(pl.coalesce(column, f"{column}_other").alias(column) for column in both)
            known = known.drop(f"{column}_other" for column in both)
    frame = pl.concat(own).unique(maintain_order=True).join(known, on="own", how="left", maintain_order="left")
    splits = frame["split"].drop_nulls().unique().to_list()
    speaker = pl.col("speaker").str.strip_chars().str.replace(r"(?i)^speaker_", "")
    frame = frame.with_columns(
        utterance_id=pl.col("own"),
        corpus=pl.lit(where),
        language=pl.lit("en"),
        speaker=pl.when(~speaker.str.to_lowercase().is_in(["unknown", ""])).then(pl.lit(f"{where}/") + speaker),
        gender=pl.col("gender").str.strip_chars().str.to_lowercase(),
        split=pl.col("split").replace({word: split_word(word) for word in splits}),
    ).with_columns(
        prefixed("utterance_id", where),
        gender=pl.when(pl.col("gender").is_in(["female", "male", "other"])).then("gender"),
    )
    unknown = frame.filter(pl.col("speaker").is_null())["own"].to_list()
    fix = "Use the published split to keep speakers apart."
    findings += listing("unknown_speaker", unknown, ("clip has", "clips have"), "no known speaker", where, fix)
    if source.transcripts:
        frame = _with_transcripts(frame, release.root)
    there: dict[str, str] = {}
    for folder in (name for name in names_in(release.root) if name.lower() in _AUDIO_FOLDERS):
        there |= {name.rpartition(".")[0]: f"{folder}/{name}" for name in names_in(release.root / folder, _CONTAINERS)}
    frame, silent = with_recordings(frame, there, "Audios/<clip>.wav", where)
    return frame, [*findings, *silent]


def _partitions(path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The splits of Partitions.txt, with lines such as "Train; MSP-PODCAST_0003_0038.wav"."""
    return _two(path, r"^\s*(?<split>\w+)\s*;\s*(?<clip>\S+)\s*$", "Train; MSP-PODCAST_0003_0038.wav")


def _speaker_ids(path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The speakers of Speaker_ids.txt, which lists speakers with their gender, then clips with their speaker."""
    lines = pl.DataFrame({"line": text_lines(path)}, schema={"line": _TEXT})
    people = lines.select(
        pl.col("line").str.extract_groups(r"^\s*[Ss]peaker_(?<speaker>\w+)\s*;\s*(?<gender>[A-Za-z]+)\s*$").alias("of")
    ).unnest("of")
    form = r"^\s*(?<clip>\S+\.\w+)\s*;\s*(?<speaker>\w+)\s*$"
    clips, findings = _two(path, form, "MSP-PODCAST_0023_0048.wav;128", also=r"^\s*[Ss]peaker_\w+\s*;")
    people = people.drop_nulls("speaker").unique("speaker", keep="first", maintain_order=True)
    return clips.join(people, on="speaker", how="left", maintain_order="left"), findings


def _two(path: Path, form: str, sample: str, also: str = r"^$") -> tuple[pl.DataFrame, list[Finding]]:
    """Pairs of a clip and a value from a file's lines; lines that match neither `form` nor `also` are counted."""
    lines = pl.DataFrame({"line": text_lines(path)}, schema={"line": _TEXT}).with_row_index("row")
    lines = lines.with_columns(pl.col("line").str.extract_groups(form).alias("parts")).unnest("parts")
    read = pl.col("clip").is_not_null()
    odd = lines.filter(~read & (pl.col("line").str.strip_chars() != "") & ~pl.col("line").str.contains(also))
    unread = Unread()
    for row, line in odd.select("row", "line").iter_rows():
        unread.add(path, row + 1, line)
    pairs = lines.filter(read).with_columns(own=_own(pl.col("clip"))).drop("row", "line", "clip")
    return pairs.unique("own", keep="first", maintain_order=True), unread.findings(sample)


def _with_transcripts(frame: pl.DataFrame, root: Path) -> pl.DataFrame:
    """The utterances with the transcripts of Transcripts/<clip>.txt."""
    folders = [name for name in names_in(root) if name.lower() == "transcripts"]
    if not folders:
        return frame
    folder = root / folders[0]
    there = set(names_in(folder, [".txt"]))
    texts = [
        " ".join(text_lines(folder / f"{own}.txt")).strip() if f"{own}.txt" in there else None for own in frame["own"]
    ]
    return frame.with_columns(transcript=pl.Series(texts, dtype=_TEXT))
