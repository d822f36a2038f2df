"""Acoustic features of an utterance, the list of them, a cache by content, and features relative to the speaker.

A constant offset of the recording is subtracted first: the mean of all but digital silence, which has none. Groups:
`spectral` equals librosa's quantities (mean and deviation over frames of 2048 samples every 512, at 16 kHz); `prosody`
and `voice` are defined in prosody.py. A feature that cannot be measured is null, with a finding, never zero.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.audio.clip import Clip, Opened, decode_ahead
from alm_proxies.audio.store import Store
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import canonical_json, digest_of
from alm_proxies.nearest import known_names
from alm_proxies.tables import Finding

RATE = 16_000
SHORTEST = 0.1
"""The shortest clip for any feature, in seconds."""
GROUPS = ("spectral", "prosody", "voice")

VERSION = 4
"""The version of the definitions: kept features of another version are measured again."""
_SILENT = 1e-6
"""The loudest sample of digital silence: a thirtieth of a step of 16 bits, for what resampling leaves of zeros."""
_SILENCE = RATE // 100
"""The shortest digital silence, in samples."""
_SHRINK = 5.0  # weight, in clips, of the corpus in a speaker's norm

T = TypeVar("T")
Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature's column, unit, group and meaning; the features of one part are measured together, or fail together."""

    name: str
    unit: str
    group: str
    part: str
    meaning: str


def _listed() -> tuple[Feature, ...]:
    over = (
        [(f"mfcc_{n:02d}", "", f"mel-frequency cepstral coefficient {n}") for n in range(1, 14)]
        + [(f"chroma_{n:02d}", "0..1", f"share of pitch class {n} of 12, C first") for n in range(1, 13)]
        + [(f"contrast_{n}", "dB", f"peak over valley in octave band {n} of 7") for n in range(1, 8)]
        + [
            ("zcr", "per sample", "zero crossings"),
            ("rolloff", "Hz", "frequency below which 85 % of the magnitude lies"),
            ("centroid", "Hz", "centre of the magnitude spectrum"),
            ("rms", "of full scale", "root mean square"),
        ]
    )
    spectral = [
        Feature(f"{name}_{end}", unit, "spectral", "spectral", f"{meaning}, {how} over frames")
        for name, unit, meaning in over
        for end, how in (("mean", "mean"), ("sd", "standard deviation"))
    ]
    prosodic = {
        ("prosody", "pitch"): [
            ("pitch_level", "semitones above 100 Hz", "median pitch"),
            ("pitch_sd", "semitones", "standard deviation of the pitch"),
            ("pitch_range", "semitones", "95th less 5th percentile of the pitch"),
            ("pitch_slope", "semitones per s", "straight line through the pitch"),
            ("pitch_arch", "semitones", "mean pitch of the middle half less that of both ends"),
            ("pitch_end", "semitones", "mean pitch of the last fifth less the median"),
            ("pitch_movement", "semitones per s", "mean absolute change of pitch from frame to frame"),
            ("voiced_share", "0..1", "voiced part of what is speech"),
        ],
        ("prosody", "energy"): [
            ("energy_level", "dB of full scale", "level of what is speech"),
            ("energy_sd", "dB", "standard deviation of the level"),
            ("energy_range", "dB", "95th less 5th percentile of the level"),
            ("energy_slope", "dB per s", "straight line through the level"),
        ],
        ("prosody", "rhythm"): [
            ("speaking_rate", "per s", "syllable nuclei from the first to the last sound"),
            ("articulation_rate", "per s", "syllable nuclei, pauses left out"),
            ("pause_share", "0..1", "pauses (silences of 150 ms and more inside) of the whole"),
            ("pause_rate", "per s", "number of pauses"),
            ("pause_longest", "s", "longest pause, 0 where there is none"),
        ],
        ("prosody", "balance"): [
            ("spectral_tilt", "dB per octave", "straight line through thirds of an octave, 100 Hz to 5 kHz, voiced"),
            ("alpha_ratio", "dB", "1 to 5 kHz over 50 Hz to 1 kHz, voiced"),
            ("hammarberg", "dB", "strongest below 2 kHz over strongest from 2 to 5 kHz, voiced"),
        ],
        ("voice", "voice"): [("harmonicity", "dB", "harmonics-to-noise ratio, voiced")],
        ("voice", "cycles"): [
            ("jitter", "%", "difference in length of neighbouring glottal cycles, marked at peaks of the wave"),
            ("shimmer", "%", "difference in height of neighbouring glottal cycles, marked at peaks of the wave"),
        ],
    }
    return (
        *spectral,
        *(Feature(n, u, group, part, m) for (group, part), listed in prosodic.items() for n, u, m in listed),
    )


FEATURES = _listed()


@dataclass(frozen=True, slots=True)
class Failure:
    """Features of a clip without a value, and the reason."""

    kind: str
    why: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """The features of one clip; those without a value are None and listed in `failures`."""

    values: Values
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Features:
    """One row per utterance, in the given order: utterance_id and the features; and findings."""

    frame: pl.DataFrame
    findings: tuple[Finding, ...]


def names_of(groups: Sequence[str] = GROUPS) -> tuple[str, ...]:
    """The columns of these groups of features, in the order of FEATURES."""
    for group in groups:
        if group not in GROUPS:
            fix = known_names(group, GROUPS)
            raise SettingsError(f"there is no group of features {group!r}", fix=fix)
    return tuple(feature.name for feature in FEATURES if feature.group in groups)


def measure(clip: Clip, groups: Sequence[str] = GROUPS) -> Measured:
    """The features of one clip at 16 kHz."""
    if clip.rate != RATE:
        raise InputError(f"features are measured at {RATE} Hz, not at {clip.rate} Hz", fix=f"Open it at {RATE} Hz.")
    names = names_of(groups)
    if clip.duration < SHORTEST:
        why = f"{clip.duration:.3f} s of audio, features need {SHORTEST} s"
        return Measured(dict.fromkeys(names), (Failure("too_short", why, names),))
    samples = _without_offset(clip.samples)
    features: dict[str, float] = {}
    failures: list[Failure] = []
    if "spectral" in groups:
        features |= _spectral(samples)
    if "prosody" in groups or "voice" in groups:
        prosodic, failures = _prosodic(samples, names)
        features |= prosodic
    values: Values = {name: features[name] if np.isfinite(features.get(name, np.nan)) else None for name in names}
    undefined = tuple(name for name in features if values.get(name, 0.0) is None)
    if undefined:
        failures.append(Failure("undefined", "the clip has too little material for them", undefined))
    return Measured(values, tuple(failures))


def _without_offset(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples less the mean of the recorded ones; digital silence, such as an end that was added, is 0."""
    quiet = np.flatnonzero(np.abs(samples) <= _SILENT)
    starts, stops = quiet[np.diff(quiet, prepend=-2) > 1], quiet[np.diff(quiet, append=len(samples) + 1) > 1] + 1
    silences = stops - starts >= _SILENCE
    recorded = np.ones(len(samples), dtype=np.bool_)
    for start, stop in zip(starts[silences], stops[silences], strict=True):
        recorded[start:stop] = False
    moved = np.where(recorded, samples, np.float32(0.0))
    if np.count_nonzero(recorded) >= SHORTEST * RATE:  # the mean of less, such as a click, is sound
        moved[recorded] = samples[recorded] - samples[recorded].mean(dtype=np.float64).astype(np.float32)
    return moved


def measure_all(
    items: Iterable[T],
    open_one: Callable[[T], Opened],
    *,
    stage: str,
    groups: Sequence[str] = GROUPS,
    kept_as: Callable[[T], str | None] | None = None,
    cache: Path | None = None,
    threads: int = 2,
) -> Features:
    """The features of every item's clip, in order; an item that cannot be opened gets a row of nulls and its findings.

    A clip with samples measured before, from whatever file, is not measured again: `kept_as` gives the corpus of an
    item under which features are in the cache, None if it may not be copied; those are kept in the folder `cache`.
    """
    names = names_of(groups)
    store = Store(digest_of([VERSION, *names]), len(names), cache, pl.Float64)

    def measured_item(item: T) -> tuple[Opened, str, str | None, Measured | None, bool]:
        opened = open_one(item)
        if opened.clip is None:
            return opened, "", None, None, False
        key, corpus = _key(opened.clip, names), kept_as(item) if kept_as is not None else None
        known = _kept(store, key, corpus, names)
        opened_without_sound = Opened(opened.utterance_id, None, opened.findings)
        return opened_without_sound, key, corpus, known or measure(opened.clip, groups), known is not None

    ids: list[str] = []
    rows: list[NDArray[np.float64]] = []
    findings: list[Finding] = []
    try:
        for opened, key, corpus, measured, known in decode_ahead(
            items, measured_item, threads=threads, ahead=4 * threads
        ):
            ids.append(opened.utterance_id)
            findings.extend(opened.findings)
            rows.append(_row(measured, names))
            if measured is not None:
                findings.extend(_finding(failure, stage, opened.utterance_id) for failure in measured.failures)
                if not known:
                    store.add(key, corpus, (rows[-1], _written(measured)))
    finally:
        store.flush()
    findings = [*store.findings(stage), *findings]
    table = np.asarray(rows, dtype=np.float64).reshape(-1, len(names))
    columns = [pl.Series(name, table[:, number]).fill_nan(None) for number, name in enumerate(names)]
    return Features(pl.DataFrame([pl.Series("utterance_id", ids, dtype=pl.String()), *columns]), tuple(findings))


def relative_to_speaker(frame: pl.DataFrame, speakers: pl.Series) -> pl.DataFrame:
    """The features as robust z-scores within each speaker: (x - m) / s; row i is of `speakers[i]`, null = not known.

    m = (n median_speaker + 5 median_corpus) / (n + 5) and s^2 = (n s_speaker^2 + 5 s_within^2) / (n + 5), with n the
    speaker's clips that have the feature, s = 1.4826 x the median absolute deviation, s_within that of all clips about
    their speakers' medians: with few clips they are shrunk to the corpus. A row without a speaker gets the corpus's own
    m and s. A feature that does not vary has no z-score: null.
    """
    if len(speakers) != frame.height:
        raise InputError(f"rows of features and speakers do not fit together: {frame.height} and {len(speakers)}")
    known = [feature.name for feature in FEATURES if feature.name in frame.columns]
    groups = {speaker: np.flatnonzero((speakers == speaker).to_numpy()) for speaker in speakers.drop_nulls().unique()}
    columns = []
    for name in known:
        values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        scores = _relative(values, groups)
        columns.append(pl.Series(name, scores).fill_nan(None))
    return frame.with_columns(columns)


def _relative(values: NDArray[np.float64], groups: Mapping[str, NDArray[np.intp]]) -> NDArray[np.float64]:
    scores = np.full(len(values), np.nan)
    there = values[np.isfinite(values)]
    if not len(there):
        return scores
    middle, spread = _norm(there)
    norms = {speaker: _norm(values[rows][np.isfinite(values[rows])]) for speaker, rows in groups.items()}
    away = [np.abs(values[rows] - norms[speaker][0]) for speaker, rows in groups.items()]
    pooled = np.concatenate([np.zeros(0), *away])
    pooled = pooled[np.isfinite(pooled)]
    within = 1.4826 * float(np.median(pooled)) if len(pooled) else spread
    scores[:] = (values - middle) / spread if spread > 0 else np.nan
    for speaker, rows in groups.items():
        count = int(np.isfinite(values[rows]).sum())
        if not count:
            continue
        own_middle, own_spread = norms[speaker]
        m = (count * own_middle + _SHRINK * middle) / (count + _SHRINK)
        s = np.sqrt((count * own_spread**2 + _SHRINK * within**2) / (count + _SHRINK))
        s = s if s > 0 else spread
        scores[rows] = (values[rows] - m) / s if s > 0 else np.nan
    return scores


def _norm(values: NDArray[np.float64]) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def _spectral(samples: NDArray[np.float32]) -> dict[str, float]:
    from alm_proxies.audio.spectrum import spectral

    rows = [part.reshape(len(part), -1) for part in spectral(samples).values()]
    table = np.concatenate(rows, axis=1, dtype=np.float64)
    mean = table.mean(axis=0)
    table -= mean
    deviation = np.sqrt(np.square(table, out=table).mean(axis=0))
    return dict(zip(names_of(["spectral"]), np.stack([mean, deviation], axis=1).ravel().tolist(), strict=True))


def _prosodic(samples: NDArray[np.float32], names: Sequence[str]) -> tuple[dict[str, float], list[Failure]]:
    from alm_proxies.audio import prosody

    track = prosody.track(samples)
    values: dict[str, float] = {}
    failed: dict[tuple[str, str], list[str]] = {}
    for part, measure_part in prosody.PARTS.items():
        wanted = [feature.name for feature in FEATURES if feature.part == part and feature.name in names]
        if not wanted:
            continue
        try:
            values |= measure_part(track)
        except prosody.NotMeasurable as reason:
            failed.setdefault((reason.kind, reason.why), []).extend(wanted)
    return values, [Failure(kind, why, tuple(of)) for (kind, why), of in failed.items()]


def _finding(failure: Failure, stage: str, utterance_id: str) -> Finding:
    listed = ", ".join(failure.names[:6]) + (f" and {len(failure.names) - 6} more" if len(failure.names) > 6 else "")
    return Finding(
        stage=stage,
        kind=failure.kind,
        message=f"not measured: {listed} ({failure.why})",
        fix="Listen to it; features that cannot be measured are left empty.",
        utterance_id=utterance_id,
        count=len(failure.names),
    )


def _row(measured: Measured | None, names: Sequence[str]) -> NDArray[np.float64]:
    values: Values = measured.values if measured is not None else {}
    return np.asarray([np.nan if (value := values.get(name)) is None else value for name in names])


def _key(clip: Clip, names: Sequence[str]) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(clip.samples).view(np.uint8).data)
    digest.update(f"{clip.rate} {digest_of([VERSION, *names])}".encode())
    return digest.hexdigest()[:32]


def _kept(store: Store, key: str, corpus: str | None, names: Sequence[str]) -> Measured | None:
    row = store.get(key, corpus)
    if row is None:
        return None
    values = {name: float(value) if np.isfinite(value) else None for name, value in zip(names, row[0], strict=True)}
    return Measured(values, _failures(row[1]))


def _written(measured: Measured) -> str:
    return canonical_json([[f.kind, f.why, f.names] for f in measured.failures])


def _failures(written: str) -> tuple[Failure, ...]:
    return tuple(Failure(kind, why, tuple(of)) for kind, why, of in json.loads(written))
