"""The length stated in a container's header against that of the file: libsndfile silently shortens most truncated
files.

Every supported container has its rule here; one without a rule is not read.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_UNKNOWN = (0, 0xFFFFFFFF, 0x7FFFFFFF)
"""Placeholder lengths in headers by writers that could not seek back."""


@dataclass(frozen=True, slots=True)
class Announced:
    """The length stated in a header: bytes missing in the file, or the number of frames."""

    lacking: int = 0
    frames: int | None = None


def announced(handle: int, container: str) -> Announced:
    """The length stated in the header of an open file; the file position is unchanged."""
    size, before = os.fstat(handle).st_size, os.lseek(handle, 0, os.SEEK_CUR)
    try:
        return CONTAINERS[container](handle, size)
    except struct.error:
        return Announced()
    finally:
        os.lseek(handle, before, os.SEEK_SET)


def bytes_at(handle: int, offset: int, count: int) -> bytes:
    """Some bytes of an open file."""
    os.lseek(handle, offset, os.SEEK_SET)
    return os.read(handle, count)


def _chunks(handle: int, size: int, form: str, first: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset of the content and length of every chunk of an IFF-like file, padded to even lengths."""
    offset = first
    while offset + 8 <= size:
        name, length = struct.unpack(form, bytes_at(handle, offset, 8))
        yield name, offset + 8, length
        offset += 8 + length + length % 2


def _riff(handle: int, size: int) -> Announced:
    """WAV and RF64; in RF64 the lengths are in a separate chunk."""
    long = 0
    for name, start, length in _chunks(handle, size, "<4sI", 12):
        if name == b"ds64":
            (long,) = struct.unpack("<8xQ", bytes_at(handle, start, 16))
        if name == b"data":
            if length == 0xFFFFFFFF and long:
                return Announced(lacking=max(0, start + long - size))
            streamed = length in _UNKNOWN or length >= 0xFFFFFF00
            return Announced(lacking=0 if streamed else max(0, start + length - size))
    return Announced()


def _aiff(handle: int, size: int) -> Announced:
    frames = None
    for name, start, length in _chunks(handle, size, ">4sI", 12):
        if name == b"COMM":
            (frames,) = struct.unpack(">2xI", bytes_at(handle, start, 6))
        if name == b"SSND":
            lacking = 0 if length in _UNKNOWN else max(0, start + length - size)
            return Announced(lacking, frames if frames not in _UNKNOWN else None)
    return Announced(frames=frames if frames not in _UNKNOWN else None)


def _au(handle: int, size: int) -> Announced:
    order = "<" if bytes_at(handle, 0, 4) == b"dns." else ">"
    start, length = struct.unpack(f"{order}II", bytes_at(handle, 4, 8))
    return Announced(lacking=0 if length in _UNKNOWN else max(0, start + length - size))


def _w64(handle: int, size: int) -> Announced:
    offset = 40
    while offset + 24 <= size:
        name, length = struct.unpack("<16sQ", bytes_at(handle, offset, 24))
        if name.startswith(b"data"):
            streamed = length <= 24 or length >= 1 << 62
            return Announced(lacking=0 if streamed else max(0, offset + length - size))
        offset += max(24, length + -length % 8)
    return Announced()


def _caf(handle: int, size: int) -> Announced:
    offset = 8
    while offset + 12 <= size:
        name, length = struct.unpack(">4sq", bytes_at(handle, offset, 12))
        if name == b"data":
            return Announced(lacking=0 if length <= 0 else max(0, offset + 12 + length - size))
        offset += 12 + max(0, length)
    return Announced()


def _nist(handle: int, size: int) -> Announced:
    match = re.search(rb"^sample_count -i (\d{1,18})\s", bytes_at(handle, 0, 1024), re.MULTILINE)
    return Announced(frames=int(match[1]) if match else None)


def _ogg(handle: int, size: int) -> Announced:
    """Ogg: the last page must be whole and marked as the last."""
    tail = bytes_at(handle, max(0, size - 70_000), 70_000)
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27 or not tail[page + 5] & 4:
        return Announced(lacking=size)
    lacing = tail[page + 27 : page + 27 + tail[page + 26]]
    end = page + 27 + tail[page + 26] + sum(lacing)
    return Announced(lacking=size if len(lacing) < tail[page + 26] or end > len(tail) else 0)


def _mp3(handle: int, size: int) -> Announced:
    """The byte count in a Xing, Info or VBRI header of the first frame, if there is one."""
    head = bytes_at(handle, 0, 10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    frame = bytes_at(handle, start, 4096)
    sync = re.search(rb"\xff[\xe2-\xff]", frame)
    if sync is None:
        return Announced()
    first = start + sync.start()
    frame = bytes_at(handle, first, 256)
    for name, place in ((b"Xing", 0), (b"Info", 0), (b"VBRI", 10)):
        header = frame.find(name)
        if header < 0:
            continue
        if name == b"VBRI":
            (count,) = struct.unpack(">I", frame[header + place : header + place + 4])
            return Announced(lacking=max(0, first + count - size))
        (flags,) = struct.unpack(">I", frame[header + 4 : header + 8])
        if flags & 2:
            offset = header + 8 + (4 if flags & 1 else 0)
            (count,) = struct.unpack(">I", frame[offset : offset + 4])
            return Announced(lacking=max(0, first + count - size))
    return Announced()


def _by_decoding(handle: int, size: int) -> Announced:
    """FLAC: its header states the number of frames."""
    return Announced()


CONTAINERS: dict[str, Callable[[int, int], Announced]] = {
    "WAV": _riff,
    "WAVEX": _riff,
    "RF64": _riff,
    "NIST": _nist,
    "FLAC": _by_decoding,
    "OGG": _ogg,
    "MP3": _mp3,
    "AIFF": _aiff,
    "AU": _au,
    "CAF": _caf,
    "W64": _w64,
}
