"""Worth in human votes on one learning curve, with an interval over speakers."""

from collections.abc import Sequence

import numpy as np

from alm_proxies.ballots import summed
from alm_proxies.errors import InputError
from alm_proxies.estimators.counts import Index
from alm_proxies.estimators.trials import Losses, Worth, votes_reaching
from alm_proxies.seeds import generator


def worth_in_votes(
    curve: dict[int, Losses],
    fused: Losses,
    speakers: Index,
    *,
    strata: Sequence[str] | None = None,
    seed: int = 0,
    draws: int = 1000,
) -> dict[str, Worth]:
    """The human votes N at which the human-only learning curve of the same estimator reaches the fused loss.

    `curve` has the losses of fits to k human votes only, on the same held-out votes as `fused`; it is read by
    votes_reaching. Overall, and for each given stratum; bootstrap over speakers.
    """
    ks = sorted(curve)
    if len(ks) < 2:
        raise InputError("a learning curve needs two numbers of human votes or more", fix="Give more utterances votes.")
    _, speaker = np.unique(speakers, return_inverse=True)
    rng = generator(seed, "worth")
    weights = rng.multinomial(speaker.max() + 1, np.full(speaker.max() + 1, 1 / (speaker.max() + 1)), size=draws)
    weights = np.concatenate([np.ones((1, speaker.max() + 1)), weights])
    names = np.asarray(strata) if strata is not None else None
    rows_by_stratum = {"all": np.ones(len(speaker), dtype=bool)}
    if names is not None:
        rows_by_stratum |= {str(name): names == name for name in np.unique(names)}
    worth = {}
    for name, rows in rows_by_stratum.items():
        sums = [
            summed(speaker[rows], scored.loss[rows], weights.shape[1]) for scored in (*(curve[k] for k in ks), fused)
        ]
        votes = summed(speaker[rows], fused.votes[rows], weights.shape[1])
        total = weights @ votes
        kept = total > 0
        losses = (weights[kept] @ np.stack(sums, axis=1)) / total[kept][:, None]
        read = np.array([votes_reaching(ks, row[:-1], row[-1]) for row in losses])
        low, high = (np.quantile(read[1:], q, method="nearest") for q in (0.025, 0.975))
        worth[name] = Worth(float(read[0]), float(low), float(high), ks[-1], int(rows.sum()))
    return worth


def in_words(worth: Worth, given: int) -> str:
    """The worth of proxies in addition to the human votes fused with them."""
    if not np.isfinite(worth.votes):
        return f"more than {worth.most - given} human vote{'s' if worth.most - given != 1 else ''}"
    high = f"{worth.high - given:.1f}" if np.isfinite(worth.high) else f"> {worth.most - given}"
    return f"{worth.votes - given:.1f} human votes ({worth.low - given:.1f} to {high})"
