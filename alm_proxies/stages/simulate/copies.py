"""The truth of generated copies: what the crowd would answer to an utterance made higher, faster or louder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from alm_proxies.audio.recipe import Recipe
from alm_proxies.errors import InputError
from alm_proxies.files import read_text
from alm_proxies.stages.simulate.cues import CUES, LABELS, Array, changed
from alm_proxies.stages.simulate.listeners import true_distribution
from alm_proxies.stages.simulate.stage import MARKER, PARAMETERS
from alm_proxies.tables import About, Finding, Findings, Labels, Utterances


@dataclass(frozen=True, slots=True)
class Truth:
    """The crowd's expected answers, where they are defined; the findings name the copies for which they are not."""

    labels: Labels
    findings: Findings


def truth_of_copies(folder: str | Path, utterances: Utterances) -> Truth:
    """The truth of every generated utterance (with a recipe) whose parent is in the simulated corpus of a folder.

    Defined for one parent changed by pitch, speed and gain; mixtures and other effects are findings ("undefined").
    """
    folder = Path(folder)
    if not (folder / PARAMETERS).is_file():
        raise InputError("is no simulated corpus", where=str(folder), fix="Name a folder that simulate has written.")
    crowd = int(json.loads(read_text(folder / MARKER))["settings"]["crowd"])
    known = pl.read_parquet(folder / PARAMETERS)
    rows = known.select(*CUES, "headroom").to_numpy()
    cues = dict(zip(known["utterance_id"], rows, strict=True))
    made = utterances.frame.filter(pl.col("recipe").is_not_null()).sort("utterance_id")
    ids: list[str] = []
    heard: list[Array] = []
    findings: list[Finding] = []
    for name, written in made.select("utterance_id", "recipe").iter_rows():
        recipe = Recipe.read(written, where=name)
        parent = cues.get(recipe.parents[0][0]) if len(recipe.parents) == 1 else None
        after = None if parent is None else changed(parent[:-1], recipe.effects, headroom=float(parent[-1]))
        if after is None:
            message = (
                "the crowd's answer to this copy is not defined: it is a mixture, or noise, band or masks change it"
            )
            fix = "Score it against votes, or leave it out."
            findings.append(Finding("simulate", "undefined", message, fix, utterance_id=name))
            continue
        ids.append(name)
        heard.append(after)
    shares = true_distribution(np.stack(heard) if heard else np.zeros((0, len(CUES))), crowd)
    frame = pl.DataFrame({"utterance_id": pl.Series(ids, dtype=pl.String())}).with_columns(
        pl.Series(f"p_{label}", shares[:, k]) for k, label in enumerate(LABELS)
    )
    return Truth(Labels.of(frame, about=About(taxonomy=LABELS)), Findings.gather(findings))
