from __future__ import annotations

import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from forked import TORCH, Forked
from hypothesis import given
from hypothesis import strategies as st

from alm_proxies.engines.engine import SEED_LIMIT, Audio, Question, Request, Turn, consecutive_runs, draw_seeds


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50), st.sampled_from([8_000, 16_000, 44_100]))
def test_the_wav_of_a_clip_is_the_clip_to_16_bits(samples, rate):
    clip = Audio(np.array(samples, np.float32), rate)
    samples_read, found_rate = sf.read(io.BytesIO(clip.wav), dtype="float32")
    assert found_rate == rate
    np.testing.assert_allclose(samples_read, clip.samples, atol=1.01 / 32768)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_runs_give_the_seeds_back_in_order(seeds):
    runs = consecutive_runs(tuple(seeds))
    assert [seed + child for seed, count in runs for child in range(count)] == seeds
    assert all(run[0] + run[1] != other[0] for run, other in itertools.pairwise(runs))


@given(st.integers(0, 2**63 - 1), st.integers(0, 500), st.integers(1, 500))
def test_a_draws_seed_depends_on_its_place_alone_and_a_cell_is_one_run(cell, first, count):
    seeds = draw_seeds(cell, first, count)
    assert len(consecutive_runs(seeds)) == 1
    assert all(0 <= seed < SEED_LIMIT for seed in seeds)
    assert seeds == draw_seeds(cell, 0, first + count)[first:]


@pytest.mark.parametrize(
    "wrong",
    [
        {"elicit": "sample", "seeds": ()},
        {"elicit": "sample", "seeds": (-1,)},
        {"elicit": "sample", "seeds": (SEED_LIMIT,)},
        {"elicit": "score"},
    ],
)
def test_requests_that_make_no_sense_are_refused(clip, wrong):
    with pytest.raises(ValueError, match="k:"):
        Request("k", "u", questions=(Question((Turn("user", (clip, "?")),)),), **wrong)


@pytest.mark.parametrize(
    ("serve", "missing", "extra"),
    [
        ("TransformersServe", "torch", "local"),
        ("TransformersServe", "transformers", "local"),
        ("VllmServe", "torch", "vllm"),
        ("VllmServe", "vllm", "vllm"),
    ],
)
def test_an_engine_whose_package_is_not_installed_names_its_install_line(serve, missing, extra):
    code = f"""
import asyncio, sys
sys.modules[{missing!r}] = None
from alm_proxies.engines import registry
from alm_proxies.errors import MissingExtraError
try:
    asyncio.run(registry.open_engine("m", registry.{serve}()))
except MissingExtraError as error:
    print(error)
"""
    if missing == "torch":
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    else:  # torch is imported before it is noticed, which takes seconds
        done = Forked.done("-c", code, imported=TORCH)
    fix = f"Install it with: pip install 'alm-proxies[{extra}]'"
    assert done.stdout == f"this needs the package {missing!r}, which is not installed. {fix}\n"


def test_the_contract_loads_nothing_heavy():
    heavy = "torch,transformers,vllm,httpx,librosa,polars,scipy"
    loaded = f"[name for name in '{heavy}'.split(',') if name in sys.modules]"
    code = f"import sys, alm_proxies.engines.registry; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
