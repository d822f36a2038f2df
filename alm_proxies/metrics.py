"""Every metric that a stage writes, by its name: meaning, unit, formula and reference.

n_ik are the held-out votes of utterance i for label k, q_i their shares, p_i the predicted distribution. A new name in
a metrics.json or metrics.jsonl needs a line here; the documentation lists them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """The meaning of a metric."""

    group: str
    meaning: str
    unit: str = ""
    formula: str = ""
    """LaTeX; empty if the meaning states it."""
    better: Literal["lower", "higher", ""] = ""
    reference: str = ""
    by: tuple[str, ...] = ()
    """The keys below the name, level by level: (stratification, value, method)."""


SCORE = "Scores against held-out votes"
RECOVERED = "Strength and ambiguity"
AGREEMENT = "Agreement"
WORTH = "What votes are worth"
SHARES = "Label shares"
BALANCE = "Balance"
TRAINING = "Training"
GROUPS = (SCORE, RECOVERED, AGREEMENT, WORTH, SHARES, BALANCE, TRAINING)

ENDS = {
    "value": "The estimate.",
    "low": "The lower end of its 95 % interval, by a bootstrap over speakers.",
    "high": "The upper end.",
    "p_value": "Two-sided, of a sign-flip test over speakers.",
    "method": "percentile (ece: gaps), t (under 20 speakers) or none (under three); on curves percentile from five.",
    "speakers": "The number of speakers of the bootstrap; each utterance of unknown speakers counts as one.",
    "per_speaker": "The values of the speakers, where these are fewer than 20.",
}
"""The keys of a figure with its interval, the same in every file."""
AVERAGES = {
    **dict.fromkeys(("nll_per_vote", "less_baseline", "dirichlet_multinomial_nll"), "held-out votes"),
    **dict.fromkeys(
        (
            "jsd_base2", "jsd_floor", "jsd_base2_to_truth", "kld_nats_to_truth", "brier", "total_variation", "kld_nats",
            "bhattacharyya", "r2_within_utterance",
            "emd", "ece", "accuracy",
        ),
        "utterances",
    ),
    **dict.fromkeys(("macro_f1", "macro_f1_with_ties", "r2_over_utterances"), "labels"),
    **dict.fromkeys(("uar", "uar_with_ties", "recall_over_votes"), "labels that occur"),
}  # fmt: skip
"""What an average is over; written into every metrics.json."""

_NLL = r"-\sum_{ik} n_{ik} \ln p_{ik} \; / \; \sum_{ik} n_{ik}"
_NLL_MEANING = (
    "Log loss of the held-out votes. 0.01 less means about 1 % more probability for the labels people chose. "
    "Methods and settings are chosen by it."
)
_JSD = r"\frac{1}{2} D(p \Vert m) + \frac{1}{2} D(q \Vert m), \; m = \frac{p+q}{2}"
_JSD_MEANING = "Jensen-Shannon divergence with base-2 logarithms. With few votes even the truth does not reach 0."
_ANCHORS = "places by Russell and Mehrabian 1977"

METRICS: dict[str, Metric] = {
    # scores
    "nll_per_vote": Metric(SCORE, _NLL_MEANING, "nats a vote", _NLL, "lower"),
    "jsd_base2": Metric(SCORE, _JSD_MEANING, "0 to 1", _JSD, "lower", "Lin 1991"),
    "jsd_floor": Metric(
        SCORE,
        "The expected JSD of the truth itself against the same number of votes, the same for every prediction. Without "
        "a simulated truth it is estimated from the held-out votes, over utterances with two or more: within 10 % of "
        "the true floor in simulated corpora, 5 % from four votes on. The interval is that of the speakers alone.",
        "0 to 1",
        r"\mathrm{E} \; \mathrm{JSD}(p, q), \; q \sim p",
    ),
    "jsd_base2_to_truth": Metric(
        SCORE, "JSD of the prediction to the true distribution of a simulated corpus.", "0 to 1", _JSD, "lower",
        "Lin 1991",
    ),
    "kld_nats_to_truth": Metric(
        SCORE, "Cross-entropy of the prediction above the entropy of the true distribution t of a simulated corpus.",
        "nats", r"\sum_k t_k \ln (t_k / p_k)", "lower", "Kullback and Leibler 1951",
    ),
    "jsd_base2_to_truth_less_baseline": Metric(
        SCORE, "jsd_base2_to_truth less that of the baseline, paired; below 0 it is better.", "0 to 1", "", "lower"),
    "kld_nats_to_truth_less_baseline": Metric(
        SCORE, "kld_nats_to_truth less that of the baseline, paired; below 0 it is better.", "nats", "", "lower"),
    "to_truth": Metric(
        SCORE, "Distances of every prediction to the true distributions of a simulated corpus, overall and within "
        "strata; null without a truth."
    ),
    "brier": Metric(SCORE, "Squared distance of the prediction from each vote y.", "0 to 2",
                    r"\sum_k (p_k - y_k)^2", "lower", "Brier 1950"),
    "total_variation": Metric(
        SCORE, "Half the summed difference of the shares.", "0 to 1", r"\frac{1}{2} \sum_k \lvert p_k - q_k \rvert",
        "lower",
    ),
    "kld_nats": Metric(
        SCORE, "Kullback-Leibler divergence of the prediction from the votes' shares; infinite where a label with "
        "votes was given no probability.", "nats", r"\sum_k q_k \ln (q_k / p_k)", "lower", "Kullback and Leibler 1951",
    ),
    "bhattacharyya": Metric(
        SCORE, "Bhattacharyya coefficient: 1 where both are equal.", "0 to 1", r"\sum_k \sqrt{p_k q_k}", "higher",
        "Bhattacharyya 1943",
    ),
    "r2_within_utterance": Metric(
        SCORE, "Squared correlation of prediction and shares over the labels of an utterance; utterances where either "
        "is uniform are left out.", "0 to 1", r"\mathrm{corr}_k (p_{ik}, q_{ik})^2", "higher",
    ),
    "r2_over_utterances": Metric(
        SCORE, "How much of the differences between utterances the predictions explain, mean over labels; below 0, the "
        "mean of the corpus predicts better. Few votes keep it well below 1.", "up to 1",
        r"1 - \sum_i (q_{ik} - p_{ik})^2 \; / \; \sum_i (q_{ik} - \bar q_k)^2", "higher",
    ),
    "emd": Metric(
        SCORE, "Earth mover's distance over the labels' places in valence, arousal and dominance: near misses cost "
        "less.", "distance of places", r"\min_x \sum_{kl} x_{kl} d_{kl}", "lower", _ANCHORS,
    ),
    "ece": Metric(
        SCORE, "Expected calibration error: the confidence of the top label against its share of the votes, in 15 bins "
        "of equal size, ties together (a constant prediction is one bin); too high with few utterances. Its interval "
        "allows for that and is wide: it holds 0 where predictions are calibrated.", "0 to 1",
        r"\sum_b \frac{N_b}{N} \lvert \bar p_b - \bar q_b \rvert", "lower", "Naeini et al. 2015",
    ),
    "accuracy": Metric(SCORE, "How often the top label is the one with most votes; ties are left out.", "0 to 1",
                       "", "higher"),
    "macro_f1": Metric(SCORE, "F1 of the top label, mean over the whole list of labels, 0 for one that is most voted "
                       "nowhere; ties are left out.", "0 to 1", r"\frac{1}{K} \sum_k 2 t_k / (g_k + m_k)", "higher"),
    "uar": Metric(SCORE, "Unweighted average recall of the top label, over the labels that are most voted somewhere; "
                  "ties are left out.", "0 to 1", r"\mathrm{mean}_k \; t_k / m_k", "higher"),
    "macro_f1_with_ties": Metric(
        SCORE, "macro_f1 over all utterances: one where m labels tie belongs to each of them by 1/m, and a prediction "
        "of one of them is correct by 1/m. Votes for words that are no label are not counted, as elsewhere.", "0 to 1",
        r"\frac{1}{K} \sum_k 2 t_k / (g_k + m_k)", "higher",
    ),
    "uar_with_ties": Metric(
        SCORE, "uar over all utterances, where a tie counts as in macro_f1_with_ties; over the labels that are most "
        "voted somewhere, alone or in a tie.", "0 to 1", r"\mathrm{mean}_k \; t_k / m_k", "higher",
    ),
    **{
        f"{measure}_less_baseline": Metric(
            SCORE, f"{measure} less that of the baseline, paired; above 0 it is better. The p-value is the share of "
            "swaps of the two predictions, speaker by speaker, with a difference at least as large.", "0 to 1", "",
            "higher",
        )
        for measure in ("macro_f1_with_ties", "uar_with_ties")
    },
    "pairs_with_ties": Metric(SCORE, "macro_f1_with_ties and uar_with_ties of one prediction less those of another, "
                              "paired.", "0 to 1", "", "higher", by=("first less second",)),
    "less_baseline": Metric(SCORE, "Log loss less that of the baseline on the same votes, paired; below 0 it is "
                            "better.", "nats a vote", "", "lower"),
    "difference": Metric(SCORE, "The second less the first, paired, on the same utterances."),
    "pairs": Metric(SCORE, "Log loss of one prediction less that of another, paired.", "nats a vote", "", "lower",
                    by=("first less second",)),
    "against_fused": Metric(SCORE, "Log loss of each method less that of the fused labels; below 0 it is better.",
                            "nats a vote", by=("method",)),
    "conditions_less_as_recorded": Metric(SCORE, "Log loss of a model on worse recordings minus that on those as "
                                          "they are.", "nats a vote", by=("prediction", "condition")),
    "scores": Metric(SCORE, "nll_per_vote, jsd_base2, brier and less_baseline of every method: overall, within strata, "
                     "against the fused labels."),
    "overall": Metric(SCORE, "Scores over all utterances, one entry a method."),
    "within": Metric(SCORE, "Scores within strata and groups of 20 utterances or more.",
                     by=("stratification", "value", "method")),
    "within_thirds_by_what_cuts": Metric(
        SCORE, "Scores within thirds of ambiguity: cut by one half of the held-out votes and scored on the other half, "
        "both ways, favouring no method, and by the fit's votes; p above 1e-6.", by=("what cuts", "third", "method"),
    ),
    "every_score": Metric(SCORE, "Every score above overall, by outcome and by observable ambiguity, as rows.",
                          by=("method",)),
    "ccc": Metric(SCORE, "Concordance with the mean held-out rating; written ccc_valence, ccc_arousal, ccc_dominance.",
                  "-1 to 1", r"2 \sigma_{xy} / (\sigma_x^2 + \sigma_y^2 + (\mu_x - \mu_y)^2)", "higher", "Lin 1989"),
    "rmse": Metric(SCORE, "Root mean squared error for the mean held-out rating; written rmse_valence, rmse_arousal, "
                   "rmse_dominance.", "0 to 1", r"\sqrt{\mathrm{mean} (x - y)^2}", "lower"),
    "recall_over_votes": Metric(SCORE, "Of the votes for a label, the share on utterances whose top label it is, ties "
                                "too; mean over the labels with votes.", "0 to 1", r"\mathrm{mean}_k "
                                r"\sum_{i: \hat k_i = k} n_{ik} / \sum_i n_{ik}", "higher"),
    "minor_recall": Metric(SCORE, "Of the labels with votes besides the most voted one, the share among the m "
                           "likeliest, m labels having votes.", "0 to 1", "", "higher"),
    "risk_coverage": Metric(SCORE, "The share of votes that the top label misses (risk) over the most confident part "
                            "of the utterances (coverage), ties by their mean; area is its mean over all coverages.",
                            "0 to 1", "", "lower", "Geifman and El-Yaniv 2017", by=("coverage, risk or area",)),
    "confusion_of_shares": Metric(SHARES, "Row by row, the mean prediction where people vote for a label.", "0 to 1"),
    # strength and ambiguity
    "dirichlet_multinomial_nll": Metric(
        RECOVERED, "Log loss of each utterance's votes under Dirichlet(concentration x p), p at least 1e-6: it "
        "includes the strength. Without the multinomial coefficient, which log_score has. A vote that is shared "
        "among labels counts as one of them, drawn by its shares.", "nats a vote",
        r"-\frac{1}{n} \ln \frac{\Gamma(c)}{\Gamma(c+n)} \prod_k \frac{\Gamma(c p_k + n_k)}{\Gamma(c p_k)}", "lower",
    ),
    "concentration": Metric(
        RECOVERED, "Calibration of the concentration on held-out votes. coverage: by level, the share of "
        "utterances whose votes for the top label lie in the central interval. pit: ten bins, flat where calibrated. "
        "log_score and log_score_without: -ln of the votes' probability, with the multinomial coefficient, by the "
        "concentration and exact shares. A vote shared among labels counts as one of them, drawn by its shares.",
        "", "", "", "Czado, Gneiting and Held 2009", by=("method", "part", "level"),
    ),
    "reliability": Metric(
        RECOVERED, "By method: confidence of the top label and its share of the votes, in bins as of ece. Among "
        "human_agreement, by number of votes: the share of the variance of their shares that is the utterance's own.",
        "0 to 1", r"k \alpha / (1 + (k-1) \alpha)", "", "Spearman 1910, Brown 1910", by=("method or votes", "part"),
    ),
    "reliability_bins": Metric(RECOVERED, "The same in fewer bins, with intervals.", "0 to 1", by=("method",)),
    "confidence": Metric(RECOVERED, "Mean probability of the top label in a bin.", "0 to 1"),
    "share": Metric(RECOVERED, "A share of votes, or of variance, with its interval.", "0 to 1"),
    "ambiguity": Metric(RECOVERED, "Predicted disagreement against the disagreement of two held-out votes, by its five "
                        "figures.", "", r"1 - \sum_k p_k^2"),
    "correlation": Metric(RECOVERED, "Pearson's correlation over utterances.", "-1 to 1", "", "higher"),
    "rank_correlation": Metric(RECOVERED, "Spearman's correlation of predicted and observed disagreement.", "-1 to 1",
                               "", "higher"),
    "ceiling": Metric(RECOVERED, "The correlation of the truth itself with the same number of votes; null under 200 "
                      "utterances with 4 votes.", "0 to 1", r"\sqrt{\mathrm{Var}(\mathrm{true}) / "
                      r"\mathrm{Var}(\mathrm{observed})}"),
    "rank_ceiling": Metric(RECOVERED, "The same for the rank correlation, from votes drawn of likely truths.",
                           "0 to 1"),
    "recovered": Metric(RECOVERED, "Strength and ambiguity of every method.", by=("method",)),
    "slope": Metric(RECOVERED, "Of observed on predicted disagreement: 1 is calibrated, below 1 they vary too much."),
    "bias": Metric(RECOVERED, "Mean predicted less mean observed disagreement: above 0 predictions are too ambiguous.",
                   "-1 to 1"),
    "stratum_trust": Metric(RECOVERED, "How often the third of ambiguity that an utterance is put in is the third of "
                            "its held-out votes; chance is 1/3.", "0 to 1", "", "higher"),
    # agreement
    "human_agreement": Metric(AGREEMENT, "All human votes, of the fit and held out, on utterances with two or more."),
    "human_agreement_without_held_out": Metric(AGREEMENT, "The same of the votes of the fit alone."),
    "median_votes_of_fit": Metric(AGREEMENT, "The median number of human votes of the fit, of utterances with any: the "
                                  "k of the page's reliability. Of all human votes where none is fitted.", "votes"),
    "agreement": Metric(AGREEMENT, "The probability that two votes of an utterance agree.", "0 to 1",
                        r"(\sum_k n_k^2 - \sum_b |v_b|^2) / (n (n-1)), \quad \sum_k h_k p_k", "higher"),
    "alpha": Metric(AGREEMENT, "Krippendorff's alpha for labels: agreement beyond chance.", "up to 1",
                    r"1 - D_o / D_e", "higher", "Krippendorff 2011"),
    "kappa": Metric(AGREEMENT, "Fleiss' kappa for unequal numbers of votes, all utterances with equal weight; between "
                    "humans and proxies, agreement beyond that of their mean shares.", "up to 1",
                    r"(P - E) / (1 - E)", "higher", "Gwet 2014"),
    "apart": Metric(AGREEMENT, "The raters who agree least with the others, how many were compared and how many had "
                    "too few utterances."),
    "lowest": Metric(AGREEMENT, "One entry a rater, numbered as in raters: agreement with the others, that among the "
                     "others, and the difference."),
    "others": Metric(AGREEMENT, "The probability that two votes of the others agree.", "0 to 1"),
    "stands_out": Metric(AGREEMENT, "Whether the difference is significantly below 0, corrected for multiple tests."),
    "compared": Metric(AGREEMENT, "The number of raters compared."),
    "agreement_at_equal_votes": Metric(AGREEMENT, "Human votes against human votes, and against proxy votes, at equal "
                                       "numbers of votes: jsd_base2, agreement, kappa; means over every sample of "
                                       "the votes. A distribution counts as a vote drawn by its shares, on average."),
    "agreement_at_one_vote": Metric(AGREEMENT, "The same with one vote on every side, for one proxy."),
    "agreement_within": Metric(AGREEMENT, "agreement_at_equal_votes within groups.", by=("group", "value")),
    "human_human": Metric(AGREEMENT, "Between two disjoint sets of human votes."),
    "human_proxy": Metric(AGREEMENT, "Between human and proxy votes."),
    "alt_tests": Metric(
        AGREEMENT, "The alternative annotator test of every proxy: epsilon, the raters tested and left out, items "
        "(utterances), win_rate and passed. null where raters are not known.", "", "", "",
        "Calderon, Reichart and Dror 2025",
    ),
    "epsilon": Metric(AGREEMENT, "The allowance for the lower cost of a proxy: 0.1, 0.15 or 0.2."),
    "proxy_advantage": Metric(AGREEMENT, "How often the proxy is at least as near to the other raters as this rater.",
                              "0 to 1", "", "higher"),
    "rater_advantage": Metric(AGREEMENT, "How often this rater is at least as near to the others as the proxy.",
                              "0 to 1"),
    "won": Metric(AGREEMENT, "Whether the proxy won against the rater, after Benjamini and Yekutieli."),
    "win_rate": Metric(AGREEMENT, "The share of raters against whom the proxy won.", "0 to 1", "", "higher"),
    "passed": Metric(AGREEMENT, "Whether that is half or more; null with fewer than three raters."),
    "raters_left_out": Metric(AGREEMENT, "Raters with fewer than 30 utterances in common."),
    "variance": Metric(AGREEMENT, "Variance components of proxy votes: the share of the utterance, of each "
                       "crossed factor, and of chance."),
    "components": Metric(AGREEMENT, "One entry a factor: its name and its share of the variance."),
    "total": Metric(AGREEMENT, "The probability that two proxy votes of two utterances differ.", "0 to 1"),
    # worth
    "saturation": Metric(WORTH, "JSD (base 2) of n votes to the target at n = 1, 2 ..., and the fitted curve.", "0 to "
                         "1", r"a - b e^{-cn}", by=("votes of", "part", "parameter")),
    "saturated_at": Metric(WORTH, "The first number of votes with nine tenths of the fitted drop from one vote to the "
                           "limit; null where there is none up to 1000.", "votes", r"1 - \ln(0.1) / c"),
    "learning": Metric(WORTH, "Log loss of the same held-out votes predicted from at = k human votes: human alone, "
                       "with_proxies, and the fused labels.", "nats a vote"),
    "at": Metric(WORTH, "The numbers of votes of a curve.", "votes"),
    "human": Metric(WORTH, "Of human votes alone: the curve in learning, the share in label_shares."),
    "with_proxies": Metric(WORTH, "The learning curve of human votes beside proxies, by the fusion `refitted`.",
                           "nats a vote", "", "lower"),
    "alone": Metric(WORTH, "The method of human votes alone: in scores by its name in settings, in learning in words."),
    "refitted": Metric(WORTH, "The fusion that with_proxies fits anew in every draw of the votes."),
    "in_equal_parts": Metric(WORTH, "Whether that is auto's methods in equal parts, not the method of the labels."),
    "fused": Metric(WORTH, "The fused labels on the learning curve: with_proxies at `given` votes, a mean over draws, "
                    "plus the labels' loss less that of the refitted fusion in the first draw, the corpus's own split, "
                    "as labels exist for it alone. Their loss itself is in scores.", "nats a vote", "", "lower"),
    "given": Metric(WORTH, "The human votes of each fused label.", "votes"),
    "strength": Metric(WORTH, "Mean concentration of the fit to human votes alone at every k.", "votes"),
    "worth": Metric(WORTH, "The number of human votes that predict as well as the fused labels, those given included.",
                    "votes", by=("stratum", "part")),
    "worth_in_human_votes": Metric(WORTH, "What the proxies were worth beyond the human votes given, with its "
                                   "interval; null is beyond the curve, and the number of votes at its start less "
                                   "those given stands for all that is less.", "votes", "", "higher",
                                   by=("stratum", "part")),
    "beyond": Metric(WORTH, "The votes after those given at which the learning curve ends.", "votes"),
    "concentration_gain": Metric(WORTH, "Concentration with less without proxies; not in human votes.", "votes of "
                                 "concentration", by=("stratum",)),
    "mean_concentration_gain_by_the_fusion": Metric(WORTH, "Mean concentration_gain of the labels.", "votes of "
                                                    "concentration"),
    "concentration_per_human_vote": Metric(WORTH, "The concentration added by one more human vote.", "votes of "
                                           "concentration"),
    "lowers_log_loss_by": Metric(WORTH, "How much the proxy lowers the log loss of a held-out human vote.",
                                 "nats a vote", "", "higher"),
    "takes_off_class_shares": Metric(WORTH, "The share of the log loss of the other speakers' class shares that the "
                                     "proxy's votes alone take off; below zero they are worse. Held-out votes count "
                                     "too; class shares have one vote for every label added, whole proxy votes one "
                                     "vote of class shares, and p is at least 1e-3.", "share", "", "higher"),
    "took_off_where_measured": Metric(WORTH, "The same where its maker measured it, by its annotator file or model.",
                                      "share"),
    "injected_transcripts": Metric(WORTH, "Whether a proxy is given transcripts, and the share of its votes that an "
                                   "injected answer turned, beside the share that a harmless sentence did.", "0 to 1",
                                   by=("proxy", "part", "figure")),
    # label shares
    "label_shares": Metric(SHARES, "How common each label is among human and proxy votes of the same utterances, and "
                           "how both vary together.", "0 to 1"),
    "corpus_shares": Metric(SHARES, "How common each label is in the corpus, from few human and many proxy votes, with "
                            "human votes alone beside it.", "0 to 1",
                            r"\bar y + \lambda (\bar f_{\mathrm{elsewhere}} - \bar f_{\mathrm{here}})", "",
                            "PPI++: Angelopoulos et al. 2023", by=("figure",)),
    "confusion_human_by_proxy": Metric(SHARES, "Row by row, proxy shares given a human label.", "0 to 1",
                                       r"\sum_i h_i(a) p_i(b) / \sum_i h_i(a)"),
    "proxy": Metric(SHARES, "The label's share among proxy votes.", "0 to 1"),
    "confusion": Metric(SHARES, "confusion_of_shares of one prediction.", "0 to 1"),
    # balance
    "effective_size": Metric(BALANCE, "The number of equally weighted utterances that carry as much information.",
                             "utterances", r"(\sum w)^2 / \sum w^2", "higher", "Kish 1965"),
    "largest_weight": Metric(BALANCE, "The largest weight; their mean is 1."),
    "met": Metric(BALANCE, "Whether every wanted share was reached."),
    "worst_error": Metric(BALANCE, "The largest distance of a reached share from the wanted one.", "0 to 1", "",
                          "lower"),
    "worst": Metric(BALANCE, "The level farthest from its wanted share."),
    "shares": Metric(BALANCE, "One entry a level of classes, ambiguity or a group: its share before, wanted, after.",
                     "0 to 1"),
    "before": Metric(BALANCE, "A share before balancing.", "0 to 1"),
    "wanted": Metric(BALANCE, "A requested share.", "0 to 1"),
    "after": Metric(BALANCE, "A share after balancing.", "0 to 1"),
    "copies": Metric(BALANCE, "The set of whole copies: items, how many are augmented, by which effects."),
    "augmented": Metric(BALANCE, "Copies with an audio effect.", "items"),
    "effects": Metric(BALANCE, "The number of copies by effect.", "items", by=("effect",)),
    "generated": Metric(BALANCE, "Generated items: how many were kept and tried, and the check of drift."),
    "tried": Metric(BALANCE, "Items that were generated and checked.", "items"),
    "threshold_nats": Metric(BALANCE, "The divergence of the listener's answers above which an item has drifted.",
                             "nats"),
    "controls": Metric(BALANCE, "Controls of the drift check: audible changes, which it should reject, and no change."),
    "rate": Metric(BALANCE, "The share of a control's items that the check rejects; in a training, the learning "
                   "rate.", "0 to 1"),
    "blind": Metric(BALANCE, "Whether the check rejects fewer of them than it should."),
    "reference": Metric(BALANCE, "The paper's method: how many items fill up rare classes."),
    "filled": Metric(BALANCE, "Of every most likely label, its utterances and the items it was filled up with.", by=(
        "label",)),
    "evaluation": Metric(BALANCE, "The set to evaluate on: importance weights of test utterances, and a subset."),
    "subset": Metric(BALANCE, "Utterances of the balanced subset; under a label, its share among them."),
    "subset_worst_error": Metric(BALANCE, "The largest distance of a label's share in the subset from an equal one.",
                                 "0 to 1", "", "lower"),
    "by_label": Metric(BALANCE, "Shares of every label: before, weighted, and in the subset.", "0 to 1",
                       by=("label",)),
    "weighted": Metric(BALANCE, "A share with the importance weights.", "0 to 1"),
    "balanced_population_estimate": Metric(
        BALANCE, "Scores where every label has the same share: test utterances weighted by entropy balancing of their "
        "fused posterior means, found again in each resample of speakers. null with a reason under 100 utterances or "
        "10 speakers, or without posterior means.", "", "", "", "Hainmueller 2012"),
    "shares_before": Metric(BALANCE, "The mean posterior mean of every label in the test set as it is.", "0 to 1",
                            by=("label",)),
    # training
    "step": Metric(TRAINING, "The number of the optimizer's step."),
    "epoch": Metric(TRAINING, "The number of the epoch."),
    "loss": Metric(TRAINING, "The training loss, mean over a step or an epoch.", "of the loss chosen", "", "lower"),
    "gradient": Metric(TRAINING, "The norm of the gradient, before it is clipped."),
    "padding": Metric(TRAINING, "The share of a batch that is padding.", "0 to 1", "", "lower"),
    "samples_per_second": Metric(TRAINING, "Utterances trained on a second.", "1/s", "", "higher"),
    "waiting": Metric(TRAINING, "The share of the time spent waiting for recordings.", "0 to 1", "", "lower"),
    "most_memory_gib": Metric(TRAINING, "The largest memory of a GPU that was held at once so far; only with a GPU.",
                              "GiB", "", "lower"),
    "score": Metric(TRAINING, "The score of early stopping: nll_per_vote of the development speakers if they have "
                    "human votes, else cross_entropy; plus attribute_loss, if there is one.", "nats a vote", "",
                    "lower"),
    "attribute_loss": Metric(TRAINING, "Of the development speakers' valence, arousal and dominance, with its weight: "
                             "the Gaussian log loss and 1 - CCC, as in training.", "nats", "", "lower"),
    "cross_entropy": Metric(TRAINING, "Of the development speakers' labels, weighted.", "nats",
                            r"-\sum_k q_k \ln p_k", "lower"),
}  # fmt: skip
"""Metrics by name; the order within a group is that of the page."""
