"""Recordings: open a file or a slice of it as mono float32 at the wanted rate, one at a time or decoded ahead."""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from alm_proxies.audio.lengths import CONTAINERS, announced, bytes_at
from alm_proxies.audio.plain_wav import PlainWav, Sound
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import could_not_read, file_handle
from alm_proxies.remote.copies import Fetched, open_copy
from alm_proxies.remote.fault import FetchError
from alm_proxies.tables import Finding
from alm_proxies.uris import name_of, remote_of

RATE = 16_000
"""The default sample rate of models and features, in Hz."""
LONGEST = 300.0
"""The default limit on the duration of a clip, in seconds."""

_SLACK = 0.05  # seconds by which a slice may end after the file, or the file before its stated end
SILENT = 1e-4  # half of peak to peak, of full scale: -80 dB
_BLOCK = 1 << 18  # frames read at once
_MP3_EARLIER = 24 * 1152  # frames
_UNKNOWN = 1 << 62  # libsndfile returns a larger number if a file does not state its length
_SUFFIXES = {
    "WAV": ("wav", "wave"),
    "WAVEX": ("wav", "wave"),
    "RF64": ("wav", "wave", "rf64"),
    "NIST": ("wav", "sph", "nist"),
    "FLAC": ("flac",),
    "OGG": ("ogg", "oga", "opus"),
    "MP3": ("mp3", "mp2", "mpga"),
    "AIFF": ("aif", "aiff", "aifc"),
    "AU": ("au", "snd"),
    "CAF": ("caf",),
    "W64": ("w64",),
}
_OTHERS = {"m4a", "mp4", "aac", "wma", "webm", "amr"}
_KNOWN = {suffix for suffixes in _SUFFIXES.values() for suffix in suffixes} | _OTHERS

T = TypeVar("T")
R = TypeVar("R")


class RecordingError(InputError):
    """A recording cannot be used; `kind` is the kind of the finding: missing, empty, truncated, silent ..."""

    def __init__(self, kind: str, message: str, *, where: str, fix: str) -> None:
        super().__init__(message, where=where, fix=fix)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Source:
    """The source of an utterance: a recording, or a slice of it in seconds."""

    utterance_id: str
    path: Path | str
    """Its path, or its address (s3://bucket/a.wav, https://host/a.wav)."""
    start: float | None = None
    end: float | None = None
    keep: bool = True
    """Whether a copy of a remote recording may be cached."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Mono float32 samples and their rate; `container` is the detected file format."""

    samples: NDArray[np.float32]
    rate: int
    container: str | None = None
    pcm: bytes | None = None
    """The same samples as 16-bit PCM, where the recording holds them so."""

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class Opened:
    """The result of opening one utterance: its clip, or None and a finding with the reason."""

    utterance_id: str
    clip: Clip | None
    findings: tuple[Finding, ...] = ()


def open_clip(
    path: str | Path,
    *,
    start: float | None = None,
    end: float | None = None,
    rate: int = RATE,
    longest: float = LONGEST,
    keep: bool = True,
) -> Clip:
    """Open a recording, or the slice from start to end, as mono at `rate`; raises RecordingError with its kind.

    Only the slice is decoded. Channels are averaged, then resampled by soxr HQ. The recording may be remote
    (s3://bucket/a.wav, https://host/a.wav): a copy is fetched, and cached if `keep`.
    """
    handle, where = _file_handle(path, keep)
    try:
        return clip_of(handle, where, start=start, end=end, rate=rate, longest=longest)
    finally:
        os.close(handle)


def clip_of(
    handle: int, where: str, *, start: float | None, end: float | None, rate: int = RATE, longest: float = LONGEST
) -> Clip:
    """The clip of an open file."""
    samples, native, container, pcm = _decode(handle, where, start, end, longest)
    _refuse_unusable(samples, where)
    if native != rate:
        import soxr

        samples = np.asarray(soxr.resample(samples, native, rate, quality="HQ"), dtype=np.float32)
        pcm = None
    if not len(samples):
        raise _no_samples(where)
    return Clip(samples=samples, rate=rate, container=container, pcm=pcm)


def look_at(path: str | Path, *, start: float | None = None, end: float | None = None) -> tuple[float, int, int]:
    """The duration of a recording, or of a slice, in seconds, its sample rate and the number of frames of the file.

    Only its header and its end are read. Raises RecordingError if it is missing, empty, truncated or not audio.
    """
    handle, where = _file_handle(path, keep=True)
    try:
        with _opened(handle, where) as sound:
            first, last = _slice(handle, sound, where, start, end, math.inf)
            by_decoding = sound.format == "FLAC" and last > first  # its header alone does not show that it is truncated
            if by_decoding and not len(_read_or_refuse(sound, where, last - 1, 1)):
                raise _truncated(where, f"the header states {_seconds(last / sound.samplerate)} and the end is missing")
            return (last - first) / int(sound.samplerate), int(sound.samplerate), int(sound.frames)
    finally:
        os.close(handle)


def open_source(source: Source, *, stage: str, rate: int = RATE, longest: float = LONGEST) -> Opened:
    """The utterance's clip; an unusable recording is a finding, never an exception."""
    try:
        clip = open_clip(source.path, start=source.start, end=source.end, rate=rate, longest=longest, keep=source.keep)
    except RecordingError as error:
        return Opened(source.utterance_id, None, (finding_of(error, stage, source.utterance_id),))
    return Opened(source.utterance_id, clip, _wrongly_named(source, clip, stage))


def finding_of(error: RecordingError, stage: str, utterance_id: str) -> Finding:
    """The finding for an exception."""
    return Finding(stage, error.kind, error.message, error.fix or "", utterance_id, error.where)


def decode_ahead(
    items: Iterable[T], open_one: Callable[[T], R], *, threads: int = 2, ahead: int = 8
) -> Generator[R, None, None]:
    """The results of `open_one` for the items, in order, opened ahead by threads.

    At most `ahead` results are open or being opened at a time; closing the generator ends the threads.
    """
    if threads < 1 or ahead < 1:
        raise SettingsError(
            f"decoding ahead with threads={threads}, ahead={ahead} is not possible", fix="Give at least 1 for both."
        )
    return _decode_ahead(iter(items), open_one, threads, ahead)


def _decode_ahead(items: Iterable[T], open_one: Callable[[T], R], threads: int, ahead: int) -> Generator[R, None, None]:
    executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="decode-ahead")
    waiting: deque[Future[R]] = deque()
    try:
        waiting.extend(executor.submit(open_one, item) for item in islice(items, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(executor.submit(open_one, item) for item in islice(items, 1))
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def remote_copy(uri: str, keep: bool) -> Fetched:
    """An open copy of a remote recording; raises RecordingError."""
    try:
        return open_copy(uri, keep=keep)
    except FetchError as error:
        raise RecordingError(error.kind, error.message, where=uri, fix=error.fix or "") from None


def _file_handle(path: str | Path, keep: bool) -> tuple[int, str]:
    """An open recording, and its path or address."""
    if (uri := remote_of(path)) is not None:
        return remote_copy(uri, keep).handle, uri
    where = str(path)
    # A handle, not a path: libsndfile then ignores the suffix, so a text file named .au is not taken for audio.
    try:
        return file_handle(where), where
    except OSError as error:
        reason = could_not_read(where, error)
        kind = "missing" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"
        raise RecordingError(kind, reason.message, where=where, fix=reason.fix or "") from error


def _decode(
    handle: int, where: str, start: float | None, end: float | None, longest: float
) -> tuple[NDArray[np.float32], int, str, bytes | None]:
    with _opened(handle, where) as sound:
        first, last = _slice(handle, sound, where, start, end, longest)
        rate = int(sound.samplerate)
        samples = _read_or_refuse(sound, where, first, last - first)
        if len(samples) < last - first - round(_SLACK * rate):
            announced, held = _seconds((last - first) / rate), _seconds(len(samples) / rate)
            raise _truncated(where, f"the header states {announced} and only {held} can be decoded")
        pcm = sound.mono if isinstance(sound, PlainWav) else None
        return samples, rate, str(sound.format), pcm if pcm is not None and len(pcm) == 2 * len(samples) else None


def _opened(handle: int, where: str) -> Sound:
    plain = PlainWav.of(handle)
    if plain is not None:
        return plain
    if os.fstat(handle).st_size == 0:
        raise RecordingError("empty", "the file has no bytes", where=where, fix="Fetch the file again.")
    import soundfile

    try:
        opened: Sound = soundfile.SoundFile(handle, closefd=False)
        return opened
    except soundfile.LibsndfileError as error:
        raise _not_audio(handle, where, error.error_string) from error


def _slice(
    handle: int, sound: Sound, where: str, start: float | None, end: float | None, longest: float
) -> tuple[int, int]:
    """The first frame of the slice and the one after its last, limited by the header and the file's end."""
    rate, frames = int(sound.samplerate), int(sound.frames)
    first = round((start or 0.0) * rate)
    last = frames if end is None else round(end * rate)
    if first < 0 or (end is not None and last <= first):
        message = f"the slice from {_seconds(start or 0.0)} to {_seconds(end)} is empty"
        raise RecordingError("slice_wrong", message, where=where, fix="Give 0 <= start < end in seconds.")
    if sound.format not in CONTAINERS:
        message = f"is a {sound.format} file, so its length cannot be checked"
        raise RecordingError("not_audio", message, where=where, fix="Convert it to wav or flac.")
    broken_off = last >= frames and _is_broken_off(handle, sound)
    if frames == 0 and not broken_off:
        raise _no_samples(where)
    if broken_off and (end is None or last > frames):
        raise _truncated(where, f"the header states more audio than the file has ({_seconds(frames / rate)})")
    if frames >= _UNKNOWN and end is None:
        message = "does not state its length"
        fix = "Give start and end of the utterance, or write the file again."
        raise RecordingError("length_unknown", message, where=where, fix=fix)
    if first >= frames or last > frames + round(_SLACK * rate):
        raise _outside(where, start, end, frames / rate)
    last = min(last, frames)
    if (last - first) / rate > longest:
        raise _too_long(where, (last - first) / rate, longest)
    return first, last


def _read_or_refuse(sound: Sound, where: str, first: int, wanted: int) -> NDArray[np.float32]:
    if isinstance(sound, PlainWav):
        return _read(sound, first, wanted)
    import soundfile

    try:
        return _read(sound, first, wanted)
    except soundfile.LibsndfileError as error:
        raise _truncated(where, f"decoding fails ({error.error_string.strip(' .')})") from error


def _read(sound: Sound, first: int, wanted: int) -> NDArray[np.float32]:
    # mp3 frames depend on earlier ones: decoding must begin earlier, or the first samples are wrong.
    early = min(first, _MP3_EARLIER) if sound.format == "MP3" else 0
    if first > early:
        sound.seek(first - early)
    parts: list[NDArray[np.float32]] = []
    left = early + wanted
    at_once = left if sound.format == "MP3" else _BLOCK  # soundfile seeks after every read: its decoder begins anew
    while left > 0:
        block = sound.read(min(left, at_once), dtype="float32", always_2d=True)
        if not len(block):
            break
        if block.shape[1] == 1:
            parts.append(block[:, 0])
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                parts.append(block.mean(axis=1, dtype=np.float32))
        left -= len(block)
    samples = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype=np.float32), *parts])
    return samples[early:]


def _is_broken_off(handle: int, sound: Sound) -> bool:
    """Whether the container states that more should follow; block codecs lose a whole block with a single byte."""
    if isinstance(sound, PlainWav):
        return False
    header, frames, slack = announced(handle, str(sound.format)), int(sound.frames), _SLACK * sound.samplerate
    if header.frames is not None and header.frames > frames + slack:
        return True
    in_blocks = not re.match("PCM|FLOAT|DOUBLE|ULAW|ALAW|MPEG", sound.subtype)
    if in_blocks or not 0 < frames < _UNKNOWN:
        return header.lacking > 0
    return bool(header.lacking > slack * os.fstat(handle).st_size / frames)


def _refuse_unusable(samples: NDArray[np.float32], where: str) -> None:
    if not len(samples):
        raise _no_samples(where)
    low, high = float(samples.min()), float(samples.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(np.count_nonzero(~np.isfinite(samples)))
        raise RecordingError(
            "not_finite",
            f"{count} of {len(samples)} samples are not finite numbers",
            where=where,
            fix="Export the recording again.",
        )
    if (high - low) / 2 < SILENT:
        raise RecordingError("silent", "it is never louder than -80 dB of full scale", where=where, fix="Leave it out.")


def suffix_of(source: Source) -> str:
    """The suffix of a recording's name, without its dot."""
    stem, _, suffix = name_of(str(source.path)).rpartition(".")
    return suffix.lower() if stem else ""


def _wrongly_named(source: Source, clip: Clip, stage: str) -> tuple[Finding, ...]:
    suffix = suffix_of(source)
    fitting = _SUFFIXES.get(clip.container or "")
    if fitting is None or suffix in fitting or suffix not in _KNOWN:
        return ()
    return (
        Finding(
            stage=stage,
            kind="wrongly_named",
            message=f"is named .{suffix} but has the format {clip.container}; it was read as {clip.container}",
            fix=f"Rename it to .{fitting[0]}.",
            utterance_id=source.utterance_id,
            where=str(source.path),
        ),
    )


def _not_audio(handle: int, where: str, reason: str) -> RecordingError:
    start = bytes_at(handle, 0, 12)
    known = start[:4] in (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd", b"dns.", b"riff", b"NIST")
    if known:
        message = f"begins like an audio file but cannot be decoded ({reason.strip(' .')})"
        return RecordingError("truncated", message, where=where, fix="Fetch the file again.")
    fix = "Give wav, flac, ogg or mp3; convert others, e.g. with ffmpeg."
    return RecordingError("not_audio", "is not an audio file that can be read", where=where, fix=fix)


def _no_samples(where: str) -> RecordingError:
    return RecordingError("empty", "has no samples", where=where, fix="Leave it out or fetch it again.")


def _truncated(where: str, message: str) -> RecordingError:
    return RecordingError("truncated", message, where=where, fix="Fetch the file again.")


def _too_long(where: str, seconds: float, longest: float) -> RecordingError:
    return RecordingError(
        "too_long",
        f"{_seconds(seconds)} of audio, the limit is {_seconds(longest)}",
        where=where,
        fix="Give start and end of the utterance.",
    )


def _outside(where: str, start: float | None, end: float | None, held: float) -> RecordingError:
    message = f"the slice from {_seconds(start or 0.0)} to {_seconds(end)} is outside its {_seconds(held)}"
    return RecordingError("slice_outside", message, where=where, fix="Correct start and end, or fetch the file again.")


def _seconds(value: float | None) -> str:
    return "the end" if value is None else f"{value:.2f} s"
