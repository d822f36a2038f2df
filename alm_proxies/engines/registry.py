"""The engines: their settings in an annotator file, and how each is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from alm_proxies.engines.addresses import address_fault
from alm_proxies.engines.engine import Engine, Trouble
from alm_proxies.engines.third_party import guarded
from alm_proxies.errors import SettingsError, need
from alm_proxies.nearest import did_you_mean
from alm_proxies.plugins import load_named, plugin
from alm_proxies.settings import Settings


class VllmServe(Settings):
    """Settings of vLLM; they change no vote."""

    tensor_parallel: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of GPUs per copy of the model (tensor parallelism)."""
    memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of each GPU's memory that vLLM may use."""
    max_length: Annotated[int, Field(ge=64, le=100_000_000)] | None = None
    """Maximum tokens of prompt and answer; null = the model's limit."""
    in_flight: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Maximum number of concurrent sequences."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights."""


def _address(given: str) -> str:
    fault = address_fault(given)
    if fault is not None:
        raise ValueError(f"no server address: {fault}")
    return given


class OpenAIServe(Settings):
    """Settings of an OpenAI-compatible server; they change no vote."""

    base_urls: Annotated[tuple[Annotated[str, AfterValidator(_address)], ...], Field(min_length=1)] = (
        "https://api.openai.com/v1",
    )
    """Base URLs of identical replicas, each ending with /v1."""
    key_from: str | None = None
    """Name of the environment variable with the API key."""
    in_flight: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Maximum number of concurrent requests over all replicas; reduced while a server is busy."""
    try_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Timeout of one try in seconds."""
    tries: Annotated[int, Field(ge=1, le=1000)] = 6
    """Maximum number of tries per request."""


class TransformersServe(Settings):
    """Settings of transformers; they change no vote."""

    device: str | None = None
    """cpu, cuda, cuda:1 ...; null = the first GPU, else the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; auto = float32 on a CPU, the checkpoint's own on a GPU."""
    batch: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Batch size in requests; null = 1 on a CPU, 16 on a GPU."""


class ScriptedServe(Settings):
    """Settings of a scripted annotator, which reads its answers from a table."""

    answers: str = ""
    """A Parquet or CSV file with utterance_id and text, or with p_<label> columns to draw from; a relative path is
    relative to the annotator file. Votes are requested again if its content changes."""
    faults: dict[Trouble, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Share of requests that fail, by kind, e.g. { server_error = 0.1 }."""
    seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    """Median time of an answer in seconds."""


Serve = VllmServe | OpenAIServe | TransformersServe | ScriptedServe


@dataclass(frozen=True, slots=True)
class EngineKind:
    """A kind of engine: its settings class, and the class whose `open(model, serve, ...)` starts it.

    A third-party package adds one by an entry point `alm_proxies.engines` that names an EngineKind.
    """

    serve: type[BaseModel]
    """The settings class of `serve` in an annotator file."""
    opens: str
    """module:class."""
    extra: str = ""
    """The required extra of alm-proxies."""
    has_revisions: bool = False
    """Whether `open` accepts a model revision."""
    local: bool = True
    """Whether it runs on this machine, so that audio which may not leave the machine can be used."""


ENGINES: dict[str, EngineKind] = {
    "vllm": EngineKind(VllmServe, "alm_proxies.engines.vllm:Vllm", extra="vllm", has_revisions=True),
    "openai": EngineKind(OpenAIServe, "alm_proxies.engines.openai:OpenAI", local=False),
    "transformers": EngineKind(
        TransformersServe, "alm_proxies.engines.transformers:Transformers", extra="local", has_revisions=True
    ),
    "scripted": EngineKind(ScriptedServe, "alm_proxies.engines.scripted:Scripted"),
}


def engine_kind(engine: str, *, where: str | None = None) -> EngineKind:
    """The engine with this name, shipped or from a plug-in."""
    if engine in ENGINES:
        return ENGINES[engine]
    try:
        added: EngineKind = plugin("engines", engine).load()
    except SettingsError as error:
        raise SettingsError(error.message, where=where, fix=error.fix) from None
    return added


def serve_settings(engine: str, settings: Mapping[str, Any], *, where: str | None = None) -> Serve:
    """Validate the `serve` table of an annotator file for an engine."""
    kind = engine_kind(engine, where=where)
    names = {field.alias or name: name for name, field in kind.serve.model_fields.items()}
    fix = f"The engine {engine} takes: {', '.join(names)}."
    unknown = sorted(set(settings) - {*names, *names.values()})
    if unknown and kind.serve.model_config.get("extra") != "allow":  # pydantic passes them over by default
        near = did_you_mean(unknown[0], names)
        raise SettingsError(f"serve: unknown key {unknown[0]!r}", where=where, fix=f"{near} {fix}".strip())
    try:
        return cast(Serve, kind.serve.model_validate(dict(settings)))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(place) for place in first["loc"])
        message = f"serve.{name}: {first['msg'].removeprefix('Value error, ')}"
        raise SettingsError(message, where=where, fix=fix) from None


async def open_engine(model: str, serve: Serve, *, revision: str | None = None, engine: str | None = None) -> Engine:
    """Start or connect to the engine that `serve` describes, and probe its abilities.

    `engine` names the engine if several plug-ins share a settings class.
    """
    kind = engine_kind(engine) if engine else next(kind for kind in ENGINES.values() if kind.serve is type(serve))
    if kind.extra:
        need("torch", kind.extra)
        need("transformers", kind.extra)
    loads = {"revision": revision} if kind.has_revisions else {}
    return guarded(await load_named(kind.opens).open(model, serve, **loads), engine or kind.opens)
