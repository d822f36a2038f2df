"""The verbs of single stages, one function each: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from alm_proxies.cli.outcome import Common, Outcome, finished, refuse_overwriting, tell
from alm_proxies.errors import SettingsError
from alm_proxies.stages.fuse.stage import Method
from alm_proxies.tables import Labels, Utterances, Votes, combine

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
_COMMON = Common()


def simulate(
    *,
    output: Output,
    utterances: int = 300,
    seed: int = 0,
    speakers: int = 60,
    votes: tuple[int, int] = (3, 5),
    dense: int = 0,
    crowd: int = 0,
    common: Common = _COMMON,
) -> Outcome:
    """Synthesise a corpus of speech with listeners' votes and the true distributions.

    Parameters
    ----------
    output
        The folder to write: utterances.parquet votes.parquet truth.parquet wav/.
    utterances
        How many utterances.
    seed
        Another seed is another corpus of the same people.
    speakers
        How many people speak.
    votes
        Fewest and most votes an utterance gets.
    dense
        So many votes more for every utterance, held out, to score against.
    crowd
        0 answers as raters of acted speech do; any other number is another crowd hearing other speakers.
    """
    from alm_proxies.settings import settings_from_flags
    from alm_proxies.stages.simulate.stage import SimulateSettings
    from alm_proxies.stages.simulate.stage import simulate as work

    said = {
        "utterances": utterances, "seed": seed, "speakers": speakers, "votes": votes, "dense": dense, "crowd": crowd,
    }  # fmt: skip
    corpus = work(output, settings_from_flags(SimulateSettings, said, "simulate"), quiet=common.quiet)
    counts = {"utterances": len(corpus.utterances), "votes": len(corpus.votes)}
    return finished(f"{_counted(counts)} in {output}", counts, corpus.findings, output, common)


def read(
    format: str,  # noqa: A002
    source: Path,
    *,
    output: Output,
    corpus: str = "",
    taxonomy: str | None = None,
    modality: Literal["voice", "face", "audio-visual"] | None = None,
    map: list[str] | None = None,  # noqa: A002
    several_labels: Literal["each", "share", "first"] | None = None,
    split: str | None = None,
    hold_out: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    columns: list[str] | None = None,
    constants: list[str] | None = None,
    counts: list[str] | None = None,
    probabilities: list[str] | None = None,
    groups: list[str] | None = None,
    files: list[str] | None = None,
    scales: list[str] | None = None,
    encoding: str | None = None,
    cards: Path | None = None,
    seed: int = 0,
    common: Common = _COMMON,
) -> Outcome:
    """Read a corpus's own label files into utterances and votes.

    Parameters
    ----------
    format
        Which reader: crema_d, table.
    source
        The corpus's folder, or one of its label files.
    output
        The folder to write: utterances.parquet votes.parquet findings.parquet.
    corpus
        The prefix of its ids; the format's own name, if left out.
    taxonomy
        The labels wanted: a name such as msp8, or the labels in order: angry,happy,sad.
    modality
        What the raters judged, where a corpus has votes on several.
    map
        What becomes of a word: --map Excited=happy --map Other=outside.
        Usual synonyms (joy, happiness ...) need no entry; an entry for a label's own name is for its synonyms too.
    several_labels
        Several labels in one answer: a vote each, one vote shared among them, or the first alone.
    split
        A split by speaker: speakers:.7,.1,.2 (train, development, test) or folds:5.
    hold_out
        Human votes no fit may see: keep=3 and/or splits=test.
    columns
        Our column = theirs: --columns utterance_id=file --columns label=emotion.
    constants
        Our column = one value for every row: --constants annotator=gpt-4o.
    counts
        A wide table of votes: label = the column with its count; or the one column that holds all counts.
    probabilities
        Soft labels: label = the column with its share; or the one column that holds all shares.
    groups
        Columns of theirs to carry along as group columns.
    files
        If the source is a folder: file = the split its rows belong to, such as --files train.csv=train.
    scales
        Attribute = the ratings that stand for least and most: --scales valence=1:7; 5:1 is a scale turned round.
    encoding
        The text encoding of the label files.
    cards
        A folder with data cards of your own.
    seed
        What splits and held-out votes are drawn by.
    """
    from alm_proxies.settings import settings_from_flags
    from alm_proxies.stages.read.stage import ReadSettings, Source, hold_out_of
    from alm_proxies.stages.read.stage import read as work

    said = {
        "format": format,
        "source": source,
        "corpus": corpus or None,
        "modality": modality,
        "map": _pairs(map, "--map"),
        "several_labels": several_labels,
        "split": split,
        "columns": _pairs(columns, "--columns"),
        "constants": _pairs(constants, "--constants"),
        "counts": _pairs_or_one(counts, "--counts"),
        "probabilities": _pairs_or_one(probabilities, "--probabilities"),
        "groups": groups,
        "files": _pairs(files, "--files"),
        "scales": _scales(scales),
        "encoding": encoding,
    }
    refuse_overwriting((output / f"{name}.parquet" for name in ("utterances", "votes", "labels", "findings")), [source])
    block = settings_from_flags(Source, {key: value for key, value in said.items() if value is not None}, "read")
    kept = hold_out_of(" ".join(hold_out)) if hold_out else None
    settings = settings_from_flags(
        ReadSettings, {"taxonomy": taxonomy, "seed": seed, "hold_out": kept, "cards": cards}, "read"
    )
    found = work(block, settings)
    found.write(output)
    made = {"utterances": len(found.utterances), "votes": len(found.votes)}
    left, of = found.left_out, len(found.votes)
    return finished(f"{_counted(made)} in {output}", made, found.findings, output, common, left, of)


def fuse(
    votes: list[Path],
    *,
    output: Output,
    taxonomy: str | None = None,
    method: Method = "auto",
    utterances: Path | None = None,
    merge: tuple[float, float] | None = None,
    consensus: bool = False,
    column: list[str] | None = None,
    seed: int = 0,
    common: Common = _COMMON,
) -> Outcome:
    """Fuse human and proxy votes into label distributions.

    Parameters
    ----------
    votes
        One votes file or several: human votes, proxy votes.
    output
        The labels file to write.
    taxonomy
        The labels, where the files do not say: a name such as msp8, or angry,happy,sad.
    method
        auto chooses by left-out human votes.
    utterances
        Brings the speakers (folds never share one) and columns that may steer the gate.
    merge
        Shares of primary and secondary labels, such as .9 .1.
    consensus
        Count published consensus labels as votes.
    column
        A numeric column of the utterances that may steer the gate.
    seed
        Seed of folds, samples and starts.
    """
    from alm_proxies.settings import settings_from_flags
    from alm_proxies.stages.fuse.files import fuse_files
    from alm_proxies.stages.fuse.stage import FuseSettings
    from alm_proxies.table_files import refuse_other_suffix

    refuse_other_suffix(output)
    refuse_overwriting([output], [*votes, utterances])
    said: dict[str, Any] = {"method": method, "consensus": consensus, "columns": column or (), "seed": seed}
    if merge is not None:
        said["merge"] = {"primary": merge[0], "secondary": merge[1]}
    settings = settings_from_flags(FuseSettings, said, "fuse")
    fused = fuse_files(votes, output, settings, utterances=utterances, taxonomy=taxonomy, quiet=common.quiet)
    made = {"labels": fused.labels}
    return finished(f"{_counted(made)} by {fused.estimator.name} in {output}", made, fused.findings, output, common)


def align(
    labels: Path,
    *,
    votes: list[Path],
    utterances: Path,
    output: Output,
    json: Path | None = None,
    raters: Literal["crowd", "skilled", "expert"] = "crowd",
    examples: int = 12,
    transcripts: bool = False,
    audio: bool = False,
    may_leave: list[str] | None = None,
    cards: str | None = None,
    at_most: int = 20_000,
    seed: int = 0,
    quiet: bool = False,
    debug: bool = False,
) -> Outcome:
    """Report how well proxies and fused labels agree with human votes.

    Parameters
    ----------
    labels
        The labels file that fuse wrote.
    votes
        The votes files behind it, held-out human votes included.
    utterances
        Who speaks, and every group column to report by.
    output
        The page to write: one HTML file that needs no network.
    json
        Write every figure of the page into this file.
    raters
        Who the human raters are: how much worse than a rater the alt-test lets a proxy be.
    examples
        How many of the most disputed utterances are shown.
    transcripts
        Show their transcripts, where the corpus's card allows it.
    audio
        Put their recordings into the page, where the corpus's card allows it.
    may_leave
        A corpus whose card forbids it and that may be copied into the page all the same.
    cards
        A folder with data cards of your own.
    at_most
        More utterances than this are reported on by a random sample of them.
    seed
        Seed of samples and intervals.
    quiet
        No progress on stderr.
    debug
        Show the traceback of an error.
    """
    from alm_proxies.files import write_json
    from alm_proxies.settings import settings_from_flags
    from alm_proxies.stages.align.stage import AlignSettings
    from alm_proxies.stages.align.stage import align as work

    said: dict[str, Any] = {
        "raters": raters, "examples": examples, "transcripts": transcripts, "audio": audio,
        "may_leave": may_leave or (), "cards": cards, "at_most": at_most, "seed": seed,
    }  # fmt: skip
    refuse_overwriting([output, *([json] if json is not None else [])], [labels, *votes, utterances])
    report = work(
        Labels.read(labels),
        votes_of(votes, None),
        Utterances.read(utterances),
        settings_from_flags(AlignSettings, said, "align"),
    )
    report.page.write(output)
    if json is not None:
        write_json(json, report.metrics)
    tell(report.findings, quiet=quiet)
    return Outcome(str(output), {"output": str(output)})


def votes_of(paths: Sequence[Path], taxonomy: str | None) -> Votes:
    """One table of the votes in several files."""
    return combine(*(Votes.read(path, taxonomy=taxonomy) for path in paths))


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _pairs(said: Sequence[str] | None, option: str) -> dict[str, str] | None:
    if not said:
        return None
    pairs = {}
    for part in (piece for text in said for piece in text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"{option} {part!r} is not name=value", fix=f"Write {option} name=value.")
        if key.strip() in pairs:
            raise SettingsError(f"{option} names {key.strip()!r} twice", fix="Keep one of them.")
        pairs[key.strip()] = value.strip()
    return pairs


def _scales(said: Sequence[str] | None) -> dict[str, tuple[float, float]] | None:
    scales = {}
    for name, ends in (_pairs(said, "--scales") or {}).items():
        low, _, high = ends.partition(":")
        try:
            scales[name] = float(low), float(high)
        except ValueError:
            message = f"--scales {name}={ends} does not name the ratings that stand for least and most"
            raise SettingsError(message, fix=f"Write --scales {name}=1:7.") from None
    return scales or None


def _pairs_or_one(said: Sequence[str] | None, option: str) -> dict[str, str] | str | None:
    if said and len(said) == 1 and "=" not in said[0]:
        return said[0]
    return _pairs(said, option)
