"""The settings of fuse."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from alm_proxies.counting import Counting
from alm_proxies.plugins import checked
from alm_proxies.renamed import renamed
from alm_proxies.settings import Choices
from alm_proxies.stage import Need, Stage


class FuseSettings(Counting):
    """The settings of fuse: the method and its parameters."""

    method: Annotated[str, AfterValidator(checked("estimators")), Choices("estimators")] = "auto"
    """The method. auto stacks weighted, loglinear, gated and mixture, and methods without proxies, by held-out
    (cross-validated) human votes, and raters if raters are known and it helps; chosen takes the single best of them.
    pool needs no human votes: without any it gives the plain shares of the proxies' votes.
    """
    classes: int = Field(default=16, ge=1, le=256)
    """The number of latent classes of gated and mixture; auto has its own."""
    penalty: float = Field(default=0.001, gt=0)
    """Penalty on the gate's slopes; auto has its own."""
    folds: int = Field(default=5, ge=2, le=50)
    """The number of folds of auto and chosen, by speaker if known."""
    ambiguity: Literal["thirds", "quantiles"] | tuple[float, float] = "thirds"
    """Where the entropy of a label, over ln K, is cut into low, medium and high ambiguity. thirds: at 1/3 and 2/3;
    quantiles: a third of these labels each; or the two cut points. They travel in the labels: balance, align, evaluate
    and export go by them."""
    seed: int = 0
    """Random seed of folds, samples and starting points. Classes of gated (in auto too) and mixture start at random, so
    another seed gives slightly other labels."""

    @field_validator("ambiguity")
    @classmethod
    def _cut_points_rise(cls, value: str | tuple[float, float]) -> str | tuple[float, float]:
        if isinstance(value, tuple) and not 0 <= value[0] < value[1] <= 1:
            raise ValueError("two cut points from 0 to 1 are needed, the lower one first")
        return value

    @field_validator("method", mode="before")
    @classmethod
    def _new_name(cls, method: object) -> object:
        if method != "stacking":
            return method
        renamed("the method stacking", "supervised", stacklevel=2)
        return "supervised"


STAGE = Stage(
    verb="fuse",
    settings=FuseSettings,
    function="alm_proxies.stages.fuse.stage:fuse",
    needs=(
        Need(
            "votes",
            "votes",
            every=("read/votes", "annotate/votes", "listen/votes"),
            help="One or more votes files: human votes, proxy votes.",
        ),
        Need(
            "utterances",
            "utterances",
            first=("read/utterances",),
            optional=True,
            help="The utterances, for the speakers (folds are speaker-disjoint) and the gate's columns, or a folder of "
            "recordings.",
        ),
    ),
    writes={"labels": "labels.parquet", "trials": "trials.parquet"},
    may_write={"fitted": "fitted.json"},
    by_files="alm_proxies.stages.fuse.files:fuse_files",
    plugins={"method": "estimators"},
    foresee="alm_proxies.stages.fuse.ahead:foresee",
    revision=9,
)
