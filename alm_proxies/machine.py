"""The machine: the check for POSIX, telemetry switched off, and the type of a file system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alm_proxies.errors import MachineError

_TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
_NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "drvfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "virtiofs",
}  # fmt: skip
_MOUNTS = Path("/proc/self/mountinfo")


def refuse_windows() -> None:
    """Raise on Windows, where file locks and atomic renames work differently."""
    system: str = sys.platform
    if system == "win32":
        fix = "Install it inside WSL, the Windows Subsystem for Linux: https://learn.microsoft.com/windows/wsl/install"
        raise MachineError("alm-proxies needs Linux or macOS", fix=fix)


def telemetry_off() -> None:
    """Switch the telemetry of optional packages off, unless the user's environment sets it.

    alm-proxies itself has no telemetry. The variables must be set before those packages are imported.
    """
    for name, value in _TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)


def open_files(wanted: int) -> int:
    """How many of the `wanted` further files and connections this process may open at once.

    The limit that the system sets at first (`ulimit -n`, 256 on macOS) is raised for them as far as it allows.
    """
    import resource

    try:
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 - no paths are needed
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        need = used + wanted
        if soft != resource.RLIM_INFINITY and soft < need:
            raised = need if hard == resource.RLIM_INFINITY else min(need, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    except (OSError, ValueError):
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else max(0, min(wanted, soft - used))


def file_system(path: str | Path) -> str | None:
    """The type of the file system of a path, existing or not ("ext4", "nfs4"); None if not known."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return None
    wanted = Path(path).resolve()
    best, kind = -1, None
    for line in lines:
        before, _, after = line.partition(" - ")
        place = Path(_unescaped(before.split(" ")[4]))
        if len(place.parts) >= best and wanted.is_relative_to(
            place
        ):  # of two mounts at one place, the later one is visible
            best, kind = len(place.parts), after.split(" ")[0]
    return kind


def on_network(path: str | Path) -> bool:
    """Whether a path is known to lie on a network file system, or on the Windows disk of WSL.

    Processes of several machines cannot share the memory there that SQLite's write-ahead log needs.
    """
    return file_system(path) in _NETWORK


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
