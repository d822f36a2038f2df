"""MSP-Podcast: every worker's vote from labels_detailed.csv, .json or labels.txt of any release."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from alm_proxies.cards import Card
from alm_proxies.printable import counted
from alm_proxies.stages.read.answers import unlabelled
from alm_proxies.stages.read.corpus_files import (
    Unread,
    answered_again,
    consensus_of,
    listing,
    names_in,
    not_the_corpus,
    on_unit_scales,
    scales_in,
    text_lines,
    with_recordings,
)
from alm_proxies.stages.read.formats.msp_podcast import MspPodcastSource
from alm_proxies.stages.read.msp_podcast_labels import RATINGS, TEXT, answers_of, no_answers, published_in
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
_NO_AGREEMENT = "X"
_OF_CLIPS = ("speaker", "gender", "split")


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
    published = published_in(release.consensus) if release.consensus is not None else clips
    utterances, losses = _utterances(release, source, answers, published)
    where = source.corpus
    findings += [*losses, *_not_numbers(answers, where)]
    answered = _answered(answers, where, vocabulary)
    findings += [*unlabelled(answered, where), *answered_again(answered, where)]
    heard = pl.concat([answered, _agreed(published, where)], how="diagonal")
    heard, wrong = on_unit_scales(heard, card, where)
    votes, lost = vocabulary.votes(heard, where)
    votes = votes.with_columns(stated=pl.coalesce("free_text", "stated")).drop("free_text")
    no_majority = published.filter(_filled("code") == _NO_AGREEMENT).height
    if no_majority:
        message = f"{counted(no_majority, 'clip has', 'clips have')} no published consensus (X); the votes are read"
        findings.append(finding("no_majority", message, where=where, count=no_majority))
    voted = answered if answered.height else votes
    silent = utterances.filter(~pl.col("utterance_id").is_in(voted["utterance_id"].implode()))["utterance_id"]
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
    if release.detailed is not None:
        return answers_of(release.detailed)
    message = "has the published consensus only, and no votes of workers"
    fix = f"Put {' or '.join(_DETAILED)} beside it."
    return *no_answers(), [finding("no_votes", message, fix=fix, where=str(release.consensus))]


def _answered(answers: pl.DataFrame, corpus: str, vocabulary: Vocabulary) -> pl.DataFrame:
    """The workers' answers as Vocabulary.votes takes them."""
    secondary = pl.col("secondary").fill_null("").str.split(",").list.eval(pl.element().str.strip_chars())
    return answers.select(
        utterance_id=_own(pl.col("clip")),
        annotator=pl.lit(f"{corpus}/") + pl.col("worker").str.strip_chars(),
        source=pl.lit("human"),
        word=_folded(_filled("primary"), vocabulary),
        free_text=pl.when(_is_free(pl.col("primary"), vocabulary)).then(pl.col("primary").str.strip_chars()),
        secondary=secondary.list.eval(_folded(pl.element(), vocabulary)).list.eval(
            pl.element().filter(pl.element() != "")
        ),
        **_ratings(),
    ).with_columns(prefixed("utterance_id", corpus))


def _agreed(published: pl.DataFrame, corpus: str) -> pl.DataFrame:
    """The published consensus as votes of the annotator "consensus", which counts as a vote only if asked for."""
    agreed = published.filter(_filled("code") != _NO_AGREEMENT)
    return agreed.select(
        utterance_id=_own(pl.col("clip")),
        annotator=pl.lit(consensus_of(corpus)),
        source=pl.lit("human"),
        word=pl.col("code").str.strip_chars(),
        free_text=pl.lit(None, TEXT),
        **_ratings(),
    ).with_columns(prefixed("utterance_id", corpus))


def _filled(name: str) -> pl.Expr:
    """A column of text without outer spaces, null where it is empty."""
    stripped = pl.col(name).str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def _ratings() -> dict[str, pl.Expr]:
    """The ratings as numbers, null where they are none."""
    return {name: pl.col(name).str.strip_chars().cast(pl.Float64, strict=False).fill_nan(None) for name in RATINGS}


def _not_numbers(answers: pl.DataFrame, where: str) -> list[Finding]:
    """A finding for every attribute with ratings that are not numbers; they are left out."""
    findings = []
    for name, rating in _ratings().items():
        stated = _filled(name).str.to_lowercase() != "nan"
        odd = answers.filter(stated & rating.is_null())[name]
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
    known = _known(
        published.select(
            own=_own(pl.col("clip")),
            **{name: pl.col(name) if name in published.columns else pl.lit(None, TEXT) for name in _OF_CLIPS},
        )
    )
    own = [known.select("own"), answers.select(own=_own(pl.col("clip")))]
    findings: list[Finding] = []
    for name, fill in (("partitions.txt", _partitions), ("speaker_ids.txt", _speaker_ids)):
        if name in release.others:
            frame, losses = fill(release.others[name])
            own.append(frame.select("own"))
            known, others = _together(known, _known(frame), release.others[name])
            findings += [*losses, *others]
    frame = pl.concat(own).unique(maintain_order=True).join(known, on="own", how="left", maintain_order="left")
    frame = frame.with_columns(
        utterance_id=pl.col("own"),
        corpus=pl.lit(where),
        language=pl.lit("en"),
        speaker=pl.lit(f"{where}/") + pl.col("speaker"),
    ).with_columns(prefixed("utterance_id", where))
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


def _known(frame: pl.DataFrame) -> pl.DataFrame:
    """The speaker, gender and split of clips in our words, null where a file says that they are not known."""
    known: dict[str, pl.Expr] = {}
    if "speaker" in frame.columns:
        speaker = pl.col("speaker").str.strip_chars().str.replace(r"(?i)^speaker_", "")
        known["speaker"] = pl.when(~speaker.str.to_lowercase().is_in(["unknown", ""])).then(speaker)
    if "gender" in frame.columns:
        gender = pl.col("gender").str.strip_chars().str.to_lowercase()
        known["gender"] = pl.when(gender.is_in(["female", "male", "other"])).then(gender)
    if "split" in frame.columns:
        words = frame["split"].drop_nulls().unique().to_list()
        known["split"] = pl.col("split").replace({word: split_word(word.strip()) for word in words})
    return frame.with_columns(**known)


def _together(known: pl.DataFrame, frame: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """What is known of the clips, completed by a further file; clips of which it says something else are counted."""
    both = [name for name in _OF_CLIPS if name in frame.columns]
    joined = known.join(frame, on="own", how="full", coalesce=True, suffix="_other", maintain_order="left")
    findings = []
    for name in both:
        differs = joined.filter(pl.col(name) != pl.col(f"{name}_other"))["own"]
        words = (f"clip has another {name}", f"clips have another {name}")
        findings += listing("files_differ", differs, words, "than in the file of labels, which is taken", str(path))
    joined = joined.with_columns(pl.coalesce(name, f"{name}_other").alias(name) for name in both)
    return joined.drop(f"{name}_other" for name in both), findings


def _partitions(path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The splits of Partitions.txt, with lines such as "Train; MSP-PODCAST_0003_0038.wav"."""
    return _two(path, r"^\s*(?<split>\w+)\s*;\s*(?<clip>\S+)\s*$", "Train; MSP-PODCAST_0003_0038.wav")


def _speaker_ids(path: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The speakers of Speaker_ids.txt, which lists speakers with their gender, then clips with their speaker."""
    lines = pl.DataFrame({"line": text_lines(path)}, schema={"line": TEXT})
    people = lines.select(
        pl.col("line").str.extract_groups(r"^\s*[Ss]peaker_(?<speaker>\w+)\s*;\s*(?<gender>[A-Za-z]+)\s*$").alias("of")
    ).unnest("of")
    form = r"^\s*(?<clip>\S+\.\w+)\s*;\s*(?<speaker>\w+)\s*$"
    clips, findings = _two(path, form, "MSP-PODCAST_0023_0048.wav;128", also=r"^\s*[Ss]peaker_\w+\s*;")
    people = people.drop_nulls("speaker").unique("speaker", keep="first", maintain_order=True)
    return clips.join(people, on="speaker", how="left", maintain_order="left"), findings


def _two(path: Path, form: str, sample: str, also: str = r"^$") -> tuple[pl.DataFrame, list[Finding]]:
    """Pairs of a clip and a value from a file's lines; lines that match neither `form` nor `also` are counted."""
    lines = pl.DataFrame({"line": text_lines(path)}, schema={"line": TEXT}).with_row_index("row")
    lines = lines.with_columns(pl.col("line").str.extract_groups(form).alias("parts")).unnest("parts")
    read = pl.col("clip").is_not_null()
    odd = lines.filter(~read & (pl.col("line").str.strip_chars() != "") & ~pl.col("line").str.contains(also))
    unread = Unread()
    for row, line in odd.select("row", "line").iter_rows():
        unread.add(path, row + 1, line)
    pairs = (
        lines.filter(read)
        .with_columns(own=_own(pl.col("clip")))
        .drop("row", "line", "clip")
        .unique(maintain_order=True)
    )
    again = pairs.filter(~pl.col("own").is_first_distinct())["own"]
    findings = unread.findings(sample)
    findings += listing(
        "files_differ",
        again,
        ("line names", "lines name"),
        "a clip again, with another value; the first is taken",
        str(path),
    )
    return pairs.unique("own", keep="first", maintain_order=True), findings


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
    return frame.with_columns(transcript=pl.Series(texts, dtype=TEXT))
