"""Every method of fuse with the one name that it has on all pages, and its meaning in one sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MethodName:
    """The name of a method on pages, and what it does."""

    name: str
    meaning: str


METHODS: dict[str, MethodName] = {
    "auto": MethodName("auto", "The default: several methods averaged with weights from held-out human votes."),
    "chosen": MethodName("chosen", "The single method that predicts held-out human votes best."),
    "gated": MethodName(
        "gated",
        "Latent classes of utterances, each with its own distribution of human votes. Proxies only influence which "
        "class an utterance belongs to.",
    ),
    "mixture": MethodName(
        "mixture", "Latent classes of utterances, each with its own distributions of human votes and of proxy votes."
    ),
    "loglinear": MethodName("loglinear", "A Dirichlet regression of human votes on the log shares of the proxies."),
    "weighted": MethodName("weighted", "A proxy vote counts as a fraction of a human vote, tuned by cross-validation."),
    "pool": MethodName("pool", "Every proxy vote counts as one human vote."),
    "human": MethodName(
        "human shares",
        "The shares of an utterance's human votes, shrunk towards those of the corpus by a tuned amount.",
    ),
    "dirichlet": MethodName(
        "dirichlet",
        "The human votes, with a Dirichlet prior whose mean the proxies change and whose strength is fitted.",
    ),
    "raters": MethodName("raters", "Human votes weighted by the reliability of their rater, then classes as in gated."),
    "supervised": MethodName(
        "supervised", "A logistic regression of human votes on the log shares of all other votes."
    ),
    "dawid_skene": MethodName("Dawid-Skene", "One true label per utterance, and a confusion matrix per rater."),
}
"""By the name in settings: `--method weighted`."""


def page_name(method: str) -> str:
    """The name of a method on pages; a method of a plug-in has its own."""
    return METHODS[method].name if method in METHODS else method
