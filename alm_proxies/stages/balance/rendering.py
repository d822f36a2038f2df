"""Generated items as files: their sound, made from their recipes once, in place of every time they are opened."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import soundfile

from alm_proxies.audio.recipe import Sounds
from alm_proxies.files import digest_of, make_folder, whole
from alm_proxies.tables import Finding, Utterances


def rendered(made: pl.DataFrame, utterances: Utterances, folder: Path) -> tuple[pl.DataFrame, list[Finding]]:
    """The rows of generated utterances with their sound in 24-bit FLAC files, named by their recipes.

    Those whose sound cannot be made are left out, with a finding each. 24 bits hold a sample to 6e-8, so that the file
    and the recipe are the same sound.
    """
    make_folder(folder)
    sounds = Sounds(Utterances(pl.concat([utterances.frame, made]), utterances.about), stage="balance")
    recipes = dict(zip(made["utterance_id"], made["recipe"], strict=True))
    paths: list[str | None] = []
    seconds: list[float | None] = []
    findings: list[Finding] = []
    for opened in sounds.ahead(made["utterance_id"]):
        if opened.clip is None:
            findings += opened.findings
            paths.append(None)
            seconds.append(None)
            continue
        path = folder.absolute() / f"{digest_of(recipes[opened.utterance_id])}.flac"
        with whole(path) as temporary:
            soundfile.write(temporary, opened.clip.samples, opened.clip.rate, format="FLAC", subtype="PCM_24")
        paths.append(str(path))
        seconds.append(len(opened.clip.samples) / opened.clip.rate)
    placed = made.with_columns(
        audio=pl.Series(paths, dtype=pl.String), duration=pl.Series(seconds, dtype=pl.Float64)
    ).filter(pl.col("audio").is_not_null())
    return placed, findings
