"""Whose recordings the utterances of a table are made of: a generated item has those of all its parents."""

from __future__ import annotations

import json
from collections.abc import Mapping

import polars as pl

from alm_proxies.trained_on import with_dividing_splits

_DEEPEST = 16  # recipes of recipes


def people_of(utterances: pl.DataFrame) -> pl.DataFrame:
    """One row for every recording that an utterance is made of: utterance_id, part (the recorded utterance), its
    corpus, speaker and split, and group: the speaker, or the part if it is not known.

    A recorded utterance is its own part; those of a generated item are its parents, or theirs. The split is that of
    with_dividing_splits over the recorded utterances. A parent that is not in the table has the item's own corpus and
    speaker.
    """
    recorded = with_dividing_splits(
        utterances.filter(pl.col("recipe").is_null()).select("corpus", "speaker", "split", part="utterance_id")
    )
    items = utterances.filter(pl.col("recipe").is_not_null()).select("utterance_id", "corpus", "speaker", "recipe")
    people = recorded.with_columns(utterance_id="part")
    if items.height:
        recipes: dict[str, str] = dict(items.select("utterance_id", "recipe").iter_rows())
        pairs = [(name, part) for name in recipes for part in sorted(_parts(name, recipes, _DEEPEST))]
        made = pl.DataFrame(pairs, schema={"utterance_id": pl.String, "part": pl.String}, orient="row")
        own = items.select("utterance_id", own_corpus="corpus", own_speaker="speaker")
        made = made.join(recorded, on="part", how="left").join(own, on="utterance_id", how="left")
        made = made.with_columns(
            corpus=pl.coalesce("corpus", "own_corpus"), speaker=pl.coalesce("speaker", "own_speaker")
        )
        people = pl.concat([people, made.select(people.columns)])
    return people.with_columns(group=pl.coalesce("speaker", "part"))


def _parts(name: str, recipes: Mapping[str, str], deepest: int) -> set[str]:
    if name not in recipes or not deepest:
        return {name}
    parents = [parent for parent, _ in json.loads(recipes[name])["parents"]]
    return set().union(*(_parts(parent, recipes, deepest - 1) for parent in parents))
