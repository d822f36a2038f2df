"""A trained model's folder: save it atomically, load it in one line, and predict calibrated distributions.

model = TrainedModel.load("runs/wavlm")
model.distributions([open_clip("a.wav")])
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from alm_proxies.about import Measured, speakers_and_splits
from alm_proxies.audio.clip import Clip
from alm_proxies.errors import InputError
from alm_proxies.files import flush, read_text, settle, write_json, write_text
from alm_proxies.models.calibration import Calibration, signs_of
from alm_proxies.models.evidence import WINDOW, Evidence, Moved, changed_prosody
from alm_proxies.models.sealed import refuse_changed, refuse_edited, sealed
from alm_proxies.printable import counted

if TYPE_CHECKING:
    from alm_proxies.models.speech_model import Answer, SpeechModel

Array = NDArray[np.float64]
FILE = "model.json"
CONTRACT = 1
"""The version of model.json."""
MODEL = "model"
"""The sub-folder of a training with the trained model."""
ANNOTATOR = "annotator.toml"
"""The file of a trained audio-language model for annotate."""
_NORMS = "norms.safetensors"
CLASS_SHARES = "class_shares_nll_per_vote"
"""The score of the training votes' class shares, among those of the development speakers."""


class TrainedFile(BaseModel):
    """The metadata of a trained model, in model.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    contract: int = CONTRACT
    """Version of this file."""
    recipe: Literal["encoder", "frozen_encoder", "features", "alm_head"]
    """The recipe, which determines how it is loaded; alm_head: an audio-language model with a head of its own."""
    name: str
    """Name of the training."""
    labels: tuple[str, ...]
    """The labels, in order."""
    base: str | None = None
    """The checkpoint that training started from."""
    shape: dict[str, Any] = {}
    """The configuration of the heads."""
    attributes: tuple[bool, bool, bool] = (False, False, False)
    """Which of valence, arousal and dominance were known in training; the others are not predicted."""
    auxiliary: tuple[str, ...] = ()
    """Measured features that the auxiliary head predicts."""
    calibration: Calibration = Calibration()
    """How outputs become distributions and concentrations."""
    trained_on: dict[str, list[str]] = {}
    """Corpora and speakers used in training, including development; "" = an unknown speaker."""
    development: dict[str, float] = {}
    """Scores of the development speakers."""
    encoder: str = ""
    """A digest of the frozen encoder it began with, under which statistics of clips are cached; empty = not known, or
    the encoder was trained too."""
    features: str = ""
    """A digest of the definitions of the measured features it takes; empty = it takes none, or those of an earlier
    version."""
    seconds: tuple[float, float] = (0.1, 30.0)
    """The shortest and the longest clip, in seconds."""
    settings: dict[str, Any] = {}
    """The settings of the training."""
    files: dict[str, str] = {}
    """The digest of every file of the model, by its path in the folder; empty = written by an earlier version."""
    digest: str = ""
    """The digest of all the rest of this file."""

    @property
    def line(self) -> str:
        """The model in one line."""
        words = f"{self.recipe} {self.name!r}: {', '.join(self.labels)}"
        for corpus, names in self.trained_on.items():
            words += f"; trained on {counted(len(speakers_and_splits(names)[0]), 'speaker')} of {corpus}"
        return words

    @property
    def measured(self) -> Measured | None:
        """How well it predicted votes of the development speakers, which also chose when training stopped; None if not
        known."""
        nll = self.development.get("nll_per_vote_calibrated", self.development.get("nll_per_vote"))
        return measured_on(self.trained_on, nll, self.development.get(CLASS_SHARES))


def measured_on(corpora: Iterable[str], nll: float | None, class_shares: float | None) -> Measured | None:
    """What development speakers of some corpora showed of a model; None if one of the two log losses is not known."""
    if nll is None or class_shares is None:
        return None
    where = f"{', '.join(sorted(corpora))}, development speakers"
    return Measured(corpus=where, nll_per_vote=nll, class_shares_nll_per_vote=class_shares)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions of a model for clips, one row each."""

    shares: Array
    concentration: Array
    """In votes; NaN = could not be learned."""
    abstain: NDArray[np.bool_]
    """Whether the prediction is less certain than nearly all of those for development clips."""
    attributes: Array | None
    """Valence, arousal, dominance, NaN if not trained; None = the model has no such head."""
    deviation: Array | None
    """The standard deviations of labels' means about them: how far the model may be off, not how far raters differ."""


class TrainedModel:
    """A trained model that predicts calibrated label distributions for clips."""

    def __init__(self, file: TrainedFile, model: SpeechModel, norms: tuple[Array, Array]) -> None:
        self.file = file
        self.model = model
        self._centre, self._spread = norms

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.file.line})"

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None) -> Self:
        """Load a folder that `train` wrote (or its parent), on a GPU if there is one."""
        from safetensors.torch import load_file

        from alm_proxies.models.encoder import Encoder
        from alm_proxies.models.speech_model import Shape, SpeechModel

        path, file = read_whole(folder)
        encoder = Encoder.load(path / "encoder", device=device)
        model = SpeechModel(encoder, Shape.model_validate(file.shape)).to(encoder.device)
        own = {"centre": model.heads.centre, "spread": model.heads.spread}  # an older file has none
        model.heads.load_state_dict(own | load_file(str(path / "heads.safetensors")))
        return cls(file, model.eval(), read_norms(path))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in order."""
        return self.file.labels

    @property
    def rate(self) -> int:
        """The sample rate that clips must have."""
        return self.model.encoder.rate

    def distributions(self, clips: Sequence[Clip]) -> Array:
        """The calibrated distribution of every clip, clips x labels."""
        return self.predict(clips).shares

    def predict(self, clips: Sequence[Clip]) -> Predictions:
        """Distributions, concentrations, abstentions and attributes of clips; independent of the batching."""
        import torch

        refuse_unusable(clips, self.rate, self.file.seconds)
        order = sorted(range(len(clips)), key=lambda place: len(clips[place].samples))
        with torch.inference_mode():
            inputs = self.model.encoder.prepare([clips[place].samples for place in order])
            answer = self.model(
                inputs.values.to(self.model.encoder.device), inputs.lengths.to(self.model.encoder.device)
            )
        return self._predictions(answer, np.argsort(order))

    def of_statistics(self, statistics: NDArray[np.float32]) -> Predictions:
        """The same from the statistics of clips' states by a frozen encoder: (clips, statistics, width)."""
        import torch

        with torch.inference_mode():
            return self._predictions(
                self.model.heads.of_statistics(torch.from_numpy(statistics).to(self.model.encoder.device))
            )

    def evidence(self, clip: Clip) -> Evidence:
        """Evidence for the prediction of one clip: effects of removed segments and changed prosody, the strongest
        first.

        Seconds: the distribution with the frames of half a second removed before pooling, against the one with all
        (lower layers still see all frames). Prosody: the distribution of the clip with its pitch or tempo changed,
        everything else unchanged.
        """
        whole = self.predict([clip]).shares[0]
        changed = changed_prosody(clip, self.file.seconds)
        shares = self.distributions([other for _, other in changed])
        prosody = [Moved.of(name, self.labels, whole, row) for (name, _), row in zip(changed, shares, strict=True)]
        return Evidence.of(self._seconds(clip, whole), prosody)

    def _seconds(self, clip: Clip, whole: Array) -> list[Moved]:
        import torch

        with torch.inference_mode():
            inputs = self.model.encoder.prepare([clip.samples]).to(self.model.encoder.device)
            hidden = self.model.encoder(inputs)
            frames = self.model.heads.frames(hidden.states)
            count = frames.shape[1]
            wide = max(1, round(count * WINDOW / clip.duration))
            moved: list[Moved] = []
            for start in range(0, count, wide):
                end = min(count, start + wide)
                rest = torch.cat([frames[:, :start], frames[:, end:]], dim=1)
                if not rest.shape[1]:
                    return []
                mask = torch.ones(rest.shape[:2], dtype=torch.bool, device=rest.device)
                shares = self._predictions(self.model.heads.of_frames(rest, mask)).shares[0]
                seconds = clip.duration / count
                span = f"{start * seconds:.1f} to {end * seconds:.1f} s"
                moved.append(Moved.of(span, self.labels, whole, shares))
        return moved

    def _predictions(self, answer: Answer, order: NDArray[np.int64] | None = None) -> Predictions:
        which = slice(None) if order is None else order
        strength = None if answer.log_strength is None else _array(answer.log_strength)[which]
        distance = distances(_array(answer.vector)[which], self._centre, self._spread)
        predictions = calibrated(self.file.calibration, _array(answer.logits)[which], distance, strength)
        known = np.where(self.file.attributes, 1.0, np.nan)
        mean = None if answer.mean is None else known * _array(answer.mean)[which]
        deviation = None if answer.log_variance is None else known * np.exp(_array(answer.log_variance)[which] / 2)
        return replace(predictions, attributes=mean, deviation=deviation)


def calibrated(
    calibration: Calibration, logits: Array, distance: Array, log_strength: Array | None = None
) -> Predictions:
    """Distributions, concentrations and abstentions from a model's logits and its clips' distances from training."""
    shares = calibration.distributions(logits)
    concentration = calibration.concentrations(signs_of(shares, distance, log_strength))
    return Predictions(shares, concentration, calibration.abstains(concentration, distance), None, None)


def refuse_unusable(clips: Sequence[Clip], rate: int, seconds: tuple[float, float]) -> None:
    """Raise for no clip at all, and for one of another sample rate or length than a model takes."""
    if not clips:
        raise InputError("there is no clip", fix="Give one or more.")
    low, high = seconds
    for number, clip in enumerate(clips):
        if clip.rate != rate:
            raise InputError(f"clip {number} is at {clip.rate} Hz", fix=f"Open it at {rate} Hz.")
        if not low <= clip.duration <= high:
            fix = f"This model needs {low:g} to {high:g} s."
            raise InputError(f"clip {number} lasts {clip.duration:.2f} s", fix=fix)


def save_trained(folder: Path, file: TrainedFile, model: SpeechModel, norms: tuple[Array, Array], *, card: str) -> Path:
    """Write a trained folder atomically, replacing an earlier one."""
    from safetensors.torch import save_file

    with whole_folder(folder) as partial:
        model.encoder.save(partial / "encoder")
        weights = {name: weight.detach().cpu().contiguous() for name, weight in model.heads.state_dict().items()}
        save_file(weights, str(partial / "heads.safetensors"))
        write_norms(partial, norms)
        write_trained_file(partial, file)
        write_text(partial / "README.md", card)
    return folder


def write_trained_file(folder: Path, file: TrainedFile) -> None:
    """Write the metadata with the digests of the model's files, which are all in the folder."""
    write_json(folder / FILE, sealed(folder, file.model_dump(mode="json", exclude={"files", "digest"})))


def write_norms(folder: Path, norms: tuple[Array, Array]) -> None:
    """Write the centre and the spread of the training clips' vectors."""
    import torch
    from safetensors.torch import save_file

    centre, spread = (torch.from_numpy(np.asarray(norm, dtype=np.float32)) for norm in norms)
    save_file({"centre": centre, "spread": spread}, str(folder / _NORMS))


def read_norms(folder: Path) -> tuple[Array, Array]:
    """The centre and the spread that write_norms wrote."""
    from safetensors.torch import load_file

    norms = load_file(str(folder / _NORMS))
    return norms["centre"].double().numpy(), norms["spread"].double().numpy()


def read_trained(folder: str | Path) -> tuple[Path, TrainedFile]:
    """Find a trained model's folder and its metadata; the folder of the training is accepted too.

    A model that was to be replaced and not yet put back is read where it is.
    """
    given = Path(folder)
    places = (given, given / MODEL)
    aside = [_earlier(place.resolve()) for place in places if not place.exists()]
    path = next((place for place in (*places, *aside) if (place / FILE).is_file()), given)
    if not (path / FILE).is_file():
        fix = "Name a folder that train wrote, with model.json."
        for file in (given / ANNOTATOR, given / MODEL / ANNOTATOR):
            if file.is_file():
                fix = f"It answers a prompt: request its votes with annotate --annotator {file}."
        if (given / "models" / "fold-0.npz").is_file():
            fix = "It is of listen: its predictions of the table's recordings are its votes. Train a model for others."
        raise InputError("has no trained model", where=str(given), fix=fix)
    text = read_text(path / FILE)
    stated: object = None
    with suppress(ValueError):  # of what is no JSON, the model says why
        stated = json.loads(text)
    _refuse_newer(stated, path / FILE)
    try:
        metadata = TrainedFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        fix = "Update alm-proxies, or train it again."
        raise InputError(f"cannot be understood ({place}: {first['msg']})", where=str(path / FILE), fix=fix) from None
    if isinstance(stated, dict):
        refuse_edited(stated, path / FILE)
    return path, metadata


def read_whole(folder: str | Path) -> tuple[Path, TrainedFile]:
    """The same, once every file of the model is shown to be the one that its training wrote."""
    path, file = read_trained(folder)
    refuse_changed(path, file.files)
    return path, file


def _refuse_newer(stated: object, where: Path) -> None:
    contract = stated.get("contract") if isinstance(stated, dict) else None
    if isinstance(contract, int) and contract > CONTRACT:
        message = f"was made by a newer version of alm-proxies (its contract is {contract}, not {CONTRACT})"
        raise InputError(message, where=str(where), fix="Update alm-proxies to load it.")


def _earlier(target: Path) -> Path:
    """Where the model of a folder is while another one takes its place."""
    return target.with_name(f".{target.name}.earlier")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that replaces it once all its files are synced, or is removed on failure.

    Of a link the folder that it leads to is replaced. The earlier folder is moved aside whole before it is removed; if
    the process is killed in that moment, or interrupted twice, the next one puts it back; read_trained finds it before.
    """
    target = target.resolve() if target.is_symlink() else target
    partial, earlier = target.with_name(f".{target.name}.part"), _earlier(target)
    if earlier.is_dir() and not target.exists():
        earlier.rename(target)
    for left in (partial, earlier):
        shutil.rmtree(left, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                settle(path)
        if target.is_dir():
            target.rename(earlier)
        partial.rename(target)
        flush(target.parent)
    finally:
        if earlier.is_dir() and not target.exists():
            earlier.rename(target)
        for left in (partial, earlier):  # not reached where it was interrupted before the earlier one is back
            shutil.rmtree(left, ignore_errors=True)


def distances(vectors: Array, centre: Array, spread: Array) -> Array:
    """The distance of vectors from the training clips': the mean squared z-score, 1 on average among these."""
    squared: Array = np.square((vectors - centre) / spread).mean(axis=1)
    return squared


def norms_of(vectors: Array) -> tuple[Array, Array]:
    """Centre and spread of the training clips' vectors."""
    spread = vectors.std(axis=0)
    return vectors.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.double().cpu().numpy(), dtype=np.float64)
