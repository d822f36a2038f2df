"""Cases of files: broken recordings, what is no regular file, items of export, and outputs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import soundfile
from local_work import SAMPLES, Case, command, refused, within

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.annotators.prompts import read_prompt
from alm_proxies.audio.clip import Clip, RecordingError, open_clip
from alm_proxies.audio.lengths import CONTAINERS
from alm_proxies.cli.app import run
from alm_proxies.errors import AlmProxiesError, InputError, OutputError
from alm_proxies.files import digest_file, read_text, write_text
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.stages.annotate.stage import annotate
from alm_proxies.tables import Utterances, Votes

# recordings


def _bytes(container: str, subtype: str, folder: Path) -> bytes | None:
    try:
        soundfile.write(str(folder / "whole"), SAMPLES, 16_000, format=container, subtype=subtype)
    except (soundfile.LibsndfileError, ValueError, TypeError):
        return None
    return (folder / "whole").read_bytes()


def broken_off(container: str, subtype: str, share: float, folder: Path) -> None:
    intact = _bytes(container, subtype, folder)
    if intact is None:
        return
    (folder / "part").write_bytes(intact[: int(share * len(intact))])
    refused(lambda: open_clip(folder / "part"), kind=RecordingError)


def damaged(container: str, subtype: str, seed: int, folder: Path) -> None:
    intact = _bytes(container, subtype, folder)
    if intact is None:
        return
    chance = np.random.default_rng(seed)
    content = bytearray(intact)
    for _ in range(int(chance.integers(1, 12))):
        place = int(chance.integers(0, min(len(content), 400 if seed % 2 else len(content))))
        content[place] = int(chance.integers(0, 256))
    (folder / "part").write_bytes(bytes(content))
    with within(20), contextlib.suppress(RecordingError):
        assert isinstance(open_clip(folder / "part"), Clip)


def noise(magic: bytes, size: int, folder: Path) -> None:
    (folder / "part").write_bytes(magic + np.random.default_rng(size).bytes(size))
    with within(20), contextlib.suppress(RecordingError):
        assert isinstance(open_clip(folder / "part"), Clip)


PAIRS = [
    (name, kind)
    for name in soundfile.available_formats()
    if name != "RAW"
    for kind in soundfile.available_subtypes(name)
]


MAGIC = [
    b"RIFF\x00\x00\x00\x00WAVE",
    b"fLaC",
    b"OggS",
    b"FORM\x00\x00\x00\x00AIFF",
    b"caff",
    b".snd",
    b"NIST_1A\n",
    b"ID3",
]


BROKEN: dict[str, Case] = {
    f"{name} {kind} cut at {share:g}": partial(broken_off, name, kind, share)
    for name, kind in PAIRS
    for share in (0.9, 0.4)
}


DAMAGED: dict[str, Case] = {
    **{
        f"{name} {kind} damaged {seed}": partial(damaged, name, kind, seed)
        for name, kind in PAIRS
        if name in CONTAINERS
        for seed in range(3)
    },
    **{f"{magic[:4]!r} and {size} bytes": partial(noise, magic, size) for magic in MAGIC for size in (0, 1, 30, 3000)},
}


# files that are none


KINDS: tuple[str, ...] = (
    "pipe",
    "pipe.csv",
    "pipe.parquet",
    "pipe.jsonl",
    "socket",
    "/dev/zero",
    "/dev/null",
    "/dev/full",
    "/dev/tty",
)
KINDS += ("/proc/kmsg", "/proc/self/mem", "/proc/version", "/proc/self/pagemap", "/sys/kernel/notes", "folder")


def irregular(kind: str, folder: Path) -> Path | None:
    path = folder / f"to{kind.replace('/', '_')}"
    if kind.startswith("pipe"):
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif Path(kind).exists():
        path.symlink_to(kind)
    else:
        return None
    return path


def utterances_in(folder: Path) -> Path:
    soundfile.write(folder / "a.wav", SAMPLES, 16_000)
    frame = pl.DataFrame({"utterance_id": ["c/a"], "corpus": ["c"], "audio": [str(folder / "a.wav")]})
    path = folder / "utterances.parquet"
    Utterances.of(frame, taxonomy=("happy", "sad")).write(path)
    return path


def answers(path: Path) -> object:
    annotator = Annotator.of(
        AnnotatorFile.model_validate({"name": "s", "engine": "scripted", "model": "s", "serve": {"answers": str(path)}})
    )
    return asyncio.run(annotator.open())


READERS: dict[str, Callable[[Path], object]] = {
    "text": read_text,
    "digest": digest_file,
    "recording": open_clip,
    "votes": Votes.read,
    "utterances": Utterances.read,
    "annotator": Annotator.read,
    "answers": answers,
    "prompt": read_prompt,
}


def read_it(reader: str, kind: str, folder: Path) -> None:
    path = irregular(kind, folder)
    if path is not None:
        refused(partial(READERS[reader], path), kind=InputError if kind != "folder" else AlmProxiesError)


def read_by_command(arguments: Callable[[str, str], list[str]], kind: str, folder: Path) -> None:
    path = irregular(kind, folder)
    if path is not None:
        command(arguments(str(path), str(folder / "out")))


COMMANDS: dict[str, Callable[[str, str], list[str]]] = {
    "fuse": lambda path, out: ["fuse", path, "--taxonomy", "happy,sad", "-o", f"{out}.parquet"],
    "annotate": lambda path, out: ["annotate", path, "--annotator", "embedded", "-o", out],
    "run": lambda path, _: ["run", path],
    "check": lambda path, _: ["check", path],
    "read table": lambda path, out: [
        *("read", "table", path, "--corpus", "c", "--taxonomy", "happy,sad"),
        *("--columns", "utterance_id=a,annotator=b,label=c", "-o", out),
    ],
}


IRREGULAR: dict[str, Case] = {
    **{
        f"{reader} from {kind}": partial(read_it, reader, kind)
        for reader in READERS
        for kind in KINDS
        if not (reader == "annotator" and kind.startswith("pipe."))
    },
    **{
        f"{name} {kind}": partial(read_by_command, arguments, kind)
        for name, arguments in COMMANDS.items()
        for kind in ("pipe", "pipe.csv", "pipe.parquet", "/dev/zero", "/proc/kmsg")
        if not (name in ("fuse", "annotate", "read table") and kind == "folder")
    },
}


def bad_item(audio: Callable[[Path], str], folder: Path) -> None:
    """One recording of three cannot be opened; the others are voted on, and no raw control character is printed."""
    soundfile.write(folder / "a.wav", SAMPLES, 16_000)
    paths = [str(folder / "a.wav"), audio(folder), str(folder / "a.wav")]
    frame = pl.DataFrame({"utterance_id": ["c/0", "c/1\x1b[2J", "c/2"], "corpus": ["c"] * 3, "audio": paths})
    table = pl.DataFrame({"utterance_id": ["c/0", "c/1\x1b[2J", "c/2"], "text": ["A", "A", "A"]})
    table.write_csv(folder / "answers.csv")
    file = {"name": "s", "engine": "scripted", "model": "s", "serve": {"answers": str(folder / "answers.csv")}}
    output = io.StringIO()
    with within(30), contextlib.redirect_stderr(output):
        annotated = annotate(
            Utterances.of(frame, taxonomy=("happy", "sad")),
            [Annotator.of(AnnotatorFile.model_validate(file))],
            folder / "out",
            AnnotateSettings(),
        )
    by_id = dict(annotated.votes.frame.select("utterance_id", "status").iter_rows())
    assert by_id["c/0"] == by_id["c/2"] == "ok", by_id
    assert by_id["c/1\x1b[2J"] == "failed", by_id
    assert "\x1b" not in output.getvalue()
    json.dumps([str(row) for row in annotated.findings.frame.to_dicts()])


def _made(kind: str) -> Callable[[Path], str]:
    return lambda folder: str(irregular(kind, folder) or folder / "none")


def _written(content: bytes) -> Callable[[Path], str]:
    def audio(folder: Path) -> str:
        (folder / "bad.wav").write_bytes(content)
        return str(folder / "bad.wav")

    return audio


def _locked(folder: Path) -> str:
    (folder / "locked").mkdir(mode=0o000)
    return str(folder / "locked" / "a.wav")


def _loop(folder: Path) -> str:
    (folder / "loop").symlink_to(folder / "loop")
    return str(folder / "loop")


ITEMS: dict[str, Case] = {
    name: partial(bad_item, audio)
    for name, audio in {
        "a name of 5,000 letters": lambda folder: f"{folder}/{'x' * 5000}.wav",
        "a path of 100,000 letters": lambda folder: f"{folder}{'/x' * 50_000}.wav",
        "not there": lambda folder: f"{folder}/none.wav",
        "an escape sequence": lambda folder: f"{folder}/\x1b]0;title\x07.wav",
        "a line end": lambda folder: f"{folder}/a\nb.wav",
        "a direction mark": lambda folder: f"{folder}/\u202evaw.exe",
        "a folder that may not be entered": _locked,
        "a link to itself": _loop,
        "below a file": lambda folder: f"{folder}/a.wav/b.wav",
        "empty": _written(b""),
        "text": _written(b"hello"),
        "a head alone": _written(b"RIFF\xff\xff\xff\xffWAVEfmt "),
        **{kind: _made(kind) for kind in KINDS},
    }.items()
}


# outputs


def written_over(kind: str, folder: Path) -> None:
    path = irregular(kind, folder)
    if path is None:
        return
    before = path.lstat()
    refused(lambda: write_text(path, "x"), kind=OutputError)
    assert path.lstat().st_ino == before.st_ino


def fused_into(kind: str, folder: Path) -> None:
    path = irregular(kind, folder)
    if path is None:
        return
    votes = folder / "votes.csv"
    votes.write_text("utterance_id,annotator,label\na,r,happy\n", encoding="utf-8")
    before = path.lstat()
    out = ["fuse", str(votes), "--taxonomy", "happy,sad", "--method", "human", "-o", str(path)]
    with within(60), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        assert run(out) in (2, 3)
    assert path.lstat().st_ino == before.st_ino


OUTPUTS: dict[str, Case] = {
    f"{name} {kind}": partial(work, kind)
    for name, work in (("write", written_over), ("fuse -o", fused_into))
    for kind in KINDS
    if not (kind == "folder" and name == "fuse -o")
}
