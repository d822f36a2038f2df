"""MSP-IMPROV: the votes of Evalution.txt (the release spells it so), and the recordings of Audio/."""

from __future__ import annotations

from typing import Literal

from alm_proxies.stages.read.settings import Reader, Source


class MspImprovSource(Source):
    """The folder of MSP-IMPROV, or its file of evaluations."""

    format: Literal["msp_improv"] = "msp_improv"
    """MSP-IMPROV, as it is unpacked."""


READER = Reader(MspImprovSource, "alm_proxies.stages.read.msp_improv:read_msp_improv", beside="audio")
