"""Sentences that name flags of commands, in the words of a pipeline file: its keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import polars as pl

from alm_proxies.errors import AlmProxiesError
from alm_proxies.finding import shown_in
from alm_proxies.pipeline.graph import Node, Run, Section
from alm_proxies.settings import Alias
from alm_proxies.stage import FILE_WIDE, Foreseen
from alm_proxies.stages.registry import STAGES
from alm_proxies.tables import Findings

_FLAG = r"(?<![\w-])--(?P<flag>[a-z][a-z0-9-]*)"
_VALUES = (
    "'[^']+'",  # --columns 'audio=wav/{column}.wav'
    r"\w+=(?:\.\.\.|[^\s;)`]*[^\s;),.`])",  # --hold-out keep=1
    r"-?[\d.]*\d",
    r"[A-Z]+(?:/[A-Z]+)?(?![a-z])",  # --recordings FOLDER
    r"\w+(?:,\w+)+",
    r"\w+(?= \(|`)",  # --annotator embedded (panel = ["embedded"]), `--method human`
)
_NAMED = re.compile(rf"{_FLAG}(?: (?P<value>{'|'.join(_VALUES)}))?(?: \([a-z_]+(?: = [^()]*)?\))?")
_ASIDE = re.compile(r" \(--[^()]*\)")
_SWITCH = "true"


def in_file(text: str, node: Node, run: Run) -> str:
    """The sentence with the keys of the pipeline file in place of flags: [hold_out] keep = 1 for --hold-out keep=1.

    A flag in parentheses stands behind its key, or names a table that the pipeline gives, and is left out. Flags that
    are no key of the file, and those of a command that is written out (annotate --annotator A.toml), stay.
    """
    if "--" not in text:
        return text
    known = _keys(node.section, run)

    def named(match: re.Match[str]) -> str:
        before = text_without_asides[: match.start()].split()
        if match["flag"] not in known or (before and before[-1] in STAGES):
            return match[0]
        place, key, switch = known[match["flag"]]
        return _spelled(place, key, match["value"] or (_SWITCH if switch else ""))

    def aside(match: re.Match[str]) -> str:
        flags = re.findall(_FLAG, match[0])
        tables = {need.flag or need.name for need in node.stage.needs}
        return "" if all(flag in known or flag in tables for flag in flags) else match[0]

    text_without_asides = _ASIDE.sub(aside, text)
    return _NAMED.sub(named, text_without_asides)


def foreseen_in_file(foreseen: Foreseen, node: Node, run: Run) -> Foreseen:
    """A forecast whose sentences name keys of the pipeline file."""
    facts, warnings, problems = (
        tuple(in_file(text, node, run) for text in texts)
        for texts in (foreseen.facts, foreseen.warnings, foreseen.problems)
    )
    return replace(foreseen, facts=facts, warnings=warnings, problems=problems)


def findings_in_file(findings: Findings, node: Node, run: Run) -> Findings:
    """Findings whose sentences name keys of the pipeline file."""
    put = [
        pl.Series(name, [in_file(text, node, run) for text in findings.frame[name]], pl.String)
        for name in ("message", "fix")
    ]
    return Findings(findings.frame.with_columns(put), findings.about)


@contextmanager
def sentences_in_file(node: Node, run: Run) -> Iterator[None]:
    """Let an error of a stage, and the sentences of its page, name keys of the pipeline file."""
    try:
        with shown_in(lambda text: in_file(text, node, run)):
            yield
    except AlmProxiesError as error:
        error.message = in_file(error.message, node, run)
        error.fix = in_file(error.fix, node, run) if error.fix else error.fix
        raise


def _keys(section: Section, run: Run) -> dict[str, tuple[str, str, bool]]:
    """By flag: where its key is in the file, the key, and whether it is a switch. A stage's own keys come first, then
    those of read, which the tables come from.
    """
    verbs = dict.fromkeys(["read", *STAGES])
    sections = [section, *(each for verb in verbs for each in run.sections.get(verb, ()))]
    known: dict[str, tuple[str, str, bool]] = {}
    for each in sections:
        verb = each.stage.verb
        one = f"[{verb}]" if each.stage.blocks == "one" else f"[[{verb}]]"
        for settings, place in [(each.settings, one), *((block, f"[[{verb}]]") for block in each.blocks)]:
            for name, field in type(settings).model_fields.items():
                key = field.alias or name
                found = ("" if key in FILE_WIDE else place, key, field.annotation is bool)
                aliases = [mark.flag for mark in field.metadata if isinstance(mark, Alias)]
                for flag in (key.replace("_", "-"), *aliases):
                    known.setdefault(flag, found)
    return known


def _spelled(place: str, key: str, value: str) -> str:
    """A key with the value of its flag, as TOML in a sentence."""
    value = value.strip("'")
    pairs = [part.split("=", 1) for part in value.split(",")] if "=" in value else []
    if pairs and not place:
        inner = ", ".join(f"{name} = {_toml(text)}" for name, *rest in pairs for text in rest)
        return f"[{key}] {inner}"
    if pairs:
        value = f"{{ {', '.join(f'{name} = {_toml(text)}' for name, *rest in pairs for text in rest)} }}"
    elif value:
        value = _toml(value)
    return f"{place} {key}{f' = {value}' if value else ''}".strip()


def _toml(text: str) -> str:
    return text if re.fullmatch(r"-?[\d.]*\d|true|false", text) else json.dumps(text, ensure_ascii=False)
