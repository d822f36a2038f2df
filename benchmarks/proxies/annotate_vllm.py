"""Votes per second of `annotate` relative to a minimal httpx client, with the same vLLM server and requests.

A real vLLM server on the CPU with a tiny Qwen2-Audio and EMO-DB recordings; all has been asked once before, so that the
server's caches are alike for both; then rounds alternate. See annotate_http.py for the two clients.

    OMP_NUM_THREADS=1 python benchmarks/proxies/annotate_vllm.py EMODB/wav --vllm .venv-vllm/bin/python [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from annotate_http import compared, ours
from vllm_server import FILE, MODEL, checkpoint, emodb, vllm_server

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.tables import Utterances

IN_FLIGHT = 32


def main() -> None:
    """Serve, and print a row for ten votes and for one vote per request."""
    parser = argparse.ArgumentParser()
    parser.add_argument("wav", type=Path)
    parser.add_argument("--vllm", type=Path, required=True, help="the python of an environment with vLLM")
    parser.add_argument("--recordings", type=int, default=535)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    every = emodb(chosen.wav)
    utterances = Utterances.of(every.frame.head(chosen.recordings), about=every.about)
    with tempfile.TemporaryDirectory(prefix="annotate-vllm-") as name:
        folder = Path(name)
        file = folder / "tiny-listener.toml"

        def annotator(url: str, votes: int) -> Annotator:
            file.write_text(FILE.format(model=MODEL, votes=votes, url=url, in_flight=IN_FLIGHT))
            return Annotator.read(file, taxonomy="emodb7")

        model = checkpoint(folder / "model", annotator("http://127.0.0.1:1/v1", 1), utterances)
        print("| votes a request | bare | pools of 16 | asking | annotate | asking/pools | annotate/pools |")
        with vllm_server(chosen.vllm, model, folder / "vllm.log") as url:
            for draws in (10, 1):
                proxy = annotator(url, draws)
                ours(utterances, proxy)
                print(f"| {draws} | {compared(url, utterances, proxy, IN_FLIGHT, draws, chosen.rounds)} |", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
