"""Scripts that cannot have Python say what they skip, and fail for who could install it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "python_environment.sh"
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash")


def sourced(tmp_path: Path, user: int, apt: str | None) -> subprocess.CompletedProcess[str]:
    """What sourcing prints where Python is not on the path, for a user, with an `apt-get` that does what is said."""
    tools = tmp_path / "tools"
    tools.mkdir()
    stubs = {"id": f"echo {user}"} | ({} if apt is None else {"apt-get": apt})
    for name, does in stubs.items():
        (tools / name).write_text(f"#!{BASH}\n{does}\n")
        (tools / name).chmod(0o755)
    for name in ("mkdir", "ln"):
        (tools / name).symlink_to(str(shutil.which(name)))
    code = f". {SCRIPT}; echo the interpreter is $python3"
    environment = {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TOOLS": str(tools)}
    command = [str(BASH), "-euo", "pipefail", "-c", code, "scripts/test_python.sh"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_python_everything_is_said_to_be_skipped(tmp_path: Path) -> None:
    done = sourced(tmp_path, 1000, "exit 0")
    assert (done.returncode, done.stdout) == (0, "skipped: all of test_python.sh: there is no Python\n")


@pytest.mark.parametrize("apt", ["exit 0", "exit 1"])
def test_who_can_install_python_is_told_of_a_failure(tmp_path: Path, apt: str) -> None:
    done = sourced(tmp_path, 0, apt)
    assert (done.returncode, done.stdout) == (1, "")
    assert "FAILED: all of test_python.sh: there is no Python" in done.stderr


def test_python_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("ensurepip")
    done = sourced(tmp_path, 0, f'[ "$1" = update ] || [[ "$*" != *" python3 python3-venv" ]] || ln -s {sys.executable} "$TOOLS/python3"')
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"the interpreter is {tmp_path}{os.sep}tools{os.sep}python3\n"


def test_a_system_without_apt_skips(tmp_path: Path) -> None:
    done = sourced(tmp_path, 0, None)
    assert (done.returncode, done.stdout) == (0, "skipped: all of test_python.sh: there is no Python\n")
