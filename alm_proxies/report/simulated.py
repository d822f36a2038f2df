"""The notice for reports on simulated speech, shown at the top of the page."""

from __future__ import annotations

from alm_proxies.report.drawing import listed
from alm_proxies.tables import Utterances

SIMULATED = "sim"
"""The name of simulated corpora and of their data card."""


def simulated_words(utterances: Utterances) -> str:
    """The notice of a report on simulated speech; empty if no corpus is known to be simulated."""
    corpora = sorted(utterances.frame["corpus"].unique().to_list())
    made_by = utterances.about.made_by
    simulated = corpora if made_by is not None and made_by.stage == "simulate" else [SIMULATED]
    present = [corpus for corpus in simulated if corpus in corpora]
    if not present:
        return ""
    which = "This corpus is simulated" if present == corpora else f"The corpus {listed(present)} is simulated"
    return (
        f"{which}: the speech is synthetic and the listeners are a model. The report shows how the method works; it is "
        "no evidence about people, nor about how well a proxy recognises emotion in real speech."
    )
