"""The public names are pinned, so that none is added or removed by accident."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import alm_proxies
from alm_proxies.plugins import plugins

PUBLIC = [
    "About", "AlignSettings", "AlmProxiesError", "AnnotateSettings", "Annotator", "AudformatSource", "BalanceSettings",
    "Card", "Chosen", "CremaDSource", "DawidSkene", "Dirichlet", "DushaSource", "EmodbSource", "EmotionlinesSource",
    "EngineError", "EvaluateSettings", "ExportSettings", "Finding", "Findings", "ForbiddenError", "FuseSettings",
    "Gated", "HoldOut", "HuggingfaceSource", "Human", "IemocapSource", "InputError", "KnownRaters",
    "LabelStudioSource", "Labels", "ListenSettings", "Loglinear", "MissingExtraError", "Mixture", "MspImprovSource",
    "MspPodcastSource", "OutputError", "Pool", "PredictSettings", "RavdessSource", "ReadSettings", "SettingsError",
    "SimulateSettings", "Source", "Stack", "Supervised", "TableError", "TableSource", "TablesSource", "Taxonomy",
    "TrainSettings", "TrainedModel", "Utterances", "Votes", "Weighted", "__version__", "align", "annotate", "balance",
    "card_of", "check", "combine", "distribution_of", "evaluate", "explain", "export", "fuse", "listen",
    "load_trained", "open_clip", "predict", "read", "register", "run", "simulate", "taxonomy_of", "train", "vad_of",
]  # fmt: skip
HEAVY = ("torch", "transformers", "vllm", "librosa", "altair", "scipy", "sklearn", "peft", "accelerate")
PACKAGE = Path(alm_proxies.__file__).parent
STAGES = sorted(f"alm_proxies.stages.{path.parent.name}.stage" for path in PACKAGE.glob("stages/*/stage.py"))


def test_the_public_names_are_these() -> None:
    assert alm_proxies.__all__ == PUBLIC
    assert dir(alm_proxies) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(alm_proxies, name)
    assert getattr(value, "__name__", name) == name


def test_every_source_and_every_estimator_of_ours_has_a_public_name() -> None:
    sources = [plugin.load().settings for plugin in plugins("readers").values() if not plugin.origin]
    estimators = [plugin.load() for plugin in plugins("estimators").values() if not plugin.origin]
    assert len(sources) >= 13
    assert len(estimators) >= 11
    assert [one for one in (*sources, *estimators) if getattr(alm_proxies, one.__name__, None) is not one] == []


def test_every_public_function_shows_its_progress_unless_told_to_be_quiet() -> None:
    functions = [value for name in PUBLIC if inspect.isfunction(value := getattr(alm_proxies, name))]
    quiet = {function.__name__: inspect.signature(function).parameters.get("quiet") for function in functions}
    assert len([parameter for parameter in quiet.values() if parameter]) >= 8
    assert [name for name, parameter in quiet.items() if parameter and parameter.default is not False] == []


def test_there_are_stages_to_look_at() -> None:
    assert len(STAGES) >= 5


@pytest.mark.parametrize("module", ["alm_proxies", "alm_proxies.cli.app", "alm_proxies.cli.stages", *STAGES])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'alm_proxies' has no attribute 'fuze'"):
        _ = alm_proxies.fuze
    assert not hasattr(alm_proxies, "no_such_name")
