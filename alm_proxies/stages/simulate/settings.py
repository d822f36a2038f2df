"""The settings of simulate."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from alm_proxies.settings import Settings
from alm_proxies.stage import Stage

LISTENERS = 80
"""The number of listeners in a crowd."""


class SimulateSettings(Settings):
    """The settings of simulate: the size of the corpus, its speakers and its crowd."""

    utterances: int = Field(default=300, ge=1, le=999_999)
    """The number of utterances, in dialogues of 6 to 12 turns."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the corpus; the speakers and listeners do not depend on it."""
    speakers: int = Field(default=60, ge=12, le=998, multiple_of=2)
    """The number of speakers, half of them women; splits are speaker-disjoint."""
    votes: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (3, 5)
    """The lowest and the highest number of votes per utterance."""
    dense: int = Field(default=0, ge=0)
    """The number of additional held-out votes per utterance, by other raters, for scores."""
    crowd: int = Field(default=0, ge=0)
    """The crowd: 0 answers like human raters of acted speech; any other number is a different crowd with different
    speakers.
    """
    corpus: str = Field(default="sim", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """The prefix of every id, and the name of the data card."""

    @model_validator(mode="after")
    def _enough_listeners(self) -> SimulateSettings:
        if self.votes[0] > self.votes[1]:
            raise ValueError("votes needs the lowest number first, then the highest")
        if self.votes[1] + self.dense > LISTENERS:
            raise ValueError(f"a crowd has {LISTENERS} listeners: votes and dense together need more")
        return self


STAGE = Stage(
    verb="simulate",
    settings=SimulateSettings,
    function="alm_proxies.stages.simulate.stage:simulate",
    writes={"utterances": "utterances.parquet", "votes": "votes.parquet", "truth": "truth.parquet"},
    into_folder=True,
    contains=("simulate.json", "parameters.parquet", "wav/*.wav"),
    foresee="alm_proxies.stages.simulate.ahead:foresee",
)
