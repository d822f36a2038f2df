"""The recordings of CREMA-D: AudioWAV or AudioMP3, a misnamed file, and the faults that its authors list."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from alm_proxies.audio.folder import SOUNDS
from alm_proxies.files import open_file
from alm_proxies.stages.read.corpus_files import listing, names_in, with_recordings
from alm_proxies.stages.read.formats.crema_d import CremaDSource
from alm_proxies.tables import Finding

_FOLDERS = ("AudioMP3", "AudioWAV")
_LOOKED_FOR = "AudioWAV/<clip>.wav (or AudioMP3/<clip>.mp3)"
_POINTER = b"version https://git-lfs"
_SMALL = 1024
NAMES = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}
"""Misspelt clip names of some releases, and the names that they should have."""
HEARD = {
    "1076_MTI_NEU_XX": "very short, no audio",
    "1076_MTI_SAD_XX": "no audio, very short",
    "1064_TIE_SAD_XX": "file has no duration",
    "1064_IEO_DIS_MD": "this file is actually 1 minute long and has all emotional displays for It's Eleven O'clock",
}
"""Clips that did not play as their names say, "most likely what the raters heard", with the reason in the words of the
corpus's README. Their MP3 and video files are faulty; of the WAV files only the one in FAULTY_WAV.
"""
FAULTY_WAV = ("1076_MTI_SAD_XX",)
SILENT_VIDEOS = frozenset(
    [
        "1005_IWW_DIS_XX",
        "1007_IWL_HAP_XX",
        "1037_DFA_ANG_XX",
        "1037_WSI_DIS_XX",
        "1037_WSI_FEA_XX",
        "1037_WSI_SAD_XX",
        "1039_IWL_SAD_XX",
        "1039_WSI_SAD_XX",
        "1045_ITS_HAP_XX",
        "1045_WSI_DIS_XX",
        "1046_TIE_HAP_XX",
        "1058_IEO_SAD_HI",
        "1061_TIE_ANG_XX",
        "1063_IEO_DIS_HI",
        "1067_IEO_FEA_LO",
        "1068_IEO_SAD_MD",
        "1070_IWL_SAD_XX",
        "1071_WSI_ANG_XX",
        "1072_WSI_ANG_XX",
        "1073_MTI_SAD_XX",
        "1075_IWW_DIS_XX",
        "1075_WSI_DIS_XX",
        "1076_ITH_HAP_XX",
        "1076_ITH_NEU_XX",
        "1076_TAI_NEU_XX",
        "1079_IWL_ANG_XX",
        "1079_TAI_DIS_XX",
        "1091_IWW_FEA_XX",
    ]
)
"""Clips whose video had no sound until December 2020, by the corpus's README."""


def with_audio(utterances: pl.DataFrame, root: Path, source: CremaDSource) -> tuple[pl.DataFrame, list[Finding]]:
    """The clips (column `own`) with their recordings; faulty ones are left out, and every fault is a finding."""
    where = source.corpus
    clips = set(utterances["own"])
    findings = _rated(clips, source)
    if source.recordings is not None:  # the folder that the user named takes the place of the corpus's own
        return utterances.drop("own"), findings
    there: dict[str, str] = {}
    misnamed, pointers = [], []
    for folder in _FOLDERS:  # a clip in both folders is taken as WAV
        for name in names_in(root / folder, SOUNDS):
            path = root / folder / name
            own = NAMES.get(path.stem, path.stem)
            if own != path.stem:
                if (root / folder / f"{own}{path.suffix}").is_file():
                    continue
                misnamed.append(f"{folder}/{name}")
            if _is_pointer(path):
                pointers.append(f"{folder}/{name}")
            else:
                there[own] = f"{folder}/{name}"
    faulty = [own for own, path in there.items() if own in clips and _is_faulty(own, path)]
    shown = [f"{there[own]} ({HEARD[own]})" for own in faulty]
    there = {own: path for own, path in there.items() if own not in faulty}
    several = ("recording", "recordings")
    rest = "left out as faulty by the corpus's README; the votes are read"
    findings += listing("known_fault", shown, several, rest, where)
    findings += listing("misnamed", misnamed, several, "read under a corrected name", where)
    fix = "Run `git lfs pull` in the corpus's folder."
    are = ("recording is only a pointer to a file", "recordings are only pointers to files")
    findings += listing("no_audio", pointers, are, "in Git LFS", where, fix)
    utterances, absent = with_recordings(utterances, there, _LOOKED_FOR, where)
    return utterances, [*findings, *absent]


def _is_faulty(own: str, path: str) -> bool:
    return own in (HEARD if path.startswith("AudioMP3/") else FAULTY_WAV)


def _is_pointer(path: Path) -> bool:
    """Whether a file is what a download without Git LFS leaves in the place of a recording."""
    if path.stat().st_size > _SMALL:
        return False
    with open_file(path) as stream:
        return stream.read(len(_POINTER)) == _POINTER


def _rated(clips: set[str], source: CremaDSource) -> list[Finding]:
    """Findings for clips that raters heard or saw otherwise than in the recording."""
    fix = "Leave these clips out of what you train on or score, or keep their votes knowingly."
    odd = [f"{own} ({reason})" for own, reason in HEARD.items() if own in clips]
    clips_of = ("clip", "clips")
    rest = "did not play to the raters as the name says, by the corpus's README; the votes are read"
    findings = listing("known_fault", odd, clips_of, rest, source.corpus, fix)
    if source.modality == "audio-visual":
        silent = sorted(SILENT_VIDEOS & clips)
        rest = "had a video without sound until December 2020, by the corpus's README; the votes are read"
        findings += listing("known_fault", silent, clips_of, rest, source.corpus, fix)
    return findings
