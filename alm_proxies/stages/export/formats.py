"""Every export format: its name, readers, limits and the function that writes it. Imports little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alm_proxies.plugins import load_named
from alm_proxies.stages.export.settings import ChatSettings, ExportSettings

if TYPE_CHECKING:
    from alm_proxies.finding import Finding
    from alm_proxies.stages.export.items import Items


@dataclass(frozen=True, slots=True)
class Format:
    """One format: `write` names the function (items, folder) that writes its files; the other fields are its limits.

    The function returns None, or a list of findings on the rows and values that the format has no place for.
    """

    name: str
    title: str
    """The programs that read it, in a few words."""
    write: str
    """module:function; modules of ours are in stages/export/writers."""
    one_label: bool = False
    """Whether it has one label per item, so that ties need a policy and distributions are lost."""
    needs_audio: bool = True
    """Whether items without a recording are left out."""
    whole_files: bool = True
    """Whether it cannot refer to a part of a longer file, so that these are cut."""
    embeds: bool = False
    """Whether recordings are part of it, so that restricted corpora are left out."""
    beside: bool = False
    """Whether recordings must be in its folder."""
    needs_header: bool = False
    """Whether it has sample rates and numbers of frames, read from each recording."""
    reads: tuple[str, ...] = ()
    """The labels that its readers know; any label if empty. Other labels are written, and a finding reports them."""
    settings: type[ExportSettings] = ExportSettings
    """Its settings."""
    losses: str = ""
    """The loss that fits its targets, if the trainer has a choice."""

    @property
    def inside(self) -> bool:
        """Whether recordings have to be in the export, as part of it or beside it."""
        return self.embeds or self.beside

    @property
    def writer(self) -> Callable[[Items, Path], list[Finding] | None]:
        """The function that writes its files, and gives findings if it has any."""
        ours = (Path(__file__).parent / "writers" / f"{self.write.partition(':')[0]}.py").is_file()
        package = "alm_proxies.stages.export.writers." if ours else ""
        return load_named(package + self.write)  # type: ignore[no-any-return]  # named, not imported


MSP_CLASSES = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")
"""The classes of MSP-Podcast, in the order of the Odyssey challenge's reader."""
CSV = Format("csv", "any program", "tables:csv", needs_audio=False, whole_files=False)
PARQUET = Format("parquet", "polars, pandas, Spark", "tables:parquet", needs_audio=False, whole_files=False)
JSONL = Format("jsonl", "any program, one JSON object per line", "tables:jsonl", needs_audio=False, whole_files=False)
EMOBOX = Format(
    "emobox",
    "EmoBox",
    "manifests:emobox",
    one_label=True,
    needs_header=True,
    losses="cross-entropy with the label; emo_distribution holds the distribution for a soft loss of your own",
)
SPEECHBRAIN = Format(
    "speechbrain",
    "SpeechBrain, recipes/IEMOCAP",
    "manifests:speechbrain",
    one_label=True,
    needs_header=True,
    losses="cross-entropy with the label; emo_distribution holds the distribution for a soft loss of your own",
)
NEMO = Format(
    "nemo",
    "NVIDIA NeMo, classification",
    "manifests:nemo",
    one_label=True,
    whole_files=False,
    needs_header=True,
    losses="cross-entropy with the label",
)
LHOTSE = Format(
    "lhotse",
    "Lhotse",
    "manifests:lhotse",
    whole_files=False,
    needs_header=True,
    losses="soft cross-entropy with custom.distribution",
)
S3PRL = Format(
    "s3prl",
    "s3prl, downstream/emotion",
    "manifests:s3prl",
    one_label=True,
    losses="cross-entropy with the label; its trainer draws development items from the train file and does not read "
    "the dev file",
)
ODYSSEY = Format(
    "odyssey",
    "MSP-Podcast_Challenge (Odyssey 2024)",
    "msp:odyssey",
    reads=MSP_CLASSES,
    losses="their soft cross-entropy takes the distributions as they are",
)
EMO_SUPERB = Format(
    "emo_superb", "EMO-SUPERB", "msp:emo_superb", losses="soft cross-entropy; targets are smoothed as theirs are"
)
HUGGINGFACE = Format(
    "huggingface",
    "datasets, as an audiofolder",
    "huggingface:audiofolder",
    beside=True,
    losses="soft cross-entropy with p_<label>",
)
HUGGINGFACE_PARQUET = Format(
    "huggingface_parquet",
    "datasets, as Parquet with the recordings in it",
    "huggingface:parquet",
    embeds=True,
    losses="soft cross-entropy with p_<label>",
)
WEBDATASET = Format(
    "webdataset",
    "WebDataset, tar shards",
    "huggingface:webdataset",
    embeds=True,
    losses="soft cross-entropy with p_<label>",
)
AUDFORMAT = Format("audformat", "audformat, audb", "audformat:audformat", whole_files=False)
MS_SWIFT = Format(
    "ms_swift",
    "ms-swift",
    "chat:ms_swift",
    settings=ChatSettings,
    losses="*_text.jsonl: cross-entropy on answers drawn by share. *_multi_label.jsonl: problem_type "
    "multi_label_classification (BCE takes floats; regression would fit raw logits, not a distribution). "
    "*_decision.jsonl: task_type decision, loss scoring (soft cross-entropy on target_probs)",
)
LLAMA_FACTORY = Format(
    "llama_factory",
    "LLaMA-Factory",
    "chat:llama_factory",
    settings=ChatSettings,
    losses="cross-entropy on answers drawn by share",
)
CROISSANT = Format("croissant", "mlcroissant", "croissant:croissant", needs_audio=False, whole_files=False)
