'''A stage is declared once: everything else is derived from `STAGE = Stage(...)` in its settings.py.

Derived are the command with its flags, the section of a pipeline file, the order of stages (a graph of needs), what a
task's digest covers, the reach of `[vary]`, and the lines of `check`. The stage's function is written and typed by
hand; a test compares its signature with the declaration. Nothing here, and nothing in a settings.py, imports numpy,
polars or tables; functions are strings, "module:name", imported when called.

To add a stage `weigh`: stages/weigh/settings.py, stages/weigh/stage.py, and a line in stages/registry.py.

    class WeighSettings(Settings):                              # settings.py
        """How rows are weighed."""

        cap: float = 8.0
        """The largest weight."""

    STAGE = Stage(
        verb="weigh",
        settings=WeighSettings,
        function="alm_proxies.stages.weigh.stage:weigh",
        needs=(
            Need("labels", "labels", first=("fuse/labels",)),
            Need("utterances", "utterances", first=("read/utterances",)),
        ),
        writes={"labels": "labels.parquet", "page": "report.html"},
    )

    def weigh(labels: Labels, utterances: Utterances, settings: WeighSettings) -> Weighed: ...     # stage.py

**The function** takes the needs by name (tables; a folder as a Path, a JSON file as plain data), those that are
`optional` as keywords with the default None, then `settings`. It may take `quiet` and `workers`. Its result is a frozen
dataclass with `.findings`, an attribute for every name in `writes` and, optionally, `.counts` (plain
numbers; "left_out" of "votes", or of "recordings", decides the exit code; `.recordings` and `.left_out` may be beside
them), `.line` (one line for people), `.data` (more, for --json), `.complete` (False: go on next time) and
`.interrupted`. The runner writes the attributes: tables, data frames, JSON values, pages.
With `into_folder=True` the function takes `folder` too and writes all of `writes` there itself.

**Needs.** `first=("balance/labels", "fuse/labels")` is the output of the first of these stages that the run has;
`every=("read/votes", "annotate/votes", "listen/votes")` is that of all it has: `votes` and `utterances` put together
as one table, anything else as {name: table}, named by block or stage (on the command line by the file). So fuse takes
listen's votes if there are any, train takes balance's labels or else fuse's, evaluate takes every prediction:
`Need("predictions", "labels", every=("predict/labels",))`. A need without any such stage is an error, or None if it is
`optional`. On the command line the first need is the argument (several with `every`), others are flags (`flag` gives
another name, `positional` makes an argument).

**Blocks.** "one": `[fuse]`. "combined": `[[read]]`, many blocks that one task does; the function takes them under
`blocks_as`. "named": `[[train]]`, a folder and a task each, named by the settings' field `name`; a block that does not
say it is named by the stage's choice (the format of an export) or by the field's default.

**follows="train"**: a task for every block of [[train]], without a section of its own (`[predict]` may give settings
for all); its need of "train/..." is the one block, not all. `unless` names a property of the block's settings: why this
block has no such task and what to do, or None.

**choice**: the settings class depends on one key: `Choice("recipe", "recipes")` is looked for first, and the plug-in of
that name brings `.settings`. With `subcommands=True` it is a word on the command line: `read table`.

**contains** names result files in sub-folders ("wav/*.wav"), **working** files that are no result ("features/*"): every
file that a stage leaves is in `writes`, `may_write` or one of these. A lost or changed result file makes it run again.

**revision** is raised when the same settings and inputs give other results than before: finished stages run again.
'''

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel

from alm_proxies.plugins import Plugin, plugin
from alm_proxies.uris import remote_of

Table = Literal["utterances", "votes", "labels", "folder", "json"]
Blocks = Literal["one", "combined", "named"]
FILE_WIDE = ("taxonomy", "seed", "cards", "hold_out", "align_ratings", "translate")
"""Keys at the top of a pipeline file, for every stage with such a settings field, unless its section has the key."""


@dataclass(frozen=True, slots=True)
class Need:
    """An input of a stage from earlier ones: `name` is the argument of its function."""

    name: str
    table: Table
    first: tuple[str, ...] = ()
    """stage/output: the first of these stages that the run has."""
    every: tuple[str, ...] = ()
    """stage/output: all of these stages that the run has."""
    optional: bool = False
    flag: str = ""
    """Its flag on the command line, if it differs from its name."""
    positional: bool = False
    """Whether it is a positional argument though it is not the first need."""
    by_files: str = ""
    """module:function(paths, taxonomy, folder, quiet=...): what the stage takes instead of a table that is too big."""
    help: str = ""
    """Its help text."""

    def __post_init__(self) -> None:
        if bool(self.first) == bool(self.every):
            raise ValueError(f"the need {self.name} names stages either as first or as every")

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        """The stages that provide it, each with its output."""
        return tuple(cast(tuple[str, str], tuple(source.split("/"))) for source in (self.first or self.every))


@dataclass(frozen=True, slots=True)
class Choice:
    """A key that selects the settings class: the plug-in of that name has `.settings`."""

    key: str
    kind: str
    subcommands: bool = False


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The forecast of a stage."""

    facts: tuple[str, ...] = ()
    """Sentences for people."""
    warnings: tuple[str, ...] = ()
    """Warnings that do not stop a run: missing recordings, votes without a label."""
    problems: tuple[str, ...] = ()
    """Problems that would stop a run: missing files, packages, keys."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """Numbers of utterances, votes, labels ..., under the names of the result's `.counts`."""
    planned_votes: int = 0
    """The number of planned votes, including those cast before."""
    cast_votes: int = 0
    """The number of votes cast before, which are not requested again."""
    impossible_votes: int = 0
    """The number of the other votes that cannot be requested, such as those on missing recordings."""
    paid: float = 0.0
    """The amount paid so far."""
    price: float = 0.0
    """The expected price of the votes still to be cast."""
    currency: str = ""
    """The currency of these prices; empty = not stated."""
    budget: float | None = None
    seconds: float | None = None
    """The approximate duration, if known."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Outputs that can be computed without cost, for later stages, such as those of read."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """More details, for machines."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A stage before it runs: the arguments of `foresee` and `depends`."""

    settings: Any
    blocks: tuple[Any, ...]
    folder: Path
    """The output folder."""
    labels: tuple[str, ...]
    """The labels in order; empty if only the tables have them."""
    inputs: Mapping[str, tuple[Path, ...]]
    """The files of each need; they may not exist yet."""
    before: Mapping[str, tuple[Foreseen, ...]] = field(default_factory=dict)
    """The forecasts of the stages that provide each need."""
    beside: Path = Path()
    """The folder of the file that has the paths, for messages."""
    ask: int = 0
    """The number of utterances for which engines may be asked."""

    def named(self, path: Path) -> str:
        """A path or an address as it is written in its file."""
        if (uri := remote_of(path)) is not None:
            return uri
        return str(path.relative_to(self.beside)) if path.is_relative_to(self.beside) else str(path)

    def count(self, need: str, name: str) -> float:
        """The sum of a count over the stages that provide a need."""
        return sum(forecast.counts.get(name, 0) for forecast in self.before.get(need, ()))

    def table(self, need: str) -> Any:
        """The table of a need, if an earlier stage could compute it; else None."""
        return next((forecast.tables[need] for forecast in self.before.get(need, ()) if need in forecast.tables), None)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; its fields are documented above."""

    verb: str
    settings: type[BaseModel]
    function: str
    needs: tuple[Need, ...] = ()
    writes: Mapping[str, str] = field(default_factory=dict)
    """Attribute of the result = file, the main one first; "." is the folder itself."""
    may_write: Mapping[str, str] = field(default_factory=dict)
    """The same for optional outputs."""
    into_folder: bool = False
    contains: tuple[str, ...] = ()
    """Patterns of more result files in its folder, e.g. wav/*.wav: if one is lost or changed, the stage runs again."""
    working: tuple[str, ...] = ()
    """Patterns of files that it works with and that are no result: caches, a ledger (whose loss must cost nothing)."""
    blocks: Blocks = "one"
    block: type[BaseModel] | None = None
    """The settings of one block, if blocks are combined."""
    blocks_as: str = ""
    follows: str = ""
    unless: str = ""
    choice: Choice | None = None
    made: Mapping[str, str] = field(default_factory=dict)
    """Arguments of the function computed from its settings: name = module:function(settings)."""
    by_files: str = ""
    """A function that does the same from files to the first output, for tables that do not fit into memory."""
    foresee: str = ""
    """module:function(Ahead) -> Foreseen."""
    refuses_tables: bool = False
    """Whether the problems in its forecast follow from the tables of read, so that a run stops with them after read."""
    depends: str = ""
    """module:function(Ahead) -> {name: digest}: the content of files, models and cards named in settings."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """Settings that name a plug-in = its kind; its distribution and version enter the digest."""
    resumes_from: tuple[str, ...] = ()
    """Folders that a stopped run resumes from: a finished stage does not need them; removed when it runs again for
    another result."""
    labels_of: str = ""
    """The need that brings the labels, if it is no table (a model); its command takes no --taxonomy."""
    locks: bool = False
    """Whether its function locks its folder against other processes itself."""
    replaces: bool = False
    """Whether it replaces its folder as a whole: a second process is refused until all of a result is written."""
    hears: bool = False
    """Whether it opens the recordings of its utterances, so that a changed recording changes its result."""
    states_places: bool = False
    """Whether its result states where the recordings are: it runs again if they are in another place."""
    revision: int = 1

    @property
    def parameters(self) -> dict[str, bool]:
        """The function's arguments, except runtime ones, and whether each is required."""
        needed = {need.name: not need.optional for need in self.needs if need.name != self.blocks_as}
        needed |= {self.blocks_as: True} if self.blocks_as else {}
        needed |= dict.fromkeys(self.made, True) | ({"folder": True} if self.into_folder else {})
        return needed | {"settings": True}

    def settings_for(self, values: Mapping[str, Any]) -> type[BaseModel]:
        """The settings class of a section or block, by its value of the choice's key."""
        own = self.block or self.settings
        if self.choice is None:
            return own
        chosen = values.get(self.choice.key, own.model_fields[self.choice.key].default)
        if not isinstance(chosen, str):
            return own
        return cast(type[BaseModel], self.chosen(chosen).load().settings)

    def chosen(self, name: str) -> Plugin:
        """The plug-in of the choice by name."""
        assert self.choice is not None
        return plugin(self.choice.kind, name)


def load(target: str) -> Callable[..., Any]:
    """Import the function of "module:name"."""
    module, _, name = target.partition(":")
    return cast(Callable[..., Any], getattr(import_module(module), name))
