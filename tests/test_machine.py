"""Properties of the machine: POSIX, no telemetry, the type of a file system."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alm_proxies import machine
from alm_proxies.progress import say

_AS_ON_WINDOWS = (
    "import sys; sys.modules |= {'fcntl': None, '_winapi': sys}; "  # shutil of newer Pythons imports _winapi
)


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_on_windows_the_command_is_refused_in_one_sentence_that_names_wsl() -> None:
    script = "from alm_proxies.cli.start import main; sys.platform = 'win32'; main(['--version'])"
    done = run(_AS_ON_WINDOWS + script)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("alm-proxies: alm-proxies needs Linux or macOS. Install it inside WSL")


def test_on_windows_a_public_name_is_refused_in_the_same_sentence() -> None:
    done = run(_AS_ON_WINDOWS + "import alm_proxies; sys.platform = 'win32'; from alm_proxies import run")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("alm_proxies.errors.MachineError: alm-proxies needs Linux or macOS. Install it inside WSL")


def test_telemetry_of_dependencies_is_off_unless_the_user_says_otherwise() -> None:
    names = sorted(machine._TELEMETRY_OFF)
    script = f"import os, alm_proxies; print([os.environ[name] for name in {names!r}])"
    bare = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=bare)
    assert done.stdout.strip() == str([machine._TELEMETRY_OFF[name] for name in names])
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=bare | {"DO_NOT_TRACK": "0"})
    assert "'0'" in done.stdout


def test_the_hub_library_takes_the_telemetry_switch() -> None:
    script = "import alm_proxies; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    assert run(script).stdout.strip() == "True"


def test_the_file_system_is_the_one_of_the_nearest_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
        "2 1 0:50 / /home\\040of\\040all rw - nfs4 server:/home rw",
        "3 2 0:51 / /home\\040of\\040all/scratch rw shared:1 - xfs /dev/sdb rw",
        "4 1 0:52 / /data rw - ext4 /dev/sdc rw",
        "5 4 0:53 / /data rw - lustre server:/data rw",
    ]
    mounts.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(machine, "_MOUNTS", mounts)
    systems = {
        place: machine.file_system(place) for place in ("/etc", "/home of all/me", "/home of all/scratch/x", "/data")
    }
    assert list(systems.values()) == ["ext4", "nfs4", "xfs", "lustre"]
    assert [machine.on_network(place) for place in systems] == [False, True, False, True]


def test_where_mounts_are_not_listed_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MOUNTS", tmp_path / "none")
    assert machine.file_system("/") is None
    assert not machine.on_network("/")


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux")
def test_a_folder_of_this_machine_has_a_file_system(tmp_path: Path) -> None:
    assert machine.file_system(tmp_path / "not yet there")


def test_what_is_said_goes_to_the_logger_even_when_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="alm_proxies"):
        say("a line", quiet=True)
    assert caplog.messages == ["a line"]


def test_without_a_handler_of_the_users_own_the_library_is_silent() -> None:
    script = "import logging, alm_proxies; logging.getLogger('alm_proxies').warning('hm')"
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_limit_of_open_files_is_raised_as_far_as_the_system_allows_and_no_more_are_promised() -> None:
    script = (
        "import os, resource as r; from alm_proxies.machine import open_files; "
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 128)); "
        "print(open_files(100), open_files(1000), r.getrlimit(r.RLIMIT_NOFILE)[0], len(os.listdir('/dev/fd')))"
    )
    enough, fewer, limit, used = map(int, run(script).stdout.split())
    assert (enough, limit) == (100, 128)
    assert 0 < fewer <= 128 - used + 1
