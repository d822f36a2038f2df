"""What may be said of simulate."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from alm_proxies.settings import Settings
from alm_proxies.stage import Stage

LISTENERS = 80
"""How many people a crowd has."""


class SimulateSettings(Settings):
    """How large a corpus, who speaks, who listens."""

    utterances: int = Field(default=300, ge=1, le=999_999)
    """How many utterances; dialogues of 6 to 12 turns hold them."""
    seed: int = Field(default=0, ge=0)
    """Random seed: another seed, another corpus of the same people."""
    speakers: int = Field(default=60, ge=12, le=998, multiple_of=2)
    """How many people speak, half of them women; no split shares one with another."""
    votes: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (3, 5)
    """Fewest and most votes an utterance gets."""
    dense: int = Field(default=0, ge=0)
    """So many votes more for every utterance, by other raters and held out: to score against."""
    crowd: int = Field(default=0, ge=0)
    """Crowd 0 answers as human raters of acted speech do; any other number is another crowd hearing other speakers."""
    corpus: str = Field(default="sim", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """The prefix of every id, and the name of the data card."""

    @model_validator(mode="after")
    def _enough_listeners(self) -> SimulateSettings:
        if self.votes[0] > self.votes[1]:
            raise ValueError("votes names the fewest first, then the most")
        if self.votes[1] + self.dense > LISTENERS:
            raise ValueError(f"a crowd has {LISTENERS} listeners: votes and dense together ask for more")
        return self


STAGE = Stage(
    verb="simulate",
    settings=SimulateSettings,
    function="alm_proxies.stages.simulate.stage:simulate",
    writes={"utterances": "utterances.parquet", "votes": "votes.parquet", "truth": "truth.parquet"},
    into_folder=True,
    foresee="alm_proxies.stages.simulate.ahead:foresee",
)
