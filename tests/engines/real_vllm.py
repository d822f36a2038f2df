"""A real vLLM for tests and benchmarks: the mark of tests that need one, and a server on this machine's CPU."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore"),  # vLLM's and its libraries' own, which we cannot fix
    pytest.mark.skipif(
        find_spec("vllm") is None,
        reason="vLLM is not in this environment: .venv-vllm has it"
        if (platform.system(), platform.machine()) == ("Linux", "x86_64")
        else f"the vLLM test environment is for Linux x86-64, this is {platform.system()} {platform.machine()}",
    ),
]
MODEL = "tiny"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
_ENVIRONMENT = ONE_THREAD | {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",
}
_SETTINGS = (
    "--dtype float32 --max-model-len 1024 --enforce-eager --block-size 32 --max-num-seqs 64 --max-logprobs -1 "
    "--no-enable-chunked-prefill"
)


@contextmanager
def vllm_server(python: str | Path, model: Path, log: Path, more: Sequence[str] = ()) -> Iterator[str]:
    """The address of a running `vllm serve`, including /v1; `python` is that of an environment with vLLM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", MODEL]
    process = subprocess.Popen(
        [*program, *where, *_SETTINGS.split(), *more],
        env=os.environ | _ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout, log.open("w") as kept:
        for line in process.stdout:
            kept.write(line)
            if "Application startup complete" in line:
                break
        else:
            kept.flush()
            raise SystemExit("vLLM did not start:\n" + "".join(log.read_text().splitlines(keepends=True)[-30:]))
        rest = threading.Thread(target=kept.writelines, args=(process.stdout,), daemon=True)
        rest.start()
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)
            rest.join(10)
