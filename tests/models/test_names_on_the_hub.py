"""A model's name that is none is refused at once; a hub that cannot be reached is asked once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import alm_proxies

LOAD = """\
import sys
from alm_proxies.errors import SettingsError
from alm_proxies.models.audio_lm import AudioLM
from alm_proxies.models.encoder import Encoder
for name in sys.argv[1:]:
    for kind in (Encoder, AudioLM):
        try:
            kind.load(name, device="cpu")
        except SettingsError as error:
            print(error)
"""
NONE = ("whisper-tiny.em", "./runs/wavlm", "/no/such/wavlm", "~/wavlm", "runs/of/wavlm")


class Hub:
    """A hub that closes every connection without an answer, and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.asked += 1
                connection.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub()
    yield served
    served.close()


def test_a_name_that_is_none_is_said_without_asking_the_hub_and_one_that_cannot_be_reached_is_asked_once(
    hub: Hub, tmp_path: Path
) -> None:
    known = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    place = {"PYTHONPATH": str(Path(alm_proxies.__file__).parents[1])}
    call = [sys.executable, "-c", LOAD, *NONE, "openai/whisper-tiny.em"]
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=known | own | place, cwd=tmp_path)
    *none, encoder, alm = done.stdout.splitlines()
    for name, said in zip([name for name in NONE for _ in range(2)], none, strict=True):
        assert said.startswith(f"{name}: there is no such folder, and no model on the hub can have this name.")
    for said in (encoder, alm):
        assert said.startswith("openai/whisper-tiny.em: there is no such folder, and the hub cannot be reached (")
    assert hub.asked == 2, "once by each"
