"""The forecast of evaluate."""

from __future__ import annotations

import polars as pl

from alm_proxies.about import about_of
from alm_proxies.ballots import which_count
from alm_proxies.printable import counted
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.tables import Utterances, Votes
from alm_proxies.trained_on import meets, trained_on_by, with_dividing_splits

_FIX = 'Split by speaker: write split = "speakers:.7,.1,.2" in [[read]]'


def foresee(ahead: Ahead) -> Foreseen:
    """A problem if no prediction could be scored: no vote is held out, or models are trained on all who are tested."""
    if problem := _other_truth(ahead):
        return Foreseen(problems=(problem,))
    utterances, votes = ahead.table("utterances"), ahead.table("votes")
    if utterances is None or votes is None:
        return Foreseen()
    if not votes.frame["held_out"].any():
        fix = "Write [hold_out], or leave [evaluate] out."
        return Foreseen(problems=(f"evaluate has nothing to score with: no vote is held out. {fix}",))
    if not votes.frame.select(which_count("held_out").any()).item():
        why = "no held-out vote is for a label of the taxonomy"
        fix = "Map their words to labels: map = { ... } in [[read]]."
        return Foreseen(problems=(f"evaluate has nothing to score with: {why}. {fix}",))
    scored = _scored(utterances, votes)
    if scored:
        are = counted(scored, "utterance with held-out votes is", "utterances with held-out votes are")
        return Foreseen(facts=(f"{are} apart from what models are trained on",))
    speakers = utterances.frame["speaker"]
    if speakers.null_count() == len(speakers):
        why = "no utterance has a speaker, so a model may have been trained on the speaker of any of them"
        fix = 'Name their column, or that of a split, in [[read]]: columns = { ..., speaker = "..." }'
    else:
        why, fix = "models are trained on the speaker of every utterance with held-out votes", _FIX
    return Foreseen(problems=(f"evaluate has nothing to score: {why}. {fix}, or leave [evaluate] out.",))


def _other_truth(ahead: Ahead) -> str | None:
    """What is wrong if the truth of the synthetic corpus has other labels than all other tables."""
    known, paths = ahead.table("truth"), ahead.inputs.get("truth", ())
    about = known if known is not None else about_of(paths[0]) if paths and paths[0].exists() else None
    if about is None or not about.taxonomy or not ahead.labels or about.taxonomy == ahead.labels:
        return None
    named = ", ".join(f'"{label}"' for label in about.taxonomy)
    message = (
        f"evaluate cannot score by the truth of the synthetic corpus, whose labels are not {', '.join(ahead.labels)}"
    )
    return f"{message}. Write taxonomy = [{named}], or leave [evaluate] out."


def _scored(utterances: Utterances, votes: Votes) -> int:
    """The number of utterances with held-out votes for a label, of speakers that are not trained on.

    Utterances of split train, development or none are trained on if they have votes that are not held out.
    """
    given = votes.frame.filter(which_count("human"))["utterance_id"]
    held = votes.frame.filter(which_count("held_out"))["utterance_id"]
    frame = utterances.frame.select("utterance_id", "corpus", "speaker", "split")
    learns = pl.col("split").fill_null("train").is_in(["train", "development"])
    learned = with_dividing_splits(frame.with_columns(learns=learns)).filter(
        "learns", pl.col("utterance_id").is_in(given.implode())
    )
    tested = frame.filter(pl.col("utterance_id").is_in(held.implode()))
    return int((~meets(tested, trained_on_by(learned))).sum())
