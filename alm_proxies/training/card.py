"""The model card of a trained folder: metadata for the Hugging Face Hub, and a text for readers."""

from __future__ import annotations

from importlib.util import find_spec

from alm_proxies.models.trained import CLASS_SHARES, TrainedFile
from alm_proxies.training.targets import Targets

_MEASURES = {
    "nll_per_vote": "log loss a human vote (nats)",
    "nll_per_vote_calibrated": "log loss a human vote after calibration, cross-validated over speakers (nats)",
    CLASS_SHARES: "log loss a human vote of the training votes' class shares (nats)",
    "cross_entropy": "cross-entropy of the labels (nats)",
}


def model_card(file: TrainedFile, targets: Targets) -> str:
    """README.md of a trained folder."""
    shown = ", ".join(name or "a corpus without a name" for name in sorted(file.trained_on))
    speakers = sum(len(names) for names in file.trained_on.values())
    scores = "\n".join(f"| {_MEASURES.get(name, name)} | {value:.4f} |" for name, value in file.development.items())
    calibration = file.calibration
    how = {
        "none": "not changed by calibration",
        "temperature": f"divided by the temperature {calibration.temperature:.3f}",
        "dirichlet": "mapped by a Dirichlet calibration",
    }[calibration.method]
    learned = {"labels": "the fused labels of", "votes": "the shares of the human votes on"}
    of = learned[file.settings.get("targets", "labels")]
    return f"""---
{_metadata(file, shown)}
---
# {file.name}

Predicts the distribution of listeners' votes over {", ".join(file.labels)} from speech.
Recipe `{file.recipe}`, trained by alm-proxies on {of} {len(targets.train)} utterances; {len(targets.development)} of
other speakers chose the epoch and the calibration. Log-probabilities are {how}, learned from
{calibration.votes:.0f} human votes.

    from alm_proxies.audio.clip import open_clip
    from alm_proxies.models.trained import TrainedModel
    TrainedModel.load("this folder").distributions([open_clip("a.wav")])

## Trained on

{speakers} speakers of {shown}, named in `model.json`. Scores on utterances of these speakers are no test; alm-proxies
leaves such utterances out of its evaluation.

## Development speakers

These speakers chose the epoch, so the figures are slightly too good.

| measure | value |
|---|---|
{scores}

## Limits

It predicts what the listeners of its corpora would vote, not what a speaker feels. Other languages, recording
conditions and crowds differ; predictions that are less certain than nearly all development predictions, or for
clips that are less like the training clips, are marked `abstain`.
"""


def _metadata(file: TrainedFile, shown: str) -> str:
    """The card's front matter; without huggingface_hub, which is not in the core install, it has only the library's
    name.
    """
    if find_spec("huggingface_hub") is None:
        return "library_name: alm-proxies"
    from huggingface_hub import EvalResult, ModelCardData

    corpora = sorted(file.trained_on)
    results = [
        EvalResult(
            task_type="audio-classification",
            task_name="Distribution of listeners' emotion votes",
            dataset_type=", ".join(corpora) or "unknown",
            dataset_name=shown,
            dataset_split="development",
            metric_type=name,
            metric_name=_MEASURES.get(name, name),
            metric_value=round(value, 4),
        )
        for name, value in file.development.items()
    ]
    data = ModelCardData(
        library_name="alm-proxies",
        tags=["speech-emotion-recognition", "label-distribution", file.recipe],
        model_name=file.name,
        eval_results=results or None,
        base_model=file.base if file.base is not None and "/" in file.base and not file.base.startswith("/") else None,
        trained_on=[{"corpus": corpus, "speakers": speakers} for corpus, speakers in sorted(file.trained_on.items())],
    )
    return str(data.to_yaml())
