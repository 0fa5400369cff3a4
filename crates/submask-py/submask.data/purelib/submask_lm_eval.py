"""Tells EleutherAI's lm-evaluation-harness that there is a model called ``submask``.

The harness knows the models that ``lm_eval.models`` lists, and scans no entry points. So ``submask_lm_eval.pth`` has Python ask
:func:`spec` when that module is about to be imported, and only then. The name is registered once the module has been executed:
before that the harness takes a registry with a name in it for a filled one. Nothing of ``submask`` is imported here.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Sequence

NAME = "submask"
PLACEHOLDER = "submask.lm_eval:SubmaskLM"


def spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """What imports the module ``name`` and registers the model afterwards; ``None`` where the usual finders have to do it."""
    try:
        found = PathFinder.find_spec(name, path)
        execute = found.loader.exec_module  # type: ignore[union-attr]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _register()

        found.loader.exec_module = exec_module  # type: ignore[union-attr,method-assign]
    except Exception:  # A program that has nothing to do with this package must not fail by it.
        return None
    return found


def _register() -> None:
    """Has the harness import the model when it is asked for. A harness that knows no such placeholders stays as it is."""
    try:
        from lm_eval.api.registry import model_registry

        if NAME not in model_registry:
            model_registry.register(NAME, target=PLACEHOLDER)
    except Exception:  # `python -m submask.lm_eval` says what is wrong.
        return
