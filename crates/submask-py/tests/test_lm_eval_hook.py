"""The file that tells the harness of the model, with a harness of a few lines."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[1] / "submask.data" / "purelib"

REGISTRY = """
class Registry(dict):
    def register(self, name, *, target):
        self[name] = target

model_registry = Registry()
"""

MODELS = """
from lm_eval.api.registry import model_registry
assert not model_registry, "a name in the registry keeps the harness from filling it"
model_registry.register("hf", target="lm_eval.models.huggingface:HFLM")
"""


@pytest.fixture
def harness(tmp_path: Path) -> Path:
    """A folder with a package `lm_eval` that has a registry and models."""
    for folder, content in {"": "", "api": "", "models": MODELS}.items():
        package = tmp_path / "lm_eval" / folder
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(content)
    (tmp_path / "lm_eval" / "api" / "registry.py").write_text(REGISTRY)
    return tmp_path


def run(folder: Path, code: str, hook: Path = HOOK) -> str:
    """What a new Python prints that reads the hook as it does at its start."""
    start = f"import site, sys; site.addsitedir({str(hook)!r}); sys.path.insert(0, {str(folder)!r})\n"
    # Without `site`, and so without a hook that is installed.
    done = subprocess.run([sys.executable, "-S", "-c", start + code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


SHOW = "from lm_eval.api.registry import model_registry; print(dict(model_registry))"


def test_the_model_is_registered_once_the_harness_knows_its_own(harness: Path) -> None:
    told = run(harness, f"import lm_eval.api.registry, lm_eval.models; {SHOW}")
    assert told == "{'hf': 'lm_eval.models.huggingface:HFLM', 'submask': 'submask.lm_eval:SubmaskLM'}"


def test_nothing_is_registered_before(harness: Path) -> None:
    assert run(harness, SHOW) == "{}"


def test_the_package_is_not_imported(harness: Path) -> None:
    told = run(harness, "import lm_eval.models; print([name for name in sys.modules if name.split('.')[0] == 'submask'])")
    assert told == "[]"


def test_nothing_else_is_imported_at_the_start(tmp_path: Path) -> None:
    assert run(tmp_path, "print('submask_lm_eval' in sys.modules, sys.meta_path[0].find_spec('json'))") == "False None"


def test_a_harness_that_has_changed_stays_as_it_is(harness: Path) -> None:
    (harness / "lm_eval" / "api" / "registry.py").write_text("MODELS = {}\n")
    (harness / "lm_eval" / "models" / "__init__.py").write_text("import lm_eval.api.registry\n")
    assert run(harness, "import lm_eval.models; print(lm_eval.api.registry.MODELS)") == "{}"


def test_a_missing_harness_is_missing_as_ever(tmp_path: Path) -> None:
    code = "try:\n    import lm_eval.models\nexcept ModuleNotFoundError as error:\n    print(error)"
    assert run(tmp_path, code) == "No module named 'lm_eval'"
    (tmp_path / "lm_eval").mkdir()
    (tmp_path / "lm_eval" / "__init__.py").write_text("")
    assert run(tmp_path, code) == "No module named 'lm_eval.models'"


def test_a_hook_whose_module_is_gone_lets_the_harness_be(harness: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(HOOK / "submask_lm_eval.pth", alone)
    told = run(harness, f"import lm_eval.models; {SHOW}; print(sys.meta_path[0].__name__)", alone)
    assert told == "{'hf': 'lm_eval.models.huggingface:HFLM'}\nSubmaskForHarness"


OTHER_FINDER = """
import importlib.abc, importlib.util
asked = []

class Loader(importlib.abc.Loader):
    def exec_module(self, module):
        module.loaders = type(module.__loader__).__name__, type(module.__spec__.loader).__name__
        from lm_eval.api.registry import model_registry
        model_registry.register("other", target="elsewhere")

class Other(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "lm_eval.models":
            return None
        asked.append(name)
        if len(asked) == 1:
            # As finders do that change what others find.
            assert importlib.util.find_spec(name) is not None
        return importlib.util.spec_from_loader(name, Loader(), is_package=True)

sys.meta_path.insert(0, Other()) if FIRST else sys.meta_path.insert(1, Other())
import lm_eval.models
print(lm_eval.models.loaders, len(asked))
"""


@pytest.mark.parametrize("first", [True, False])
def test_other_finders_are_asked_as_without_the_hook(harness: Path, first: bool) -> None:
    told = run(harness, f"FIRST = {first}\n{OTHER_FINDER}\n{SHOW}").splitlines()
    assert told[0].startswith("('Loader', 'Loader')")
    assert told[1] == "{'other': 'elsewhere'}" if first else "'submask': 'submask.lm_eval:SubmaskLM'" in told[1]


def test_a_module_is_loaded_by_its_own_loader_and_can_be_loaded_again(harness: Path) -> None:
    code = """
import importlib, lm_eval.models
print(type(lm_eval.models.__loader__).__name__, type(lm_eval.models.__spec__.loader).__name__)
lm_eval.api.registry.model_registry.clear()
importlib.reload(lm_eval.models)
"""
    told = run(harness, code + SHOW).splitlines()
    assert told[0] == "SourceFileLoader SourceFileLoader" and "submask" in told[1]


def test_the_hook_is_one_line() -> None:
    (line,) = (HOOK / "submask_lm_eval.pth").read_text().splitlines()
    assert line.startswith("import ")


def test_a_missing_harness_is_named_by_the_module_that_needs_it() -> None:
    code = "import sys; sys.modules['lm_eval'] = None; import submask.lm_eval"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: submask.lm_eval needs lm-evaluation-harness: pip install 'lm-eval>=0.4.13'" in done.stderr
