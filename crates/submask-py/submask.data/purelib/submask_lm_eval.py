"""Tells EleutherAI's lm-evaluation-harness that there is a model called ``submask``.

The harness knows the models that ``lm_eval.models`` lists, and scans no entry points. So ``submask_lm_eval.pth`` has Python ask
:func:`spec` when that module is about to be imported, and only then. The name is registered once the module has been executed:
before that the harness takes a registry with a name in it for a filled one. Nothing of ``submask`` is imported here.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Sequence

NAME = "submask"
PLACEHOLDER = "submask.lm_eval:SubmaskLM"
#: The finder of ``submask_lm_eval.pth``.
OWN_FINDER = "SubmaskForHarness"

#: Names that are being looked for: a finder may ask all finders in turn.
_sought: set[str] = set()


class _Loader:
    """Loads a module as another loader does, and registers the model afterwards."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module is as if it had been imported without us.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        _register()


def spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
    """What imports the module ``name`` and registers the model afterwards; ``None`` where the other finders have to do it."""
    if name in _sought:
        return None
    _sought.add(name)
    try:
        found = _found(name, path, target)
        if found is None or not (hasattr(found.loader, "create_module") and hasattr(found.loader, "exec_module")):
            return None
        found.loader = _Loader(found.loader)  # type: ignore[assignment]
        return found
    except Exception:  # A program that has nothing to do with this package must not fail by it.
        return None
    finally:
        _sought.discard(name)


def _found(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    """What the first of the other finders that knows the module says."""
    for finder in list(sys.meta_path):
        if getattr(finder, "__name__", "") == OWN_FINDER or not hasattr(finder, "find_spec"):
            continue
        found = finder.find_spec(name, path, target)
        if found is not None:
            return found
    return None


def _register() -> None:
    """Has the harness import the model when it is asked for. A harness that knows no such placeholders stays as it is."""
    try:
        from lm_eval.api.registry import model_registry

        if NAME not in model_registry:
            model_registry.register(NAME, target=PLACEHOLDER)
    except Exception:  # `python -m submask.lm_eval` says what is wrong.
        return
