"""The data card of an export: what the labels are, how they were made, and unsuitable uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from alm_proxies import __version__
from alm_proxies.about import About
from alm_proxies.ambiguity import stated
from alm_proxies.cards import Card, card_of, may_leave
from alm_proxies.printable import counted
from alm_proxies.stages.export.formats import Format
from alm_proxies.stages.export.items import Items

_UNSUITABLE = """\
Labels describe how listeners perceive emotion in a voice, not what a speaker feels.

Suitable: research on perceived emotion, on disagreement between listeners, and training and testing of models for it.

Not suitable: deciding about a person, as in hiring, school, policing, border control, insurance or lending; diagnosis;
covert monitoring. In the European Union, systems that infer emotions of people at work and in education are prohibited,
except for medical or safety reasons (Regulation 2024/1689, Article 5). Listeners and models perceive speakers of other
languages, accents, ages and genders differently: test on the people of your application."""


def card_text(
    items: Items, kind: Format, about: About, metrics: Mapping[str, Any] | None, left_out: pl.DataFrame
) -> str:
    """The card as Markdown with YAML front matter that the Hugging Face hub reads."""
    name = items.settings.name
    corpora = items.frame["corpus"].unique().sort().to_list()
    cards = [card_of(corpus, items.settings.cards) for corpus in corpora]
    languages = [value for value in items.frame["language"].unique().sort().to_list() if value]
    front = {
        "pretty_name": name,
        "license": "other",
        "license_name": "; ".join(dict.fromkeys(card.licence for card in cards)),
        "task_categories": ["audio-classification"],
        "tags": ["speech-emotion", "label-distribution", "alm-proxies"],
    }
    if languages:
        front["language"] = languages
    splits = items.frame.group_by(pl.col("split").fill_null("train"), maintain_order=True).agg(
        pl.len().alias("items"),
        pl.col("speaker").drop_nulls().n_unique().alias("speakers"),
        pl.col("weight").sum().alias("weight"),
    )
    parts = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()),
        *_configs(kind, splits["split"].to_list()),
        "---",
        f"# {name}",
        f"{counted(len(items), 'item')} with a distribution over {', '.join(items.labels)}, written for {kind.title}.",
        "## How the labels were made",
        _made(about, items.settings.targets),
        "## Labels",
        _labels(items),
        "## Splits",
        _table(["split", "items", "speakers", "sum of weights"], splits.rows()),
    ]
    if kind.losses:
        parts += ["## Which loss fits", kind.losses + "."]
    if metrics:
        parts += ["## What the proxies were worth", _worth(metrics)]
    parts += ["## Corpora and licences"]
    for corpus, card in zip(corpora, cards, strict=True):
        copied = may_leave(corpus, named=items.settings.may_leave, folder=items.settings.cards)
        cited = f" Cite: {card.citation}." if card.citation else ""
        parts.append(f"- **{corpus or 'without a name'}**: {card.title}; {card.licence}.{_copies(card, copied)}{cited}")
    if left_out.height:
        parts += ["## Left out or changed", _left_out(left_out, named=not items.settings.pseudonyms)]
    parts += ["## Intended and unsuitable uses", _UNSUITABLE, ""]
    return "\n\n".join(parts).replace("---\n\n", "---\n", 1).replace("\n\n---\n\n#", "\n---\n\n#")


def _copies(card: Card, copied: bool) -> str:
    """Whether recordings and transcripts of a corpus are kept back, or copied on the word of who exported it."""
    if not copied:
        return f" Its recordings and transcripts are not included: {card.why}."
    if card.may_leave:
        return ""
    return f" Copies of its recordings and transcripts were allowed by name in this export, otherwise not: {card.why}."


def _configs(kind: Format, splits: list[str]) -> list[str]:
    if kind.name not in ("huggingface", "huggingface_parquet"):
        return []
    from alm_proxies.stages.export.writers.huggingface import split_names

    names = list(dict.fromkeys(split_names(splits).values()))
    pattern = "data/{}/**" if kind.name == "huggingface" else "data/{}-*.parquet"
    files = [{"split": name, "path": pattern.format(name)} for name in names]
    return [f"configs: {json.dumps([{'config_name': 'default', 'data_files': files}])}"]


def _made(about: About, targets: str) -> str:
    lines = []
    if targets == "votes":
        lines.append(
            "Distributions are the plain shares of the human votes, without the held-out ones; utterances without such "
            "votes have the distribution of the labels described here."
        )
    maker = about.made_by
    if maker is not None:
        method = maker.settings.get("method")
        lines.append(
            f"Written by alm-proxies {__version__}, stage {maker.stage}" + (f", method {method}." if method else ".")
        )
    proxies = {name: card for name, card in about.annotators.items() if card.source == "proxy"}
    for name, card in proxies.items():
        facts = [card.model or "", f"prompt {card.prompt}" if card.prompt else "", f"elicit {card.elicit}"]
        lines.append(f"- proxy **{name}**: {', '.join(fact for fact in facts if fact)}")
    if not proxies:
        lines.append("The labels file has no proxies.")
    return "\n".join(lines)


def _worth(metrics: Mapping[str, Any]) -> str:
    headline = metrics.get("headline")
    return (
        str(headline) if headline else f"```json\n{json.dumps(dict(metrics), indent=1, ensure_ascii=False)[:4000]}\n```"
    )


def _labels(items: Items) -> str:
    shares = [(label, f"{share:.3f}") for label, share in zip(items.labels, items.shares.mean(0), strict=True)]
    ambiguity = dict(items.frame.group_by("ambiguity").len().sort("ambiguity").iter_rows())
    levels = ", ".join(f"{level} {count:,}" for level, count in ambiguity.items())
    return f"{_table(['label', 'mean share'], shares)}\n\nAmbiguity: {levels} ({stated(items.cuts)})."


def _left_out(left_out: pl.DataFrame, *, named: bool) -> str:
    """A line for each kind of finding; without the messages where utterances have pseudonyms, as these name them."""
    if not named:
        counts = left_out.group_by("kind", maintain_order=True).agg(pl.col("count").sum()).rows()
        return "\n".join(f"- {kind}: {count:,}" for kind, count in counts)
    rows = left_out.group_by("kind", maintain_order=True).agg(pl.first("message"), pl.len()).rows()
    return "\n".join(
        f"- {kind}: {message}" + f" (and {count - 1:,} more)" * (count > 1) for kind, message, count in rows
    )


def _table(heads: list[str], rows: list[tuple[Any, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += [
        "| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row) + " |"
        for row in rows
    ]
    return "\n".join(lines)
