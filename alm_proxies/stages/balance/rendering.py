"""Render generated items to files once, instead of from their recipes whenever they are opened."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import soundfile

from alm_proxies.audio.recipe import Sounds
from alm_proxies.files import digest_of, make_folder, whole
from alm_proxies.tables import Finding, Utterances


def rendered(
    rows: pl.DataFrame, utterances: Utterances, folder: Path, cards: Path | None
) -> tuple[pl.DataFrame, list[Finding]]:
    """Render generated utterances to 24-bit FLAC files, named by their recipes; `cards` is a folder of own data cards.

    Those that cannot be rendered are left out, with a finding each. 24 bits represent a sample to 6e-8, so that the
    file equals the recipe.
    """
    make_folder(folder)
    sounds = Sounds(Utterances(pl.concat([utterances.frame, rows]), utterances.about), stage="balance", cards=cards)
    recipes = dict(zip(rows["utterance_id"], rows["recipe"], strict=True))
    paths: list[str | None] = []
    seconds: list[float | None] = []
    findings: list[Finding] = []
    for opened in sounds.ahead(rows["utterance_id"]):
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
    placed = rows.with_columns(
        audio=pl.Series(paths, dtype=pl.String), duration=pl.Series(seconds, dtype=pl.Float64)
    ).filter(pl.col("audio").is_not_null())
    return placed, findings
