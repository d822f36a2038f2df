"""The section on citing: the formulas of the report, each with its reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alm_proxies import __version__
from alm_proxies.estimators.names import page_name
from alm_proxies.report.page import Cell, Column, Section, Table, Text

_METHODS = {
    "auto": (
        "p = v Σ w_m p_m(with proxies) + (1 − v) Σ u_m p_m(without); w, u, v maximise the cross-validated log score",
        "Yao, Vehtari, Simpson and Gelman 2018, Bayesian Analysis 13",
    ),
    "gated": (
        "p(n | x) = Σ_c w_c(x) DM(n | α_c), w(x) = softmax(b + Bx); posterior Σ_c r_c Dirichlet(n + α_c)",
        "Jacobs et al. 1991, Neural Computation 3; Minka 2000",
    ),
    "mixture": ("p(n, m_1 …) = Σ_c w_c DM(n | α_c) Π_b DM(m_b | β_bc)", "Minka 2000"),
    "loglinear": (
        "n ~ DM(S μ), μ = softmax(b + Σ_b t_b z_b + Bx), log S = s + vx, z_b the log shares of proxy b",
        "Genest and Zidek 1986, Statistical Science 1",
    ),
    "weighted": ("p ∝ n + Σ_b a_b m_b + c π, a_b and c tuned by cross-validation", ""),
    "human": ("p ∝ n + c π, c tuned by cross-validation", ""),
    "pool": ("p ∝ n + Σ_b m_b + c π", "arXiv 2601.14620"),
    "dirichlet": ("n ~ DM(S_s (l_0 π + Σ_b l_b share_b))", "Minka 2000"),
    "raters": ("log W_r[l, m] = log W_0[l, m] + c[l, m] + s_r + d_r[l, m], then the classes of gated", ""),
    "supervised": ("p = softmax(b + Bz), z the log shares of the votes and the proxies", "Wolpert 1992"),
    "dawid_skene": ("P(l | c, r) = e_r[l, c]", "Dawid and Skene 1979, Applied Statistics 28"),
}
_MEASURES = (
    ("log loss (NLL)", "−ln p(vote), mean over held-out votes, in nats", ""),
    (
        "JSD (base 2)",
        "½ KL(p ‖ m) + ½ KL(q ‖ m), m = ½ (p + q), logarithms of base 2: the divergence, not its root; q the shares of "
        "the held-out votes; mean over utterances",
        "Lin 1991, IEEE Transactions on Information Theory 37",
    ),
    (
        "strength",
        "ln Γ(S) − ln Γ(S + n) + Σ_k [ln Γ(S p_k + n_k) − ln Γ(S p_k)], negated, in nats per held-out vote",
        "Minka 2000",
    ),
    ("ambiguity", "1 − Σ_k p_k² against Σ_k n_k (n_k − 1) / (n (n − 1)) from 1, without bias", "Simpson 1949, Nature"),
    (
        "intervals",
        "95 % over speakers: bootstrap percentiles widened to t, or a t-interval under 20 speakers (none under 3; on "
        "the learning curve percentiles from 5 speakers), inside the range of the measure",
        "Hesterberg 2015, The American Statistician 69",
    ),
)


def cite_section(account: Mapping[str, Any]) -> Section:
    """The package, and every formula behind the labels and their scores."""
    rows: list[list[Cell]] = []
    for name in _names(account):
        formula, source = _METHODS.get(name, ("", ""))
        if formula:
            rows.append([page_name(name), formula, source or None])
    rows += [[name, formula, source or None] for name, formula, source in _MEASURES]
    columns = [Column("What"), Column("Formula"), Column("Reference")]
    words = (
        "n are the human votes of an utterance, m_b those of proxy b, π the shares of the labels in the corpus, DM the "
        "Dirichlet-multinomial distribution, x the log shares of proxy votes."
    )
    lead = f"alm-proxies {__version__} (CITATION.cff), and the formulas behind these figures."
    return Section("How to cite", lead, (Table.of(columns, rows), Text(words)))


def _names(account: Mapping[str, Any]) -> list[str]:
    """The methods behind the labels, in order and without duplicates."""
    names = [account["method"]] if account else []
    names += [account["chosen"]["method"]] if "chosen" in account else []
    for level in account.get("levels", []):
        names += [member["method"] for method in level["methods"] for member in method["members"]]
    return list(dict.fromkeys(names))
