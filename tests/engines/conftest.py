from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alm_proxies.engines.engine import Audio


@dataclass(frozen=True)
class FaultServer:
    """The fault server's address."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def seen(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/seen") as answer:
            return dict(json.load(answer))


@pytest.fixture(scope="session")
def fault_server() -> Iterator[FaultServer]:
    program = Path(__file__).with_name("fault_server.py")
    process = subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield FaultServer(int(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address where nobody listens, kept from others for the test's time."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture(scope="session")
def clip() -> Audio:
    time = np.arange(8_000) / 16_000
    return Audio((0.2 * np.sin(2 * np.pi * 300 * time)).astype(np.float32), 16_000)
