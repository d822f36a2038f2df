"""Every kind of finding: how serious it is, what it means and what to do. A new kind needs a line here.

info: worth knowing, nothing is lost. warning: something was left out or changed, or may mislead. problem: a result is
missing or cannot be relied on until something is done. Kinds of third parties' plug-ins that are not listed are
warnings.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["info", "warning", "problem"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "problem")
NOT_DECLARED: Severity = "warning"


class Kind(NamedTuple):
    """What a kind of finding means."""

    severity: Severity
    meaning: str
    fix: str = ""
    """What to do; empty where there is nothing to be done."""


KINDS: dict[str, Kind] = {
    # votes that do not count, and labels
    "consensus": Kind(
        "info", "Published consensus labels are no votes and do not count.", "consensus = true counts them."
    ),
    "held_out": Kind("info", "Human votes are held out for scoring and never fitted."),
    "no_label": Kind("info", "Votes, or utterances, have no label and take no part where labels are compared."),
    "refused": Kind("warning", "An engine refused to answer.", "Reword the prompt, or use another model."),
    "unparsable": Kind("warning", "A reply could not be read as a label.", "Use answer codes, or constrain replies."),
    "out_of_vocabulary": Kind(
        "warning", "A label is outside the taxonomy; the vote is kept without one.", "Add it to the map."
    ),
    "failed": Kind("problem", "A vote could not be asked for, or its request failed.", "Run the same command again."),
    "secondary": Kind("info", "Raters named secondary labels, which are not used.", "Set merge to use them."),
    "secondary_out_of_vocabulary": Kind("info", "Secondary labels outside the taxonomy were left out."),
    "copied_annotator": Kind("warning", "An annotator's votes are exactly those of another one and count once."),
    # reading a corpus
    "answered_again": Kind(
        "warning", "A rater answered for an utterance again; each answer counts as a vote.", "Check the source."
    ),
    "columns_not_taken": Kind("info", "Columns of the source were not taken.", "Map them if they are needed."),
    "copied_rows": Kind(
        "warning", "Rows are exact duplicates; each counts as a vote.", "Remove the copies if they are errors."
    ),
    "distracted": Kind("info", "Answers whose first click took long were left out, as the corpus's authors did."),
    "empty_label": Kind("warning", "Votes have no label.", "Fill them, or leave the rows out."),
    "map_not_used": Kind("warning", "The map names a word that no row has.", "Check its spelling."),
    "mapped": Kind("info", "A word became a label, as the map says."),
    "mass_outside": Kind("warning", "Soft labels gave mass to a word that is no label.", "Add it to the map."),
    "missing_number": Kind("warning", "A value that should be a number is missing or is none.", "Check the column."),
    "no_audio": Kind("warning", "Utterances have no recording.", "Name the folder that holds the recordings."),
    "no_file": Kind("info", "A file that the format may have is not there."),
    "no_gender": Kind("info", "The gender of a speaker is not stated."),
    "no_level": Kind("info", "An answer has no level; its emotion is still read."),
    "no_majority": Kind("info", "The corpus publishes no majority label for some utterances; their votes are read."),
    "self_reports": Kind(
        "info",
        "Self-reports of actors were left out: they are not votes of listeners.",
        "self_reports = true reads it.",
    ),
    "unread_lines": Kind(
        "warning", "Lines of a label file could not be read and were left out.", "Compare them with the published file."
    ),
    "no_split": Kind("warning", "Utterances without a speaker belong to no split.", "Give their speakers."),
    "no_vote": Kind("info", "Rows of the source hold no vote."),
    "no_votes": Kind("warning", "Utterances, or labels, have no vote.", "Give every Votes file."),
    "no_rater": Kind("info", "Answers that do not name their rater were left out."),
    "not_a_clip": Kind("warning", "Answers are about something that is not a clip of the corpus and were left out."),
    "not_described": Kind(
        "warning", "Votes or labels are about utterances that no table describes.", "Give their Utterances."
    ),
    "not_filtered": Kind("info", "A filter of the published corpus was not applied: its file is not there."),
    "nothing_held_out": Kind(
        "problem", "No human vote is held out, so nothing shows whether labels are right.", "Hold votes out in read."
    ),
    "outside": Kind("info", "A word was left outside the taxonomy, as the map says."),
    "practice": Kind("info", "Answers about practice clips were left out."),
    "repeated": Kind("info", "Second answers of a rater for a clip were left out."),
    "several_labels": Kind("info", "Answers named several labels; several_labels says how they count."),
    "shares_rounded": Kind("info", "Soft labels summed to 1 only roughly and were brought to 1."),
    "split_replaced": Kind("info", "The split that came with the corpus was replaced by the one asked for."),
    "synonyms": Kind("info", "Common synonyms were read as labels.", "Write a map to change this."),
    "unknown_gender": Kind("warning", "A gender is not female, male or other and was left empty."),
    # recordings
    "cache_unreadable": Kind("info", "Cached features could not be read and were measured again."),
    "empty": Kind("problem", "A recording holds no sound.", "Fetch it again, or leave it out."),
    "labels_not_taken": Kind(
        "warning", "Soft labels over another taxonomy were not taken.", "Read them with their own taxonomy."
    ),
    "length_unknown": Kind("warning", "A recording does not state its length.", "Convert it to wav or flac."),
    "missing": Kind("problem", "A recording is not there.", "Check the corpus folder."),
    "no_cycles": Kind("info", "Too few glottal cycles for a feature of a recording; it stays empty."),
    "not_audio": Kind("problem", "A file cannot be read as audio.", "Convert it to wav or flac."),
    "not_finite": Kind("problem", "A recording holds NaN or infinite values.", "Convert it again."),
    "not_rendered": Kind("warning", "Items are recipes without a recording.", "Render them first."),
    "parent_failed": Kind("problem", "A recording that an item is made from cannot be used.", "See its own finding."),
    "remote_audio": Kind("warning", "Audio behind an address was not fetched.", "Fetch it to this machine first."),
    "silent": Kind("problem", "A recording is silent.", "Leave it out."),
    "slice_outside": Kind("problem", "start and end lie outside the recording.", "Check the times."),
    "slice_wrong": Kind("problem", "start is not before end.", "Check the times."),
    "too_long": Kind("warning", "A recording is longer than can be used, and is left out.", "Cut it into utterances."),
    "too_quiet": Kind("info", "A recording is too quiet for a feature; it stays empty."),
    "too_short": Kind("warning", "A recording is too short for what is measured or trained.", "Leave it out."),
    "truncated": Kind("problem", "A recording ends early.", "Fetch it again."),
    "undefined": Kind("info", "A feature has no value for a recording, or its true label is not defined."),
    "unknown_speaker": Kind("info", "A speaker is stated to be unknown and was left empty."),
    "unknown_utterance": Kind("problem", "An item is made from an utterance that no table describes.", "Give it."),
    "unreadable": Kind("problem", "A recording cannot be opened.", "Check its permissions."),
    "unvoiced": Kind("info", "A recording has too little pitch for a feature; it stays empty."),
    "wrongly_named": Kind("info", "A recording's file extension does not match its format.", "Rename it."),
    # annotating
    "annotator_changed": Kind("info", "An annotator has changed; votes it cast before are kept apart."),
    "asked_again": Kind("info", "Votes that had failed are asked for again."),
    "cast_twice": Kind("info", "Votes were in several ledgers; one of each is kept."),
    "changed": Kind("info", "Recordings or texts have changed; votes about them are asked for again."),
    "implausible_usage": Kind(
        "warning", "A server reported a use of tokens that cannot be.", "Check the bill of the provider."
    ),
    "injection_failed": Kind("warning", "Votes with an injected transcript failed.", "Run the same command again."),
    "injection_not_cast": Kind("warning", "Votes with an injected transcript are missing.", "Run the command again."),
    "ledger_loss": Kind("problem", "The ledger has lost votes or spending.", "Run the same command again."),
    "ledger_restored": Kind("warning", "What the ledger had lost was restored from its journal or the votes table."),
    "ledger_upgraded": Kind("info", "The ledger was upgraded to the newest version; a copy of the old one is kept."),
    "lost_in_flight": Kind("warning", "Requests were in flight when a run was killed and may be paid twice."),
    "not_cast": Kind("problem", "Planned votes were not asked for.", "Run the same command again."),
    "not_in_votes": Kind("info", "Votes of the ledger are not in the table, which holds what was asked for now."),
    "not_seeded": Kind("info", "The engine ignores seeds, so asking again gives other votes."),
    "nothing_to_inject": Kind("info", "No utterance has a transcript, so injection is not measured."),
    "stopped": Kind("problem", "The run stopped itself: budget, refusals, failures or collapse.", "See its message."),
    # fusing
    "assumed_agreement": Kind(
        "warning", "Hardly any utterance has two human votes; their agreement is assumed.", "Have some rated twice."
    ),
    "chosen": Kind("info", "Which method predicts held-out votes best, and what it was chosen from."),
    "folds_share_speakers": Kind(
        "warning", "A proxy was trained in folds that share speakers.", "Train it again in folds of speakers."
    ),
    "folds_unknown": Kind(
        "warning", "A proxy was trained in folds that are not known here.", "Give the utterances file with speakers."
    ),
    "known_raters": Kind("info", "Whether it helps to know which rater cast which vote."),
    "no_human_votes": Kind("warning", "Labels of utterances without a human vote rest on proxies and corpus shares."),
    "not_converged": Kind("warning", "A fit stopped before it converged.", "Allow more iterations."),
    "proxies": Kind("info", "Whether proxies help to predict held-out votes, and how much."),
    "proxies_dropped": Kind("info", "Proxies that did not help do not count."),
    "proxies_leak": Kind(
        "problem", "A proxy repeats the human votes it is to be judged by.", "Leave it out, or have it vote unseen."
    ),
    "sorted_copy": Kind("info", "A file was not sorted by utterance_id; a sorted copy was made to fuse it in parts."),
    "too_few_to_choose": Kind("warning", "Too few utterances have human votes to choose by.", "Have more rated."),
    # comparing
    "alt_test": Kind("info", "The alternative annotator test cannot be made: raters are not known."),
    "column_lacking": Kind("warning", "A column that steered the fusion is not in these utterances.", "Give it."),
    "confounded": Kind(
        "info", "Parts of a panel always change together, so their effects cannot be separated.", "Cross them."
    ),
    "counting_not_known": Kind("warning", "Labels do not state how votes were counted.", "Fuse the votes again."),
    "exchange": Kind(
        "info", "Whether a proxy predicts votes of the fit better than held-out ones, as a trained one does."
    ),
    "kept_back": Kind("info", "Recordings or transcripts are not shown: the corpus's card forbids it."),
    "many_values": Kind("info", "A column has too many values to be shown as groups.", "Merge some of them."),
    "no_held_out_votes": Kind("info", "Predictions without held-out votes cannot be scored."),
    "no_importance": Kind("warning", "Utterances without an importance count nothing.", "Give their weights."),
    "no_prediction": Kind("warning", "Utterances with held-out votes have no prediction.", "Predict them."),
    "no_proxies": Kind("info", "No proxy voted: the report is of human votes alone."),
    "sampled": Kind("info", "The report is made from a random sample of the utterances.", "Raise at_most."),
    "votes_missing": Kind("warning", "Labels rest on more human votes than are given.", "Give every Votes file."),
    # balancing
    "copies_off_target": Kind(
        "warning", "Whole copies miss the wanted shares by more than a point.", "Ask for more copies, or keep weights."
    ),
    "drift_check_blind": Kind(
        "warning", "The drift check rarely rejects a change that people hear.", "Listen to the generated items."
    ),
    "class_without_utterances": Kind(
        "warning", "A class is the most likely label of no utterance.", 'Use method = "dime".'
    ),
    "drifted": Kind("info", "Generated items in which the listener hears another emotion are left out."),
    "not_generated": Kind("warning", "No items are generated: a listener cannot be trained.", "Give more recordings."),
    "without_neighbour": Kind("info", "Utterances have no other of the same or a compatible speaker to be mixed with."),
    "not_copied": Kind(
        "warning", "Utterances without a recording have a weight in place of copies.", "Give their recordings."
    ),
    "without_a_copy": Kind("info", "Utterances of small weight have no copy and are left out.", "Ask for more copies."),
    "few_effective": Kind("warning", "Balancing made the weights very uneven.", "Ask for less, or set a cap."),
    "level_lacking": Kind("warning", "No utterance has a level that was asked for.", "Choose other shares."),
    "speaker_in_two_splits": Kind("problem", "A speaker is in two splits.", "Split by speaker."),
    "cap_not_held": Kind("warning", "A limit on weights could not be kept.", "Allow a larger weight or share."),
    "wish_not_met": Kind("warning", "Shares that were asked for could not be reached.", "Loosen the cap."),
    "without_labels": Kind("warning", "Utterances have no label and are left out."),
    # listening
    "folds_of_utterances": Kind(
        "warning", "A listener was trained in folds of utterances, not of speakers.", "Give the speakers."
    ),
    "folds_uneven": Kind(
        "warning", "One of a listener's folds holds most of the human votes.", "Have more speakers rated."
    ),
    "folds_without_votes": Kind(
        "warning", "A listener's folds of speakers do not all have human votes.", "Have more speakers rated."
    ),
    "not_learned_from": Kind("info", "Utterances without human votes are voted on, and teach a listener nothing."),
    "speakers_not_known": Kind("warning", "Utterances do not name their speaker.", "Give their speakers."),
    # training and predicting
    "development_set_aside": Kind("info", "No development split is given; some speakers were set aside for it."),
    "no_utterance": Kind("warning", "Labels are about utterances that no table describes.", "Give their Utterances."),
    "no_weight": Kind("info", "Labels of weight 0 are not trained on."),
    "not_calibrated": Kind("warning", "The model's confidence is not calibrated.", "Give votes."),
    "only_held_out": Kind("info", "Utterances of which all human votes are held out are not trained on."),
    "out_of_memory": Kind("warning", "A batch did not fit the memory and was done in parts."),
    "proxy_trained_on": Kind(
        "warning", "A proxy was trained on speakers it votes on; these votes are left out.", "Train it without them."
    ),
    "trained_on": Kind("problem", "A model was trained on utterances that it is scored on.", "Score it on others."),
    # exporting
    "cut": Kind("info", "Recordings were cut to their utterances."),
    "paths_tell": Kind("warning", "The paths of recordings may reveal who speaks.", "Write audio = copy."),
    "rendered": Kind("info", "Items made of several recordings were rendered."),
    "tied_labels": Kind("warning", "Two labels are equally likely; ties says which is exported."),
    # simulating
    "kept": Kind("info", "Sounds of an earlier run with the same settings were kept."),
}


def severity_of(kind: str) -> Severity:
    """How serious a kind of finding is."""
    declared = KINDS.get(kind)
    return not_declared(kind) if declared is None else declared.severity


def not_declared(_: str) -> Severity:
    """The severity of a kind that is not listed here; the tests refuse such kinds of ours."""
    return NOT_DECLARED
