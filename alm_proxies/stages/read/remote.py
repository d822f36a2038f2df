"""Sources and recordings at addresses: label files fetched while they are read, recordings left where they are."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import polars as pl

from alm_proxies.audio.folder import SOUNDS
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_of
from alm_proxies.printable import counted
from alm_proxies.remote import buckets
from alm_proxies.remote.at_hand import AtHand, at_hand, there
from alm_proxies.remote.copies import known_by_store, open_copy
from alm_proxies.remote.fault import SECONDS, SECRET_FIX, Deadline, refuse_address, refuse_secret
from alm_proxies.stages.read.settings import Reader, Source
from alm_proxies.stages.read.sources import Part, finding
from alm_proxies.tables import Finding
from alm_proxies.uris import has_secret, is_remote, parent_of, remote_of, scheme_of, without_secrets


def files_at(source: Source, reader: Reader) -> list[str]:
    """The addresses of a remote source's files: its own, or those in it that the format reads; none if it is local."""
    uri = remote_of(source.source)
    if uri is None:
        return []
    refuse_secret(uri)
    refuse_address(uri)
    if PurePosixPath(uri).suffix:
        return [uri]
    if not reader.files:
        fix = "Name the label file itself, or copy the corpus to this machine."
        raise SettingsError(f"{source.format} cannot read a folder at an address", where=uri, fix=fix)
    return there(f"{uri.rstrip('/')}/{name}" for name in reader.files)


def state_of_source(source: Source, reader: Reader) -> str:
    """A digest of what the store states about a remote source's files; of their content where it states nothing."""
    files = files_at(source, reader)
    known = known_by_store(files)
    return digest_of([state or _digest(uri) for uri, state in zip(files, known, strict=True)])


def _digest(uri: str) -> str:
    copy = open_copy(uri, keep=False)
    os.close(copy.handle)
    return copy.digest


@contextmanager
def fetched(sources: Sequence[Source], readers: Sequence[Reader]) -> Iterator[tuple[list[Source], AtHand]]:
    """The sources with copies of those files that are remote."""
    files = [files_at(source, reader) for source, reader in zip(sources, readers, strict=True)]
    with at_hand(uri for listed in files for uri in listed) as hand:
        local = []
        for source, listed in zip(sources, files, strict=True):
            if not listed:
                local.append(source)
                continue
            path = hand.path(listed[0])
            single_file = listed == [remote_of(source.source)]
            if not single_file:
                for uri in listed[1:]:
                    hand.path(uri).rename(path.parent / hand.path(uri).name)
            local.append(source.model_copy(update={"source": path if single_file else path.parent}))
        yield local, hand


def left_there(part: Part, uri: str, hand: AtHand) -> Part:
    """The part of a remote source: its recordings are at addresses, relative to the label file."""
    findings = [
        replace(
            reported,
            message=hand.named(reported.message),
            where=hand.named(reported.where) if reported.where else reported.where,
        )
        for reported in part.findings
        if reported.kind != "no_audio"
    ]
    frame = part.utterances
    if part.about is None and "audio" in frame.columns:
        base = parent_of(uri)
        audio = [None if own is None else _below(base, own) for own in frame["audio"]]
        frame = frame.with_columns(audio=pl.Series(audio, dtype=pl.String))
    return replace(part, utterances=frame, findings=findings, root=None)


def _below(base: str, own: str) -> str:
    if is_remote(own) or own.startswith(("/", "file://")):
        return own
    start, _, path = base.partition("://")
    return f"{start}://{posixpath.normpath(f'{path}/{own}')}"


def without_secrets_in(frame: pl.DataFrame, where: str, findings: list[Finding]) -> pl.DataFrame:
    """The frame with addresses of recordings that hold no password, key or signature; a finding if any did."""
    audio = frame["audio"]
    if not any_remote(frame):
        return frame
    bad = [own is not None and is_remote(own) and has_secret(own) for own in audio]
    if not any(bad):
        return frame
    cleaned = [without_secrets(own) if has else own for own, has in zip(audio, bad, strict=True)]
    count = sum(bad)
    addresses = counted(count, "address", "addresses")
    message = f"{addresses} of recordings with a password, a key or a signature, which was left out"
    findings.append(finding("address_with_secret", message, fix=SECRET_FIX, where=where, count=count))
    return frame.with_columns(audio=pl.Series(cleaned, dtype=pl.String))


def any_remote(frame: pl.DataFrame) -> bool:
    """Whether any recording of a frame is at an address."""
    audio = frame["audio"] if "audio" in frame.columns else pl.Series(dtype=pl.Null)
    return audio.dtype == pl.String and bool(audio.str.contains("://", literal=True).any())


def recordings_at(uri: str) -> list[str]:
    """The recordings below an address, by their paths there, sorted; web addresses cannot be listed."""
    refuse_secret(uri)
    refuse_address(uri)
    if scheme_of(uri) in ("http", "https"):
        fix = "Name the recordings in a column: --columns audio=... with whole addresses."
        raise InputError("the files at a web address cannot be listed", where=uri, fix=fix)
    listed = buckets.listed(uri, Deadline(SECONDS))
    return [path for path in listed if PurePosixPath(path).suffix.lower() in SOUNDS]


def joined(folder: Path, path: str) -> str:
    """The path below a folder, or the address below an address."""
    uri = remote_of(folder)
    return path if uri is None else f"{uri.rstrip('/')}/{path}"
