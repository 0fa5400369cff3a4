"""Names of the Hub, as Hugging Face's own libraries write them."""

from __future__ import annotations

import os

from ._arguments import path as checked_path
from ._arguments import text
from .errors import InvalidError

__all__ = ["path_of"]

SCHEME = "hub://"


def path_of(repository: str | os.PathLike[str], revision: str | None) -> str:
    """What :meth:`submask.Model.open` takes for ``owner/repo`` or ``owner/repo/file`` in a revision; a path that there is stays as it is.

    Raises:
        InvalidError: of a revision of a path, of a second revision, and of a name that is none.
    """
    path = checked_path(repository, "repository")
    revision = None if revision is None else text(revision, "revision")
    if os.path.exists(path):
        if revision is not None:
            allowed = f"none: {path} is a path, and no repository"
            raise InvalidError(f"revision = {revision} is not allowed: {allowed}", "revision", revision, allowed)
        return path
    name = path.removeprefix(SCHEME)
    owner, _, rest = name.partition("/")
    repo, slash, file = rest.partition("/")
    if not owner or not repo:
        allowed = "a path that there is, or owner/repo on the Hub"
        raise InvalidError(f"repository = {path} is not allowed: {allowed}", "repository", path, allowed)
    if revision is None:
        return SCHEME + name
    if "@" in repo:
        allowed = f"none: {path} names one already"
        raise InvalidError(f"revision = {revision} is not allowed: {allowed}", "revision", revision, allowed)
    return f"{SCHEME}{owner}/{repo}@{revision}{slash}{file}"
