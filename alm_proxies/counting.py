"""Settings for counting votes; `ballots` applies them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from alm_proxies.settings import Alias, Settings


class Merge(Settings):
    """How secondary labels count: an utterance's counts are votes * (primary * P + secondary * S).

    P are the shares of the primary labels; S is the mean over raters with secondary labels of the shares of their
    lists, which sum to 1 (arXiv 2606.27536). An utterance without secondary labels keeps P.
    """

    primary: float = Field(default=1.0, gt=0, le=1)
    """Share of the primary labels."""
    secondary: float = Field(default=0.0, ge=0, lt=1)
    """Share of the secondary labels; the two sum to 1 (0.9 and 0.1 are usual)."""

    @model_validator(mode="after")
    def _sum(self) -> Self:
        if abs(self.primary + self.secondary - 1) > 1e-9:
            raise ValueError(f"primary and secondary sum to {self.primary + self.secondary:g}, not 1")
        return self


class Counting(Settings):
    """How votes are counted for a fit: settings of fuse, stored in its labels for later comparisons."""

    merge: Merge = Merge()
    """How secondary labels count. Where any rater of an utterance named some, all its votes, also those of raters who
    named none, give the share `secondary` to the mean of the lists that were named."""
    consensus: bool = False
    """Count published consensus labels (annotator "corpus/consensus") as votes."""
    columns: Annotated[tuple[str, ...], Alias("column")] = ()
    """Numeric columns of the utterances (duration, prosody) used as features of the gate, like proxies."""
