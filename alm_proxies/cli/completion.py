"""The verb of shell completion: the script that bash, zsh or fish loads, printed or installed."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from alm_proxies.cli.outcome import Common, Outcome
from alm_proxies.errors import OutputError, SettingsError

Shell = Literal["bash", "zsh", "fish"]
_COMMON = Common()


def completion(
    shell: Shell | None = None,
    *,
    install: Annotated[bool, Parameter(negative=())] = False,
    common: Common = _COMMON,
) -> Outcome:
    """Print, or install, what a shell needs to complete commands, flags and paths.

    Parameters
    ----------
    shell
        The shell; without it, the one that this runs in.
    install
        Write it where the shell looks for it, and load it from .bashrc or .zshrc.
    """
    from alm_proxies.cli.app import app

    chosen = shell or _this_shell()
    program = app()
    if not install:
        script = program.generate_completion(shell=chosen)
        return Outcome(script.rstrip("\n"), {"shell": chosen, "script": script}, as_json=common.json)
    try:
        place = program.install_completion(shell=chosen)
    except OSError as error:
        fix = f"Write it yourself: alm-proxies completion {chosen} > FILE."
        where = str(error.filename) if error.filename else None
        raise OutputError(f"cannot be written: {error.strerror}", where=where, fix=fix) from error
    data = {"shell": chosen, "output": str(place)}
    return Outcome(f"{place}; it works in shells that are opened from now on", data, as_json=common.json)


def _this_shell() -> Shell:
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    try:
        shell = detect_shell()
    except ShellDetectionError:
        shell = "powershell"
    if shell == "powershell":
        raise SettingsError("the shell is not known", fix="Name it: alm-proxies completion bash, or zsh, or fish.")
    return shell
