"""Plain WAV files (16-bit PCM, a header of 44 bytes that agrees with the file's size), read without libsndfile.

They are most of all recordings, and are opened in half the processor time: libsndfile is called, and gives the
interpreter lock back, a dozen times a file. Whatever differs in one field of its header is left to libsndfile.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_MOST_CHANNELS = 64


class Sound(Protocol):
    """The part of an opened recording that is used: that of soundfile.SoundFile."""

    @property
    def samplerate(self) -> int:
        """Frames a second."""
        ...

    @property
    def frames(self) -> int:
        """The number of frames."""
        ...

    @property
    def format(self) -> str:
        """The container."""
        ...

    @property
    def subtype(self) -> str:
        """The coding of samples."""
        ...

    def seek(self, frames: int) -> int:
        """Go to a frame."""
        ...

    def read(self, frames: int, dtype: str, always_2d: bool) -> NDArray[np.float32]:
        """The next frames, (frames, channels)."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@dataclass(slots=True)
class PlainWav:
    """An open plain WAV file."""

    handle: int
    samplerate: int
    channels: int
    frames: int
    format: str = "WAV"
    subtype: str = "PCM_16"
    position: int = 0
    mono: bytes | None = None
    """What was read last, as it is in the file; None where it has several channels."""

    @classmethod
    def of(cls, handle: int) -> PlainWav | None:
        """The file, if it is a plain one; the descriptor's own position is neither used nor moved."""
        header = os.pread(handle, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return None
        riff, length, wave, form, size, coding, channels, rate, speed, width, bits, data, held = _HEADER.unpack(header)
        plain = (riff, wave, form, size, coding, bits, data) == (b"RIFF", b"WAVE", b"fmt ", 16, 1, 16, b"data")
        if not (plain and 0 < channels <= _MOST_CHANNELS and rate > 0 and width == 2 * channels):
            return None
        complete = held > 0 and held % width == 0 and length == held + 36 and os.fstat(handle).st_size == held + 44
        return cls(handle, rate, channels, held // width) if complete and speed == rate * width else None

    def seek(self, frames: int) -> int:
        """Go to a frame."""
        self.position = frames
        return frames

    def read(self, frames: int, dtype: str, always_2d: bool) -> NDArray[np.float32]:
        """The next frames, (frames, channels), from -1 to 1."""
        width = 2 * self.channels
        wanted = width * max(0, min(frames, self.frames - self.position))
        content = os.pread(self.handle, wanted, _HEADER.size + width * self.position)
        count = len(content) // width
        self.position += count
        self.mono = content if self.channels == 1 else None
        return samples_of_pcm(content[: count * width]).reshape(count, self.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def samples_of_pcm(pcm: bytes) -> NDArray[np.float32]:
    """The samples of 16-bit PCM, from -1 to 1."""
    samples: NDArray[np.float32] = np.multiply(np.frombuffer(pcm, "<i2"), np.float32(1 / 32768))
    return samples
