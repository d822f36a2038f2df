"""What a page says of whole copies: the shares they reach, and copies beside their parents to be listened to."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from alm_proxies.audio.recipe import Sounds
from alm_proxies.cards import stays_because
from alm_proxies.report.charts import Series, votes_picture
from alm_proxies.report.page import Block, Column, Example, Examples, Section, Sound, Table
from alm_proxies.seeds import generator
from alm_proxies.stages.balance.copies import NEAR, Copied
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.stages.balance.wishes import Wish
from alm_proxies.tables import Finding

if TYPE_CHECKING:
    from alm_proxies.audio.clip import Clip

LONGEST = 30.0
"""Seconds a recording in the page may have."""


def copies_section(copied: Copied, wishes: Sequence[Wish]) -> Section:
    """How many copies there are, and the share that they reach of every wish."""
    worst = copied.worst
    away = 100 * abs(copied.reached[worst] - copied.wanted[worst])
    name = f"{wishes[worst].kind} {wishes[worst].name}"
    near = "within a point of" if away <= 100 * NEAR else "more than a point from"
    lead = (
        f"{copied.kept:,} utterances and {copied.items.height:,} augmented copies of them. The share furthest from "
        f"what was wanted is that of {name}, {away:.2f} points away: {near} it."
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
        blocks.append(Table.of(["Effect", "Copies"], [list(row) for row in effects]))
    return Section("Whole copies", lead, tuple(blocks))


def examples_section(copied: Copied, settings: BalanceSettings) -> tuple[tuple[Section, ...], list[Finding]]:
    """Copies drawn by the seed, each after its parent, with sound where the corpus's card allows it."""
    count = min(settings.examples, copied.items.height)
    if not count:
        return (), []
    drawn = np.sort(generator(settings.seed, "balance", "examples").permutation(copied.items.height)[:count])
    chosen = copied.items[drawn.tolist()]
    ids = {*chosen["utterance_id"], *chosen["parent"]}
    frame = copied.utterances.frame
    corpus_of = dict(frame.filter(frame["utterance_id"].is_in(list(ids))).select("utterance_id", "corpus").iter_rows())
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
    sounds = Sounds(copied.utterances, stage="balance", longest=LONGEST)
    labels = copied.labels
    places = {name: row for row, name in enumerate(labels.frame["utterance_id"])}
    shares = labels.distributions()
    cards: list[Example] = []
    for item, parent, effect, parameters in chosen.iter_rows():
        picture = votes_picture(
            labels.taxonomy, [Series.of("target", "fused", shares[places[item]])], alt=f"The target of {item}."
        )
        for name, facts in (
            (parent, {"Parent of": item}),
            (item, {"Made of": parent, "Effect": effect, "Parameters": parameters}),
        ):
            sound = None
            if reasons[corpus_of[name]] is None:
                opened = sounds.open(name)
                sound = _played(opened.clip) if opened.clip is not None else None
                findings += opened.findings
            cards.append(Example(name, facts, picture if name == item else "", None, sound))
    lead = "Each copy follows the recording that it is made of. Both have the same target."
    return (Section("Copies to listen to", lead, (Examples(tuple(cards)),)),), findings


def _played(clip: Clip) -> Sound:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, clip.samples, clip.rate, format="FLAC", subtype="PCM_16")
    return Sound(buffer.getvalue(), "audio/flac")
