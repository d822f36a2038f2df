"""Whether what a report is of was simulated: its page must say so before anything else."""

from __future__ import annotations

from alm_proxies.report.drawing import listed
from alm_proxies.tables import Utterances

SIMULATED = "sim"
"""The name that simulate gives a corpus, and of its data card."""


def simulated_words(utterances: Utterances) -> str:
    """What a reader must know of a report on simulated speech; empty where none is known to be."""
    corpora = sorted(utterances.frame["corpus"].unique().to_list())
    made_by = utterances.about.made_by
    simulated = corpora if made_by is not None and made_by.stage == "simulate" else [SIMULATED]
    found = [corpus for corpus in simulated if corpus in corpora]
    if not found:
        return ""
    which = "This corpus is simulated" if found == corpora else f"The corpus {listed(found)} is simulated"
    return (
        f"{which}: synthetic speech, and listeners that are made up. The report shows how everything works; it says "
        "nothing about people, nor about how well a proxy hears real speech."
    )
