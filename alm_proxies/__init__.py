"""Trustworthy label distributions for speech emotion from a few human votes and many synthetic ones.

Public names are loaded on first use: `from alm_proxies import Votes, fuse`.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from alm_proxies.machine import refuse_windows, telemetry_off

__version__ = "0.1.0"

logging.getLogger("alm_proxies").addHandler(logging.NullHandler())
telemetry_off()

_HOMES = {
    "alm_proxies.annotators.annotator": ("Annotator",),
    "alm_proxies.audio.clip": ("open_clip",),
    "alm_proxies.cards": ("Card", "card_of"),
    "alm_proxies.errors": (
        "AlmProxiesError", "EngineError", "ForbiddenError", "InputError", "MissingExtraError", "OutputError",
        "SettingsError", "TableError",
    ),
    "alm_proxies.estimators.chosen": ("Chosen",),
    "alm_proxies.estimators.dawid_skene": ("DawidSkene",),
    "alm_proxies.estimators.dirichlet": ("Dirichlet", "Human", "Pool", "Weighted"),
    "alm_proxies.estimators.gated": ("Gated",),
    "alm_proxies.estimators.known_raters": ("KnownRaters",),
    "alm_proxies.estimators.loglinear": ("Loglinear",),
    "alm_proxies.estimators.mixture": ("Mixture",),
    "alm_proxies.estimators.stack": ("Stack",),
    "alm_proxies.estimators.supervised": ("Supervised",),
    "alm_proxies.pipeline.check": ("check",),
    "alm_proxies.pipeline.explain": ("explain",),
    "alm_proxies.pipeline.run": ("run",),
    "alm_proxies.plugins": ("register",),
    "alm_proxies.stages.align.settings": ("AlignSettings",),
    "alm_proxies.stages.align.stage": ("align",),
    "alm_proxies.stages.balance.settings": ("BalanceSettings",),
    "alm_proxies.stages.balance.stage": ("balance",),
    "alm_proxies.stages.evaluate.settings": ("EvaluateSettings",),
    "alm_proxies.stages.evaluate.stage": ("evaluate",),
    "alm_proxies.stages.export.settings": ("ExportSettings",),
    "alm_proxies.stages.export.stage": ("export",),
    "alm_proxies.stages.annotate.settings": ("AnnotateSettings",),
    "alm_proxies.stages.annotate.stage": ("annotate",),
    "alm_proxies.stages.fuse.settings": ("FuseSettings",),
    "alm_proxies.stages.fuse.stage": ("fuse",),
    "alm_proxies.stages.listen.settings": ("ListenSettings",),
    "alm_proxies.stages.listen.stage": ("listen",),
    "alm_proxies.stages.read.formats.audformat": ("AudformatSource",),
    "alm_proxies.stages.read.formats.crema_d": ("CremaDSource",),
    "alm_proxies.stages.read.formats.dusha": ("DushaSource",),
    "alm_proxies.stages.read.formats.emodb": ("EmodbSource",),
    "alm_proxies.stages.read.formats.emotionlines": ("EmotionlinesSource",),
    "alm_proxies.stages.read.formats.huggingface": ("HuggingfaceSource",),
    "alm_proxies.stages.read.formats.iemocap": ("IemocapSource",),
    "alm_proxies.stages.read.formats.label_studio": ("LabelStudioSource",),
    "alm_proxies.stages.read.formats.msp_improv": ("MspImprovSource",),
    "alm_proxies.stages.read.formats.msp_podcast": ("MspPodcastSource",),
    "alm_proxies.stages.read.formats.ravdess": ("RavdessSource",),
    "alm_proxies.stages.read.formats.table": ("TableSource",),
    "alm_proxies.stages.read.formats.tables": ("TablesSource",),
    "alm_proxies.stages.read.settings": ("HoldOut", "ReadSettings", "Source"),
    "alm_proxies.models.trained": ("TrainedModel",),
    "alm_proxies.stages.predict.stage": ("PredictSettings", "predict"),
    "alm_proxies.stages.train.stage": ("TrainSettings", "train"),
    "alm_proxies.stages.read.stage": ("read",),
    "alm_proxies.stages.simulate.settings": ("SimulateSettings",),
    "alm_proxies.stages.simulate.stage": ("simulate",),
    "alm_proxies.tables": ("About", "Finding", "Findings", "Labels", "Utterances", "Votes", "combine"),
    "alm_proxies.taxonomy": ("Taxonomy", "distribution_of", "taxonomy_of", "vad_of"),
    "alm_proxies.training.loading": ("load_trained",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "About",
    "AlignSettings",
    "AlmProxiesError",
    "AnnotateSettings",
    "Annotator",
    "AudformatSource",
    "BalanceSettings",
    "Card",
    "Chosen",
    "CremaDSource",
    "DawidSkene",
    "Dirichlet",
    "DushaSource",
    "EmodbSource",
    "EmotionlinesSource",
    "EngineError",
    "EvaluateSettings",
    "ExportSettings",
    "Finding",
    "Findings",
    "ForbiddenError",
    "FuseSettings",
    "Gated",
    "HoldOut",
    "HuggingfaceSource",
    "Human",
    "IemocapSource",
    "InputError",
    "KnownRaters",
    "LabelStudioSource",
    "Labels",
    "ListenSettings",
    "Loglinear",
    "MissingExtraError",
    "Mixture",
    "MspImprovSource",
    "MspPodcastSource",
    "OutputError",
    "Pool",
    "PredictSettings",
    "RavdessSource",
    "ReadSettings",
    "SettingsError",
    "SimulateSettings",
    "Source",
    "Stack",
    "Supervised",
    "TableError",
    "TableSource",
    "TablesSource",
    "Taxonomy",
    "TrainSettings",
    "TrainedModel",
    "Utterances",
    "Votes",
    "Weighted",
    "__version__",
    "align",
    "annotate",
    "balance",
    "card_of",
    "check",
    "combine",
    "distribution_of",
    "evaluate",
    "explain",
    "export",
    "fuse",
    "listen",
    "load_trained",
    "open_clip",
    "predict",
    "read",
    "register",
    "run",
    "simulate",
    "taxonomy_of",
    "train",
    "vad_of",
]

if TYPE_CHECKING:
    from alm_proxies.annotators.annotator import Annotator
    from alm_proxies.audio.clip import open_clip
    from alm_proxies.cards import Card, card_of
    from alm_proxies.errors import (
        AlmProxiesError,
        EngineError,
        ForbiddenError,
        InputError,
        MissingExtraError,
        OutputError,
        SettingsError,
        TableError,
    )
    from alm_proxies.estimators.chosen import Chosen
    from alm_proxies.estimators.dawid_skene import DawidSkene
    from alm_proxies.estimators.dirichlet import Dirichlet, Human, Pool, Weighted
    from alm_proxies.estimators.gated import Gated
    from alm_proxies.estimators.known_raters import KnownRaters
    from alm_proxies.estimators.loglinear import Loglinear
    from alm_proxies.estimators.mixture import Mixture
    from alm_proxies.estimators.stack import Stack
    from alm_proxies.estimators.supervised import Supervised
    from alm_proxies.models.trained import TrainedModel
    from alm_proxies.pipeline.check import check
    from alm_proxies.pipeline.explain import explain
    from alm_proxies.pipeline.run import run
    from alm_proxies.plugins import register
    from alm_proxies.stages.align.settings import AlignSettings
    from alm_proxies.stages.align.stage import align
    from alm_proxies.stages.annotate.settings import AnnotateSettings
    from alm_proxies.stages.annotate.stage import annotate
    from alm_proxies.stages.balance.settings import BalanceSettings
    from alm_proxies.stages.balance.stage import balance
    from alm_proxies.stages.evaluate.settings import EvaluateSettings
    from alm_proxies.stages.evaluate.stage import evaluate
    from alm_proxies.stages.export.settings import ExportSettings
    from alm_proxies.stages.export.stage import export
    from alm_proxies.stages.fuse.settings import FuseSettings
    from alm_proxies.stages.fuse.stage import fuse
    from alm_proxies.stages.listen.settings import ListenSettings
    from alm_proxies.stages.listen.stage import listen
    from alm_proxies.stages.predict.stage import PredictSettings, predict
    from alm_proxies.stages.read.formats.audformat import AudformatSource
    from alm_proxies.stages.read.formats.crema_d import CremaDSource
    from alm_proxies.stages.read.formats.dusha import DushaSource
    from alm_proxies.stages.read.formats.emodb import EmodbSource
    from alm_proxies.stages.read.formats.emotionlines import EmotionlinesSource
    from alm_proxies.stages.read.formats.huggingface import HuggingfaceSource
    from alm_proxies.stages.read.formats.iemocap import IemocapSource
    from alm_proxies.stages.read.formats.label_studio import LabelStudioSource
    from alm_proxies.stages.read.formats.msp_improv import MspImprovSource
    from alm_proxies.stages.read.formats.msp_podcast import MspPodcastSource
    from alm_proxies.stages.read.formats.ravdess import RavdessSource
    from alm_proxies.stages.read.formats.table import TableSource
    from alm_proxies.stages.read.formats.tables import TablesSource
    from alm_proxies.stages.read.settings import HoldOut, ReadSettings, Source
    from alm_proxies.stages.read.stage import read
    from alm_proxies.stages.simulate.settings import SimulateSettings
    from alm_proxies.stages.simulate.stage import simulate
    from alm_proxies.stages.train.stage import TrainSettings, train
    from alm_proxies.tables import About, Finding, Findings, Labels, Utterances, Votes, combine
    from alm_proxies.taxonomy import Taxonomy, distribution_of, taxonomy_of, vad_of
    from alm_proxies.training.loading import load_trained


_RENAMED = {"Stacking": "Supervised"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        from alm_proxies.renamed import renamed

        renamed(name, _RENAMED[name])
        name = _RENAMED[name]
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    refuse_windows()
    value = getattr(import_module(_HOME[name]), name)
    if _HOME[name] == f"alm_proxies.stages.{name}.stage":
        value = import_module("alm_proxies.stages.registry").beside_runs(name, value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
