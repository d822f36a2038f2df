"""Prompts: the prompt file, its sandboxed template, and the context of an utterance, quoted as data."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta
from pydantic import BaseModel, ConfigDict, Field

from alm_proxies.annotators.templates import PromptEnvironment, rendered
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_of
from alm_proxies.plugins import plugin
from alm_proxies.settings import CHANGES_NOTHING, is_name, marked, read_settings

Elicits = Literal["label", "primary_secondary", "distribution", "attributes"]
Answer = Literal["codes", "words"]
ContextField = Literal["transcript", "speaker", "turns", "evidence"]

CONTEXT_FIELDS: tuple[str, ...] = get_args(ContextField)
"""The parts of an utterance's context that a template can show; each may be missing for some utterances."""
_VARIABLES = {
    "choices": "the answers to choose from, one per line",
    "labels": "the labels in the order shown",
    "answer": '"codes" or "words"',
    "focus": "the cell's focus sentence, or none",
    "transcript": "the transcript, quoted",
    "speaker": "the speaker's id, without the corpus",
    "turns": "the earlier turns, each with .speaker and .transcript (quoted)",
    "evidence": "measured prosody in words",
    "lowest": "the low end of the scale",
    "highest": "the high end of the scale",
}
_FOR_TEMPLATES = "Shorten the template, or the text of the utterance."
_KEPT_FORMAT_CHARACTERS = "\u200c\u200d"  # joiners that some scripts need
_NEUTRAL = str.maketrans({"<": "‹", ">": "›", "[": "(", "]": ")"})


@dataclass(frozen=True, slots=True)
class PromptContext:
    """The context of one utterance for a prompt; `turns` are (speaker, transcript) of earlier turns, oldest first."""

    transcript: str | None = None
    speaker: str | None = None
    turns: tuple[tuple[str | None, str], ...] = ()
    evidence: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], turns: int) -> PromptContext:
        """The context of an utterance with its transcript and speaker, and of this number of earlier `turns` those with
        a transcript.
        """
        before = (row.get("turns") or [])[-turns:] if turns else []
        shown = tuple((turn["speaker"], turn["transcript"]) for turn in before if turn["transcript"] is not None)
        return cls(row["transcript"], row["speaker"], shown, row.get("evidence"))

    def missing(self, requires: Sequence[str]) -> tuple[str, ...]:
        """The required fields that are missing."""
        return tuple(name for name in requires if not getattr(self, name))


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered prompt: the system text, and the texts before and after the recording."""

    system: str
    before: str
    after: str


def plain(text: str) -> str:
    """Text as data: one line, without control characters and without characters that form chat tokens or quote tags."""
    kept = (c for c in text if c in _KEPT_FORMAT_CHARACTERS or c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join("".join(kept).translate(_NEUTRAL).split())


def quoted(text: str) -> str:
    """Text as data between <quote> and </quote>; it cannot close the quote, since angle brackets are replaced."""
    return f"<quote>{plain(text)}</quote>"


def own_id(identifier: str) -> str:
    """The id without its corpus, so that the prompt does not reveal the corpus."""
    return plain(identifier.split("/", 1)[-1])


class PromptFile(BaseModel):
    """A prompt file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    describes: Annotated[str, CHANGES_NOTHING] = ""
    """A description in one line; changes no vote."""
    elicits: Elicits
    """The content of a reply: a label, a primary and secondary labels, a distribution, or attributes."""
    system: str = ""
    """The system message; the same for every vote."""
    before: str = ""
    """The text before the recording; the same for every vote."""
    after: str
    """The text after the recording: a template."""
    focus: dict[str, str] = {}
    """Focus sentences by name, for an annotator's `cross.focus`; a sentence that is not crossed changes no vote."""
    requires: tuple[ContextField, ...] = ()
    """Context fields that an utterance must have; otherwise it is left out."""
    turns: Annotated[int, Field(ge=0, le=100)] = 0
    """Number of earlier turns shown."""
    scale: tuple[float, float] = (0.0, 1.0)
    """The scale of attributes: its lowest and highest value."""


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A checked prompt; `uses` holds the variables in its template."""

    name: str
    where: str
    file: PromptFile
    uses: frozenset[str]
    template: Template
    kept: dict[tuple[object, ...], Rendered] = field(default_factory=dict, repr=False)
    """By labels, codes and focus, where nothing else is shown."""

    @property
    def elicits(self) -> Elicits:
        """The content of a reply."""
        return self.file.elicits

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and highest value of the attribute scale."""
        return self.file.scale

    @property
    def requires(self) -> tuple[ContextField, ...]:
        """Context fields that an utterance must have."""
        return self.file.requires

    @property
    def turns(self) -> int:
        """Number of earlier turns shown."""
        return self.file.turns if "turns" in self.uses else 0

    @property
    def context_fields(self) -> tuple[str, ...]:
        """The context fields (parts of an utterance besides its audio) that the prompt shows."""
        return tuple(name for name in CONTEXT_FIELDS if name in self.uses)

    def focus_sentence(self, name: str) -> str:
        """The focus sentence with this name; raises SettingsError with the known names."""
        try:
            return self.file.focus[name]
        except KeyError:
            names = ", ".join(self.file.focus) or "none"
            raise SettingsError(f"has no focus {name!r}", where=self.where, fix=f"There are: {names}.") from None

    def digest(self, focus: Sequence[str] = ()) -> str:
        """A digest of the parts of the prompt file that a vote depends on, including the used focus sentences."""
        aside = {"focus", *marked(PromptFile, CHANGES_NOTHING)}
        settings = self.file.model_dump(mode="json", exclude=aside)
        return digest_of({**settings, "focus": {name: self.focus_sentence(name) for name in focus}})

    def render(
        self, *, labels: Sequence[str], codes: Sequence[str] | None, focus: str | None, context: PromptContext
    ) -> Rendered:
        """Render the prompt; `codes` are the codes of the labels in the order shown, None for the labels themselves."""
        alike = None if self.context_fields else (tuple(labels), tuple(codes or ()), focus)
        if alike is not None and alike in self.kept:
            return self.kept[alike]
        values = _values(self.file, labels, codes, self.focus_sentence(focus) if focus else None, context)
        try:
            after = rendered(self.template, values)
        except TemplateError as error:
            raise InputError(f"the prompt {error.message}", where=self.where, fix=_FOR_TEMPLATES) from error
        prompt = Rendered(self.file.system.strip(), self.file.before.strip(), after.strip())
        if alike is not None:
            self.kept[alike] = prompt
        return prompt


def prompt_of(name: str, beside: Path | None = None) -> Prompt:
    """A shipped prompt by its name, or a prompt file by its path (relative to the folder `beside`)."""
    if not is_name(name):
        path = (beside or Path()) / Path(name).expanduser()
        if not path.is_file():
            fix = 'Write one (TOML with elicits = "label" and after = "... {{ choices }} ..."),'
            fix = f'{fix} or name a shipped prompt, such as prompt = "listener".'
            raise SettingsError("the prompt file does not exist", where=str(path), fix=fix)
    else:
        path = plugin("prompts", name).load()
    return read_prompt(path)


def read_prompt(path: Path) -> Prompt:
    """Read a prompt file; raises SettingsError with the wrong field and a fix."""
    where = str(path)
    file = read_settings(path, PromptFile)
    environment = PromptEnvironment()
    uses = _check(file, environment, where)
    prompt = Prompt(path.stem, where, file, uses, environment.from_string(file.after))
    _try_out(prompt)
    return prompt


def _values(
    file: PromptFile, labels: Sequence[str], codes: Sequence[str] | None, focus: str | None, context: PromptContext
) -> dict[str, Any]:
    shown = (
        [f"- {label}" for label in labels]
        if codes is None
        else [f"{c}: {x}" for c, x in zip(codes, labels, strict=True)]
    )
    return {
        "choices": "\n".join(shown),
        "labels": list(labels),
        "answer": "words" if codes is None else "codes",
        "focus": focus,
        "transcript": quoted(context.transcript) if context.transcript else None,
        "speaker": own_id(context.speaker) if context.speaker else None,
        "turns": [
            {"speaker": own_id(speaker) if speaker else "someone", "transcript": quoted(transcript)}
            for speaker, transcript in context.turns
        ],
        "evidence": context.evidence,
        "lowest": f"{file.scale[0]:g}",
        "highest": f"{file.scale[1]:g}",
    }


def _check(file: PromptFile, environment: PromptEnvironment, where: str) -> frozenset[str]:
    used: dict[str, set[str]] = {}
    known = "; ".join(f"{name} ({message})" for name, message in _VARIABLES.items())
    for part in ("system", "before", "after"):
        try:
            used[part] = meta.find_undeclared_variables(environment.checked(getattr(file, part)))
        except TemplateSyntaxError as error:
            fix = "Correct the template; {{ }} and {% %} are jinja2's."
            raise SettingsError(f"{part}, line {error.lineno}: {error.message}", where=where, fix=fix) from None
        except TemplateError as error:
            fix = "Prompts support if, for over labels or turns, set, and a few filters."
            raise SettingsError(f"{part}: {error.message}", where=where, fix=fix) from None
    for part in ("system", "before"):
        if used[part] or "{%" in getattr(file, part) or "{{" in getattr(file, part):
            name = min(used[part], default="a template")
            fix = "Move it to `after`: text before the recording is shared by all votes."
            raise SettingsError(
                f"{part}: uses {name!r}, but this text must be the same for every vote", where=where, fix=fix
            )
    if unknown := sorted(used["after"] - set(_VARIABLES)):
        raise SettingsError(f"after: there is no variable {unknown[0]!r}", where=where, fix=f"There are: {known}.")
    if file.elicits != "attributes" and not used["after"] & {"choices", "labels"}:
        fix = "Put {{ choices }} where the answers should be listed."
        raise SettingsError("after: does not show the labels to choose from", where=where, fix=fix)
    if not file.scale[0] < file.scale[1]:
        raise SettingsError(
            f"scale: {file.scale[0]:g} is not below {file.scale[1]:g}",
            where=where,
            fix="Write scale = [1, 7], low end first.",
        )
    if "turns" in used["after"] and file.turns == 0:
        raise SettingsError("turns: is 0, but the template shows earlier turns", where=where, fix="Write turns = 3.")
    return frozenset(used["after"])


def _try_out(prompt: Prompt) -> None:
    """Render once with a full context and once with the required fields only, to find template errors early."""
    full = PromptContext("Hello there.", "a/1", (("a/2", "Well?"),), "The voice is higher than usual.")
    bare = PromptContext(**{name: getattr(full, name) for name in prompt.requires})
    for context, focus in ((full, next(iter(prompt.file.focus), None)), (bare, None)):
        for codes in (("A", "B"), None):
            try:
                prompt.render(labels=("one", "two"), codes=codes, focus=focus, context=context)
            except InputError as error:
                fix = "Put it between {% if ... %} and {% endif %}, or list it in `requires`."
                raise SettingsError(
                    f"after: {error.message.removeprefix('the prompt ')}", where=prompt.where, fix=fix
                ) from None
            except (TypeError, ValueError, ArithmeticError, LookupError) as error:
                raise SettingsError(f"after: {error}", where=prompt.where, fix="Correct the template.") from None
