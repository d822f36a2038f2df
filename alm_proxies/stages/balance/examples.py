"""Page sections on copies and generated items: shares, the drift check, and items with their parents to listen to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from alm_proxies.audio.recipe import Sounds
from alm_proxies.audio.strength import EMOTIONAL
from alm_proxies.cards import stays_because
from alm_proxies.printable import counted
from alm_proxies.report.charts import Series, votes_picture
from alm_proxies.report.page import Block, Cell, Column, Example, Examples, Section, Sound, Table
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.copies import NEAR, Copied
from alm_proxies.stages.balance.drift import DETECTED
from alm_proxies.stages.balance.generated import Generated
from alm_proxies.stages.balance.reference import Filled
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.stages.balance.wishes import Wish
from alm_proxies.tables import Finding, Labels, Utterances

if TYPE_CHECKING:
    from alm_proxies.audio.clip import Clip

LONGEST = 30.0
"""The longest recording in the page, in seconds."""
_ITEM = ("utterance_id", "parent", "second", "effect", "parameters")


def copies_section(copied: Copied, wishes: Sequence[Wish]) -> Section:
    """The number of copies, and the share of every wish that they reach."""
    worst = copied.worst
    away = 100 * abs(copied.reached[worst] - copied.wanted[worst])
    name = f"{wishes[worst].kind} {wishes[worst].name}"
    near = "within a point of" if away <= 100 * NEAR else "more than a point from"
    lead = (
        f"{counted(copied.kept, 'utterance')} and {copied.items.height:,} augmented copies of them. The share "
        f"farthest from its wanted value is that of {name}, {away:.2f} points away: {near} it."
    )
    shares = Table.of(
        [Column("Share"), Column("Wanted"), Column("Whole copies"), Column("Points away")],
        [
            [f"{wish.kind} {wish.name}", wish.target, float(share), 100 * float(share - wish.target)]
            for wish, share in zip(wishes, copied.reached, strict=True)
        ],
        "Shares of all items of the balanced splits.",
    )
    blocks: list[Block] = [shares]
    if copied.items.height:
        effects = copied.items.group_by("effect").len().sort("effect").iter_rows()
        cells: list[list[Cell]] = [[effect, count, EMOTIONAL.get(effect, "none")] for effect, count in effects]
        note = "By default no effect changes a cue of emotion: gain, pitch and speed are off."
        blocks.append(Table.of(["Effect", "Copies", "Cue of emotion that it changes"], cells, note))
    return Section("Whole copies", lead, tuple(blocks))


def generated_section(generated: Generated) -> Section:
    """The number of generated items, and what the drift check detects."""
    out = int((generated.distances > generated.threshold).sum())
    lead = (
        f"{counted(generated.items.height, 'item was', 'items were')} mixed of two utterances each, and {out:,} of "
        f"{generated.tried:,} were "
        "left out because a listener that was trained on neither parent predicts another emotion. This is no "
        "evidence about people: it shows only what a model of this kind detects."
    )
    rows: list[list[Cell]] = [
        [control.name, control.tried, None if control.tried == 0 else control.rate,
         "not tried" if control.tried == 0 else "blind" if control.blind else "notices it"]
        for control in generated.controls
    ]  # fmt: skip
    columns = [Column("Positive control"), Column("Clips", 0), Column("Rejected"), Column("The check")]
    note = (
        f"The check rejects items with a Jensen-Shannon divergence from the mixture of their parents above "
        f"{generated.threshold:.4f} nats, the 95th percentile between two seeds of the listener on untouched clips. It "
        f"is blind for a change of which it rejects less than {DETECTED:.0%}."
    )
    blocks: list[Block] = [Table.of(columns, rows, note)]
    if len(generated.distances):
        quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
        values = np.quantile(generated.distances, quantiles)
        blocks.append(
            Table.of(
                [Column("Quantile"), Column("Nats", 4)],
                [[f"{100 * q:g} %", float(value)] for q, value in zip(quantiles, values, strict=True)],
                "The divergence of all items tried.",
            )
        )
    return Section("Generated items", lead, tuple(blocks))


def filled_section(filled: Filled) -> Section:
    """The number of items added to each rare class."""
    lead = (
        f"{counted(filled.items.height, 'item was', 'items were')} mixed of two utterances of one class, as in "
        "arXiv 2601.14620, with its "
        "defects corrected. No item is checked, and the class of an utterance is its most likely label."
    )
    rows: list[list[Cell]] = [[name, had, got] for name, (had, got) in filled.classes.items()]
    table = Table.of([Column("Most likely label"), Column("Utterances", 0), Column("Items", 0)], rows)
    return Section("Rare classes filled up", lead, (table,))


def examples_section(
    labels: Labels, utterances: Utterances, items: pl.DataFrame, settings: BalanceSettings
) -> tuple[tuple[Section, ...], list[Finding]]:
    """Items drawn by the seed, each after its parents, with audio if the corpus's card allows it.

    `items` has for each its utterance_id, parent, second (null for a copy), effect and parameters.
    """
    items = items.filter(pl.col("utterance_id").is_in(labels.frame["utterance_id"].implode()))
    count = min(settings.examples, items.height)
    if not count:
        return (), []
    drawn = np.sort(generator(settings.seed, "balance", "examples").permutation(items.height)[:count])
    chosen = items[drawn.tolist()]
    ids = [*chosen["utterance_id"], *chosen["parent"], *chosen["second"].drop_nulls()]
    frame = utterances.frame
    corpus_of = dict(frame.filter(frame["utterance_id"].is_in(ids)).select("utterance_id", "corpus").iter_rows())
    reasons = {
        corpus: stays_because(corpus, named=settings.may_leave, folder=settings.cards)
        for corpus in sorted(set(corpus_of.values()))
    }
    fix = "Name the corpus in may_leave if you have the right to copy it into a page."
    findings = [
        Finding("balance", "kept_back", f"no recording is in the page: {reason}", fix, where=corpus)
        for corpus, reason in reasons.items()
        if reason is not None
    ]
    sounds = Sounds(utterances, stage="balance", longest=LONGEST)
    places = {name: row for row, name in enumerate(labels.frame["utterance_id"])}
    shares = labels.distributions()
    cards: list[Example] = []
    for item, parent, second, effect, parameters in chosen.select(*_ITEM).iter_rows():
        parents = [name for name in (parent, second) if name is not None]
        facts = {"Made of": ", ".join(parents), "Effect": effect, "Parameters": parameters}
        for name, details in [*((parent_id, {"Parent of": item}) for parent_id in parents), (item, facts)]:
            sound, picture = None, ""
            if reasons[corpus_of[name]] is None and all(reasons[corpus_of[parent_id]] is None for parent_id in parents):
                opened = sounds.open(name)
                sound = _played(opened.clip) if opened.clip is not None else None
                findings += opened.findings
            if name == item or (second is not None and name in places):
                target = Series.of("target", "fused", shares[places[name]])
                picture = votes_picture(labels.taxonomy, [target], alt=f"The target of {name}.")
            cards.append(Example(name, details, picture, None, sound))
    lead = "Each item follows the recordings that it was made from. A copy has the target of its parent."
    return (Section("Items to listen to", lead, (Examples(tuple(cards)),)),), findings


def _played(clip: Clip) -> Sound:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, clip.samples, clip.rate, format="FLAC", subtype="PCM_16")
    return Sound(buffer.getvalue(), "audio/flac")
