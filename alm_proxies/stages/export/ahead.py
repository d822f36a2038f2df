"""The forecast of export."""

from __future__ import annotations

import polars as pl

from alm_proxies.cards import digests_of_cards, how_to_allow, stays_because
from alm_proxies.plugins import plugin
from alm_proxies.printable import counted
from alm_proxies.stage import Ahead, Foreseen
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.tables import Utterances


def inputs_of(ahead: Ahead) -> dict[str, str]:
    """The content of the corpora's cards, which state what may be copied, and the licence."""
    corpora = sorted(Utterances.read(ahead.inputs["utterances"][0]).frame["corpus"].unique())
    return digests_of_cards(corpora, ahead.settings.cards)


def foresee(ahead: Ahead) -> Foreseen:
    """The highest number of exported labels; recordings that the format needs, and may not have or does not get."""
    count = ahead.count("labels", "labels")
    settings: ExportSettings = ahead.settings
    facts = (f"{counted(count, 'label')} at most, as {settings.format}",) if count else ()
    utterances, kind = ahead.table("utterances"), plugin("exports", settings.format).load()
    if utterances is None or not kind.needs_audio:
        return Foreseen(facts, counts={"labels": count})
    sounds = pl.col("audio").is_not_null() | pl.col("recipe").is_not_null()
    by_corpus = utterances.frame.group_by("corpus", maintain_order=True).agg(sounds.sum()).rows()
    lost = {"no_audio": len(utterances) - sum(there for _, there in by_corpus)}
    silent = counted(lost["no_audio"], "utterance has", "utterances have")
    reasons = [f"{silent} no recording"] if lost["no_audio"] else []
    fixes = ['Read the corpus with its recordings (recordings = "...").'] if lost["no_audio"] else []
    for corpus, there in by_corpus if kind.inside else ():
        why = stays_because(corpus, named=settings.may_leave, folder=settings.cards)
        if there and why:
            lost[corpus] = there
            reasons.append(f"{counted(there, 'recording')} may not be copied into the format: {why}")
            fixes.append(how_to_allow(corpus, settings.cards))
    if not reasons:
        return Foreseen(facts, counts={"labels": count})
    if sum(lost.values()) < len(utterances):
        warnings = tuple(f"{reason}; left out of the export. {fix}" for reason, fix in zip(reasons, fixes, strict=True))
        return Foreseen(facts, warnings, counts={"labels": count})
    refused = f"nothing can be exported as {settings.format}: {'; '.join(reasons)}. {' '.join(fixes)}"
    return Foreseen(facts, problems=(refused,), counts={"labels": count})
