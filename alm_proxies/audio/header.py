"""The length of a recording from its header, read fast where it is a plain WAV file; or with all samples looked at."""

from __future__ import annotations

import math
import os

from alm_proxies.audio.clip import LONGEST, RecordingError, look_at, open_clip
from alm_proxies.audio.plain_wav import PlainWav


def header_of(path: str, start: float | None = None, end: float | None = None) -> tuple[float, int, int]:
    """What `look_at` gives: seconds, sample rate and number of frames; raises RecordingError for what cannot be used.

    Whole plain WAV files are read in a third of the time.
    """
    if start is None and end is None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return look_at(path)
        try:
            plain = PlainWav.of(handle)
        except OSError:
            plain = None
        finally:
            os.close(handle)
        if plain is not None:
            return plain.frames / plain.samplerate, plain.samplerate, plain.frames
    return look_at(path, start=start, end=end)


def header_of_usable(path: str, start: float | None = None, end: float | None = None) -> tuple[float, int, int]:
    """What `header_of` gives, of a recording whose samples a model could use: it is decoded, in pieces if it is long.

    Raises RecordingError, as `open_clip` does, also for a recording that is silent or has samples that are no numbers.
    """
    seconds, rate, frames = header_of(path, start, end)
    first, pieces = start or 0.0, max(1, math.ceil(seconds / LONGEST))
    silent: list[RecordingError] = []
    for piece in range(pieces):
        begin = start if piece == 0 else first + piece * LONGEST
        stop = end if piece == pieces - 1 else first + (piece + 1) * LONGEST
        try:
            open_clip(path, start=begin, end=stop, rate=rate, longest=math.inf)
        except RecordingError as error:
            if error.kind != "silent":
                raise
            silent.append(error)
    if len(silent) == pieces:
        raise silent[0]
    return seconds, rate, frames
