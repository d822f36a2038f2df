"""Settings of balance: which shares are wanted, how far weights may go, and what is generated."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from alm_proxies.settings import Settings
from alm_proxies.stage import Need, Stage

Share = Annotated[float, Field(ge=0)]
NAMED = ("uniform", "square_root", "keep")


class Cap(Settings):
    """How far weights may go."""

    utterance: float | None = Field(default=None, ge=1)
    """Largest weight of an utterance, where the mean is 1; null = no limit."""
    speaker: float | None = Field(default=None, gt=0, le=1)
    """Largest share of all weight that one speaker may have; null = no limit."""


class BalanceSettings(Settings):
    """Which shares of classes, ambiguity and groups are wanted, and how they are reached."""

    classes: Literal["uniform", "square_root", "keep"] | dict[str, Share] | str = "uniform"
    """Wanted share of each label: uniform, square_root (of today's shares), keep, label = share, or the path of a
    Labels file whose shares are wanted. Shares are of the distributions, not of the most likely labels."""
    ambiguity: Literal["keep", "uniform"] | dict[Literal["low", "medium", "high"], Share] = "keep"
    """Wanted share of each level of ambiguity."""
    within: bool = False
    """Whether the classes have their shares within each level of ambiguity too, not only over all."""
    groups: dict[str, Literal["keep", "uniform"] | dict[str, Share]] | None = None
    """Wanted shares of the values of a column of the utterances, such as gender = "uniform"; null = gender and corpus
    are kept as they are."""
    cap: Cap = Cap()
    """How far weights may go."""
    splits: tuple[str, ...] = ("train",)
    """The splits that are balanced, besides utterances without a split; all others keep their weights."""

    @model_validator(mode="after")
    def _shares_sum(self) -> Self:
        wishes = {"classes": self.classes, "ambiguity": self.ambiguity, **(self.groups or {})}
        for name, wish in wishes.items():
            if isinstance(wish, dict) and not sum(wish.values()) > 0:
                raise ValueError(f"the shares of {name} are all 0; at least one must be above 0")
        return self


STAGE = Stage(
    verb="balance",
    settings=BalanceSettings,
    function="alm_proxies.stages.balance.stage:balance",
    needs=(
        Need("labels", "labels", first=("fuse/labels",), help="The labels file that fuse wrote."),
        Need(
            "utterances",
            "utterances",
            first=("read/utterances",),
            help="The utterances: splits, speakers, and columns whose shares can be asked for.",
        ),
    ),
    writes={
        "labels": "labels.parquet",
        "utterances": "utterances.parquet",
        "page": "report.html",
        "metrics": "metrics.json",
    },
    into_folder=True,
    depends="alm_proxies.stages.balance.ahead:inputs_of",
    foresee="alm_proxies.stages.balance.ahead:foresee",
)
