"""A vLLM whose processes are forks of one that has done nothing but import it: an engine starts twice as fast.

vLLM asks for three new processes an engine, which import torch and vLLM for ten seconds each: the engine, its worker,
and one that only looks at the class of the model, which is apart for the sake of CUDA.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_IMPORTED = ("vllm_forks", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker", "vllm.v1.executor.multiproc_executor")
_get_context = multiprocessing.get_context


def _forks_for_new_ones(method: str | None = None) -> Any:
    return _get_context("forkserver" if method == "spawn" else method)


@contextmanager
def engines_are_forks() -> Iterator[None]:
    """While it is open, engines start so. The environment has to be theirs: the first one's is that of all."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
        patches.setattr(multiprocessing, "get_context", _forks_for_new_ones)
        patches.setattr("vllm.model_executor.models.registry._run_in_subprocess", lambda look: look())
        _get_context("forkserver").set_forkserver_preload(list(_IMPORTED))
        yield


if sys.argv[0] == "-c":  # imported by the process to be forked, and so by vLLM's own, which start others
    multiprocessing.get_context = _forks_for_new_ones  # type: ignore[assignment]
