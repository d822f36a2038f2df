"""Every kind of finding: its severity, its meaning and what to do. A new kind needs a line here.

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
    """One kind of finding: its severity and meaning."""

    severity: Severity
    meaning: str
    fix: str = ""
    """What to do; empty if nothing needs to be done."""


KINDS: dict[str, Kind] = {
    # votes that do not count, and labels
    "consensus": Kind(
        "info", "Published consensus labels are not votes and are not counted.", "consensus = true counts them."
    ),
    "held_out": Kind("info", "Human votes are held out for scoring and not fitted."),
    "held_out_drawn_anew": Kind(
        "info",
        "The splits of an earlier table are kept, and its held-out votes are not.",
        "Name the earlier votes too, where utterances got further votes.",
    ),
    "held_out_kept": Kind("info", "Votes that an earlier table holds out stay held out."),
    "held_out_lost": Kind(
        "warning",
        "Votes that an earlier table holds out are not found again.",
        "Read with the ids, the taxonomy and the map of the earlier read.",
    ),
    "held_out_moved": Kind(
        "warning",
        "Votes that an earlier table has in the fit are held out now.",
        "Train and fuse again, or keep its splits and hold out as it does.",
    ),
    "held_out_stays": Kind("info", "Utterances have fewer votes in the fit than asked for: the others stay held out."),
    "no_label": Kind("info", "Votes, or utterances, have no label and are left out where labels are compared."),
    "refused": Kind("warning", "An engine refused to answer.", "Reword the prompt, or use another model."),
    "unparsable": Kind("warning", "A reply could not be read as a label.", "Use answer codes, or constrain replies."),
    "out_of_vocabulary": Kind(
        "warning", "A label is outside the taxonomy; the vote is kept without one.", "Add it to the map."
    ),
    "failed": Kind("problem", "A vote could not be asked for, or its request failed.", "Run the same command again."),
    "secondary": Kind("info", "Raters named secondary labels, which are not used.", "Set merge to use them."),
    "secondary_out_of_vocabulary": Kind("info", "Secondary labels outside the taxonomy were left out."),
    "copied_annotator": Kind("warning", "An annotator's votes are equal to another's and count once."),
    # reading a corpus
    "answered_again": Kind(
        "warning", "A rater answered for an utterance again; each answer counts as a vote.", "Check the source."
    ),
    "columns_not_taken": Kind("info", "Columns of the source were not read.", "Map them if they are needed."),
    "control_tasks": Kind(
        "info",
        "Recordings with a known answer, which controlled the annotators, were left out.",
        "control_tasks = true reads them.",
    ),
    "copied_rows": Kind(
        "warning", "Rows are exact duplicates; each counts as a vote.", "Remove the copies if they are errors."
    ),
    "counted_twice": Kind("info", "Counts of votes that are read one by one as well were left out."),
    "distracted": Kind("info", "Answers with a late first click were left out, as by the corpus's authors."),
    "empty_label": Kind("warning", "Votes have no label.", "Fill them, or remove the rows."),
    "files_differ": Kind("warning", "Label files of a corpus contradict each other; one is taken.", "Compare them."),
    "rows_differ": Kind("warning", "Rows about one recording contradict each other; one is taken.", "Compare them."),
    "known_fault": Kind(
        "warning",
        "The corpus's authors list a clip as faulty.",
        "Leave the clip out of what is trained on or scored.",
    ),
    "map_not_used": Kind("warning", "The map names a word that does not occur.", "Check its spelling."),
    "mapped": Kind("info", "A word was mapped to a label by the map."),
    "mass_outside": Kind("warning", "Soft labels have a share for a word that is not a label.", "Add it to the map."),
    "misnamed": Kind("info", "A misspelt file name was corrected, or one that several recordings have got a number."),
    "missing_number": Kind("warning", "A number is missing or not valid.", "Check the column."),
    "no_audio": Kind("warning", "Utterances have no recording.", "Name the folder of the recordings."),
    "no_file": Kind("info", "An optional file of the format is missing."),
    "no_gender": Kind("info", "The gender of a speaker is not stated."),
    "no_level": Kind("info", "An answer has no level; its emotion is still read."),
    "no_majority": Kind("info", "The corpus publishes no majority label for some utterances; their votes are read."),
    "saw_prediction": Kind(
        "warning",
        "Raters could see a model's prediction when they voted.",
        "Hide predictions from raters, or leave such votes out.",
    ),
    "self_reports": Kind(
        "info",
        "Self-reports of actors were left out: they are not votes of listeners.",
        "self_reports = true reads them.",
    ),
    "unread_lines": Kind(
        "warning", "Lines of a label file could not be read and were left out.", "Compare them with the published file."
    ),
    "odd_count": Kind("warning", "Utterances have another number of votes than the corpus states."),
    "no_vote": Kind("info", "Rows of the source have no vote."),
    "table_not_named": Kind(
        "warning", "The header does not name files of tables, which are not read.", "Copy it again."
    ),
    "no_votes": Kind("warning", "Utterances, or labels, have no vote.", "Give every Votes file."),
    "no_rater": Kind("info", "Answers without a rater were left out."),
    "unknown_rater": Kind("warning", "Votes name no rater and count as those of unknown ones.", "Fill in who voted."),
    "not_a_clip": Kind("warning", "Answers about unknown clips, or files that are no clips, were left out."),
    "not_described": Kind(
        "warning", "Votes or labels refer to utterances that are not in the utterances table.", "Give their Utterances."
    ),
    "not_filtered": Kind("info", "A filter of the published corpus was not applied: its file is missing."),
    "nothing_held_out": Kind(
        "problem", "No human vote is held out, so labels cannot be evaluated.", "Hold votes out in read."
    ),
    "not_scored": Kind(
        "info",
        "Some utterances have no held-out vote, so labels are not evaluated on them.",
        "Keep fewer votes for the fit, if the others are too few.",
    ),
    "outside": Kind("info", "A word was left outside the taxonomy by the map."),
    "practice": Kind("info", "Answers about practice clips were left out."),
    "ratings_aligned": Kind("info", "Ratings were put on one scale, of several corpora or of a format."),
    "translated": Kind("info", "Labels or ratings were translated for corpora that lack them."),
    "translation_error": Kind("info", "The error of a translation on held-out votes."),
    "repeated": Kind("info", "Second answers of a rater for a clip, or copies of lines or files, were left out."),
    "several_labels": Kind("info", "Answers named several labels; several_labels says how they count."),
    "shares_rounded": Kind("info", "Soft labels summed to 1 only roughly and were normalised."),
    "split_replaced": Kind("info", "The published split of the corpus was replaced by the requested one."),
    "synonyms": Kind("info", "Common synonyms were read as labels.", "Write a map to change this."),
    "unknown_gender": Kind("warning", "A gender is not female, male or other and was left empty."),
    "unknown_speaker": Kind(
        "warning",
        "The speakers of utterances are not known: no split or fold by speaker can keep them apart.",
        "Give their speakers, or keep the utterances apart by the corpus's own split.",
    ),
    # recordings
    "cache_unusable": Kind("info", "The cache cannot be used, so features are computed again by every command."),
    "cache_unreadable": Kind("info", "Cached features could not be read and were computed again."),
    "changed_meanwhile": Kind(
        "problem",
        "Recordings changed while a stage read them.",
        "Run the same command again when nothing writes to them.",
    ),
    "touched_meanwhile": Kind(
        "info", "Recordings got another time of change while a stage read them; their content is as before."
    ),
    "empty": Kind("problem", "A recording has no samples.", "Fetch it again, or leave it out."),
    "labels_not_taken": Kind(
        "warning", "Soft labels over another taxonomy were not read.", "Read them with their own taxonomy."
    ),
    "length_unknown": Kind("warning", "A recording does not state its length.", "Convert it to wav or flac."),
    "missing": Kind("problem", "A recording is missing.", "Check the corpus folder."),
    "no_cycles": Kind("info", "A recording has too few glottal cycles for a feature, which is left empty."),
    "not_audio": Kind("problem", "A file cannot be read as audio.", "Convert it to wav or flac."),
    "not_finite": Kind("problem", "A recording has NaN or infinite values.", "Convert it again."),
    "not_rendered": Kind("warning", "Items are recipes without a recording.", "Render them first."),
    "parent_failed": Kind("problem", "A source recording of an item cannot be used.", "See its own finding."),
    "remote_audio": Kind("warning", "Remote audio was not fetched.", "Fetch it to this machine first."),
    "not_fetched": Kind(
        "problem", "A remote recording could not be fetched.", "Check its address and the network, then run it again."
    ),
    "address_with_secret": Kind(
        "warning",
        "An address has a password, a key or a signature in it, which is left out of tables.",
        "Give it where the store's own tools look: the environment, a profile or ~/.netrc.",
    ),
    "silent": Kind("problem", "A recording is silent.", "Leave it out."),
    "slice_outside": Kind("problem", "start and end are outside the recording.", "Check the times."),
    "slice_wrong": Kind("problem", "start is not before end.", "Check the times."),
    "too_long": Kind("warning", "A recording is too long and was left out.", "Cut it into utterances."),
    "too_quiet": Kind("info", "A recording is too quiet for a feature, which is left empty."),
    "too_short": Kind("warning", "A recording is too short to be measured or trained on.", "Leave it out."),
    "truncated": Kind("problem", "A recording ends early.", "Fetch it again."),
    "undefined": Kind("info", "A feature has no value for a recording, or its true label is not defined."),
    "unknown_utterance": Kind("problem", "A parent of an item is not in the utterances table.", "Give it."),
    "unreadable": Kind("problem", "A recording cannot be opened.", "Check its permissions."),
    "unvoiced": Kind("info", "A recording has too few voiced frames for a feature, which is left empty."),
    "wrongly_named": Kind("info", "A recording's file extension does not match its format.", "Rename it."),
    # annotating
    "annotator_changed": Kind("info", "An annotator has changed; its earlier votes are kept separately."),
    "asked_again": Kind("info", "Failed votes are requested again."),
    "cast_twice": Kind("info", "Votes occurred in several ledgers; one of each is kept."),
    "changed": Kind("info", "Recordings or texts have changed; votes on them are requested again."),
    "implausible_usage": Kind(
        "warning", "A server reported an impossible token usage.", "Check the bill of the provider."
    ),
    "injection_failed": Kind("warning", "Votes with an injected transcript failed.", "Run the same command again."),
    "injection_not_cast": Kind("warning", "Votes with an injected transcript are missing.", "Run the command again."),
    "ledger_loss": Kind("problem", "The ledger has lost votes or spending.", "Run the same command again."),
    "ledger_restored": Kind("warning", "Lost entries of the ledger were restored from its journal or the votes table."),
    "ledger_upgraded": Kind("info", "The ledger was upgraded to the newest version; a copy of the old one is kept."),
    "lost_in_flight": Kind("warning", "Requests were in flight when a run was killed and may be paid twice."),
    "not_cast": Kind("problem", "Planned votes were not requested.", "Run the same command again."),
    "not_in_votes": Kind(
        "info", "The table has only the votes of the present panel; other votes of the ledger are not in it."
    ),
    "not_seeded": Kind("info", "The engine ignores seeds, so votes are not reproducible."),
    "nothing_to_inject": Kind("info", "No utterance has a transcript, so injection is not measured."),
    "shard_missing": Kind(
        "problem", "Merged ledgers are not all shards of the utterances.", "Name the folders of all, and merge again."
    ),
    "stopped": Kind(
        "problem", "The run stopped at a limit: budget, refusals, failures or collapse.", "See its message."
    ),
    # fusing
    "assumed_agreement": Kind(
        "warning", "Few utterances have two human votes; agreement is assumed in part.", "Have some rated twice."
    ),
    "chosen": Kind("info", "The method that predicts held-out votes best, and the candidates."),
    "folds_share_speakers": Kind(
        "warning", "A proxy was trained in folds that share speakers.", "Train it again in folds of speakers."
    ),
    "folds_unknown": Kind(
        "warning", "The training folds of a proxy are not known.", "Give the utterances file with speakers."
    ),
    "known_raters": Kind("info", "Whether a weight for each rater helps."),
    "no_human_votes": Kind(
        "warning", "Labels of utterances without a human vote depend on proxies and corpus shares only."
    ),
    "not_converged": Kind("warning", "A fit stopped before it converged.", "Allow more iterations."),
    "proxy_apart": Kind(
        "warning",
        "A proxy votes on no utterance that people rated, so nothing can say what it is worth.",
        "If people rated these utterances, read it with their ids.",
    ),
    "proxies": Kind("info", "Whether proxies help to predict held-out votes, and how much."),
    "proxies_dropped": Kind("info", "Proxies that did not help do not count."),
    "proxies_leak": Kind(
        "problem",
        "A proxy depends on the human votes it is evaluated with.",
        "Leave it out, or collect votes that are independent of them.",
    ),
    "setting_not_used": Kind(
        "warning",
        "A setting was given that the method does not use.",
        "Leave it out, or choose a method that takes it.",
    ),
    "sorted_copy": Kind("info", "A file was not sorted by utterance_id; a sorted copy was made to read it in parts."),
    "too_few_to_choose": Kind("warning", "Too few utterances have human votes for a choice.", "Have more rated."),
    # comparing
    "alt_test": Kind("info", "The alternative annotator test cannot be made: raters are not known."),
    "column_lacking": Kind("warning", "A feature column of the fusion is not in these utterances.", "Give it."),
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
    "no_importance": Kind("warning", "Utterances without an importance are not counted.", "Give their weights."),
    "no_prediction": Kind("warning", "Utterances with held-out votes have no prediction.", "Predict them."),
    "no_proxies": Kind("info", "There are no proxy votes for labels: the report covers human votes only."),
    "run_not_paired": Kind(
        "warning", "Runs share their held-out votes with no other and are not compared.", "Hold out the same votes."
    ),
    "sampled": Kind("info", "The report uses a random sample of the utterances.", "Raise at_most."),
    "votes_missing": Kind(
        "warning", "Labels were fused from more human votes than are given.", "Give every Votes file."
    ),
    # balancing
    "copies_off_target": Kind(
        "warning",
        "Whole copies miss the wanted shares by more than a percentage point.",
        "Ask for more copies, or keep weights.",
    ),
    "effect_changes_emotion": Kind(
        "warning",
        "Copies are changed in a cue of emotion: loudness, pitch or rate.",
        "Leave these effects out of copies.effects.",
    ),
    "drift_check_blind": Kind(
        "warning", "The drift check rarely rejects audible changes.", "Listen to the generated items."
    ),
    "no_evaluation_set": Kind("warning", "No balanced evaluation set is made.", "Give more test utterances, fused."),
    "generated_in_test": Kind("warning", "Generated items are in the test set.", "Generate from training splits only."),
    "training_speaker": Kind("warning", "A test utterance's speaker is in the training split.", "Split by speaker."),
    "not_fused": Kind("warning", "Test utterances have no fused label.", "Fuse votes or proxies of all of them."),
    "class_without_utterances": Kind(
        "warning", "A class is the most likely label of no utterance.", 'Use method = "dime".'
    ),
    "silent_item": Kind("info", "Items mixed of the silence before a longer recording were left out."),
    "drifted": Kind("info", "Generated items for which the listener predicts another emotion were left out."),
    "not_generated": Kind("warning", "No items are generated: a listener cannot be trained.", "Give more recordings."),
    "without_neighbour": Kind("info", "Utterances have no partner for a mixture, of the same or a compatible speaker."),
    "not_copied": Kind(
        "warning", "Utterances without a recording have a weight instead of copies.", "Give their recordings."
    ),
    "without_a_copy": Kind("info", "Utterances of small weight have no copy and are left out.", "Ask for more copies."),
    "few_effective": Kind("warning", "The balanced weights are very uneven.", "Ask for less, or set a cap."),
    "level_lacking": Kind("warning", "No utterance has a requested level.", "Choose other shares."),
    "unread_labels": Kind("warning", "The format's readers do not know some labels.", "Merge labels with map."),
    "speaker_in_two_splits": Kind("problem", "A speaker is in two splits.", "Split by speaker."),
    "cap_not_held": Kind("warning", "A limit on weights could not be met.", "Allow a larger weight or share."),
    "wish_not_met": Kind("warning", "Requested shares could not be reached.", "Loosen the cap."),
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
    "not_learned_from": Kind(
        "info", "Utterances without human votes, or labels without an attribute, are not learned from where they count."
    ),
    # training and predicting
    "development_set_aside": Kind("info", "No development split is given; some speakers were set aside for it."),
    "mixed_across_sides": Kind("warning", "Items mixed from speakers set aside and from others are left out."),
    "label_for_votes": Kind(
        "info", "With targets = votes, utterances without human votes kept their labels.", "Give their votes."
    ),
    "drawn_to_common": Kind(
        "warning",
        "Labels fused from human votes alone are drawn to common labels, and so is a model that learns them.",
        "Set targets = votes, or fuse with a listener's votes.",
    ),
    "no_model": Kind(
        "problem",
        "A plug-in's recipe left a folder that neither predict nor annotate can take.",
        "Correct the recipe: it has to leave a model.json or an annotator file.",
    ),
    "no_utterance": Kind(
        "warning", "Labels refer to utterances that are not in the utterances table.", "Give their Utterances."
    ),
    "no_weight": Kind("info", "Labels of weight 0 are not trained on."),
    "not_calibrated": Kind("warning", "The model's confidence is not calibrated.", "Give votes."),
    "only_held_out": Kind(
        "info",
        "Utterances have held-out human votes only: fuse labels them by proxies and corpus shares, and train does not "
        "learn from them.",
    ),
    "encoded_every_epoch": Kind(
        "warning", "A frozen encoder's states are too many to keep: every epoch encodes again.", "Give fewer layers."
    ),
    "out_of_memory": Kind("warning", "A batch did not fit into memory and was processed in parts."),
    "proxy_trained_on": Kind(
        "warning", "A proxy was trained on speakers it votes on; these votes are left out.", "Train it without them."
    ),
    "proxy_unlike_measured": Kind(
        "warning", "A proxy is worse here than where it was measured.", "Rely on this report, or leave the proxy out."
    ),
    "apart_by_split": Kind(
        "warning",
        "A speaker here or in a model's training is unknown: the corpus's split alone keeps them apart.",
        "Leave them out if the split is not by speaker.",
    ),
    "trained_on": Kind(
        "info", "Predictions for speakers that the model was trained on are not scored.", "Predict others too."
    ),
    "trained_on_unknown": Kind("warning", "A model does not state what it was trained on.", "Let its recipe do so."),
    # exporting
    "counts_as_train": Kind(
        "warning",
        "Utterances without a split count as train, though others have a split.",
        "Leave them out if their speakers may be of another split.",
    ),
    "split_not_read": Kind("warning", "The format's reader does not read some splits.", "Name them as it does."),
    "weights_not_written": Kind(
        "warning",
        "The format has no weights, so all rows count the same: a balance by weights is lost.",
        "Balance by whole copies, or choose a format with weights.",
    ),
    "split_renamed": Kind("info", "Splits have another name in an export, as its reader takes other names only."),
    "without_ratings": Kind("info", "Utterances without ratings were left out of a table of ratings."),
    "cut": Kind("info", "Recordings were cut to their utterances."),
    "paths_tell": Kind("warning", "The paths of recordings may reveal who speaks.", "Set audio to copy."),
    "referred_to": Kind(
        "warning",
        "Recordings were not copied or linked: the corpus's data card does not allow it, or it has none.",
        "Name the corpus in may_leave, or write a card for it.",
    ),
    "rendered": Kind("info", "Items mixed from several recordings were rendered."),
    "tied_labels": Kind("warning", "Two labels are equally likely; the setting ties decides which is exported."),
    # simulating
    "kept": Kind("info", "Recordings of an earlier run with the same settings were kept."),
}


def severity_of(kind: str) -> Severity:
    """The severity of a kind of finding."""
    declared = KINDS.get(kind)
    return not_declared(kind) if declared is None else declared.severity


def not_declared(_: str) -> Severity:
    """The severity of a kind that is not listed here; the tests refuse such kinds of ours."""
    return NOT_DECLARED
