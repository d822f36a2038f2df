"""Settings of balance: wanted shares, limits on weights, copies and generated items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from alm_proxies.settings import PLACE, Settings
from alm_proxies.stage import Need, Stage

Share = Annotated[float, Field(ge=0)]
NAMED = ("uniform", "square_root", "keep")


class Cap(Settings):
    """Limits on weights."""

    utterance: float | None = Field(default=None, ge=1)
    """Largest weight of an utterance, where the mean is 1; null = no limit."""
    speaker: float | None = Field(default=None, gt=0, le=1)
    """Largest share of all weight that one speaker may have; null = no limit."""


EffectName = Literal["gain", "noise", "room", "telephone", "shift", "mask_frequency", "mask_time", "speed", "pitch"]


class Copies(Settings):
    """Whole copies instead of weights; every copy after the first is augmented."""

    size: float | None = Field(default=None, gt=0, le=20)
    """The number of items, as a multiple of the number of balanced utterances: 1 keeps it, 2 doubles it; null = weights
    and no copies.
    """
    effects: tuple[EffectName, ...] = Field(default=("room", "shift"), min_length=1)
    """The effects: each copy gets one of these, drawn by the seed. Others are off by default: gain, pitch and speed
    change cues of emotion (loudness, pitch, rate), which is reported; noise, telephone and mask_frequency change
    measured features most; mask_time may mask a word.
    """
    strength: float = Field(default=0.25, gt=0, le=1)
    """How strong the effects are, from 0 (hardly audible) to 1 (clearly audible). An effect that an utterance has got
    already, and that would sound the same, is down to half as strong.
    """


class Generated(Settings):
    """Items mixed from two utterances that are close in target and features, checked by a listener."""

    size: float | None = Field(default=None, gt=0, le=5)
    """The number of mixtures, as a multiple of the number of balanced utterances; those that the listener rejects are
    left out; null = none.
    """
    neighbours: int = Field(default=5, ge=1, le=100)
    """The number of nearest neighbours from which the second utterance is drawn."""
    speaker: Literal["compatible", "same"] = "compatible"
    """Which speakers are mixed: the same one only, or also speakers of the same corpus, gender and language."""
    controls: int = Field(default=100, ge=1)
    """The number of utterances for each positive control of the drift check."""


class Reference(Settings):
    """The paper's DiME-Aug with its defects corrected: the baseline of `method = "reference"`."""

    ratio: float = Field(default=0.25, gt=0, le=1)
    """Classes with fewer utterances than this part of the largest class's are filled up to it; the class of an
    utterance is its most likely label.
    """
    neighbours: int = Field(default=3, ge=2, le=100)
    """The number of nearest utterances of the same class from which one is drawn. As in the paper, it includes the
    utterance itself, which is never mixed with itself.
    """
    augmented: float = Field(default=0.3, ge=0, le=1)
    """Share of items with a change of pitch by up to a semitone, or of rate by up to 5 %."""


class EvaluationSets(Settings):
    """Test utterances with importance weights, and a subset of them, in which every label is equally common."""

    splits: tuple[str, ...] = ()
    """The splits that get importance weights and a subset, such as test; none where empty. Speakers of the balanced
    splits and generated items are never in it. The labels must be posterior means, made by fuse."""


class BalanceSettings(Settings):
    """The settings of balance: wanted shares of classes, ambiguity and groups, and the method."""

    method: Literal["dime", "reference"] = "dime"
    """The method. dime: weights, copies and generated items that reach the wanted shares. reference: the DiME-Aug of
    arXiv 2601.14620, as a baseline: rare classes are filled up with mixtures, and utterances are weighted by the
    inverse count of their most likely label. The wanted shares are then used only for comparison in the page."""
    classes: Annotated[Literal["uniform", "square_root", "keep"] | dict[str, Share] | str, PLACE] = "uniform"
    """Wanted share of each label: uniform, square_root (of today's shares), keep, label = share, or the path of a
    Labels file with the wanted shares, relative to the settings file. Shares are of the distributions, not of the most
    likely labels.
    """
    ambiguity: Literal["keep", "uniform"] | dict[Literal["low", "medium", "high"], Share] = "keep"
    """Wanted share of each level of ambiguity."""
    within: bool = False
    """Whether the class shares are also balanced within each level of ambiguity."""
    groups: dict[str, Literal["keep", "uniform"] | dict[str, Share]] | None = None
    """Wanted shares of the values of a column of the utterances, such as gender = "uniform"; no value counts as
    "unknown". null = gender and corpus keep their shares.
    """
    cap: Cap = Cap()
    """Limits on weights."""
    copies: Copies = Copies()
    """Whole copies instead of weights."""
    generated: Generated = Generated()
    """Items mixed from two utterances, weighted with all others."""
    reference: Reference = Reference()
    """What `method = "reference"` does; nothing with the other method."""
    evaluation: EvaluationSets = EvaluationSets()
    """Sets to evaluate on."""
    render: bool = False
    """Render copies and generated items to audio/*.flac, instead of from their recipes whenever they are opened."""
    examples: int = Field(default=30, ge=0, le=200)
    """The number of copies and generated items to listen to in the page, with their parents, if the corpus's card
    allows it.
    """
    may_leave: tuple[str, ...] = ()
    """Corpora that you may copy into a page although their card forbids it."""
    cards: Annotated[Path, PLACE] | None = None
    """A folder of data cards that take precedence over the shipped ones."""
    seed: int = Field(default=0, ge=0)
    """Random seed of copies, effects and generated items."""
    splits: tuple[str, ...] = ("train",)
    """The splits that are balanced, besides utterances without a split; all others keep their weights."""

    @model_validator(mode="after")
    def _shares_sum(self) -> Self:
        wishes = {"classes": self.classes, "ambiguity": self.ambiguity, **(self.groups or {})}
        for name, wish in wishes.items():
            if isinstance(wish, dict) and not sum(wish.values()) > 0:
                raise ValueError(f"the shares of {name} are all 0; at least one must be above 0")
        return self

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := set(self.evaluation.splits) & set(self.splits):
            raise ValueError(f"evaluation.splits and splits both name {sorted(both)[0]}; a split is one or the other")
        return self

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if self.method == "reference":
            for name, unused in (("copies", Copies()), ("generated", Generated()), ("cap", Cap())):
                if getattr(self, name) != unused:
                    raise ValueError(f'method = "reference" has no {name}; leave {name} out, or use method = "dime"')
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
            help="The utterances: splits, speakers, and group columns.",
        ),
    ),
    writes={
        "labels": "labels.parquet",
        "utterances": "utterances.parquet",
        "page": "report.html",
        "metrics": "metrics.json",
    },
    into_folder=True,
    contains=("report_charts/*", "audio/*"),
    working=("features/*", "remembered/*"),
    hears=True,
    states_places=True,
    depends="alm_proxies.stages.balance.ahead:inputs_of",
    foresee="alm_proxies.stages.balance.ahead:foresee",
    refuses_tables=True,
    revision=6,
)
