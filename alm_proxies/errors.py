"""The exceptions of alm-proxies: each states what is wrong, where, and the fix, in one sentence."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

from alm_proxies.imported import imported
from alm_proxies.printable import printable, sentence
from alm_proxies.renamed import renamed
from alm_proxies.uris import redacted


class AlmProxiesError(Exception):
    """Base class of all errors; `exit_code` is the exit code of the command line."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.message = redacted(message)
        self.where = redacted(where) if where else where
        self.fix = redacted(fix) if fix else fix
        super().__init__(self.message, self.where, self.fix)

    def __reduce__(self) -> tuple[Any, ...]:
        # So that it can be unpickled from another process, whatever the arguments of its __init__.
        return _again, (type(self), self.args), self.__dict__

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return printable(f"{place}{sentence(self.message, self.fix)}")

    @property
    def what(self) -> str:
        """The old name of `message`."""
        renamed("what", "message")
        return self.message

    @property
    def mend(self) -> str | None:
        """The old name of `fix`."""
        renamed("mend", "fix")
        return self.fix


def _again(kind: type[AlmProxiesError], arguments: tuple[Any, ...]) -> AlmProxiesError:
    return kind.__new__(kind, *arguments)


class InputError(AlmProxiesError):
    """A file, table or recording given by the user cannot be used."""


class TableError(InputError):
    """A table does not follow the contract; the message names file, column and row."""

    row: int | None = None
    """The row that the message names, from 1; None if it is about a column or the table."""

    def of_row(self, row: int) -> TableError:
        """The same about another row, because the table was read in parts or in another order."""
        if self.row is not None and self.where is not None:
            self.where = f"{self.where.removesuffix(f'row {self.row}')}row {row}"
            self.row = row
        return self


class SettingsError(AlmProxiesError):
    """A settings, pipeline or annotator file, or a command-line option, is not valid."""


class ForbiddenError(AlmProxiesError):
    """A data card does not allow what was asked."""


class MissingExtraError(AlmProxiesError):
    """An optional package is not installed."""


class MachineError(AlmProxiesError):
    """The operating system cannot run alm-proxies."""


class OutputError(AlmProxiesError):
    """A result could not be written (disk full, no permission); no partial file is left."""

    exit_code = 3


class OutputPathError(OutputError):
    """A result cannot be written because of the path that was named: part of it is a file, or it is too long."""

    exit_code = 2


class EngineError(AlmProxiesError):
    """An engine or a device failed."""

    exit_code = 3


def need(module: str, extra: str) -> ModuleType:
    """Import an optional package; if it is missing, raise an error with its install command."""
    package = module.split(".")[0]
    try:
        return imported(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or package).split(".")[0] == package:
            raise MissingExtraError(
                f"this needs the package {package!r}, which is not installed",
                fix=f"Install it with: pip install 'alm-proxies[{extra}]'",
            ) from None
        raise MissingExtraError(
            f"this needs the package {package!r}, which is installed but cannot be imported ({error})",
            fix=f"Install it again with what it needs: pip install --upgrade --force-reinstall 'alm-proxies[{extra}]'",
        ) from error
