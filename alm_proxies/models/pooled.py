"""Frozen features: mean and deviation over time of an encoder's layers, one vector per clip."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alm_proxies.audio.clip import RATE, Clip
from alm_proxies.audio.vectors import Encoding, Floats
from alm_proxies.errors import SettingsError
from alm_proxies.files import digest_of
from alm_proxies.tables import Finding

if TYPE_CHECKING:
    from alm_proxies.models.encoder import Encoder

_SHORTEST = 0.1  # seconds
_MOST = 4  # default number of layers


class Pooling:
    """An encoder that is loaded at the first clip, so that cached features need no model."""

    def __init__(
        self,
        model: str | Path,
        *,
        stage: str,
        revision: str | None = None,
        layers: Sequence[int] | None = None,
        device: str | None = None,
    ) -> None:
        from alm_proxies.models.checkpoints import device_of
        from alm_proxies.models.encoder import encoder_config, encoder_digest

        config = encoder_config(model, revision)
        whisper = config.model_type == "whisper"
        count = int(config.encoder_layers if whisper else config.num_hidden_layers)
        self.layers = tuple(layers) if layers else middle_layers(count)
        for layer in self.layers:
            if not 0 <= layer <= count:
                fix = f"Name layers from 0 (the input of the first layer) to {count}."
                raise SettingsError(f"this encoder has no layer {layer}", where=str(model), fix=fix)
        self.width = 2 * len(self.layers) * int(config.d_model if whisper else config.hidden_size)
        self.digest = digest_of([encoder_digest(model, revision), self.layers])
        """A digest of what the vectors are."""
        self.exact = digest_of([self.digest, device_of(device).partition(":")[0]])
        """The same with the kind of device, each of which rounds in its own way."""
        self._model, self._revision, self._device, self._stage = model, revision, device, stage
        self._encoder: Encoder | None = None
        self._threads: int | None = None
        self._lock = threading.Lock()

    @property
    def encoding(self) -> Encoding:
        """The encoding of a clip as its vector: the mean of each layer, then the deviation of each."""
        from alm_proxies.models.at_once import encoding_of
        from alm_proxies.models.checkpoints import device_of

        return encoding_of(self._vectors, self._refused, device_of(self._device))

    def _refused(self, clip: Clip, utterance_id: str) -> Finding | None:
        longest = self._loaded().longest
        if clip.duration >= _SHORTEST and (longest is None or clip.duration <= longest):
            return None
        short = clip.duration < _SHORTEST
        limit = f"at least {_SHORTEST} s" if short else f"at most {longest:g} s"
        message = f"{clip.duration:.2f} s of audio, this encoder needs {limit}"
        fix = "Leave it out." if short else "Give start and end of the utterance."
        return Finding(self._stage, "too_short" if short else "too_long", message, fix, utterance_id)

    def _vectors(self, clips: Sequence[Clip]) -> Floats:
        import torch

        encoder = self._loaded()
        with torch.inference_mode():
            pooled = encoder(encoder.prepare([clip.samples for clip in clips])).pooled(self.layers)
        rows: Floats = pooled.flatten(1).cpu().numpy().astype(np.float32)
        return rows

    def close(self) -> None:
        """Restore torch's number of threads before the first clip."""
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
            self._threads = None

    def _loaded(self) -> Encoder:
        with self._lock:
            if self._encoder is None:
                import torch

                from alm_proxies.models.encoder import Encoder

                self._threads = torch.get_num_threads()
                torch.set_num_threads(
                    1
                )  # clips are processed in parallel, and sums are rounded the same on every machine
                self._encoder = Encoder.load(self._model, revision=self._revision, device=self._device)
                if self._encoder.rate != RATE:
                    message = f"this encoder needs {self._encoder.rate} Hz, not {RATE} Hz"
                    raise SettingsError(message, where=str(self._model), fix="Name another model.")
            return self._encoder


def middle_layers(count: int) -> tuple[int, ...]:
    """The default layers: at most four, evenly spread from a quarter of the depth to the top."""
    first = max(1, round(count / 4))
    return tuple(sorted({round(layer) for layer in np.linspace(first, count, min(_MOST, count - first + 1))}))
