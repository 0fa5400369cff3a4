"""A model that is open: what it is, and how long it is there."""

from __future__ import annotations

import copy
import errno
import json
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from . import _native
from ._arguments import path as checked_path
from ._arguments import text, whole
from ._hub import SCHEME, path_of
from ._tokenizer import Tokenizer
from .errors import FileError, InvalidError, SubmaskError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OpenModel"]

Subject = Literal["text", "images", "points"]


class OpenModel:
    """What a model is, besides what it can be asked."""

    subject: Subject
    vocab_size: int
    subtoken_len: int
    base: int
    mask_id: int
    seq_len: int
    block_len: int
    network: str
    is_autoregressive: bool
    is_of_pairs: bool
    reads_time: bool
    image_shape: tuple[int, int, int] | None
    classes: list[str] | None
    parameters: int
    tokenizer: Tokenizer | None
    path: str

    def __init__(self, native: _native.ModelSession, device: str) -> None:
        """Use :meth:`open` or :meth:`from_pretrained`."""
        self._native = native
        self._device = device
        self._info: dict[str, Any] | None = None
        vars(self).update(native.facts())
        tokenizer = native.tokenizer()
        self.tokenizer = None if tokenizer is None else Tokenizer(tokenizer)
        self.path = os.fspath(native.folder())

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        checkpoint: str | int = "newest",
        device: str = "cpu",
        precision: Literal["fp32", "tf32", "bf16"] = "fp32",
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | None = None,
    ) -> Self:
        """Opens what stands at a path, or under a name on the Hub.

        Args:
            path: a model folder, a run, a checkpoint of a run, or ``hub://owner/repo[@revision][/path]``, which is
                downloaded into the Hub's cache. A checkpoint of another program is imported in memory; one that does not
                say everything has to be imported by ``submask import`` first.
            checkpoint: which checkpoint of a run: ``"newest"``, ``"best"`` (of a run with ``train.keep_best``), or its
                number of steps.
            device: ``"cpu"``, ``"gpu:N"``, or ``"auto"``.
            precision: in which precision matrices are multiplied.
            cache_dir: the Hub's cache; as the environment says unless it is given.
            token: what repositories are opened with that are not open to all; as the environment says unless it is given.

        Raises:
            FileError: of a path that does not exist.
            InvalidError: of a path where there is no model, and of another argument that is not allowed.
            FormatError: of a file that is not what it should be.
            DownloadError: of a repository that cannot be downloaded.
        """
        return cls._opened("path", path, checkpoint, device, precision, cache_dir, token)

    @classmethod
    def _opened(
        cls,
        field: str,
        path: str | os.PathLike[str],
        checkpoint: str | int,
        device: str,
        precision: str,
        cache_dir: str | os.PathLike[str] | None,
        token: str | None,
    ) -> Self:
        place = checked_path(path, field)
        which = text(checkpoint, "checkpoint") if isinstance(checkpoint, str) else str(whole(checkpoint, "checkpoint"))
        cache = None if cache_dir is None else checked_path(cache_dir, "cache_dir")
        device, precision_name = text(device, "device"), text(precision, "precision")
        secret = None if token is None else text(token, "token")
        try:
            return cls(_native.ModelSession(place, which, device, precision_name, cache, secret), device)
        except SubmaskError as error:
            raise _not_opened(error, field, place) from None

    @classmethod
    def from_pretrained(
        cls,
        repository: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | None = None,
        checkpoint: str | int = "newest",
        device: str = "cpu",
        precision: Literal["fp32", "tf32", "bf16"] = "fp32",
    ) -> Self:
        """Opens ``owner/repo`` of the Hub, or a folder that there is.

        Args:
            repository: ``owner/repo``, or a path as :meth:`open` takes it.
            revision: a branch, a tag or a commit.
            cache_dir: the Hub's cache; as the environment says unless it is given.
            token: as :meth:`open` takes it.
            checkpoint: which checkpoint of a run.
            device: as :meth:`open` takes it.
            precision: as :meth:`open` takes it.
        """
        path = path_of(repository, revision)
        return cls._opened("repository", path, checkpoint, device, precision, cache_dir, token)

    @property
    def info(self) -> dict[str, Any]:
        """What ``submask info --json`` says of what was opened."""
        if self._info is None:
            self._info = json.loads(self._native.info())
        return copy.deepcopy(self._info)

    def close(self) -> None:
        """Frees the weights, as soon as no stream uses them any more. Nothing can be asked of the model then."""
        self._native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        what = f"{self.subject}, {self.network}, {self.parameters:,} weights, {self._device}"
        return f"Model({self.path!r}, {what}{', closed' if self._native.is_closed() else ''})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Model is not pickled: open it in every process, by submask.Model.open(path)")


def _not_opened(error: SubmaskError, field: str, path: str) -> SubmaskError:
    """An error about the path as one that names the argument; other errors as they are."""
    if isinstance(error, InvalidError) and error.field == "the name":
        return InvalidError(str(error).replace("the name", field, 1), field, error.given, error.allowed)
    if type(error) is not SubmaskError:
        return error
    if not path.startswith(SCHEME) and not os.path.exists(path):
        return FileError(str(error), errno.ENOENT, path, field)
    return InvalidError(f"{field}: {error}", field, path, "a model folder, a run or a checkpoint")
