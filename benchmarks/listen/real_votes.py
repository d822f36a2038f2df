"""What a listener is worth: human votes alone and fused with a listener trained on these very votes, out of fold.

CREMA-D, all actors of the data, k = 1 or 3 voice votes a clip, four others held out; the product's own fuse with
default settings. Printed for each draw of the votes: log loss a held-out vote of human votes alone, of the listener
alone and of the fused labels; the gain with its paired interval over actors; the worst upper end among strata known
beforehand; and the exchange gap (own fitted votes less held-out votes).

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/listen/real_votes.py --recipe encoder --model FOLDER --keep FOLDER
    ... --size 200 --draws 20          # a small corpus;        --shuffled "over all" or "within speakers": no signal
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from crema_d import LABELS, Listening, Recordings, log_loss

from alm_proxies.estimators.counts import Array
from alm_proxies.estimators.trials import Losses, paired
from alm_proxies.measures.exchange import exchange
from alm_proxies.stages.listen.settings import ListenSettings


def losses(shares: Array, held: Array, rows: Array) -> Losses:
    return Losses(-(held * np.log(np.maximum(shares, 1e-9))).sum(1)[rows], held.sum(1)[rows])


def strata(one: Listening) -> dict[str, Array]:
    """Strata known before any held-out vote: agreement and first choice of the votes, how sure the listener is."""
    most = one.kept.max(1)
    parts = {f"{int(count)} votes agree": most == count for count in np.unique(most)}
    shares = one.fitted.shares
    entropy = -(shares * np.log(shares)).sum(1)
    low, high = np.quantile(entropy, [1 / 3, 2 / 3])
    parts |= {"listener sure": entropy < low, "between": (entropy >= low) & (entropy < high), "unsure": entropy >= high}
    return parts | {f"first choice {label}": one.kept.argmax(1) == j for j, label in enumerate(LABELS)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="features")
    parser.add_argument("--model")
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--shuffled", default="")
    given = parser.parse_args()
    settings = ListenSettings(recipe=given.recipe, model=given.model)
    data = Recordings(Path(os.environ["ALM_PROXIES_TEST_DATA"]), settings, given.keep)
    print("| k | draw | human | listener | fused | gain | worst stratum, upper end | exchange gap |")
    print("|---" * 8 + "|")
    for draw in range(given.draws):
        rows = data.sample(given.size, draw)
        for k in (1, 3):
            one = data.listen(k, draw, rows, rounds=given.rounds, shuffled=given.shuffled)
            alone = data.fused(rows, one.kept, draw, None, {})
            fused = data.fused(rows, one.kept, draw, one.fitted.shares, one.folds)
            actors = data.actors[rows]
            gain = paired(losses(fused, one.held, rows >= 0), losses(alone, one.held, rows >= 0), actors)
            parts = {
                name: paired(losses(fused, one.held, part), losses(alone, one.held, part), actors[part]).high
                for name, part in strata(one).items()
            }
            worst = max(parts, key=lambda name: parts[name])
            gap = exchange(one.fitted.shares, one.kept, one.held, actors).gap
            shown = " | ".join(f"{log_loss(part, one.held):.4f}" for part in (alone, one.fitted.shares, fused))
            print(
                f"| {k} | {draw} | {shown} | {gain.estimate:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}) | "
                f"{worst} {parts[worst]:+.4f} | {gap.estimate:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
