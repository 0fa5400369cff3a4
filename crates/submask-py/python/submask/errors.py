"""Exceptions of this package. All of them are a :class:`SubmaskError`."""

from __future__ import annotations

from typing import Any

__all__ = [
    "DivergedError",
    "DownloadError",
    "FileError",
    "FormatError",
    "InternalError",
    "InvalidError",
    "SubmaskError",
]


class SubmaskError(Exception):
    """Something could not be done; the message says what, and what would be allowed."""


class InvalidError(SubmaskError, ValueError):
    """A value that is not allowed: a setting, a field, an argument, an array of another shape.

    Attributes:
        field: the name of the setting, field or argument.
        given: the value that was given, as text; ``None`` where something is missing.
        allowed: what is allowed instead.
    """

    field: str
    given: str | None
    allowed: str | None

    def __init__(self, message: str, field: str = "", given: str | None = None, allowed: str | None = None) -> None:
        super().__init__(message, field, given, allowed)
        self.field = field
        self.given = given
        self.allowed = allowed

    def __str__(self) -> str:
        return str(self.args[0])


class FileError(SubmaskError, OSError):
    """The operating system refused a file operation, or a file or folder does not exist.

    Attributes:
        field: the argument that names the file, where that is known; otherwise empty.
        errno: the operating system's number of the error, such as ``errno.ENOENT``; ``None`` where it gave none.
        filename: the file or folder.
    """

    field: str

    def __init__(
        self, message: str, errno: int | None = None, filename: str | None = None, field: str = ""
    ) -> None:
        if errno is None:
            super().__init__(message)
        else:
            super().__init__(errno, message)
        self.filename = filename
        self.field = field
        self._message = message

    def __str__(self) -> str:
        return self._message

    def __reduce__(self) -> tuple[type[FileError], tuple[Any, ...]]:
        return type(self), (self._message, self.errno, self.filename, self.field)


class FormatError(SubmaskError, ValueError):
    """A file that is not what it should be: truncated, altered, of another format or version."""


class DownloadError(SubmaskError, OSError):
    """A file that could not be downloaded."""


class DivergedError(SubmaskError, ArithmeticError):
    """Training came to a loss or a gradient that is not a finite number. The last checkpoint stays."""


class InternalError(SubmaskError, RuntimeError):
    """A defect of this package, and no fault of the caller's."""
