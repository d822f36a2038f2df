"""The pages of tables and columns, findings, metrics, data cards, features of sound, errors and exit codes."""

from __future__ import annotations

from alm_proxies.columns import Column
from site_pages.cells import code, first_sentence, plain, table

_RATED = (
    "Mean {} that listeners would rate, 0 to 1. `fuse` estimates it by [a model](../concepts/label.md#ratings): it is "
    "not the mean of the utterance's own ratings."
)
_SPREAD = "Standard deviation of one listener's rating about that mean; it does not fall with more ratings."

COLUMNS = {
    "Utterances": {
        "utterance_id": "What the row is about: corpus/own id.",
        "corpus": "The corpus, whose data card says what may be done with it.",
        "audio": "Path of the recording below its corpus's root, or a URI.",
        "start": "Where it begins in the recording, in seconds.",
        "end": "Where it ends in the recording, in seconds.",
        "duration": "Its length in seconds.",
        "speaker": "Who speaks; folds and intervals never split a speaker.",
        "dialogue": "The dialogue that it is part of.",
        "turn": "Its place in the dialogue.",
        "gender": "Of the speaker.",
        "language": "Of the speech.",
        "transcript": "What is said.",
        "intended": "What an actor was asked to express. It is never a vote.",
        "split": "train, development, test, or a name of the corpus's own.",
        "recipe": "How a generated item is made, as JSON; none for a recording.",
    },
    "Votes": {
        "utterance_id": "What was heard.",
        "annotator": "Who voted: corpus/rater, or the name of an annotator file. corpus/crowd: raters are not known. "
        "corpus/consensus: a published consensus, which is no vote.",
        "source": "A human, or a proxy (a model).",
        "draw": "The number of the vote within its utterance and annotator.",
        "label": "The label; none where there is no valid answer.",
        "weight": "The row's part of its vote. The weights of one vote sum to 1.",
        "secondary": "Further labels that the rater gave.",
        "valence": "Rating from 0, negative, to 1, positive.",
        "arousal": "Rating from 0, calm, to 1, active.",
        "dominance": "Rating from 0, weak, to 1, strong.",
        "status": "ok, or why there is no label.",
        "held_out": "Kept from every fit, to score against. Only human votes are.",
        "stated": "The exact words, where they differ from the label.",
    },
    "Labels": {
        "concentration": "The strength of the distribution in votes; none where it is exact or not known.",
        "human_votes": "The human votes behind it.",
        "proxy_votes": "The proxy votes behind it.",
        "concentration_gain": "The concentration less that without proxies. Not in human votes; may be negative.",
        "entropy": "Entropy of the distribution divided by that of the uniform one: 0 to 1.",
        "ambiguity": "Entropy in words: low up to 1/3, medium up to 2/3, high.",
        "valence": _RATED.format("valence"),
        "valence_sd": _SPREAD,
        "arousal": _RATED.format("arousal"),
        "arousal_sd": _SPREAD,
        "dominance": _RATED.format("dominance"),
        "dominance_sd": _SPREAD,
        "weight": "How often a trainer sees the row, or how much it counts in a score.",
    },
    "Findings": {
        "stage": "The stage that found it.",
        "kind": "What it is, one of [these](findings.md).",
        "severity": "How much it matters.",
        "utterance_id": "The utterance, where it is about one.",
        "where": "File, line or column, where it is about one.",
        "message": "What was found.",
        "fix": "What to do about it.",
        "count": "How often.",
    },
}
"""What each column means; a column of the contract that is not here, or the reverse, fails the build of the site."""

_ERROR = (
    "Float64",
    "not there",
    "≥ 0",
    "How well that mean is known, given the ratings: its standard deviation. In labels that `fuse` made of ratings.",
)

_TABLES_HEAD = """# Tables and columns

Four tables, read and written by every stage as Parquet (CSV and JSON lines are read too). A file with only the needed
columns is welcome: the others are filled with their default. Types are cast where nothing is lost. Columns that are not
named here are kept: in Utterances they are *group columns*, by which scores and shares can be broken down.

Under the key `alm_proxies` of the Parquet file lies JSON: the contract's number, the version, the taxonomy in order,
scales, roots, the annotators' cards, and the stage, settings and inputs that made it.

```python
import polars as pl

frame = pl.read_parquet("labels.parquet")                       # the columns
about = pl.read_parquet_metadata("labels.parquet")["alm_proxies"]   # what the file says of itself
```
"""


def tables_page() -> str:
    """Every column of the four tables."""
    from alm_proxies import tables

    parts = [_TABLES_HEAD]
    for name, meanings in COLUMNS.items():
        kind = getattr(tables, name)
        columns = {column.name: column for column in kind.COLUMNS}
        head = [("utterance_id", "String", "needed", "", "What the row is about.")] if name == "Labels" else []
        if name == "Labels":
            head.append(
                (
                    "p_<label>",
                    "Float64",
                    "needed",
                    "0 to 1",
                    "The label's share, one column a label in the taxonomy's order; a row sums to 1.",
                )
            )
        if unknown := columns.keys() - meanings.keys():
            raise LookupError(f"the column {min(unknown)} of {name} has no meaning in docs/site_pages/words.py")
        rows = [*head, *((n, str(c.dtype), _default(c), _allowed(c), meanings[n]) for n, c in columns.items())]
        rows += [(f"{attribute}_error", *_ERROR) for attribute in tables.ATTRIBUTES] if name == "Labels" else []
        key = f" Key: {', '.join(map(code, kind.KEY))}." if kind.KEY else ""
        listed = table(("column", "type", "default", "values", "meaning"), [(code(n), *rest) for n, *rest in rows])
        parts.append(f"## {name}\n\n{first_sentence(kind.__doc__)}{key}\n\n{listed}")
    return "\n".join(parts)


def _default(column: Column) -> str:
    if column.needed:
        return "needed"
    return "none" if column.default is None else code(repr(column.default).replace("'", '"'))


def _allowed(column: Column) -> str:
    if column.allowed:
        return ", ".join(column.allowed)
    if column.low is None and column.high is None:
        return ""
    low = "" if column.low is None else f"{'>' if column.low_open else '≥'} {column.low:g}"
    high = "" if column.high is None else f"≤ {column.high:g}"
    return ", ".join(filter(None, (low, high)))


_FINDINGS_HEAD = """# Findings

Nothing is dropped silently: whatever a stage leaves out, corrects or wants known is a row of `findings.parquet`, beside
its outputs, with its [columns](tables.md#findings). A stage's `.findings` in Python is the same table.

```python
from alm_proxies import Findings

findings = Findings.read("mine/findings.parquet")
print(findings.counts())
```
"""


def findings_page() -> str:
    """Every kind of finding."""
    from alm_proxies.finding_kinds import KINDS, SEVERITIES

    parts = [_FINDINGS_HEAD]
    for severity in reversed(SEVERITIES):
        rows = [
            (code(name), plain(k.meaning), plain(k.fix)) for name, k in sorted(KINDS.items()) if k.severity == severity
        ]
        parts.append(f"## {severity}\n\n{_SEVERITY[severity]}\n\n{table(('kind', 'meaning', 'what to do'), rows)}")
    return "\n".join(parts)


_SEVERITY = {
    "problem": "A result is missing or cannot be relied on until something is done.",
    "warning": "Something was left out or changed, or may mislead.",
    "info": "Worth knowing; nothing is lost.",
}


_METRICS_HEAD = """# Metrics

Every distribution is judged by human votes that no fit has seen, or by a simulated truth. Names carry base and root,
because papers do not agree on either: `jsd_base2` is the Jensen-Shannon *divergence* with base-2 logarithms, 0 to 1.
Let $n_{ik}$ be the held-out votes of utterance $i$ for label $k$, $q_i = n_i / \\sum_k n_{ik}$ their shares, and $p_i$
the predicted distribution. Intervals are 95 %, by a bootstrap over speakers; methods are compared in pairs, on the same
speakers.

These are the keys of `metrics.json`, which align, evaluate and balance write, and of `metrics.jsonl`, which a training
writes. A figure that is not known is null.
"""


def metrics_page() -> str:
    """Every metric with its meaning, formula and unit, and the words of the report."""
    from alm_proxies.compare.glossary import _WORDS
    from alm_proxies.metric_keys import DESCRIPTIONS
    from alm_proxies.metrics import ENDS, GROUPS, METRICS

    parts = [_METRICS_HEAD]
    for group in GROUPS:
        listed = [
            (
                code(name),
                plain(metric.meaning)
                + (f" ({plain(metric.reference)})" if metric.reference else "")
                + (f"<br>${metric.formula}$" if metric.formula else "")
                + (f"<br>Keys below: {', '.join(metric.by)}." if metric.by else ""),
                "; ".join(filter(None, (plain(metric.unit), metric.better and f"{metric.better} is better"))),
            )
            for name, metric in METRICS.items()
            if metric.group == group
        ]
        if listed:
            parts.append(f"## {group}\n\n{table(('name', 'meaning and formula', 'unit'), listed)}")
    for title, words in (("A figure with its interval", ENDS), ("What a figure is about", DESCRIPTIONS)):
        described = [(code(name), plain(meaning)) for name, meaning in words.items()]
        parts.append(f"## {title}\n\n{table(('key', 'meaning'), described)}")
    rows = [(word, sentence) for word, _, sentence in sorted(_WORDS, key=lambda entry: entry[0].casefold())]
    return "\n".join([*parts, f"## The words of a report\n\n{table(('word', 'meaning'), rows)}"])


def stages_page() -> str:
    """What every stage takes and writes."""
    from alm_proxies.stages.registry import STAGES, stage_of

    rows = []
    for verb, sentence in STAGES.items():
        stage = stage_of(verb)
        needs = [
            f"{code(n.name)} of {' or '.join(n.first)}" if n.first else f"{code(n.name)} of every {', '.join(n.every)}"
            for n in stage.needs
        ]
        rows.append(
            (
                code(verb),
                plain(sentence),
                ", ".join(needs),
                ", ".join(code(name) if name != "." else "a folder" for name in stage.writes.values()),
            )
        )
    head = """# Stages

A stage is declared once, in its `settings.py`; its command, its section of a pipeline file, its place in the order and
what makes it run again are derived from that. Every stage writes `findings.parquet` too.
"""
    return f"{head}\n{table(('stage', 'what it does', 'needs', 'writes'), rows)}"


def plugins_page() -> str:
    """Everything that can be added from outside, and what there is."""
    from alm_proxies.plugins import KINDS, THINGS, plugins

    head = """# Plug-ins

Readers, estimators, engines, prompts, exports and recipes are found by name: those that come with the package, and
those that other installed packages name in their entry points. `alm-proxies plugins` lists what your installation has.

```toml
[project.entry-points."alm_proxies.estimators"]
mine = "my_package.mine:Mine"
```

[Extend it in Python](../how-to/extend.md) has examples and the entry points of a whole package.
"""
    rows = []
    for kind in KINDS:
        described, found_in = THINGS[kind]
        thing = f"{described} ({code(found_in)})" if found_in else described
        rows.append((code(f"alm_proxies.{kind}"), thing, ", ".join(map(code, plugins(kind))) or "none yet"))
    return f"{head}\n{table(('entry point', 'what it names', 'those that come with the package'), rows)}"


def cards_page() -> str:
    """The shipped data cards."""
    from alm_proxies.cards import card_of, known_cards

    head = """# Data cards

A card says what a corpus is, and whether its audio and transcripts may leave the machine. A corpus without a card
stays. A card of your own, in a folder named by `--cards`, comes before the shipped one of the same name; its keys are
[these](settings.md#the-data-card).
"""
    cards = [card_of(name) for name in known_cards()]
    rows = [
        (code(c.name), plain(c.title), "yes" if c.may_leave else "no", plain(c.licence), plain(c.votes)) for c in cards
    ]
    return f"{head}\n{table(('corpus', 'name', 'may leave', 'licence', 'votes'), rows)}"


def features_page() -> str:
    """Every feature of sound."""
    from alm_proxies.audio.features import FEATURES, GROUPS

    head = """# Features of sound

Measured at 16 kHz, per utterance. The group `spectral` needs the extra `[audio]`. What cannot be measured is null and a
finding, never a zero.
"""
    parts = [head]
    for group in GROUPS:
        rows = [(code(f.name), plain(f.unit), plain(f.meaning)) for f in FEATURES if f.group == group]
        parts.append(f"## {group}\n\n{table(('column', 'unit', 'meaning'), rows)}")
    return "\n".join(parts)


def errors_page() -> str:
    """The tree of errors and the exit codes."""
    from alm_proxies import errors

    head = """# Errors and exit codes

An error is one sentence: what is wrong, where (file, line, column, utterance), and what to do next. `--debug` gives the
traceback. In Python each is an exception with `.message`, `.where` and `.fix`.

## Exit codes

| code | meaning |
|---|---|
| 0 | Done. |
| 1 | Finished, but more was left out than `--max-left-out` allows. |
| 2 | Wrong input or settings. |
| 3 | An engine or a device failed, or a result could not be written. |
| 70 | Unexpected: a defect of alm-proxies. Please report it. |
| 130 | Interrupted. The same command goes on from there. |

## The tree
"""
    rows = []
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.AlmProxiesError):
            depth = len(kind.__mro__) - len(errors.AlmProxiesError.__mro__)
            rows.append(("\u2003" * depth + code(kind.__name__), kind.exit_code, first_sentence(kind.__doc__)))
    return f"{head}\n{table(('error', 'exit code', 'when'), rows)}"
