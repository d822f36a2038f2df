"""The model card of a trained folder: metadata for the Hugging Face Hub, and a text for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from alm_proxies.about import speakers_and_splits
from alm_proxies.models.trained import CLASS_SHARES, TrainedFile
from alm_proxies.printable import counted
from alm_proxies.training.settings import TrainSettings
from alm_proxies.training.targets import Targets

_MEASURES = {
    "nll_per_vote": "log loss a human vote (nats)",
    "nll_per_vote_calibrated": "log loss a human vote after calibration, cross-validated over speakers (nats)",
    CLASS_SHARES: "log loss a human vote of the training votes' class shares (nats)",
    "cross_entropy": "cross-entropy of the labels (nats)",
    "cross_entropy_prior": "the same, of the mean of the labels",
    "cross_entropy_labels": "the same, of the labels themselves: the least possible",
}
_LEARNED = {"labels": "the fused labels of", "votes": "the shares of the human votes on"}
_HEADED = """An audio-language model reads a prompt with the recording, and a head on the states of all tokens gives the
distribution; it answers nothing in words. `predict` takes this folder, and `annotate` its `annotator.toml` (engine
transformers; vLLM cannot run the head).
"""
_CHOSEN_BY = "These speakers chose the epoch, so the figures are slightly too good."
_LIMITS = """It predicts what the listeners of its corpora would vote, not what a speaker feels. Other languages,
recording conditions and crowds differ"""


def model_card(file: TrainedFile, targets: Targets) -> str:
    """README.md of a trained folder."""
    calibration = file.calibration
    how = {
        "none": "not changed by calibration",
        "temperature": f"divided by the temperature {calibration.temperature:.3f}",
        "dirichlet": "mapped by a Dirichlet calibration",
    }[calibration.method]
    of = _LEARNED[file.settings.get("targets", "labels")]
    return f"""---
{_metadata(file.name, file.recipe, file.base, file.trained_on, file.development)}
---
# {file.name}

Predicts the distribution of listeners' votes over {", ".join(file.labels)} from speech.
{_HEADED if file.recipe == "alm_head" else ""}Recipe `{file.recipe}`, trained by alm-proxies on {of}
{counted(len(targets.train), "utterance")}; {len(targets.development)} of other speakers chose the epoch and the
calibration. Log-probabilities are {how}, learned from
{counted(calibration.votes, "human vote")}.

    from alm_proxies import load_trained, open_clip
    load_trained("this folder").distributions([open_clip("a.wav")])

## Trained on

{_speakers(file.trained_on, "model.json")} Scores on utterances of these speakers are no test; alm-proxies
leaves such utterances out of its evaluation.

## Development speakers

{_CHOSEN_BY}

{_table(file.development)}

## Limits

{_LIMITS}; predictions that are less certain than nearly all development predictions, or for
clips that are less like the training clips, are marked `abstain`.
"""


def alm_card(settings: TrainSettings, labels: Sequence[str], targets: Targets, scores: Mapping[str, float]) -> str:
    """README.md of a trained audio-language model; `scores` are those of the epoch that was kept."""
    new = settings.alm.new
    base = settings.model if new is None else new.encoder
    begun = f"`{base}`" if new is None else f"an untrained model{'' if base is None else f' around `{base}`'}"
    trained = "It is a LoRA adapter of" if settings.alm.adapts else "It began as"
    prompt, of = Path(settings.alm.prompt).stem, f"{_LEARNED[settings.targets]} {len(targets.train)}"
    measured = {"nll_per_vote": "nll_per_vote", "cross_entropy": "development"}
    measured |= {"cross_entropy_prior": "development_prior", "cross_entropy_labels": "development_labels"}
    known = {name: scores[key] for name, key in measured.items() if key in scores}
    reached = {name: value for name, value in known.items() if name in ("nll_per_vote", "cross_entropy")}
    return f"""---
{_metadata(settings.name, "alm", base, targets.trained_on, reached)}
---
# {settings.name}

Answers the prompt `{prompt}` about a recording with the distribution of listeners' votes over {", ".join(labels)}.
Recipe `alm`, trained by alm-proxies on {of} utterances; {len(targets.development)} of
other speakers chose the epoch. {trained} {begun}; the answers are not calibrated.

    from alm_proxies.annotators.annotator import Annotator
    from alm_proxies.audio.clip import open_clip
    Annotator.read("this folder/annotator.toml").distribution([open_clip("a.wav")])

## Trained on

{_speakers(targets.trained_on, "annotator.toml")} Votes on utterances of these speakers are no test;
alm-proxies leaves them out when it fuses and compares.

## Development speakers

{_CHOSEN_BY}

{_table(known)}

## Limits

{_LIMITS}. It was trained on this prompt alone.
"""


def _speakers(trained_on: Mapping[str, Sequence[str]], file: str) -> str:
    names = [name for of_corpus in trained_on.values() for name in speakers_and_splits(of_corpus)[0]]
    speakers = sum(bool(name) for name in names)
    aside = " Some utterances are of unknown speakers." if "" in names else ""
    return f"{counted(speakers, 'speaker')} of {_corpora(trained_on)}, named in `{file}`.{aside}"


def _corpora(trained_on: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(name or "a corpus without a name" for name in sorted(trained_on))


def _table(scores: Mapping[str, float]) -> str:
    rows = [f"| {_MEASURES.get(name, name)} | {value:.4f} |" for name, value in scores.items()]
    return "\n".join(["| measure | value |", "|---|---|", *rows])


def _metadata(
    name: str,
    recipe: str,
    base: str | None,
    trained_on: Mapping[str, Sequence[str]],
    development: Mapping[str, float],
) -> str:
    """The card's front matter; without huggingface_hub, which is not in the core install, it has only the library's
    name.
    """
    if find_spec("huggingface_hub") is None:
        return "library_name: alm-proxies"
    from huggingface_hub import EvalResult, ModelCardData

    corpora = sorted(trained_on)
    results = [
        EvalResult(
            task_type="audio-classification",
            task_name="Distribution of listeners' emotion votes",
            dataset_type=", ".join(corpora) or "unknown",
            dataset_name=_corpora(trained_on),
            dataset_split="development",
            metric_type=measure,
            metric_name=_MEASURES.get(measure, measure),
            metric_value=round(value, 4),
        )
        for measure, value in development.items()
    ]
    data = ModelCardData(
        library_name="alm-proxies",
        tags=["speech-emotion-recognition", "label-distribution", recipe],
        model_name=name,
        eval_results=results or None,
        base_model=base if base is not None and "/" in base and not Path(base).expanduser().exists() else None,
        trained_on=[
            {"corpus": corpus}
            | {key: own for key, own in zip(("speakers", "splits"), speakers_and_splits(names), strict=True) if own}
            for corpus, names in sorted(trained_on.items())
        ],
    )
    return str(data.to_yaml())
