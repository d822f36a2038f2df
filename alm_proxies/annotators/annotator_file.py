"""What an annotator file may say, and what of it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from alm_proxies.annotators.prompts import Answer, Prompt
from alm_proxies.engines.engine import Elicit, EngineName, serve_settings
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
    """How answers are drawn; all of it is sent, so that a model's own defaults never apply."""

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the probability mass that is drawn from."""
    top_k: Annotated[int, Field(ge=-1, le=10_000_000)] = -1
    """How many tokens are drawn from; -1 = all."""
    repetition_penalty: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """1 = none."""
    max_tokens: Annotated[int, Field(ge=2, le=1_000_000)] = 16
    """Longest answer, reasoning included; an answer that is cut here is unparsable, so one token more than it needs."""


class Cross(Settings):
    """What is crossed; every combination is a cell, and draws are spread evenly over the cells."""

    temperature: Annotated[tuple[Annotated[float, Field(ge=0, le=2)], ...], Field(min_length=1)] = (1.0,)
    """Temperatures."""
    focus: tuple[str, ...] = ()
    """Names of focus sentences in the prompt's file; none = no focus sentence."""
    label_orders: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many orders of the labels, from a balanced Latin square; 1 = the taxonomy's own."""

    @model_validator(mode="after")
    def _each_once(self) -> Cross:
        if len(set(self.temperature)) < len(self.temperature) or len(set(self.focus)) < len(self.focus):
            raise ValueError("crosses the same value twice")
        return self


class Price(Settings):
    """What the engine's owner asks, in any one currency; free by default."""

    audio_minute: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """A minute of audio sent. Leave it 0 where audio is billed as tokens."""
    million_tokens_in: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """A million prompt tokens, as the engine counts them."""
    million_tokens_out: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """A million answer tokens, reasoning included."""

    def of(self, *, audio_seconds: float, tokens_in: float, tokens_out: float) -> float:
        """What that much costs."""
        tokens = self.million_tokens_in * tokens_in + self.million_tokens_out * tokens_out
        return self.audio_minute * audio_seconds / 60.0 + tokens / 1e6


class AnnotatorFile(Settings):
    """An annotator file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """What its votes are signed with."""
    engine: EngineName
    """What serves the model."""
    model: Annotated[str, Field(min_length=1)]
    """The model's name there, or a folder."""
    revision: str | None = None
    """The model's commit."""
    knows: Annotated[tuple[str, ...], CHANGES_NOTHING] = ()
    """The labels the model has learned, where it knows no others: asked for another it is refused; empty = any."""
    prompt: str = "listener"
    """A shipped prompt's name, or the path of a prompt file."""
    elicit: Elicit = "sample"
    """sample: draws answers; score: reads off the probability of every label; state: lets a distribution be stated."""
    votes: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Votes an utterance; null = one from every cell. Raised, the missing ones are asked for."""
    answer: Answer = "codes"
    """codes: one letter a label, checked to be one token; words: the labels themselves."""
    constrain: bool = False
    """Hold the engine to the answers offered (codes only) or to the JSON wanted."""
    content_free: bool = False
    """score: divide by what the same questions get about a second of silence, so that a liking for a label counts less;
    one question more a run, which is on no bill."""
    sampling: SamplingSettings = SamplingSettings()
    """How answers are drawn."""
    cross: Cross = Cross()
    """What is crossed into cells."""
    too_long: Literal["fail", "crop"] = "fail"
    """Audio beyond the model's window: a failed vote, or its beginning."""
    serve: Annotated[dict[str, Any], CHANGES_NOTHING] = Field(default_factory=dict)
    """How the engine is run or reached; changes no vote."""
    price: Annotated[Price, CHANGES_NOTHING] = Price()
    """What it costs; votes that were paid keep the price that they had."""

    def deciding(self) -> dict[str, Any]:
        """What decides a vote: all but its name, the number of votes, the prompt's place, and what changes nothing."""
        aside = {"name", "votes", "prompt", *marked(type(self), CHANGES_NOTHING)}
        return self.model_dump(mode="json", exclude=aside)


def annotator_path(named: str | Path, beside: str | Path = ".") -> Path:
    """Where an annotator file is: a path (relative to `beside`), or the name of a shipped one, such as "embedded"."""
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
    """Refuse to ask for labels that the model has not learned: what it said of them would mean nothing."""
    unknown = [label for label in labels if file.knows and label not in file.knows]
    if unknown:
        raise SettingsError(
            f"{file.name} knows {', '.join(file.knows)} alone, and is asked for {', '.join(unknown)}",
            where=where,
            fix="Use a taxonomy of labels that it knows, or another annotator.",
        )


def check_file(file: AnnotatorFile, prompt: Prompt, where: str) -> None:
    """Refuse what a file asks for and its prompt, or sense, does not allow."""
    allowed = _ELICITED_BY[prompt.elicits]
    if file.elicit not in allowed:
        raise SettingsError(
            f"elicit = {file.elicit!r} does not go with the prompt {file.prompt!r}, which asks for a {prompt.elicits}",
            where=where,
            fix=f"Write elicit = {' or '.join(repr(way) for way in allowed)}.",
        )
    if file.cross.focus and "focus" not in prompt.uses:
        fix = "Take it out of cross, or write {{ focus }} into the prompt."
        raise SettingsError(f"crosses focus, and the prompt {file.prompt!r} does not use it", where=where, fix=fix)
    for name in file.cross.focus:
        prompt.focus_sentence(name)
    if file.cross.label_orders > 1 and prompt.elicits == "attributes":
        raise SettingsError("crosses label_orders, and the prompt shows no labels", where=where, fix="Take it out.")
    if file.elicit == "score" and len(file.cross.temperature) > 1:
        fix = "Take cross.temperature out."
        raise SettingsError("crosses temperature, which a score does not depend on", where=where, fix=fix)
    if file.content_free and (file.elicit != "score" or prompt.lends):
        message = "corrects scores only" if file.elicit != "score" else f"cannot correct what {prompt.lends[0]} does"
        fix = "Take it out, or name a prompt without context of the utterance, such as listener."
        raise SettingsError(f"content_free {message}", where=where, fix=fix)
    if file.constrain and (file.elicit == "score" or prompt.elicits == "primary_secondary"):
        raise SettingsError("constrain has no meaning here", where=where, fix="Take it out.")
    if file.constrain and file.elicit == "sample" and file.answer == "words":
        raise SettingsError(
            "words that are held to a list are not drawn by their probability (each token is normalised by itself)",
            where=where,
            fix='Write answer = "codes", or constrain = false.',
        )
    serve_settings(file.engine, file.serve, where=where)
