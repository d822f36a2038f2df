"""A real S3 server, `rclone serve s3`, from an environment of its own, which is made if it is not there."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".venv-s3" / "bin" / "rclone"
KEY, SECRET = "ann", "open.sesame"


@dataclass(frozen=True)
class Buckets:
    """A running server: its buckets are the folders of `folder`."""

    folder: Path
    endpoint: str

    def put(self, path: str, content: bytes) -> str:
        """A file as bucket/name; its address."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return f"s3://{path}"

    @property
    def environment(self) -> dict[str, str]:
        """What the tools of S3 look at."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def serving(folder: Path) -> Iterator[Buckets]:
    if not PROGRAM.is_file():
        subprocess.run(["make", "--silent", f"PYTHON={sys.executable}", ".venv-s3/ready"], cwd=ROOT, check=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    (folder / "served").mkdir()
    command = [
        str(PROGRAM), "serve", "s3", str(folder / "served"), "--addr", f"127.0.0.1:{port}", "--auth-key",
        f"{KEY},{SECRET}", "--config", str(folder / "none.conf"), "--dir-cache-time", "0s", "--poll-interval", "0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(process, port, folder / "log")
            yield Buckets(folder / "served", f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(log.read_text())
