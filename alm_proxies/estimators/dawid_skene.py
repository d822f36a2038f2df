"""Dawid and Skene's model of raters with confusion matrices: the classical model, for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self
from warnings import warn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alm_proxies.ballots import left_out, not_fitted, refuse_unknown_raters, which_count
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.estimators.estimator import NotConvergedWarning, no_vote_has_a_label, nothing_to_learn
from alm_proxies.measures.arrays import Array, places
from alm_proxies.tables import About, Finding, Labels, Votes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_FLOOR = 1e-10


@dataclass(frozen=True, slots=True)
class _Ballots:
    """Votes as a sparse matrix: utterances x (rater, label), an annotator's votes on one utterance summing to 1."""

    utterances: pl.Series
    matrix: csr_matrix
    human_votes: Array
    proxy_votes: Array


class DawidSkene:
    """Expectation-maximisation over one hidden true label per utterance and a confusion matrix per rater.

    P(label l | truth c, rater r) = e_r[l, c] and P(c) = p[c]. E: q_i[c] ~ p[c] prod over votes (r, l) of e_r[l, c];
    M: p = mean_i q_i, e_r[l, c] ~ sum over r's votes l of q_i[c]; started from each utterance's shares of votes.
    A. P. Dawid and A. M. Skene (1979), Applied Statistics 28(1), 20-28.

    It assumes that ONE label is true and that raters err independently: its posterior is the certainty about that
    label, and over-confident as a distribution of listeners' answers. Therefore it gives no concentration. A proxy is a
    rater like any other: its draws on one utterance count as one vote together, whatever their number. For a label that
    a rater never used, and for a rater not in the fit, the pooled matrix of all raters is used.

    Learned: prior_ (labels), confusion_ (raters x labels voted x labels true), raters_, log_likelihood_ (mean per vote,
    one per iteration), iterations_, converged_, findings_ (what was left out).
    """

    name: ClassVar[str] = "dawid_skene"
    needs_people: ClassVar[bool] = False

    def __init__(self, *, iterations: int = 200, tolerance: float = 1e-6) -> None:
        if iterations < 1 or tolerance < 0:
            raise SettingsError(
                f"{iterations} iterations with tolerance {tolerance} cannot be run",
                fix="Use one iteration or more and a tolerance of 0 or more.",
            )
        self.iterations = iterations
        self.tolerance = tolerance

    def fit(self, votes: Votes) -> Self:
        """Learn the prior and every rater's confusion matrix; warns if the likelihood has not converged."""
        usable, self.findings_ = _usable(votes)
        if not usable.height:
            unused = not_fitted(votes)
            if any(unused.values()):
                raise nothing_to_learn(self.name, unused)
            raise no_vote_has_a_label()
        self.labels_ = votes.taxonomy
        self.raters_ = tuple(usable["annotator"].unique().sort().to_list())
        ballots = self._ballots(votes.frame.head(0), usable)
        matrix, labels = ballots.matrix, len(self.labels_)
        by_vote = matrix.T.tocsr()
        mass = float(matrix.data.sum())
        shares = _collapsed(matrix, labels)
        posterior = shares / shares.sum(1, keepdims=True)
        used = np.asarray(by_vote.sum(1)).ravel() > 0
        history: list[float] = []
        self.converged_ = False
        self.prior_, errors = posterior.mean(0), _errors(by_vote @ posterior, used, labels)
        for _ in range(self.iterations):
            posterior, log_likelihood = _posterior(matrix, errors, self.prior_)
            history.append(log_likelihood / mass)
            self.prior_, errors = posterior.mean(0), _errors(by_vote @ posterior, used, labels)
            if len(history) > 1 and abs(history[-1] - history[-2]) < self.tolerance:
                self.converged_ = True
                break
        self.log_likelihood_, self.iterations_ = tuple(history), len(history)
        self.confusion_ = _with_pooled(errors, by_vote @ posterior, used)
        if not self.converged_:
            warn(
                f"{self.name} stopped after {self.iterations_} iterations before its likelihood converged",
                NotConvergedWarning,
                stacklevel=2,
            )
        return self

    def predict(self, votes: Votes) -> Labels:
        """The posterior of the one true label for every utterance of the votes; without a usable vote, the prior."""
        if not hasattr(self, "confusion_"):
            raise InputError(f"{type(self).__name__} has not been fitted", fix="Call fit(votes) first.")
        if votes.taxonomy != self.labels_:
            raise InputError(
                f"the votes have the labels {', '.join(votes.taxonomy)}, the fit has {', '.join(self.labels_)}",
                fix="Fit and predict with one taxonomy.",
            )
        usable, _ = _usable(votes)
        ballots = self._ballots(votes.frame, usable)
        posterior, _ = _posterior(ballots.matrix, self.confusion_.reshape(-1, len(self.labels_)), self.prior_)
        frame = pl.DataFrame(
            {
                "utterance_id": ballots.utterances,
                **{f"p_{label}": posterior[:, place] for place, label in enumerate(self.labels_)},
                "human_votes": ballots.human_votes,
                "proxy_votes": ballots.proxy_votes,
            }
        )
        about = About(taxonomy=self.labels_, annotators=votes.about.annotators)
        return Labels.of(frame, about=about, where="labels")

    def _ballots(self, everything: pl.DataFrame, usable: pl.DataFrame) -> _Ballots:
        from scipy.sparse import csr_matrix

        labels, raters = len(self.labels_), len(self.raters_)
        ids = (everything if everything.height else usable)["utterance_id"].unique().sort()
        row = places(usable["utterance_id"], ids)
        known = pl.Series("annotator", [*self.raters_]).to_frame().with_row_index("rater")
        named = usable.select("annotator").join(known, on="annotator", how="left", maintain_order="left")
        rater = named["rater"].fill_null(raters).to_numpy().astype(np.int64)
        codes = usable["label"].cast(pl.Enum(self.labels_)).to_physical().to_numpy().astype(np.int64)
        weight = usable["weight"].to_numpy()
        who = usable["annotator"].cast(pl.Enum(usable["annotator"].unique().sort())).to_physical().to_numpy()
        weight = weight / _mass_of_pairs(row, who.astype(np.int64), weight)
        shape = (len(ids), (raters + 1) * labels)
        matrix = csr_matrix((weight, (row, rater * labels + codes)), shape=shape)
        human = (usable["source"] == "human").to_numpy()
        cast = [np.bincount(row[of], usable["weight"].to_numpy()[of], len(ids)) for of in (human, ~human)]
        return _Ballots(ids, matrix, cast[0].astype(np.float64), cast[1].astype(np.float64))


def _usable(votes: Votes) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """The label votes of the fit, and findings for those left out; unknown raters are refused."""
    usable = votes.frame.filter(which_count("fit"))
    refuse_unknown_raters(usable, "dawid_skene")
    return usable, tuple(left_out(votes, answer="label"))


def _posterior(matrix: Any, errors: Array, prior: Array) -> tuple[Array, float]:
    log_joint = matrix @ np.log(errors) + np.log(np.maximum(prior, _FLOOR))
    highest = log_joint.max(1, keepdims=True) if len(log_joint) else log_joint[:, :1]
    joint = np.exp(log_joint - highest)
    total = joint.sum(1, keepdims=True)
    posterior: Array = joint / total
    return posterior, float((highest + np.log(total)).sum())


def _errors(mass: Array, used: NDArray[np.bool_], labels: int) -> Array:
    """Confusion matrices, (rater, label voted) x label true, over the labels a rater used."""
    cells = (np.maximum(mass, _FLOOR) * used[:, None]).reshape(-1, labels, labels)
    errors: Array = cells / np.maximum(cells.sum(1, keepdims=True), _FLOOR)
    return np.where(used[:, None], errors.reshape(-1, labels), 1.0)


def _with_pooled(errors: Array, mass: Array, used: NDArray[np.bool_]) -> Array:
    """The matrices as raters x voted x true; the pooled one is last, and in every row a rater never used."""
    labels = errors.shape[1]
    pooled = np.maximum(mass.reshape(-1, labels, labels).sum(0), _FLOOR)
    pooled /= pooled.sum(0)
    matrices: Array = np.where(used[:, None], errors, np.tile(pooled, (len(errors) // labels, 1)))
    return matrices.reshape(-1, labels, labels)


def _collapsed(matrix: Any, labels: int) -> Array:
    """Utterances x labels: the votes of all raters together."""
    which = np.tile(np.eye(labels), (matrix.shape[1] // labels, 1))
    shares: Array = matrix @ which
    return shares


def _mass_of_pairs(row: NDArray[np.int64], rater: NDArray[np.int64], weight: Array) -> Array:
    """The total weight of each vote's utterance and rater."""
    pair = row * (int(rater.max(initial=0)) + 1) + rater
    if pl.Series(pair).n_unique() == len(pair) and (weight == 1.0).all():
        return weight
    _, place = np.unique(pair, return_inverse=True)
    total: Array = np.bincount(place, weight).astype(np.float64)[place]
    return total
