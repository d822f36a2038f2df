"""A speech model: a pretrained encoder, a learned mix of its layers, pooling over time, and heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from alm_proxies.models.encoder import Encoder, Inputs

ATTRIBUTES = 3
_TEMPORAL = 256
_LEAST_SPREAD = 1e-3  # of the largest, so that a dimension that hardly differs is not blown up
_STRENGTHS = (-3.0, 9.0)  # ln of the smallest and largest Dirichlet strength


class Shape(BaseModel):
    """The configuration of the parts above an encoder, from which they can be built again."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    width: int
    """Width of the encoder's states."""
    layers: tuple[int, ...]
    """The number of mixed states."""
    labels: int
    """Number of labels."""
    pooling: Literal["mean_deviation", "attention", "temporal"] = "mean_deviation"
    """The pooling of frames to one vector."""
    hidden: int = 256
    """Width of the heads' hidden layer."""
    dropout: float = 0.0
    """Dropout in the heads."""
    attributes: bool = False
    """Whether valence, arousal and dominance are predicted."""
    dirichlet: bool = False
    """Whether the strength of a Dirichlet is predicted for every clip."""
    auxiliary: int = 0
    """Number of measured features predicted."""
    raters: int = 0
    """Number of raters with their own head."""


class Answer(NamedTuple):
    """The model's output for a batch of clips; None for missing heads."""

    logits: Tensor
    """(clips, labels); the distribution is their softmax."""
    log_strength: Tensor | None
    """(clips,): ln of the Dirichlet's strength; alpha = strength x distribution."""
    mean: Tensor | None
    """(clips, 3): valence, arousal, dominance."""
    log_variance: Tensor | None
    """(clips, 3): ln of their variance."""
    auxiliary: Tensor | None
    """(clips, features), standardised."""
    raters: Tensor | None
    """(raters, labels): each rater's offset to the clip's logits."""
    vector: Tensor
    """(clips, size): the standardised and normalised pooled vector, the input of the heads."""
    pooled: Tensor
    """(clips, size): the pooled vector as it is."""

    @property
    def log_alpha(self) -> Tensor:
        """ln of the Dirichlet's parameters."""
        if self.log_strength is None:
            raise ValueError("the model has no Dirichlet head")
        return self.logits.float().log_softmax(-1) + self.log_strength.float()[:, None]


class Pooling(nn.Module):
    """Pooling over time: (clips, frames, width), mask -> (clips, `size`); independent of padding."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.size = _TEMPORAL if kind == "temporal" else 2 * width
        if kind == "attention":
            self.score = nn.Sequential(nn.Linear(width, 128), nn.Tanh(), nn.Linear(128, 1))
        if kind == "temporal":
            self.convolution = nn.Conv1d(width, _TEMPORAL, 3, padding=1)
            self.recurrent = nn.GRU(_TEMPORAL, _TEMPORAL, num_layers=2, batch_first=True)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """The vector of every clip."""
        if self.kind == "temporal":
            sound = torch.nn.functional.gelu(self.convolution((frames * mask[..., None]).transpose(1, 2)))
            packed = nn.utils.rnn.pack_padded_sequence(
                sound.transpose(1, 2), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
            )
            last: Tensor = self.recurrent(packed)[1][-1]
            return last
        score = self.score(frames)[..., 0] if self.kind == "attention" else frames.new_zeros(mask.shape)
        share = score.float().masked_fill(~mask, -torch.inf).softmax(-1)[..., None]
        mean = (share * frames.float()).sum(1)
        variance = (share * (frames.float() - mean[:, None]).square()).sum(1)
        return torch.cat([mean, variance.clamp_min(1e-12).sqrt()], dim=-1)


class Heads(nn.Module):
    """Layer mix, pooling and heads: from the states of every layer and their mask to Answer.

    Pooled vectors are standardised by what training clips show before training: what all clips share is most of a
    pretrained state, and would hide what differs.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.mix = nn.Parameter(torch.zeros(len(shape.layers)))
        self.pooling = Pooling(shape.pooling, shape.width)
        self.register_buffer("centre", torch.zeros(self.pooling.size))
        self.register_buffer("spread", torch.ones(self.pooling.size))
        self.norm = nn.LayerNorm(self.pooling.size)
        self.distribution = self._head(shape.labels)
        self.strength = self._head(1) if shape.dirichlet else None
        self.attributes = self._head(2 * ATTRIBUTES) if shape.attributes else None
        self.auxiliary = self._head(shape.auxiliary) if shape.auxiliary else None
        self.raters = nn.Parameter(torch.zeros(shape.raters, shape.labels)) if shape.raters else None

    def _head(self, outputs: int) -> nn.Sequential:
        hidden = self.shape.hidden
        return nn.Sequential(
            nn.Linear(self.pooling.size, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Dropout(self.shape.dropout),
            nn.Linear(hidden, outputs),
        )

    def start_at(self, shares: Tensor) -> None:
        """Let every clip begin with these shares of the labels, before anything is learned."""
        last: Any = self.distribution[-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(shares.log())

    def standardise(self, pooled: Tensor) -> None:
        """Give the pooled vectors of these clips mean 0 and deviation 1 in every dimension that differs among them."""
        spread = pooled.double().std(0, correction=0)
        self.centre.copy_(pooled.double().mean(0))
        self.spread.copy_(spread.clamp_min(max(_LEAST_SPREAD * float(spread.max()), 1e-6)))

    def frames(self, states: Sequence[Tensor]) -> Tensor:
        """The mixed states: sum_l softmax(mix)_l state_l / rms(state_l)."""
        shares = self.mix.softmax(0)
        mixed = torch.zeros_like(states[0])
        for share, layer in zip(shares, self.shape.layers, strict=True):
            mixed = mixed + share * torch.nn.functional.layer_norm(states[layer], (self.shape.width,))
        return mixed

    def of_frames(self, frames: Tensor, mask: Tensor) -> Answer:
        """The output for mixed states."""
        return self._of_pooled(self.pooling(frames, mask))

    def of_statistics(self, statistics: Tensor) -> Answer:
        """The output for the result of `statistics_of`, equal to that for the states themselves."""
        shares = self.mix.float().softmax(0)
        lower, upper = torch.triu_indices(len(shares), len(shares), device=shares.device)
        pairs = shares[lower] * shares[upper] * torch.where(lower == upper, 1.0, 2.0)
        mean = (statistics[:, : len(shares)] * shares[:, None]).sum(1)
        variance = (statistics[:, len(shares) :] * pairs[:, None]).sum(1)
        return self._of_pooled(torch.cat([mean, variance.clamp_min(1e-12).sqrt()], dim=-1))

    def _of_pooled(self, pooled: Tensor) -> Answer:
        vector = self.norm((pooled - self.centre) / self.spread)
        mean = log_variance = None
        if self.attributes is not None:
            mean, log_variance = self.attributes(vector).float().split(ATTRIBUTES, dim=-1)
            mean, log_variance = mean.sigmoid(), 4 * torch.tanh((log_variance - 3) / 4)
        strength = None
        if self.strength is not None:
            low, high = _STRENGTHS
            strength = low + (high - low) * (self.strength(vector)[:, 0].float() - 0.5).sigmoid()
        auxiliary = None if self.auxiliary is None else self.auxiliary(vector).float()
        raters = None if self.raters is None else self.raters * 1.0
        return Answer(
            self.distribution(vector).float(), strength, mean, log_variance, auxiliary, raters, vector, pooled
        )

    def forward(self, states: Sequence[Tensor], mask: Tensor) -> Answer:
        """The output for the states of every layer."""
        return self.of_frames(self.frames(states), mask)


def statistics_of(states: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Sufficient statistics of some layers for pooling any mix of them: the mean over time of each normalised state,
    then the covariance of each pair of layers (including a layer with itself), by channel: (clips, layers + pairs,
    width).
    """
    weight = (mask / mask.sum(1, keepdim=True)).double()[:, :, None]
    normed = [torch.nn.functional.layer_norm(state.float(), state.shape[-1:]).double() for state in states]
    means = torch.stack([(state * weight).sum(1) for state in normed], dim=1)
    away = [state - mean[:, None] for state, mean in zip(normed, means.unbind(1), strict=True)]
    pairs = _pairs(away, weight) if mask.device.type == "cpu" else _pairs_at_once(away, weight)
    return torch.cat([means, pairs], dim=1).float()


def _pairs(away: Sequence[Tensor], weight: Tensor) -> Tensor:
    """The covariance of each pair of layers: (clips, pairs, width); a pair at a time, which a processor does faster."""
    first, second = torch.triu_indices(len(away), len(away)).tolist()
    return torch.stack([(away[i] * away[j] * weight).sum(1) for i, j in zip(first, second, strict=True)], dim=1)


def _pairs_at_once(away: Sequence[Tensor], weight: Tensor) -> Tensor:
    """The same in one product of matrices: other devices wait longer for hundreds of small ones."""
    first, second = torch.triu_indices(len(away), len(away)).tolist()
    weighted = torch.stack([state * weight.sqrt() for state in away], dim=1).permute(0, 3, 1, 2)
    products: Tensor = weighted @ weighted.transpose(-1, -2)  # (clips, width, layers, layers)
    return products[:, :, first, second].transpose(1, 2)


class SpeechModel(nn.Module):
    """An encoder with heads; called with the values and lengths that `encoder.prepare` makes of clips."""

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = Heads(shape)

    def forward(self, values: Tensor, lengths: Tensor) -> Answer:
        """The output for a batch of prepared clips."""
        hidden = self.encoder(Inputs(values, lengths))
        answer: Answer = self.heads(hidden.states, hidden.mask)
        return answer

    def blocks(self) -> list[Any]:
        """The encoder's layers, from the lowest."""
        backbone: Any = self.encoder.backbone
        return list(backbone.layers if self.encoder.family == "whisper" else backbone.encoder.layers)
