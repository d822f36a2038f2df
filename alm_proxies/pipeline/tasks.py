"""The tasks a run stands for: which files and settings each stage depends on, and the call that does it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from alm_proxies.cards import card_of
from alm_proxies.files import could_not_read, digest_file, digest_of, whole, write_json
from alm_proxies.pipeline.file import PipelineFile, Run, path_in
from alm_proxies.pipeline.task import Done, Task
from alm_proxies.stages.align.stage import AlignSettings, align
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate, read_panel
from alm_proxies.stages.fuse.files import fuse_files
from alm_proxies.stages.fuse.stage import FuseSettings
from alm_proxies.stages.read.hold_out import hold_out
from alm_proxies.stages.read.stage import ReadSettings, Source, read
from alm_proxies.stages.simulate.stage import SimulateSettings, simulate
from alm_proxies.tables import Findings, Labels, Utterances, Votes, combine

_HASHED_WHOLE = 64 * 2**20
S = TypeVar("S", bound=BaseModel)
C = TypeVar("C", AnnotateSettings, AlignSettings)


def tasks_of(one: Run, beside: Path, *, quiet: bool = False) -> Iterator[Task]:
    """The tasks of one run in order; ask for the next when the last is done, since it depends on what that wrote."""
    file = one.file
    if file.simulate is not None:
        yield _simulate(one, seeded(file.simulate, file.seed), quiet)
    yield _read(one, beside)
    votes = [one.place("read") / "votes.parquet"]
    if file.annotate is not None:
        yield _annotate(one, seeded(file.annotate, file.seed), beside, quiet)
        votes.append(one.place("annotate") / "votes.parquet")
    if file.fuse is not None:
        yield _fuse(one, seeded(file.fuse, file.seed), votes, quiet)
    if file.align is not None:
        yield _align(one, seeded(file.align, file.seed), votes, beside)


def seeded(settings: S, seed: int) -> S:
    """Settings with the file's seed, where they have one and do not name their own."""
    if "seed" in type(settings).model_fields and "seed" not in settings.model_fields_set:
        return settings.model_copy(update={"seed": seed})
    return settings


def sources_of(file: PipelineFile, beside: Path) -> list[Source]:
    """The corpora of a file, their paths made relative to its folder."""
    return [
        source.model_copy(update={"source": path_in(beside, source.source, f"[[read]] {source.corpus}")})
        for source in file.read
    ]


def settings_of_read(file: PipelineFile, beside: Path) -> ReadSettings:
    """What a file says to the readers; cards beside it come before the shipped ones."""
    return ReadSettings(taxonomy=file.taxonomy, seed=file.seed, cards=beside)


def with_cards(settings: C, corpora: Iterable[str], beside: Path) -> C:
    """Settings with the folder of the user's own cards: the one they name, else the file's, if any card lies there."""
    if settings.cards is not None:
        folder: Path | None = path_in(beside, Path(settings.cards), "cards")
    else:
        folder = beside if any((beside / f"{corpus}.md").is_file() for corpus in corpora) else None
    return settings.model_copy(update={"cards": str(folder) if folder is not None else None})


def _simulate(one: Run, settings: SimulateSettings, quiet: bool) -> Task:
    def work(folder: Path) -> Done:
        corpus = simulate(folder, settings, quiet=quiet)
        return Done(corpus.findings, {"utterances": len(corpus.utterances), "votes": len(corpus.votes)})

    outputs = ("utterances.parquet", "votes.parquet", "truth.parquet")
    return Task("simulate", one.place("simulate"), _said(settings), {}, outputs, work)


def _read(one: Run, beside: Path) -> Task:
    file = one.file
    sources, settings = sources_of(file, beside), settings_of_read(file, beside)
    made = one.place("simulate") if file.simulate is not None else None

    def work(folder: Path) -> Done:
        parts = [read(sources, settings)] if sources else []
        lost = sum(part.left_out for part in parts)
        utterances = [part.utterances for part in parts]
        votes = [part.votes for part in parts]
        findings = [part.findings for part in parts]
        if made is not None:
            utterances.append(Utterances.read(made / "utterances.parquet"))
            votes.append(Votes.read(made / "votes.parquet", taxonomy=file.taxonomy))
        all_utterances, all_votes = combine(*utterances), combine(*votes)
        if file.hold_out is not None:
            all_votes, told = hold_out(all_votes, all_utterances, file.hold_out, file.seed)
            findings.append(Findings.gather(told))
        all_utterances.write(folder / "utterances.parquet")
        all_votes.write(folder / "votes.parquet")
        counts = {"utterances": len(all_utterances), "votes": len(all_votes), "left_out": lost}
        return Done(combine(*findings) if findings else Findings.gather([]), counts)

    written = [f"{source.corpus or source.format} {source.source}" for source in file.read]
    inputs = {name: _state(source.source) for name, source in zip(written, sources, strict=True)}
    inputs |= _cards((name for source in sources for name in (source.corpus, source.format) if name), beside)
    if made is not None:
        inputs |= _digests(made, "utterances.parquet", "votes.parquet")
    said = {"sources": [_said(source) for source in file.read], "hold_out": _said(file.hold_out), **_said(settings)}
    del said["cards"]
    return Task("read", one.place("read"), said, inputs, ("utterances.parquet", "votes.parquet"), work)


def _annotate(one: Run, settings: AnnotateSettings, beside: Path, quiet: bool) -> Task:
    corpus = one.place("read")

    def work(folder: Path) -> Done:
        votes = Votes.read(corpus / "votes.parquet")
        utterances = Utterances.read(corpus / "utterances.parquet", taxonomy=votes.taxonomy)
        own = with_cards(settings, utterances.frame["corpus"].unique(), beside)
        made = annotate(utterances, read_panel(settings, beside), folder, own, votes=votes, quiet=quiet)
        if made.interrupted:
            raise KeyboardInterrupt
        draws = made.votes.frame.select("utterance_id", "annotator", "draw", "status").unique()
        without = int((draws["status"] != "ok").sum())
        counts = {"planned": made.spent.planned, "cast": made.spent.cast, "price": made.spent.price}
        counts |= {"votes": draws.height, "left_out": without}
        return Done(made.findings, counts, complete=made.complete)

    panel = {annotator.name: annotator.ready(one.labels).digest for annotator in read_panel(settings, beside)}
    inputs = {**_digests(corpus, "utterances.parquet", "votes.parquet"), "audio": _audio_state(corpus)}
    said = {**_said(settings), "panel": panel, "files": list(settings.panel)}
    return Task("annotate", one.place("annotate"), said, inputs, ("votes.parquet",), work)


def _fuse(one: Run, settings: FuseSettings, votes: list[Path], quiet: bool) -> Task:
    utterances = one.place("read") / "utterances.parquet"

    def work(folder: Path) -> Done:
        fused = fuse_files(votes, folder / "labels.parquet", settings, utterances=utterances, quiet=quiet)
        with whole(folder / "trials.parquet") as temporary:
            fused.trials.write_parquet(temporary)
        return Done(fused.findings, {"labels": fused.labels})

    inputs = {_name(path): digest_file(path) for path in (*votes, utterances)}
    return Task("fuse", one.place("fuse"), _said(settings), inputs, ("labels.parquet", "trials.parquet"), work)


def _align(one: Run, settings: AlignSettings, votes: list[Path], beside: Path) -> Task:
    labels, utterances = one.place("fuse") / "labels.parquet", one.place("read") / "utterances.parquet"
    corpora = sorted(Utterances.read(utterances).frame["corpus"].unique())
    own = with_cards(settings, corpora, beside)

    def work(folder: Path) -> Done:
        table = combine(*(Votes.read(path) for path in votes))
        report = align(Labels.read(labels), table, Utterances.read(utterances), own)
        report.page.write(folder / "report.html")
        write_json(folder / "metrics.json", report.metrics)
        return Done(report.findings)

    inputs = {_name(path): digest_file(path) for path in (labels, *votes, utterances)}
    inputs |= _cards(corpora, own.cards)
    return Task("align", one.place("align"), _said(settings), inputs, ("report.html", "metrics.json"), work)


def _audio_state(corpus: Path) -> str:
    """Changes when a recording does: by path, size and time."""
    utterances = Utterances.read(corpus / "utterances.parquet")
    roots = utterances.about.roots
    pairs = utterances.frame.select("corpus", "audio").drop_nulls().unique().sort("corpus", "audio").iter_rows()
    paths = (Path(roots.get(name, "")) / audio for name, audio in pairs)
    stats = ((path, path.stat()) for path in paths if path.is_file())
    return digest_of([[_spelled(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats])


def _cards(corpora: Iterable[str], folder: str | Path | None) -> dict[str, str]:
    """The cards of corpora that have one: a changed card changes what is read and what may be shown."""
    cards = {corpus: card_of(corpus, folder).path for corpus in corpora}
    return {f"card {corpus}": digest_file(path) for corpus, path in cards.items() if path is not None}


def _spelled(path: Path) -> str:
    """A path as text, also where its bytes are none."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _said(settings: BaseModel | None) -> Any:
    return settings.model_dump(mode="json") if settings is not None else None


def _digests(folder: Path, *names: str) -> dict[str, str]:
    return {f"{folder.name}/{name}": digest_file(folder / name) for name in names}


def _state(source: Path) -> str:
    """Changes when a source's files do: by content for a file, by names, sizes and times for a folder."""
    try:
        if source.is_file() and source.stat().st_size <= _HASHED_WHOLE:
            return digest_file(source)
        source.stat()
        files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        stats = [(path, path.stat()) for path in files]
    except OSError as error:
        raise could_not_read(error.filename or source, error) from error
    return digest_of([[_spelled(path.relative_to(source)), stat.st_size, stat.st_mtime_ns] for path, stat in stats])
