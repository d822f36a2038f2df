"""The settings of an annotator file, and the checks on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alm_proxies.about import Measured
from alm_proxies.annotators.prompts import Answer, Prompt
from alm_proxies.engines.engine import Elicit, EngineName
from alm_proxies.engines.registry import serve_settings
from alm_proxies.errors import SettingsError
from alm_proxies.files import package_folder, shipped_folder
from alm_proxies.nearest import did_you_mean
from alm_proxies.settings import CHANGES_NOTHING, Settings, marked

_ELICITED_BY = {
    "label": ("sample", "score"),
    "primary_secondary": ("sample",),
    "distribution": ("state",),
    "attributes": ("state",),
}


class SamplingSettings(Settings):
    """Sampling settings. All of them are sent, so that a model's own defaults never apply."""

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: sample from the most probable tokens with this total probability."""
    top_k: Annotated[int, Field(ge=-1, le=10_000_000)] = -1
    """Sample from this number of most probable tokens; -1 = all."""
    repetition_penalty: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Penalty on repeated tokens; 1 = none."""
    max_tokens: Annotated[int, Field(ge=2, le=1_000_000)] = 16
    """Maximum tokens of an answer with its reasoning. An answer that reaches it is unparsable: allow one more."""


class Cross(Settings):
    """Factors that are crossed. Every combination is a cell, and draws are spread evenly over the cells."""

    temperature: Annotated[tuple[Annotated[float, Field(ge=0, le=2)], ...], Field(min_length=1)] = (1.0,)
    """Sampling temperatures."""
    focus: tuple[str, ...] = ()
    """Names of focus sentences in the prompt file; empty = no focus sentence."""
    label_orders: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Number of label orders, from a balanced Latin square; 1 = the taxonomy's order only."""

    @model_validator(mode="after")
    def _each_once(self) -> Cross:
        if len(set(self.temperature)) < len(self.temperature) or len(set(self.focus)) < len(self.focus):
            raise ValueError("lists the same value twice")
        return self


class Price(Settings):
    """The price of the engine, in one currency of your choice; free by default."""

    currency: Annotated[str, Field(max_length=12)] = ""
    """The currency of the prices, for reports: EUR."""
    audio_minute: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Price of a minute of audio sent; where audio is billed as tokens, what they cost on top of tokens of text."""
    million_tokens_in: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Price of a million prompt tokens, as the engine counts them."""
    million_tokens_out: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Price of a million answer tokens, reasoning included."""

    def of(self, *, audio_seconds: float, tokens_in: float, tokens_out: float) -> float:
        """The cost of this amount of audio and tokens."""
        tokens = self.million_tokens_in * tokens_in + self.million_tokens_out * tokens_out
        return self.audio_minute * audio_seconds / 60.0 + tokens / 1e6


class AnnotatorFile(Settings):
    """An annotator file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """The annotator's name, written on each of its votes."""
    engine: EngineName
    """The engine that runs or reaches the model."""
    model: Annotated[str, Field(min_length=1)]
    """The model's name at the engine, or a folder."""
    revision: str | None = None
    """The model's revision (commit)."""
    knows: Annotated[tuple[str, ...], CHANGES_NOTHING] = ()
    """The only labels that the model has learned; any other label is refused. Empty = any label."""
    trained_on: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Corpora and their speakers that the model was trained on; "" = unknown speakers, "split:NAME" = a split that its
    training utterances are of. Its votes on these are not counted by fuse and align; no vote depends on it."""
    measured: Measured | None = None
    """How well the model predicted human votes of speakers that it was not trained on: corpus, nll_per_vote,
    class_shares_nll_per_vote. align compares with it; no vote depends on it."""
    prompt: str = "listener"
    """A shipped prompt's name, or the path of a prompt file."""
    elicit: Elicit = "sample"
    """sample: sample answers; score: compute every label's probability; state: let the model state a distribution."""
    votes: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of votes per utterance; null = one per cell. If you raise it, only the missing votes are requested."""
    answer: Answer = "codes"
    """codes: one letter per label, checked to be one token; words: the labels themselves."""
    constrain: bool = False
    """Constrain the engine to the offered answers (codes only) or to the JSON schema (structured outputs)."""
    content_free: bool = False
    """score: divide by the probabilities for a second of silence, which reduces a bias towards single labels
    (contextual calibration). Costs one more request per run, which is not in the price."""
    sampling: SamplingSettings = SamplingSettings()
    """Sampling settings."""
    cross: Cross = Cross()
    """Factors that are crossed into cells."""
    too_long: Literal["fail", "crop"] = "fail"
    """Audio longer than the model's window: a failed vote, or only its beginning is used. Above 300 s it fails."""
    serve: Annotated[dict[str, Any], CHANGES_NOTHING] = Field(default_factory=dict)
    """Settings of the engine; they change no vote."""
    price: Annotated[Price, CHANGES_NOTHING] = Price()
    """Prices. Votes that were already paid keep the price of that time."""

    def deciding(self) -> dict[str, Any]:
        """The settings that a vote depends on: all but name, votes, prompt path, trained_on, measured and those
        that change nothing.
        """
        aside = {"name", "votes", "prompt", "trained_on", "measured", *marked(type(self), CHANGES_NOTHING)}
        return self.model_dump(mode="json", exclude=aside)


def annotator_path(named: str | Path, beside: str | Path = ".") -> Path:
    """The path of an annotator file, given by its path (relative to `beside`) or its shipped name ("embedded")."""
    path = Path(beside) / Path(named).expanduser()
    if path.exists() or Path(named).suffix or len(Path(named).parts) > 1:
        return path
    folder = shipped_folder("pipelines") / "annotators"
    shipped = {file.stem: file for file in sorted(folder.glob("*.toml"))}
    shipped["embedded"] = package_folder() / "embedded" / "annotator.toml"
    if str(named) not in shipped:
        fix = f"{did_you_mean(str(named), shipped)} Shipped: {', '.join(sorted(shipped))}; or name a file.".strip()
        raise SettingsError(f"there is no annotator {str(named)!r}", where=str(path), fix=fix)
    return shipped[str(named)]


def refuse_unknown(file: AnnotatorFile, labels: Sequence[str], where: str) -> None:
    """Raise SettingsError for labels that the model has not learned."""
    unknown = [label for label in labels if file.knows and label not in file.knows]
    if unknown:
        raise SettingsError(
            f"{file.name} has learned {', '.join(file.knows)} only, not {', '.join(unknown)}",
            where=where,
            fix="Use a taxonomy of labels that it has learned, or another annotator.",
        )


def check_file(file: AnnotatorFile, prompt: Prompt, where: str) -> None:
    """Raise SettingsError for settings that contradict each other or the prompt."""
    allowed = _ELICITED_BY[prompt.elicits]
    if file.elicit not in allowed:
        raise SettingsError(
            f"elicit = {file.elicit!r} does not fit the prompt {file.prompt!r}, which asks for a {prompt.elicits}",
            where=where,
            fix=f"Write elicit = {' or '.join(repr(elicit) for elicit in allowed)}.",
        )
    if file.cross.focus and "focus" not in prompt.uses:
        fix = "Remove it, or write {{ focus }} into the prompt."
        raise SettingsError(f"cross.focus is set, but the prompt {file.prompt!r} does not use it", where=where, fix=fix)
    for name in file.cross.focus:
        prompt.focus_sentence(name)
    if file.cross.label_orders > 1 and prompt.elicits == "attributes":
        raise SettingsError("cross.label_orders is set, but the prompt shows no labels", where=where, fix="Remove it.")
    if file.elicit == "score" and len(file.cross.temperature) > 1:
        fix = "Remove cross.temperature."
        raise SettingsError("cross.temperature is set, but a score does not depend on it", where=where, fix=fix)
    if file.content_free and (file.elicit != "score" or prompt.context_fields):
        context = prompt.context_fields[0] if prompt.context_fields else ""
        message = "is for scores only" if file.elicit != "score" else f"cannot correct for the {context} in the prompt"
        fix = "Remove it, or use a prompt without context of the utterance, such as listener."
        raise SettingsError(f"content_free {message}", where=where, fix=fix)
    if file.constrain and (file.elicit == "score" or prompt.elicits == "primary_secondary"):
        raise SettingsError("constrain has no effect with these settings", where=where, fix="Remove it.")
    if file.constrain and file.elicit == "sample" and file.answer == "words":
        raise SettingsError(
            "constrained words are not sampled by their probability (each token is normalised on its own)",
            where=where,
            fix='Write answer = "codes", or constrain = false.',
        )
    serve_settings(file.engine, file.serve, where=where)
