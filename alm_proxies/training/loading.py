"""Load a trained folder of any recipe.

model = load_trained("runs/wavlm")
model.distributions([open_clip("a.wav")])
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from alm_proxies.errors import InputError
from alm_proxies.models.sealed import damaged
from alm_proxies.models.trained import TrainedModel, read_trained

if TYPE_CHECKING:
    from alm_proxies.training.alm_model import AlmModel
    from alm_proxies.training.features import FeaturesModel

    AnyTrained = TrainedModel | FeaturesModel | AlmModel


def load_trained(folder: str | Path, *, device: str | None = None) -> AnyTrained:
    """The model in a folder that `train` wrote (or its parent), whatever its recipe; on a GPU if there is one.

    Every model has `labels`, `rate`, `distributions(clips)`, `predict(clips)` and `evidence(clip)`.
    """
    try:
        return _loaded(folder, device)
    except (BadZipFile, ValueError, KeyError, EOFError, RuntimeError) as error:
        if "out of memory" in str(error):
            raise
        raise _damaged(folder, error) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":  # of a package that the recipe features does not need
            raise
        raise _damaged(folder, error) from error


def _loaded(folder: str | Path, device: str | None) -> AnyTrained:
    _, file = read_trained(folder)
    if file.recipe == "features":
        from alm_proxies.training.features import FeaturesModel

        return FeaturesModel.load(folder)
    if file.recipe == "alm_head":
        from alm_proxies.training.alm_model import AlmModel

        return AlmModel.load(folder, device=device)
    return TrainedModel.load(folder, device=device)


def _damaged(folder: str | Path, error: Exception) -> InputError:
    return damaged((str(error).splitlines() or [type(error).__name__])[0][:200], folder)
