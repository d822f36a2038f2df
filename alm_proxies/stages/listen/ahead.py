"""The forecast of listen."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import polars as pl

from alm_proxies.ballots import which_count
from alm_proxies.files import weights_digest
from alm_proxies.printable import counted
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.listen.settings import FEWEST
from alm_proxies.tables import Utterances, Votes


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The content of the encoder if it is a folder; else its name."""
    model = ahead.settings.model
    if model is None:
        return {}
    path = Path(model).expanduser()
    return {"model": weights_digest(path) if path.is_dir() else str(model)}


def foresee(ahead: Ahead) -> Foreseen:
    """The number of utterances it votes on, missing packages, and too few human votes to learn from."""
    utterances = ahead.count("utterances", "utterances")
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    lacking = ahead.settings.recipe == "encoder" and bool(missing)
    fix = "Install it with: pip install 'alm-proxies[local]', or set recipe = \"features\"."
    problems = [f"the encoder needs {missing[0]}, which is not installed. {fix}"] if lacking else []
    votes = ahead.table("votes")
    if votes is not None:
        problems += _too_few(votes, ahead.table("utterances"))
    return Foreseen(
        facts=(f"votes of a listener on about {counted(utterances, 'utterance')}",) if utterances else (),
        problems=tuple(problems),
        counts={"votes": utterances},
    )


def _too_few(votes: Votes, utterances: Utterances | None) -> list[str]:
    """What it has too few of to learn from: human votes, or recordings of what they are on."""
    rated = votes.frame.filter(which_count("human"))["utterance_id"].unique()
    words = f"listen needs {FEWEST} utterances with human votes that are not held out"
    if len(rated) < FEWEST:
        return [f"{words}, and there are {len(rated)}. Have more rated, hold out fewer votes, or leave [listen] out."]
    if utterances is None:
        return []
    named = utterances.frame.filter(pl.col("audio").is_not_null())["utterance_id"]
    heard = int(rated.is_in(named.implode()).sum())
    if heard >= FEWEST:
        return []
    fix = 'Name their recordings in [[read]]: recordings = "FOLDER", or leave [listen] out.'
    return [f"{words} and a recording; {heard} of {len(rated)} have one. {fix}"]
