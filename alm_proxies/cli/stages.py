"""The command of a stage, derived from its declaration: flags, call and output."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from pydantic import BaseModel

from alm_proxies.alone import beside_others
from alm_proxies.cli.flags import Flag, flags_of
from alm_proxies.cli.outcome import Common, LeftOut, Outcome, finished, refuse_overwriting
from alm_proxies.errors import SettingsError
from alm_proxies.files import folder_to_fill
from alm_proxies.plugins import Plugin, plugins, unknown
from alm_proxies.remote.at_hand import is_folder, table_in, there
from alm_proxies.settings import Layer, located, read_layer, settings_from, unknown_key
from alm_proxies.stage import Need, Stage
from alm_proxies.stages.registry import STAGES, runs_around, stage_of
from alm_proxies.uris import remote_of

_FILES = (".parquet", ".html", ".csv", ".tsv", ".json", ".jsonl", ".txt", ".xlsx", ".feather", ".arrow")
_TABLES = ("utterances", "votes", "labels")
_COMMON = Common()


def command(verb: str, arguments: Sequence[str] = ()) -> Callable[..., Outcome] | App:
    """The command of a stage; the arguments (such as --recipe encoder) decide which flags it has."""
    commands = commands_of(verb, arguments)
    choice = stage_of(verb).choice
    if choice is None or not choice.subcommands:
        return _function(commands[0])
    room = App(name=verb, help=STAGES[verb])
    for each in commands:
        room.command(_function(each), name=each.words.removeprefix(f"{verb} "), help=each.sentence)
    return room


def commands_of(verb: str, arguments: Sequence[str] = ()) -> list[Command]:
    """The command of a stage, or its sub-commands: all of them, or only the one in the arguments."""
    stage = stage_of(verb)
    choice = stage.choice
    if choice is None:
        return [Command(stage, verb, stage.settings)]
    known = plugins(choice.kind)
    if choice.subcommands:
        chosen = next((word for word in arguments[1:2] if word in known), None)
        # without a name all are listed, except those that cannot be loaded
        named = (
            [name for name in known if not known[name].origin or _loads(known[name])] if chosen is None else [chosen]
        )
        return [_subcommand(stage, choice.key, name) for name in named]
    asked = _chosen(choice.key, arguments)
    if asked is not None and asked not in known:
        raise unknown(choice.kind, asked, known)
    return [Command(stage, verb, stage.settings_for({} if asked is None else {choice.key: asked}))]


def _subcommand(stage: Stage, key: str, name: str) -> Command:
    settings = stage.settings_for({key: name})
    return Command(stage, f"{stage.verb} {name}", stage.settings, settings, {key: name})


def _loads(plugin: Plugin) -> bool:
    try:
        return not plugin.origin or plugin.load() is not None
    except SettingsError:
        return False


def _chosen(key: str, arguments: Sequence[str]) -> str | None:
    """The value of a key in the arguments, or in the settings file they name; read before everything else."""
    for flag in (f"--{key}", "--settings"):
        for place, word in enumerate(arguments):
            name, equals, value = word.partition("=")
            if name == flag and (equals or place + 1 < len(arguments)):
                text = value if equals else arguments[place + 1]
                if flag != "--settings":
                    return text
                setting = read_layer(text).values.get(key)
                return setting if isinstance(setting, str) else None
    return None


@dataclass(frozen=True, slots=True)
class Command:
    """A command: a stage and the settings that it has flags for."""

    stage: Stage
    words: str
    settings: type[BaseModel]
    block: type[BaseModel] | None = None
    fixed: Mapping[str, Any] | None = None
    """Settings that the command's own name fixes."""

    @property
    def sentence(self) -> str:
        """The summary of the command."""
        return STAGES[self.words] if self.block is None else _sentence(self.block)

    @property
    def flags(self) -> list[Flag]:
        """The flags of the settings, those of a block first."""
        models = [model for model in (self.block, self.settings) if model is not None]
        return [flag for model in models for flag in flags_of(model) if flag.key not in (self.fixed or {})]

    @property
    def needs(self) -> list[Need]:
        """The input tables, given as files."""
        return [need for need in self.stage.needs if need.name != self.stage.blocks_as]

    @property
    def takes_taxonomy(self) -> bool:
        """Whether the command has the flag --taxonomy for tables without a taxonomy."""
        own = any(flag.key == "taxonomy" for flag in self.flags)
        return not own and not self.stage.labels_of and any(need.table in _TABLES for need in self.needs)

    def parameters(self) -> list[inspect.Parameter]:
        """The arguments and flags as parameters of the command line."""
        built = [_argument(need) for place, need in enumerate(self.needs) if place == 0 or need.positional]
        flags = self.flags
        built += [
            _parameter(flag.key, Annotated[Path, Parameter(help=flag.help)], kind=inspect.Parameter.POSITIONAL_ONLY)
            for flag in flags
            if flag.argument
        ]
        first = next(iter(self.stage.writes.values()))
        names = ", ".join([*self.stage.writes.values(), "findings.parquet"])
        if first == ".":
            where = "The folder to write, with findings.parquet in it."
        elif self.stage.into_folder or self.stage.blocks_as:
            where = f"The folder to write: {names}."
        else:
            where = f"The {Path(first).suffix[1:]} file to write, with the others next to it, or a folder: {names}."
        output = Annotated[Path, Parameter(name=["--output", "-o"], help=where)]
        built.append(_parameter("output_", output))
        built += [_flag_of(need) for place, need in enumerate(self.needs) if place and not need.positional]
        if self.takes_taxonomy:
            text = "The labels, if the files do not state them: a name such as msp8, or angry,happy,sad."
            built.append(_parameter("taxonomy_", Annotated[str | None, Parameter(name="--taxonomy", help=text)], None))
        built += [_setting(flag) for flag in flags if not flag.argument]
        text = "A TOML file with settings, with the names of flags as keys. Flags override it."
        built.append(_parameter("settings_", Annotated[Path | None, Parameter(name="--settings", help=text)], None))
        built.append(_parameter("common_", Common, _COMMON))
        return built

    def run(self, given: dict[str, Any]) -> Outcome:
        """Parse the arguments, run the stage and return its outcome."""
        from alm_proxies.pipeline.perform import Task, perform

        common: Common = given.get("common_", _COMMON)
        settings, blocks = self._settings(given)
        inputs = {need.name: [_inside(path, need) for path in _paths(given.get(_key(need)))] for need in self.needs}
        output = Path(given["output_"])
        folder, outputs = places(self.stage, output)
        task = Task(
            stage=self.stage.verb,
            folder=str(folder),
            settings=settings.model_dump(mode="json", by_alias=True),
            blocks=[block.model_dump(mode="json", by_alias=True) for block in blocks],
            inputs={name: [str(path) for path in paths] for name, paths in inputs.items() if paths},
            outputs={name: str(path) for name, path in outputs.items()},
            taxonomy=given.get("taxonomy_"),
        )
        read = [path for paths in inputs.values() for path in paths]
        read += [path for block in blocks if (path := getattr(block, "source", None)) is not None]
        files = (*self.stage.writes, *self.stage.may_write, "findings")
        if output.suffix != ".parquet":
            _refuse_suffix(self.stage, outputs)
        refuse_overwriting(map(task.output, files), read)
        _refuse_suffix(self.stage, outputs)
        with folder_to_fill(folder), beside_others(runs_around(folder, self.stage, a_file=bool(outputs))):
            done = perform(task, quiet=common.quiet)
        counts = {name: int(value) if float(value).is_integer() else value for name, value in done.counts.items()}
        left_out = LeftOut.counted(counts)
        counts.pop("left_out", None)
        line = done.line or ", ".join(f"{count:,} {name}" for name, count in counts.items())
        return finished(
            with_place(line, output),
            counts,
            done.findings,
            output,
            common,
            left_out,
            kept=task.output("findings"),
            more=done.data,
        )

    def _settings(self, given: dict[str, Any]) -> tuple[BaseModel, list[BaseModel]]:
        """The settings from flags and the settings file; a path is relative to the folder or file that states it."""
        values: dict[str, Any] = dict(self.fixed or {})
        for flag in self.flags:
            words = given.get(_named(flag.key))
            if words is None:
                continue
            values[flag.key] = words if flag.switch or flag.argument else flag.value(words)
        file = given.get("settings_")
        layer = read_layer(file) if file is not None else Layer({}, "default")
        models = [model for model in (self.block, self.settings) if model is not None]
        keys = [field.alias or name for model in models for name, field in model.model_fields.items()]
        for key in layer.values:
            if key not in keys:
                raise unknown_key(key, key, keys, str(file))
        built = []
        for model in models:
            own = {field.alias or name for name, field in model.model_fields.items()}
            below = Layer({k: v for k, v in layer.values.items() if k in own}, layer.origin, layer.where, layer.text)
            above = Layer({k: v for k, v in values.items() if k in own}, "flag", verb=self.words)
            settings, origins = settings_from(model, below, above)
            by_file = {name for name, origin in origins.items() if origin != "flag"}
            settings = located(settings, Path(file).parent if file is not None else Path(), by_file)
            built.append(located(settings, Path(), {name for name, origin in origins.items() if origin == "flag"}))
        return built[-1], built[:-1]


def _function(each: Command) -> Callable[..., Outcome]:
    parameters = each.parameters()

    def run(*words: Any, **flags: Any) -> Outcome:
        bound = inspect.Signature(parameters).bind(*words, **flags)
        return each.run(dict(bound.arguments))

    run.__name__ = each.words.replace(" ", "_")
    run.__doc__ = None
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # the signature that cyclopts reads
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def with_place(line: str, output: Path) -> str:
    """The result of a stage with the path of its file, which is a sentence of its own after several sentences."""
    if not line:
        return str(output)
    return f"{line}. Written to {output}" if ". " in line else f"{line} in {output}"


def places(stage: Stage, output: Path) -> tuple[Path, dict[str, Path]]:
    """The paths of the outputs: `-o DIR` keeps their names, `-o x.parquet` names the first, others go next to it."""
    if stage.into_folder or stage.blocks_as or output.is_dir() or output.suffix.lower() not in _FILES:
        return output, {}
    first, *others = (*stage.writes.items(), *stage.may_write.items(), ("findings", "findings.parquet"))
    beside = {name: output.with_name(f"{output.stem}.{file}") for name, file in others}
    return output.parent, {first[0]: output, **beside}


def _refuse_suffix(stage: Stage, outputs: Mapping[str, Path]) -> None:
    name, file = next(iter(stage.writes.items()))
    path, wanted = outputs.get(name), Path(file).suffix
    if path is None or path.suffix == wanted:
        return
    word = {".parquet": "Parquet", ".html": "HTML"}.get(wanted, wanted[1:])
    fix = f"Name it {path.with_suffix(wanted).name}."
    raise SettingsError(f"the {name} must be written as {word}", where=str(path), fix=fix)


def _sentence(settings: type[BaseModel]) -> str:
    return " ".join((settings.__doc__ or "").split("\n\n")[0].split())


def _key(need: Need) -> str:
    return f"need_{need.name}"


def _paths(given: Any) -> list[Path]:
    return [] if given is None else [Path(path) for path in (given if isinstance(given, list) else [given])]


def _inside(path: Path, need: Need) -> Path:
    """The file that a folder of results has for a need; any other path is unchanged."""
    uri = remote_of(path)
    if need.table == "folder" or not (path.is_dir() if uri is None else is_folder(uri)):
        return path
    stages = [(stage_of(verb), output) for verb, output in need.sources]
    names = [{**stage.writes, **stage.may_write}[output] for stage, output in stages]
    if uri is None:
        return table_in(path, need.table, names)
    names += [f"{need.table}.parquet"] if need.table in _TABLES else []
    return Path(there([*(f"{uri.rstrip('/')}/{name}" for name in dict.fromkeys(names)), uri])[0])


def _argument(need: Need) -> inspect.Parameter:
    kind = list[Path] if need.every else Path
    shown = Parameter(name=need.name.upper(), help=need.help)
    return _parameter(_key(need), Annotated[kind, shown], kind=inspect.Parameter.POSITIONAL_ONLY)


def _flag_of(need: Need) -> inspect.Parameter:
    kind: Any = list[Path] if need.every else Path
    shown = Parameter(name=f"--{need.flag or need.name}", help=need.help, consume_multiple=bool(need.every))
    if need.optional:
        return _parameter(_key(need), Annotated[kind | None, shown], None)
    return _parameter(_key(need), Annotated[kind, shown])


def _setting(flag: Flag) -> inspect.Parameter:
    negative = [flag.negative] if flag.switch else []
    shown = Parameter(name=list(flag.names), help=flag.help, negative=negative)
    kind: Any = bool if flag.switch else list[str]
    # required settings may also be in a settings file
    return _parameter(_named(flag.key), Annotated[kind | None, shown], None)


def _named(key: str) -> str:
    """The parameter name of a flag: its key, with an underscore if that is a Python keyword such as `as`."""
    return f"flag_{key}" if iskeyword(key) else key


def _parameter(
    name: str,
    annotation: Any,
    default: Any = inspect.Parameter.empty,
    kind: Any = inspect.Parameter.KEYWORD_ONLY,
) -> inspect.Parameter:
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def __getattr__(verb: str) -> Any:
    if verb in STAGES:
        return command(verb)
    raise AttributeError(f"module {__name__!r} has no attribute {verb!r}")
