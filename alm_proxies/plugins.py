"""Plug-ins of alm-proxies: readers, estimators, engines, prompts, exports and recipes.

Each kind has one registry: the modules in our own folder, and those that other distributions name in their entry points
(`[project.entry-points."alm_proxies.readers"]`). A plug-in is imported on first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from traceback import walk_tb
from types import FrameType
from typing import Any

from alm_proxies.errors import AlmProxiesError, SettingsError
from alm_proxies.files import digest_of, package_folder, shipped_folder
from alm_proxies.nearest import known_names
from alm_proxies.plugin_code import code_of, package_digest

OURS = "alm-proxies"
REGISTERED = "registered"


THINGS: dict[str, tuple[str, str | None]] = {
    "readers": ("a Reader", "alm_proxies.stages.read.settings:Reader"),
    "estimators": ("an Estimator class", "alm_proxies.estimators.estimator:Estimator"),
    "engines": ("an EngineKind", "alm_proxies.engines.registry:EngineKind"),
    "prompts": ("a package with TOML files", None),
    "exports": ("a Format", "alm_proxies.stages.export.formats:Format"),
    "recipes": ("a function like train", None),
}
"""What an entry point of a kind names, and where that is found."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plug-in of a kind: its name and where to import it from."""

    kind: str
    name: str
    target: str
    """module:attribute, or the path of a file."""
    distribution: str = OURS
    version: str = ""
    thing: Any = None
    """The thing itself, where a script has registered it."""

    @property
    def origin(self) -> str:
        """The distribution, for provenance; empty for those of alm-proxies."""
        return "" if self.distribution == OURS else f"{self.distribution} {self.version}"

    @property
    def state(self) -> str:
        """The origin, with a digest of the installed package's code and data: what a finished stage depends on."""
        installed = self.distribution != REGISTERED and ":" in self.target
        return f"{self.origin}, code {package_digest(self.target)}" if self.origin and installed else self.origin

    def load(self) -> Any:
        """The thing itself, of a prompt its file; an error in a third party's module names its distribution."""
        if self.thing is not None:
            return self._fitting(self.thing)
        module, _, attribute = self.target.partition(":")
        try:
            if self.kind == "prompts":
                return self._file()
            attribute_value = getattr(import_module(module), attribute)
            thing = attribute_value[self.name] if isinstance(attribute_value, dict) else attribute_value
        except (Exception, SystemExit) as error:  # such as a script that ends the process where it is imported
            if self.distribution == OURS:
                raise
            message = f"the plug-in {self.name!r} of {self.distribution} {self.version} cannot be loaded"
            fix = f"Update or uninstall {self.distribution}, or choose another of the {self.kind}."
            raise SettingsError(f"{message}: {type(error).__name__}: {error}", where=self.target, fix=fix) from error
        return thing if self.distribution == OURS else self._fitting(thing)

    def _file(self) -> Path:
        """The file of a prompt; raises where an entry point names no package with such files."""
        path = Path(self.target)
        if self.distribution in (OURS, REGISTERED) or path.is_file():
            return path
        import_module(self.target)
        raise FileNotFoundError("it has no TOML file")

    def _fitting(self, thing: Any) -> Any:
        """The thing of a third party; an error if it is not what plug-ins of its kind are."""
        described, target = THINGS[self.kind]
        if target is None:
            fits = callable(thing)
        elif described.endswith("class"):
            fits = isinstance(thing, type) and issubclass(thing, load_named(target))
        else:
            fits = isinstance(thing, load_named(target))
        if fits and self.kind == "estimators" and not isinstance(getattr(thing, "name", None), str):
            message = f"the estimator {self.name!r} of {self.origin} has no name"
            fix = f'Write name: ClassVar[str] = "{self.name}" into the class.'
            raise SettingsError(message, where=self.target, fix=fix)
        if fits:
            return thing
        message = f"the {self.kind[:-1]} {self.name!r} of {self.origin} is {_described(thing)}, not {described}"
        fix = f"Name {described} ({target}) instead." if target else f"Name {described} instead."
        raise SettingsError(message, where=self.target, fix=fix)


def load_named(target: str) -> Any:
    """What "module:name" names; an error if a plug-in names what is not there."""
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        if module.partition(".")[0] == __name__.partition(".")[0]:
            raise
        message = f"a plug-in names {target!r}, which cannot be loaded: {type(error).__name__}: {error}"
        raise SettingsError(message, fix='Correct the name in the plug-in: "module:function".') from error


def fault_of(error: Exception) -> SettingsError | None:
    """The error that a third party's installed plug-in raised, or caused by a call of ours, as a sentence."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        origin = _owners().get(_package_of(frame))
        if origin is not None:
            return _fault(f"the plug-in package {origin}", frame, line, error)
    return None


def code_fault_of(error: Exception) -> AlmProxiesError:
    """The error of code that is not ours, a plug-in's or a function's, as a sentence that names its file and line."""
    fault = fault_of(error)
    others = [step for step in walk_tb(error.__traceback__) if _package_of(step[0]) != __name__.partition(".")[0]]
    if fault is None and others:
        own = [step for step in others if _package_of(step[0]) == _package_of(others[0][0])]
        fault = _fault(f"the function {own[-1][0].f_code.co_name}", *own[-1], error)
    if fault is None and isinstance(error, AlmProxiesError):
        return error
    return fault or SettingsError(_named(error), fix="Correct the function.")


def _fault(name: str, frame: FrameType, line: int, error: Exception) -> SettingsError:
    fix = "Correct it there, or tell its authors: --debug shows the traceback."
    return SettingsError(f"{name} failed: {_named(error)}", where=f"{frame.f_code.co_filename}, line {line}", fix=fix)


def _named(error: Exception) -> str:
    """KeyError: 'emotion', or its class alone if it has no message."""
    message = shorten(str(error), 300)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


@cache
def _owners() -> dict[str, str]:
    """The distributions of installed plug-ins by the package of their code."""
    points = [point for kind in KINDS if kind != "prompts" for point in _entry_points(kind)]
    return {point.target.partition(":")[0].partition(".")[0]: point.origin for point in points}


def _described(thing: Any) -> str:
    """What a thing is, in two words: the class Mine, a function, a str."""
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"


def _readers() -> Iterator[tuple[str, str]]:
    yield from _modules("stages/read/formats", "READER")


def _estimators() -> Iterator[tuple[str, str]]:
    for path in sorted((package_folder() / "estimators").glob("*.py")):
        for match in _NAMED.finditer(path.read_text(encoding="utf-8")):
            yield match["name"], f"alm_proxies.estimators.{path.stem}:{match['type']}"


def _engines() -> Iterator[tuple[str, str]]:
    listed = (package_folder() / "engines/registry.py").read_text(encoding="utf-8")
    yield from ((match["name"], "alm_proxies.engines.registry:ENGINES") for match in _ENGINE.finditer(listed))


def _prompts() -> Iterator[tuple[str, str]]:
    yield from ((path.stem, str(path)) for path in sorted(shipped_folder("prompts").glob("*.toml")))


def _exports() -> Iterator[tuple[str, str]]:
    listed = (package_folder() / "stages/export/formats.py").read_text(encoding="utf-8")
    yield from (
        (match["name"], f"alm_proxies.stages.export.formats:{match['constant']}") for match in _FORMAT.finditer(listed)
    )


def _recipes() -> Iterator[tuple[str, str]]:
    listed = (package_folder() / "training/settings.py").read_text(encoding="utf-8")
    match = _RECIPES.search(listed)
    names = re.findall(r'"(\w+)"', match["names"]) if match is not None else []
    yield from ((name, "alm_proxies.stages.train.stage:train") for name in names)


def _modules(folder: str, attribute: str) -> Iterator[tuple[str, str]]:
    """The modules of one of our folders, each of which declares one plug-in of its own name."""
    package = "alm_proxies." + folder.replace("/", ".")
    for path in sorted((package_folder() / folder).glob("*.py")):
        if path.stem != "__init__":
            yield path.stem, f"{package}.{path.stem}:{attribute}"


_NAMED = re.compile(
    r'^class (?P<type>\w+)\b[^\n]*:\n(?:(?!class )[^\n]*\n)*?    name(?:: [^=\n]+)? = "(?P<name>\w+)"', re.M
)
"""One of our classes with an attribute `name`, found without importing it."""

_ENGINE = re.compile(r'^    "(?P<name>\w+)": EngineKind\(', re.M)
"""An engine in our table."""
_FORMAT = re.compile(r'^(?P<constant>[A-Z0-9_]+) = Format\(\s*"(?P<name>\w+)"', re.M)
"""An export format and its name."""

_RECIPES = re.compile(r"^Recipe = Literal\[(?P<names>[^\]]+)\]", re.M)
"""Our recipes, which train implements."""

KINDS = {
    "readers": _readers,
    "estimators": _estimators,
    "engines": _engines,
    "prompts": _prompts,
    "exports": _exports,
    "recipes": _recipes,
}


_REGISTERED: dict[str, dict[str, Plugin]] = {}


def register(kind: str, name: str, thing: Any) -> None:
    """Add something of your own by name, for this process: register("estimators", "mine", MyEstimator).

    Kinds are readers (a Reader), estimators (a class), engines (an EngineKind), prompts (the path of a file), exports
    (a Format) and recipes (a function). The same name registered again takes the place of the first; a name of ours or
    of an installed package is refused. A finished stage of a pipeline runs again when the thing's source
    changes, a value that it holds, or what it uses of its script.
    """
    if kind not in KINDS:
        raise SettingsError(f"there is no kind of plug-in {kind!r}", fix=f"There are: {', '.join(KINDS)}.")
    own = _REGISTERED.setdefault(kind, {})
    if name in plugins(kind) and name not in own:
        raise SettingsError(f"{kind} has {name!r} already", where=plugins(kind)[name].origin or OURS, fix="Rename it.")
    target = (
        str(thing) if kind == "prompts" else f"{getattr(thing, '__module__', '')}:{getattr(thing, '__name__', name)}"
    )
    added = Plugin(
        kind, name, target, REGISTERED, _source_digest(kind, name, thing), None if kind == "prompts" else thing
    )
    if kind != "prompts":
        added.load()
    own[name] = added
    plugins.cache_clear()


def _source_digest(kind: str, name: str, thing: Any) -> str:
    """Changes when the source of a thing does or the values that it holds; of a Reader, Format or EngineKind, when the
    source of the classes and functions that it names does.
    """
    try:
        if isinstance(thing, type) or not is_dataclass(thing) or THINGS[kind][1] is None:
            return digest_of(code_of(thing))
        parts = [getattr(thing, field.name) for field in fields(thing)]
        return digest_of([repr(thing), *(_source_of(part) for part in parts if isinstance(part, type | str))])
    except SettingsError as error:
        raise SettingsError(f"the {kind[:-1]} {name!r} cannot be registered: {error.message}", fix=error.fix) from error


def _source_of(thing: type | str) -> str:
    """The source of a class, or of what is named "module:name"; any other text as it is."""
    if isinstance(thing, type) or ":" not in thing:
        return code_of(thing)
    try:
        named = load_named(thing)
    except (SettingsError, ImportError, AttributeError):
        return repr(thing)
    return code_of(named)


@cache
def plugins(kind: str) -> Mapping[str, Plugin]:
    """All plug-ins of a kind by name: ours first, then those of entry points; a name used twice is an error."""
    known = {name: Plugin(kind, name, target) for name, target in KINDS[kind]()}
    for plugin in (*_entry_points(kind), *_REGISTERED.get(kind, {}).values()):
        other = known.setdefault(plugin.name, plugin)
        if other is not plugin:
            message = f"{other.distribution} and {plugin.distribution} both provide the {kind[:-1]} {plugin.name!r}"
            raise SettingsError(message, fix="Uninstall one of them.")
    return known


def plugin(kind: str, name: str) -> Plugin:
    """One plug-in of a kind; an unknown name is an error with the nearest one."""
    known = plugins(kind)
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def checked(kind: str) -> Callable[[str], str]:
    """A validator for settings fields: checks that a plug-in of this kind has the given name."""

    def check(name: str) -> str:
        try:
            return plugin(kind, name).name
        except SettingsError as error:
            raise ValueError(str(error)) from None

    return check


def unknown(kind: str, name: str, known: Iterable[str]) -> SettingsError:
    """The error for an unknown plug-in name."""
    word = {"readers": "format", "exports": "format"}.get(kind, kind[:-1])
    fix = known_names(name, known)
    return SettingsError(f"there is no {word} {name!r}", fix=fix)


def _entry_points(kind: str) -> Iterator[Plugin]:
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=f"alm_proxies.{kind}"), key=lambda point: point.name):
        owner = point.dist
        if kind == "prompts":
            yield from _prompts_of(point.value, owner.name if owner else "", owner.version if owner else "")
        else:
            name, version = (owner.name, owner.version) if owner is not None else ("a distribution without a name", "")
            yield Plugin(kind, point.name, point.value, name, version)


def _prompts_of(package: str, distribution: str, version: str) -> Iterator[Plugin]:
    """The TOML files of a package of prompts, found without importing it; of one without any, the package itself."""
    from importlib.util import find_spec

    try:
        spec = find_spec(package)
    except Exception:  # of any kind, from the package above it: load() shows it
        spec = None
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    paths = [path for folder in folders for path in sorted(Path(folder).glob("*.toml"))]
    yield from (Plugin("prompts", path.stem, str(path), distribution, version) for path in paths)
    if not paths:
        yield Plugin("prompts", package, package, distribution, version)
