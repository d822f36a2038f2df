"""The stages of a run as a graph: the outputs that each task takes, the order of the tasks, and their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_of
from alm_proxies.stage import FILE_WIDE, Need, Stage
from alm_proxies.stages.registry import STAGES, stage_of

_LONGEST = 40


@dataclass(frozen=True, slots=True)
class Section:
    """One stage of a run, or one named block of it: its settings and their origins."""

    stage: Stage
    name: str
    """Name of the block; empty for a stage that runs once."""
    settings: BaseModel
    blocks: tuple[BaseModel, ...] = ()
    """Blocks that one task combines."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Origin of each setting; the others have their defaults."""
    stated: bool = True
    """Whether the file has this section; a stage may also run because of another."""
    block_origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Origin of each setting of each of the blocks, by the name that flags have for it, or its number."""


@dataclass(frozen=True, slots=True)
class Run:
    """One combination of [vary]: its sections and its values."""

    folder: Path
    """The output folder."""
    labels: tuple[str, ...]
    """The labels in order."""
    sections: dict[str, tuple[Section, ...]]
    chosen: dict[str, Any]
    beside: Path
    """The folder of the file."""

    @property
    def name(self) -> str:
        """The values of [vary] in words; empty if nothing varies."""
        return ",".join(f"{key}={spelled(value)}" for key, value in self.chosen.items())

    def settings(self, verb: str) -> BaseModel:
        """The settings of a stage that runs once."""
        return self.sections[verb][0].settings


@dataclass(frozen=True, slots=True)
class Source:
    """An output of another node."""

    node: Node
    output: str

    @property
    def path(self) -> Path:
        """The path of the output."""
        stage = self.node.section.stage
        return self.node.folder / {**stage.writes, **stage.may_write}[self.output]


@dataclass(frozen=True, slots=True)
class Node:
    """A stage, or one named block of it, with its inputs."""

    section: Section
    name: str
    """Name of its block, or of the block that it follows; empty for a stage that runs once."""
    folder: Path
    inputs: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.section.stage

    @property
    def title(self) -> str:
        """The name, e.g. fuse or train wavlm-fused, and the varied values that reach it: fuse (fuse.method=human)."""
        name = f"{self.stage.verb} {self.name}".strip()
        varied = self.folder.name if self.folder.name not in (self.stage.verb, self.name) else ""
        return f"{name} ({varied})" if varied else name


def nodes_of(run: Run) -> tuple[Node, ...]:
    """The nodes of a run, each after those that it needs; otherwise in the order of the registry."""
    return tuple(_Graph(run).nodes())


class _Graph:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.made: dict[tuple[str, str], Node] = {}
        self.open: list[str] = []

    def nodes(self) -> Iterator[Node]:
        for verb in STAGES:
            self._of(verb)
        if not any(verb in self.run.sections for verb in STAGES):
            raise _no_corpus()
        yield from self.made.values()

    def _of(self, verb: str) -> list[Node]:
        """Add the nodes of a stage, after all that they need."""
        done = [node for (name, _), node in self.made.items() if name == verb]
        if done or verb not in STAGES:
            return done
        if verb in self.open:
            raise RuntimeError(f"stages need each other in a circle: {' -> '.join([*self.open, verb])}")
        self.open.append(verb)
        stage = stage_of(verb)
        sections = self.run.sections.get(verb, ())
        if stage.follows:
            followed = [node for node in self._of(stage.follows) if not _unless(stage, node.section)]
            nodes = [self._node(sections[0], node.name) for node in followed]
        else:
            nodes = [node for section in sections if (node := self._there(section)) is not None]
        self.open.pop()
        for node in nodes:
            self.made[verb, node.name] = node
        return nodes

    def _there(self, section: Section) -> Node | None:
        node = self._node(section, section.name)
        if section.stated or any(node.inputs.values()):
            return node
        if section.stage.verb == "read":
            raise _no_corpus()
        return None

    def _node(self, section: Section, name: str) -> Node:
        stage = section.stage
        inputs = {need.name: tuple(self._sources(stage, need, name)) for need in stage.needs}
        taken = [source.node for sources in inputs.values() for source in sources]
        reaching = {
            key: value
            for key, value in self.run.chosen.items()
            if self._own(key, section, name) or any(self._reached(key, node) for node in taken)
        }
        folder = self.run.folder / stage.verb / name
        folder = folder / _short(",".join(f"{key}={spelled(value)}" for key, value in reaching.items()))
        return Node(section, name, folder, inputs)

    def _sources(self, stage: Stage, need: Need, name: str) -> Iterator[Source]:
        met = False
        for verb, output in need.sources:
            nodes = self._of(verb)
            if verb == stage.follows:
                nodes = [node for node in nodes if node.name == name]
            for node in nodes:
                met = True
                yield Source(node, output)
            if nodes and need.first:
                return
        if not met and not need.optional:
            verbs = [stage_of(verb).follows or verb for verb, _ in need.sources if verb in STAGES]
            listed = " or ".join(f"[{verb}]" if stage_of(verb).blocks == "one" else f"[[{verb}]]" for verb in verbs)
            message = f"[{stage.verb}] needs {need.name}, and no stage gives them"
            for followed, reason, fix in self._without(need):
                raise SettingsError(f"{message}: {followed}: {reason}", fix=fix)
            raise SettingsError(message, fix=f"Write {listed or need.sources[0][0]} too.")

    def _without(self, need: Need) -> Iterator[tuple[str, str, str]]:
        """The blocks that have no task that the need takes, why, and what to do."""
        for stage in (stage_of(verb) for verb, _ in need.sources if verb in STAGES):
            for section in self.run.sections.get(stage.follows, ()):
                if reason := _unless(stage, section):
                    yield (f"[[{stage.follows}]] {section.name}", *reason)

    def _own(self, key: str, section: Section, name: str) -> bool:
        """Whether a varied key belongs to this section."""
        first, _, rest = key.partition(".")
        if first == section.stage.verb:
            other = rest.partition(".")[0]
            names = [section.name for section in self.run.sections.get(first, ()) if section.name]
            return other not in names or other == name
        verb = section.stage.verb
        said_here = section.origins.get(first) in (f"[{verb}]", f"[[{verb}]]")
        return first in FILE_WIDE and first in section.stage.settings.model_fields and not said_here

    def _reached(self, key: str, node: Node) -> bool:
        """Whether a varied key changes a node: in its own section, or through its inputs."""
        taken = (source.node for sources in node.inputs.values() for source in sources)
        return self._own(key, node.section, node.name) or any(self._reached(key, other) for other in taken)


def _unless(stage: Stage, followed: Section) -> tuple[str, str] | None:
    """Why a stage has no task for a block that it could follow, and what to do; None if it has one."""
    reason: tuple[str, str] | None = getattr(followed.settings, stage.unless) if stage.unless else None
    return reason


def _no_corpus() -> SettingsError:
    return SettingsError("names no corpus: write [[read]] for one you have, or [simulate] for a synthetic one")


def spelled(value: Any) -> str:
    """A value as part of a folder's name, with its digest if it cannot be used as it is."""
    if not isinstance(value, str | int | float):
        return digest_of(value)[:8]
    text = str(value)
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
    return safe if safe == text and 0 < len(text) <= _LONGEST else f"{safe[:_LONGEST]}-{digest_of(value)[:8]}"


def _short(name: str) -> str:
    """A folder name of at most 200 bytes."""
    if len(name.encode()) <= 200:
        return name
    return f"{name.encode()[:180].decode(errors='ignore')}-{digest_of(name)}"
