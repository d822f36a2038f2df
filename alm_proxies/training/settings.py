"""Settings of a training: model, targets, loss, schedule."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from alm_proxies.plugins import checked
from alm_proxies.settings import CHANGES_NOTHING, HUB, NAMED, PLACE, Choices, Settings

Recipe = Literal["encoder", "features", "alm"]
"""Our recipes; plug-ins can add others (`alm-proxies plugins`)."""
Loss = Literal["kld", "ce", "class_balanced", "weighted_kld", "jsd", "jsd_entropy", "dirichlet_multinomial"]
Pooling = Literal["mean_deviation", "attention", "temporal"]


class _Part(Settings):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)


class CurriculumSettings(_Part):
    """Curriculum: weights of utterances in each epoch, by the normalised entropy H of their target; 0 = one label."""

    kind: Literal["none", "filter", "weight", "reverse_filter", "reverse_weight"] = "none"
    """The curriculum: filter keeps a growing share of the lowest entropies, weight multiplies by (1 - H)^a; reverse
    starts with the highest entropies.
    """
    shares: tuple[float, ...] = (0.5, 0.6, 0.7, 0.85, 1.0)
    """filter: the shares kept, one for each of `epochs`."""
    epochs: tuple[int, ...] = (1, 2, 4, 8, 12)
    """filter: the epochs, from 1, at which these shares begin."""
    begin: float = Field(default=2.0, ge=0, alias="from")
    """weight: the exponent a of the first epoch."""
    end: float = Field(default=0.0, ge=0, alias="to")
    """weight: the exponent a of the last epoch; in between it changes linearly."""
    over: int | None = Field(default=None, ge=1)
    """weight: the number of epochs over which a changes; null = all epochs."""
    floor: float = Field(default=0.15, ge=0, le=1)
    """weight: the lowest weight, before the weights are divided by their mean."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.shares or len(self.shares) != len(self.epochs):
            raise ValueError("shares and epochs must be equally long")
        if any(not 0 < share <= 1 for share in self.shares) or list(self.shares) != sorted(self.shares):
            raise ValueError("shares must be in (0, 1] and must not decrease")
        if self.epochs[0] != 1 or any(late <= early for early, late in zip(self.epochs, self.epochs[1:], strict=False)):
            raise ValueError("epochs must begin with 1 and increase")
        return self


class AttributeSettings(_Part):
    """A head for valence, arousal and dominance; weight 0 = no such head."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the attributes' loss relative to the distribution's, in training and in the score that chooses the
    epoch; the curriculum does not apply to it.
    """
    concordance: float = Field(default=0.1, ge=0)
    """Weight of 1 - CCC within the attributes' loss; the rest is the Gaussian negative log-likelihood."""


class AugmentSettings(_Part):
    """One effect on training clips, drawn anew for every utterance and epoch."""

    effect: str
    """Name of an effect: gain, noise, room, telephone, speed, pitch, shift, mask_time, mask_frequency."""
    chance: float = Field(default=0.3, gt=0, le=1)
    """Probability of the effect for a clip."""
    between: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Lowest and highest value of each of its parameters; drawn uniformly."""


class NewModel(_Part):
    """A small untrained Qwen2-Audio; heads are 32 wide."""

    encoder: Annotated[str | None, PLACE, HUB] = None
    """A pretrained Whisper whose encoder is used, such as openai/whisper-small: a folder or a name on the hub; null =
    an untrained encoder."""
    hidden: int = Field(default=128, ge=64, multiple_of=64)
    """Width of the language model."""
    layers: int = Field(default=2, ge=1)
    """Its layers."""
    audio_hidden: int = Field(default=128, ge=64, multiple_of=32)
    """Width of the audio encoder."""
    audio_layers: int = Field(default=3, ge=1)
    """Its layers."""
    vocabulary: int = Field(default=1024, ge=512, multiple_of=64)
    """Number of tokens; the vocabulary is made from the words of the prompt."""


class LoraSettings(_Part):
    """A LoRA adapter of the language model: scale x B A is added to a matrix, scale = alpha / rank."""

    rank: int = Field(default=16, ge=1, le=512)
    """Rank of the adapter."""
    alpha: float = Field(default=32.0, gt=0)
    """The change is multiplied by alpha / rank."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout of the adapter's input."""
    targets: tuple[str, ...] = ()
    """Endings of the names of the modules that are changed, such as q_proj; empty = all attention and feed-forward
    matrices of the language model."""
    rate: float = Field(default=2e-4, gt=0)
    """The adapter's highest learning rate, instead of learning_rate."""


class ChangeSettings(_Part):
    """Augmentation of mel frames against over-fitting (Qwen2-Audio only)."""

    gain: float = Field(default=1.0, ge=0)
    """Standard deviation of the change of level in dB; small, because loudness carries emotion."""
    bands: int = Field(default=8, ge=0, le=64)
    """The largest number of masked mel bands, of 128."""
    frames: int = Field(default=15, ge=0, le=100)
    """The largest number of masked frames of 10 ms."""
    shift: int = Field(default=6, ge=0, le=50)
    """The largest shift of the clip's start, in frames."""


class AlmSettings(_Part):
    """Settings of the recipe alm only: the prompt and how the model is trained."""

    new: NewModel | None = None
    """Sizes of an untrained initial model, instead of `model`."""
    weights: Literal["adapter", "all"] | None = None
    """What is trained: a LoRA adapter, or all weights; null = an adapter for `model`, all for an untrained model."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    merge: bool | None = None
    """adapter: write the whole model with the adapter merged into it, beside the adapter; null = only for families for
    which vLLM has no adapters (Qwen2-Audio), and for models that have an adapter of their own (Granite-speech)."""
    output: Literal["answer", "head"] = "answer"
    """What gives the distribution. answer: the probabilities of the labels as answers to the prompt; head: attention
    from the first token to all tokens of the prompt and an MLP, trained by `loss` (arXiv 2601.14620); such a model
    answers nothing: `predict` takes it, and the engine transformers, not vLLM.
    """
    prompt: Annotated[str, PLACE, NAMED] = "listener"
    """The prompt: a shipped prompt's name, or the path of a prompt file."""
    answer: Literal["codes", "words"] = "codes"
    """The answers: one letter per label, or the labels themselves; each must be one token of the model."""
    label_orders: int = Field(default=1, ge=1)
    """The number of label orders; 1 = the taxonomy's own."""
    window_epochs: int = Field(default=0, ge=0)
    """For the first N epochs only a random part of each clip is used, which takes less than half the time."""
    window: float = Field(default=2.0, ge=0.5)
    """Seconds of that part."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """The optimizer; muon updates hidden matrices by orthogonal steps; with it, an untrained model needs fewer steps.
    """
    look_at: int | None = Field(default=None, ge=1)
    """The number of development utterances scored after an epoch, in all label orders, evenly spread; null = all."""
    change: ChangeSettings = ChangeSettings()
    """Augmentation of clips."""

    @model_validator(mode="after")
    def _head_without_answers(self) -> Self:
        if self.output == "head" and (self.answer != "codes" or self.label_orders != 1):
            raise ValueError('with output = "head" nothing is answered: remove answer and label_orders')
        return self

    @property
    def adapts(self) -> bool:
        """Whether an adapter is trained, not all weights."""
        return self.weights == "adapter" or (self.weights is None and self.new is None)

    @model_validator(mode="after")
    def _adapter_or_all(self) -> Self:
        if self.new is not None and self.weights == "adapter":
            raise ValueError("an untrained model (alm.new) has nothing that an adapter could change: remove weights")
        if not self.adapts and (self.lora != LoraSettings() or self.merge is not None):
            raise ValueError("lora and merge are for an adapter, but all weights are trained")
        return self


_USED: dict[str, tuple[str, ...]] = {
    "features": (
        "recipe", "name", "targets", "hidden", "dropout", "learning_rate", "epochs", "batch", "development", "abstain",
        "concentration_half", "seed",
    ),
    "alm": (
        "recipe", "name", "targets", "model", "revision", "alm", "learning_rate", "backbone_rate", "concentration_half",
        "development", "epochs", "patience", "batch", "schedule", "newbob_factor", "newbob_threshold", "warmup",
        "weight_decay", "clip", "precision", "gradient_checkpointing", "seed",
    ),
}  # fmt: skip
"""What changes a recipe's result; encoder uses all but alm, alm with a head also the loss and what calibrates."""


class TrainSettings(_Part):
    """The settings of train: model, targets, loss and schedule."""

    recipe: Annotated[str, AfterValidator(checked("recipes")), Choices("recipes")] = "encoder"
    """The recipe. encoder: a pretrained audio encoder with heads; features: a head on measured prosody,
    without torch;
    alm: an audio-language model that answers a prompt.
    """
    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the training, its folder in a pipeline, and its predictions."""
    model: Annotated[str | None, PLACE, HUB] = None
    """The initial checkpoint: a folder or a name on the hub (WavLM, wav2vec 2.0, HuBERT, Whisper; for alm an
    audio-language model, such as Qwen2-Audio)."""
    revision: str | None = None
    """Commit of the checkpoint on the hub."""
    freeze: bool = False
    """encoder: freeze the encoder and train only layer mix, pooling and heads. With pooling mean_deviation and no
    augment every clip is encoded once and kept in the cache (up to 32 GiB; of a corpus whose card forbids copies in
    features/ of its folder), for predict too; else in every epoch.
    """
    unfreeze: float = Field(default=0.0, ge=0)
    """encoder: gradual unfreezing: the number of further layers, from the top, that are trained from each epoch on; 0 =
    all from the first epoch.
    """
    layers: tuple[int, ...] | None = None
    """encoder: the layers that are mixed, 0 = the first layer's input; null = all, by learned shares."""
    pooling: Pooling = "mean_deviation"
    """encoder: pooling of frames: mean and deviation, learned attention, or temporal convolution and GRU."""
    hidden: int = Field(default=256, ge=1)
    """Width of the heads' hidden layer."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout of the heads."""
    loss: Loss = "kld"
    """kld (soft cross-entropy), ce (the most likely label), class_balanced (ce by effective class sizes), weighted_kld,
    jsd, jsd_entropy (a paper's baseline) or dirichlet_multinomial (likelihood of the human votes under a Dirichlet
    predicted for every clip; needs votes).
    """
    targets: Literal["labels", "votes"] = "labels"
    """What is learned: the distributions of the labels, or the plain shares of the human votes that are not held out
    (a label where an utterance has none). Labels fused without a listener are drawn to common labels, which a model
    learns; plain shares are not.
    """
    balance_beta: float = Field(default=0.9999, ge=0, lt=1)
    """class_balanced and weighted_kld: beta of the effective number (1 - beta^n) / (1 - beta) of a class."""
    entropy_weight: float = Field(default=0.08, ge=0)
    """jsd_entropy: weight of the entropy of the prediction."""
    attributes: AttributeSettings = AttributeSettings()
    """Valence, arousal and dominance."""
    auxiliary: tuple[str, ...] = ()
    """encoder: measured features predicted by an auxiliary head, such as pitch_level and articulation_rate."""
    auxiliary_weight: float = Field(default=0.1, ge=0)
    """Weight of their squared error, each in standard deviations."""
    raters: float = Field(default=0.0, ge=0)
    """encoder: weight of a head for every known rater, which learns the rater's deviation from the others;
    0 = no such heads."""
    concentration_half: float | None = Field(default=None, gt=0)
    """Multiply a row's weight by c / (c + this), c = its label's concentration; null = weight only."""
    curriculum: CurriculumSettings = CurriculumSettings()
    """The curriculum by ambiguity."""
    augment: tuple[AugmentSettings, ...] = ()
    """encoder: effects on training clips."""
    development: float = Field(default=0.1, gt=0, lt=1)
    """Share of the speakers that is set aside for early stopping and calibration if no utterance is of split
    development.
    """
    abstain: float = Field(default=0.05, ge=0, lt=1)
    """The share of development clips with the lowest concentrations that sets the limit for abstaining; a clip that is
    farther from the training clips than all but a fifth of that share abstains too."""
    epochs: int = Field(default=10, ge=1)
    """The largest number of passes over the training utterances; the recipe features does three times this number, and
    counts passes in its page and scores."""
    patience: int = Field(default=4, ge=1)
    """Stop after this number of epochs without a better development score."""
    batch: int = Field(default=32, ge=1)
    """Utterances per step, over all devices."""
    micro_batch: Annotated[int | None, CHANGES_NOTHING] = Field(default=None, ge=1)
    """Utterances per forward pass on a device; gradients are accumulated up to `batch`. null = all; halved
    automatically when memory runs out. Changes no result.
    """
    padding: float = Field(default=0.15, gt=0, lt=1)
    """The largest share of padding in a batch."""
    longest: float = Field(default=30.0, gt=0)
    """Longer clips, in seconds, are left out, with a finding."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The heads' highest learning rate (alm: that of all weights, or of a head beside an adapter)."""
    backbone_rate: float = Field(default=1e-5, ge=0)
    """The encoder's highest learning rate; alm: of a pretrained encoder in alm.new, 0 = frozen."""
    schedule: Literal["cosine", "newbob"] = "cosine"
    """cosine: falls to zero over all steps; newbob: multiplied by `newbob_factor` after an epoch with an improvement
    below `newbob_threshold`.
    """
    newbob_factor: float = Field(default=0.5, gt=0, lt=1)
    """newbob: the factor of the learning rates."""
    newbob_threshold: float = Field(default=0.0025, ge=0)
    """newbob: the relative improvement of the development score below which they are multiplied."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Warm-up: the share of all steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of weight matrices."""
    clip: float = Field(default=1.0, gt=0)
    """Gradient clipping: the largest norm of the gradient."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the forward pass; the loss is always float32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    deterministic: bool = False
    """Use only deterministic kernels: the same losses on the same machine, at some cost on a GPU."""
    checkpoint_minutes: Annotated[float, CHANGES_NOTHING] = Field(default=10.0, gt=0)
    """encoder: minutes between checkpoints within an epoch; an epoch ends with one, with the recipe alm too."""
    checkpoint_steps: Annotated[int | None, CHANGES_NOTHING] = Field(default=None, ge=1)
    """encoder: steps between checkpoints, instead of minutes."""
    tracker: Annotated[str | None, CHANGES_NOTHING] = None
    """encoder and alm: an experiment tracker that accelerate knows: trackio, tensorboard, wandb ...; metrics.jsonl is
    always written.
    """
    threads: Annotated[int, CHANGES_NOTHING] = Field(default=2, ge=1)
    """Threads that decode recordings ahead."""
    keep_decoded: Annotated[float, CHANGES_NOTHING] = Field(default=1.0, ge=0)
    """encoder: GiB of decoded recordings cached in memory for later epochs."""
    alm: AlmSettings = AlmSettings()
    """Settings of the recipe alm only."""
    seed: int = Field(default=0, ge=0)
    """Random seed of initial weights, order, dropout and augmentation."""

    @property
    def not_predicted(self) -> tuple[str, str] | None:
        """Why `predict` does not take the model, and what to do; None if it does."""
        if self.recipe != "alm" or self.alm.output == "head":
            return None
        return "its model answers a prompt", 'Write alm.output = "head", or request its votes with annotate.'

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if self.recipe == "alm" and (self.model is None) == (self.alm.new is None):
            raise ValueError(
                "alm needs one initial model: model = a checkpoint, or alm.new = the sizes of an untrained one"
            )
        if self.recipe == "encoder" and self.model is None:
            raise ValueError('encoder needs model = "a folder or a name on the hub", e.g. openai/whisper-tiny.en')
        if self.alm.new is not None and self.recipe != "alm":
            raise ValueError('alm.new is for recipe = "alm"')
        if self.recipe == "alm" and self.alm.output == "head" and self.loss == "dirichlet_multinomial":
            raise ValueError("the head of recipe alm has no Dirichlet strength: choose another loss, such as kld")
        if self.recipe == "alm" and self.alm.adapts and self.alm.optimizer != "adamw":
            raise ValueError('an adapter is trained with alm.optimizer = "adamw"')
        if self.recipe == "encoder" and self.freeze and self.unfreeze:
            raise ValueError("with freeze = true no layer of the encoder is trained: remove unfreeze")
        if unused := self._not_used():
            raise ValueError(f"the recipe {self.recipe} has no use for {', '.join(unused)}")
        return self

    def _not_used(self) -> list[str]:
        """The fields that were given and that this recipe of ours does not read."""
        fields = {name: field for name, field in type(self).model_fields.items() if name in TrainSettings.model_fields}
        used = set(_USED.get(self.recipe, fields.keys() - {"alm"} if self.recipe == "encoder" else fields))
        if self.recipe == "alm":
            heads = self.alm.output == "head"
            used |= {"loss", "balance_beta", "entropy_weight", "abstain"} if heads else set()
            used -= {"learning_rate" if self.alm.adapts and not heads else ""}
            used -= {"backbone_rate" if self.alm.new is None or self.alm.new.encoder is None else ""}
        return [
            name
            for name, field in fields.items()
            if name not in used
            and CHANGES_NOTHING not in field.metadata
            and getattr(self, name) != field.get_default(call_default_factory=True)
        ]
