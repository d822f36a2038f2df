"""Settings of train."""

from __future__ import annotations

from alm_proxies.stage import Need, Stage
from alm_proxies.training.settings import TrainSettings

__all__ = ["STAGE", "TrainSettings"]

STAGE = Stage(
    verb="train",
    settings=TrainSettings,
    function="alm_proxies.stages.train.stage:train",
    needs=(
        Need("labels", "labels", first=("balance/labels", "fuse/labels"), help="The labels to learn."),
        Need(
            "utterances", "utterances", first=("balance/utterances", "read/utterances"),
            help="The utterances: recordings, speakers, splits.",
        ),
        Need(
            "votes", "votes", every=("read/votes",), optional=True,
            help="Human votes: they choose the epoch, calibrate, and are learned with targets = votes. Utterances with "
            "held-out human votes only are not used for training.",
        ),
    ),
    writes={"folder": "."},
    into_folder=True,
    locks=True,
    working=("features/*", "heard/*", "remembered/*"),
    resumes_from=("checkpoints",),
    blocks="named",
    hears=True,
    plugins={"recipe": "recipes"},
    depends="alm_proxies.stages.train.ahead:inputs_of",
    foresee="alm_proxies.stages.train.ahead:foresee",
    revision=6,
)  # fmt: skip
