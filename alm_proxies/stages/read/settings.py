"""The settings of read: of a source (a [[read]] block), of all sources together, and of held-out votes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from alm_proxies.cards import checked_corpus
from alm_proxies.errors import SettingsError
from alm_proxies.settings import ARGUMENT, PLACE, Settings
from alm_proxies.stage import Choice, Need, Stage
from alm_proxies.taxonomy import checked_taxonomy

TrainedOn = Literal["no", "out_of_fold", "yes"]
UTTERANCES, VOTES = "utterances.parquet", "votes.parquet"
_NAMES = ("train", "development", "test")
_FIX = 'Write "speakers:.7,.1,.2" (train, development, test), "speakers:.8,.2" (train, test) or "folds:5".'


def shares_of(split: str) -> dict[str, float]:
    """The splits and their shares of the utterances, from "speakers:.7,.1,.2" or "folds:5"."""
    match = re.fullmatch(r"\s*(speakers|folds)\s*:\s*([0-9., ]+?)\s*", split)
    if match is None:
        raise SettingsError(f"{split!r} is not a valid split", fix=_FIX)
    try:
        numbers = [float(part) for part in match[2].split(",")]
    except ValueError:
        raise SettingsError(f"{split!r} has a part that is not a number", fix=_FIX) from None
    if match[1] == "folds":
        if len(numbers) != 1 or not numbers[0].is_integer() or not 2 <= numbers[0] <= 1000:
            raise SettingsError(f"{split!r}: the number of folds is a whole number from 2 to 1000", fix=_FIX)
        folds = int(numbers[0])
        return {f"fold{number}": 1 / folds for number in range(1, folds + 1)}
    if not 2 <= len(numbers) <= 3 or any(share <= 0 for share in numbers) or abs(sum(numbers) - 1) > 1e-6:
        raise SettingsError(f"{split!r}: give two or three shares above 0 that sum to 1", fix=_FIX)
    names = _NAMES if len(numbers) == 3 else ("train", "test")
    return dict(zip(names, numbers, strict=True))


def checked_split(split: str) -> str:
    """The value itself if valid; else a ValueError with the fix, as pydantic expects."""
    try:
        shares_of(split)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return split


def _file_in(place: Path | None, name: str) -> Path | None:
    """The file of this name if the place is a folder, else the place itself."""
    return place / name if place is not None and place.is_dir() else place


class Source(Settings):
    """One corpus to read: a [[read]] block of a pipeline file; each format has a class of its own with more keys."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)
    corpus: Annotated[str, AfterValidator(checked_corpus)] = ""
    """The prefix of its ids; its card is data_cards/<corpus>.md. By default the name of the format; a table and a data
    set of Hugging Face have none, and need a name here. Tables of ours keep their ids.
    """
    format: str
    """The reader: crema_d, table ..."""
    source: Annotated[Path, PLACE, ARGUMENT]
    """The corpus's folder, or one of its label files."""
    recordings: Annotated[Path, PLACE] | None = None
    """The folder that holds its recordings, where they do not lie in the source or no column names them. Each is found
    by the path or file name that the source gives, with or without its ending, else by the utterance's own id."""
    map: dict[str, str] = Field(default_factory=dict)
    """The label of each word: Excited = "happy", Other = "outside". Usual synonyms of a label (joy, happiness, anger
    ...) need no entry. A label's own name as a key covers its synonyms too; any other key covers that word only. Case
    is ignored.
    """
    split: Annotated[str, AfterValidator(checked_split)] | None = None
    """A split by speaker: "speakers:.7,.1,.2" (train, development, test) or "folds:5". Further utterances or speakers
    change it: keep_splits keeps it.
    """
    keep_splits: Annotated[Path, PLACE] | None = None
    """The table of an earlier split, with the columns speaker and split, such as the utterances.parquet of the corpus
    before it grew: its speakers keep their split, and split assigns the others. Copy it: read writes its own anew.
    keep_held_out keeps the held-out votes.
    """
    keep_held_out: Annotated[Path, PLACE] | None = None
    """The votes of an earlier read, such as the votes.parquet of the corpus before it grew: votes that it holds out
    stay held out, and of the others those that it has in the fit are the last to be. hold_out decides how many are.
    Copy it: read writes its own anew.
    """
    read_as: str | None = Field(default=None, alias="as", pattern=r"^(human|proxy:[A-Za-z0-9][A-Za-z0-9_.-]*)$")
    """Whose votes these are: proxy:NAME reads the votes or soft labels as the votes of one proxy of that name; human,
    the default, reads them as they are. Use proxy for another modality of the corpus or for the probabilities of a
    classifier.
    """
    trained_on_these_votes: TrainedOn | None = None
    """Whether the proxy was trained on human votes of these utterances; required with as = "proxy:NAME". no = it never
    saw them; out_of_fold = each vote is from a model trained without the speaker; yes = it saw them, which is refused.
    """
    folds: Annotated[Path, PLACE] | None = None
    """The folds in which an out_of_fold proxy was trained; fuse uses the same. A table with a column fold and a column
    speaker (or utterance_id), or the name of a column of the source that is listed in groups.
    """

    @model_validator(mode="after")
    def _splits_are_kept_of_a_split(self) -> Self:
        if self.keep_splits is not None and self.split_of_speakers is None:
            raise ValueError('keep_splits goes with a split by speaker: add split = "speakers:.7,.1,.2"')
        return self

    @field_validator("trained_on_these_votes")
    @classmethod
    def _not_on_these_votes(cls, value: TrainedOn | None) -> TrainedOn | None:
        if value == "yes":
            raise ValueError(
                "a proxy that was trained on these votes repeats them, so fusing it would count them twice: train it "
                "without the speaker of each utterance (out_of_fold), or leave it out"
            )
        return value

    @model_validator(mode="after")
    def _proxy_says_what_it_was_trained_on(self) -> Self:
        if self.proxy is None and (self.trained_on_these_votes is not None or self.folds is not None):
            raise ValueError('trained_on_these_votes and folds are for proxies: add as = "proxy:NAME"')
        if self.proxy is not None and self.trained_on_these_votes is None:
            raise ValueError(
                f"was {self.proxy!r} trained on human votes of these utterances? Add trained_on_these_votes = "
                '"no" or "out_of_fold"'
            )
        if self.folds is not None and self.trained_on_these_votes != "out_of_fold":
            raise ValueError('folds go with trained_on_these_votes = "out_of_fold" only')
        return self

    @property
    def split_of_speakers(self) -> str | None:
        """The split by speaker to make; None if there is none, or if the format's reader makes one of its own."""
        return self.split

    @property
    def further_files(self) -> dict[str, Path]:
        """The files besides the source that it is read with, by what they are: folds, splits and votes to keep."""
        corpus = self.corpus or self.format
        named = {
            f"folds of {self.proxy}": self.folds,
            f"kept splits of {corpus}": _file_in(self.keep_splits, UTTERANCES),
            f"kept held-out votes of {corpus}": _file_in(self.keep_held_out, VOTES),
        }
        return {name: path for name, path in named.items() if path is not None and path.is_file()}

    @property
    def proxy(self) -> str | None:
        """The name of the proxy; None for human votes."""
        return self.read_as.removeprefix("proxy:") if self.read_as and self.read_as != "human" else None


class HoldOut(Settings):
    """The held-out human votes, used for scores and in no fit: a pipeline file's [hold_out]."""

    splits: tuple[str, ...] = ()
    """The splits with all human votes held out."""
    keep: int | None = Field(default=None, ge=0)
    """In the other splits, the number of human votes per utterance kept for the fit, chosen by the seed. By default
    all. What a known rater answered for an utterance is one vote. Ratings without a label are counted apart.
    """

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.splits and self.keep is None:
            raise ValueError('names no votes to hold out: write keep = 3, splits = ["test"] or both')
        return self


class ReadSettings(Settings):
    """The settings of all sources together."""

    taxonomy: Annotated[str | tuple[str, ...], AfterValidator(checked_taxonomy)] | None = None
    """The taxonomy: a name such as msp8, or the labels in order. By default the labels of the corpus's card."""
    seed: int = 0
    """Random seed of splits and of the choice of held-out votes."""
    hold_out: HoldOut | None = None
    """The held-out human votes, which no fit sees: keep = 3 and/or splits = ["test"]. Without them nothing can be
    evaluated.
    """
    cards: Annotated[Path, PLACE] | None = None
    """A folder with your own data cards."""
    align_ratings: Literal["linear", "rank"] = "linear"
    """How ratings of several corpora are put on one scale. linear: from the two ends of each scale to 0..1; rank: each
    rating is its rank among the fitted human ratings of its corpus, from 0 to 1.
    """
    translate: tuple[Literal["ratings", "labels"], ...] = ()
    """Votes to translate for corpora that lack them, learned from corpora that have both: ratings from labels, labels
    from ratings. They are votes of a proxy; their error on held-out votes is a finding. By default none.
    """


@dataclass(frozen=True, slots=True)
class Reader:
    """The reader of a format: the class of its settings and the function that reads it."""

    settings: type[Source]
    function: str
    """module:function(source, vocabulary, card) -> Part."""
    files: tuple[str, ...] = ()
    """The files it reads in a folder. By default every file of the folder counts as an input."""
    beside: str = ""
    """A pattern for the names, in any case, of what it reads beside a source that is a label file, and in the folder
    above a folder of labels.
    """


STAGE = Stage(
    verb="read",
    settings=ReadSettings,
    function="alm_proxies.stages.read.stage:read",
    needs=(Need("sources", "folder", every=("simulate/utterances",), optional=True),),
    writes={"utterances": UTTERANCES, "votes": VOTES},
    may_write={"labels": "labels.parquet", "page": "corpora.html"},
    working=("remembered/*",),
    blocks="combined",
    block=Source,
    blocks_as="sources",
    choice=Choice("format", "readers", subcommands=True),
    depends="alm_proxies.stages.read.ahead:inputs_of",
    foresee="alm_proxies.stages.read.ahead:foresee",
    states_places=True,
    revision=5,
)
