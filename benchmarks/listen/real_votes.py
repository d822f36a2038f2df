"""What a listener is worth: human votes alone and fused with a listener trained on these very votes, out of fold.

CREMA-D, all actors of the data, k = 1 or 3 voice votes a clip, four others held out; the product's own fuse with
default settings. Every draw of the votes is kept in a folder as soon as it is done; a run that was stopped goes on.
Printed for each draw: log loss a held-out vote of human votes alone, of the listener alone and of the fused labels; the
gain with its paired interval over actors; the worst upper end among strata known beforehand; and the exchange gap (own
fitted votes less held-out votes). Then the means over draws: of every clip the mean difference over draws, paired over
actors; over all actors and over the ten that nothing was chosen on; and the gain in every stratum over all draws.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/listen/real_votes.py --recipe encoder --model FOLDER --keep FOLDER
    ... --size 200 --draws 20          # a small corpus;        --shuffled "over all" or "within speakers": no signal
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from crema_d import LABELS, LOCKED, Kept, Listening, Recordings, read, shown, sums, write

from alm_proxies.estimators.counts import Array
from alm_proxies.estimators.trials import Interval, Losses, paired
from alm_proxies.measures.exchange import exchange
from alm_proxies.stages.listen.settings import ListenSettings

KINDS = ("alone", "listener", "fused")
STRATUM = "stratum "


def strata(listened: Listening) -> dict[str, Array]:
    """Strata known before any held-out vote: agreement and first choice of the votes, how sure the listener is."""
    most = listened.kept.max(1)
    parts = {f"{int(count)} votes agree": most == count for count in np.unique(most)}
    shares = listened.fitted.shares
    entropy = -(shares * np.log(shares)).sum(1)
    low, high = np.quantile(entropy, [1 / 3, 2 / 3])
    parts |= {"listener sure": entropy < low, "between": (entropy >= low) & (entropy < high), "unsure": entropy >= high}
    return parts | {f"first choice {label}": listened.kept.argmax(1) == j for j, label in enumerate(LABELS)}


def measured(data: Recordings, k: int, draw: int, given: argparse.Namespace, alone: Path) -> Kept:
    """One draw: human votes alone are kept apart, since every listener is compared with the same."""
    rows = data.sample(given.size, draw)
    listened = data.listen(k, draw, rows, rounds=given.rounds, shuffled=given.shuffled)
    if not alone.exists():
        write(alone, {"alone": sums(data.fused(rows, listened.kept, draw, None, {}), listened.held)})
    shares = data.fused(rows, listened.kept, draw, listened.fitted.shares, listened.folds)
    actors = data.actors[rows]
    gap = exchange(listened.fitted.shares, listened.kept, listened.held, actors).gap
    parts = {f"{STRATUM}{name}": part for name, part in strata(listened).items()}
    return {
        "actors": actors,
        "rows": rows,
        "votes": listened.held.sum(1),
        "alone": read(alone)["alone"],
        "listener": sums(listened.fitted.shares, listened.held),
        "fused": sums(shares, listened.held),
        "gap": np.array([gap.estimate, gap.low, gap.high]),
        **parts,
    }


def gain(sums_of: Kept, which: Array) -> Interval:
    """Log loss fused less alone over some clips."""
    votes = sums_of["votes"][which]
    return paired(
        Losses(sums_of["fused"][which], votes), Losses(sums_of["alone"][which], votes), sums_of["actors"][which]
    )


def mean_over(draws: Iterable[Kept]) -> Kept:
    """All draws one after another: of each actor the sums over draws, so that the interval is over actors alone."""
    listed = list(draws)
    kept = {name: np.concatenate([draw[name] for draw in listed]) for name in ("actors", "votes", *KINDS)}
    for name in dict.fromkeys(name for draw in listed for name in draw if name.startswith(STRATUM)):
        parts = [draw.get(name, np.zeros(len(draw["votes"]), dtype=bool)) for draw in listed]
        kept[name] = np.concatenate(parts)
    return kept


def worst_strata(kept: Kept, most: int = 3) -> str:
    """The strata with the highest upper ends, with their clips a draw and their gains."""
    gains = [(gain(kept, part), name.removeprefix(STRATUM), part) for name, part in kept.items() if STRATUM in name]
    worst = sorted(gains, key=lambda three: -three[0].high)[:most]
    return "; ".join(f"{name} ({int(part.sum())}) {shown(gap)}" for gap, name, part in worst)


def line(kept: Kept, which: Array) -> str:
    """Log losses of the three kinds of label, and the gain."""
    losses = " | ".join(f"{kept[kind][which].sum() / kept['votes'][which].sum():.4f}" for kind in KINDS)
    return f"{losses} | {shown(gain(kept, which))}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="features")
    parser.add_argument("--model")
    parser.add_argument("--keep", type=Path, required=True, help="Folder of finished draws.")
    parser.add_argument("--size", type=int)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--votes", default="1,3")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--shuffled", default="")
    parser.add_argument("--relative", action="store_true", help="Features relative to the speaker.")
    given = parser.parse_args()
    settings = ListenSettings(recipe=given.recipe, model=given.model, speaker_relative=given.relative)
    data = Recordings(Path(os.environ["ALM_PROXIES_TEST_DATA"]), settings, given.keep)
    done = given.keep / "draws"
    variant = "_".join(
        [given.recipe, *(["relative"] if given.relative else []), f"round{given.rounds}"]
        + ([given.shuffled.replace(" ", "-")] if given.shuffled else [])
    )
    print("| k | draw | human | listener | fused | gain | worst stratum (clips) | exchange gap |")
    print("|---" * 8 + "|")
    ks = [int(k) for k in given.votes.split(",")]
    by_k: dict[int, list[Kept]] = {k: [] for k in ks}
    for draw in range(given.draws):
        for k in ks:
            place = f"{given.size or 'all'}_k{k}_draw{draw}.npz"
            path = done / f"{variant}_{place}"
            if not path.exists():
                write(path, measured(data, k, draw, given, done / f"alone_{place}"))
            kept = read(path)
            by_k[k].append(kept)
            gap = Interval(*kept["gap"])
            everyone = kept["votes"] >= 0
            print(f"| {k} | {draw} | {line(kept, everyone)} | {worst_strata(kept, 1)} | {shown(gap)} |", flush=True)
    print("\n| k | draws | actors | human | listener | fused | gain |\n" + "|---" * 7 + "|")
    for k, draws in by_k.items():
        together = mean_over(draws)
        apart = np.isin(together["actors"], LOCKED)
        for name, which in (("all", together["votes"] >= 0), ("ten not chosen on", apart), ("others", ~apart)):
            print(f"| {k} | {len(draws)} | {name} | {line(together, which)} |", flush=True)
    for k, draws in by_k.items():
        print(f"\nk = {k}, highest upper ends of strata over {len(draws)} draws: {worst_strata(mean_over(draws))}")


if __name__ == "__main__":
    main()
