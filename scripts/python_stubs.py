#!/usr/bin/env python3
"""Compares the stub of the extension module, which people write, with the one that maturin generates from the Rust code.

    scripts/python_stubs.py            compares; exits with 1 if anything differs
    scripts/python_stubs.py --print    prints the generated one, to begin an entry with

Rust does not know the types of arrays, nor what stands in a tuple or a dictionary: there the written stub says more. Everything else must
be the same: classes, methods, properties and functions, the names, kinds and defaults of parameters, and types. Needs maturin on the PATH;
builds with the feature `inspect` in the dev profile, so that it is run by hand. scripts/test_python.sh compares the stub with the
module itself.
"""

from __future__ import annotations

import argparse
import ast
import pathlib
import subprocess
import sys
import tempfile

CRATE = pathlib.Path(__file__).resolve().parents[1] / "crates" / "submask-py"
WRITTEN = CRATE / "python" / "submask" / "_native.pyi"
PROJECT = """
[build-system]
requires = ["maturin"]
build-backend = "maturin"
[project]
name = "submask"
version = "0"
[tool.maturin]
manifest-path = "{manifest}"
module-name = "submask._native"
"""
#: What a generated type does not say.
OPEN = {"Incomplete", "Any", "tuple", "dict", "list"}
#: Types that are one to us: a stub says `list` where any sequence is taken.
SAME = {"Sequence": "list", "_PathLike": "PathLike"}


def generated() -> str:
    """What maturin generates. The wheel's own settings strip what it reads, so it is given others."""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        (place / "pyproject.toml").write_text(PROJECT.format(manifest=CRATE / "Cargo.toml"))
        command = ["maturin", "generate-stubs", "--quiet", "--features", "default,inspect", "--out", "stubs"]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
        return next((place / "stubs").rglob("*.pyi")).read_text()


def members(text: str) -> dict[str, ast.FunctionDef]:
    """Functions, and methods as `Class.method`."""
    found: dict[str, ast.FunctionDef] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and node.name != "__getattr__":
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    found[f"{node.name}.{inner.name}"] = inner
    return found


def parts(annotation: ast.expr | None) -> list[ast.expr]:
    """The alternatives of a union."""
    if isinstance(annotation, ast.BinOp):
        return parts(annotation.left) + parts(annotation.right)
    return [] if annotation is None else [annotation]


def names(annotation: ast.expr | None) -> set[str]:
    """The alternatives of a type as text; of what Rust does not say, nothing."""

    class Plain(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.Name:
            return ast.Name(SAME.get(node.id, node.id), node.ctx)

    return {ast.unparse(Plain().visit(part)) for part in parts(annotation)}


def is_open(annotation: ast.expr | None) -> bool:
    """Whether a generated type, or a part of it, is not known."""
    return annotation is None or any(isinstance(node, ast.Name) and node.id in OPEN for node in ast.walk(annotation))


def fits(written: ast.expr | None, made: ast.expr | None) -> bool:
    """Whether a written type is the generated one, or says more of it."""
    if names(written) == names(made):
        return True
    nullable = "None" in names(made)
    if is_open(made):
        # Whether there may be nothing is known even so, but for values that are taken as they come.
        return made is None or names(made) == {"Any"} or nullable == ("None" in names(written))
    literals = all(part.startswith("Literal[") for part in names(written))
    return names(made) == {"str"} and literals


def shape(function: ast.FunctionDef) -> tuple[object, ...]:
    """Parameters by kind, which have defaults, and whether it is a property."""
    of = function.args
    arguments = [argument.arg for argument in of.posonlyargs + of.args if argument.arg not in ("self", "cls")]
    defaults = [ast.unparse(default) for default in of.defaults]
    named = [(argument.arg, ast.unparse(default) if default else "") for argument, default in zip(of.kwonlyargs, of.kw_defaults)]
    return arguments, defaults, named, [ast.unparse(decorator) for decorator in function.decorator_list]


def differences(written: str, made: str) -> list[str]:
    """What differs, a line each."""
    ours, theirs = members(written), members(made)
    found = [f"{name}: the module has none" for name in sorted(set(ours) - set(theirs))]
    found += [f"{name}: missing in the stub" for name in sorted(set(theirs) - set(ours))]
    for name in sorted(set(ours) & set(theirs)):
        own, other = ours[name], theirs[name]
        if shape(own) != shape(other):
            found.append(f"{name}: parameters {shape(own)}, not {shape(other)}")
            continue
        both = zip(own.args.posonlyargs + own.args.args + own.args.kwonlyargs, _arguments(other), strict=True)
        types = [(f"{name}({argument.arg})", argument.annotation, made.annotation) for argument, made in both]
        for what, ours_type, made_type in [*types, (f"{name} gives", own.returns, other.returns)]:
            if not fits(ours_type, made_type):
                found.append(f"{what}: {' | '.join(sorted(names(ours_type)))}, not {' | '.join(sorted(names(made_type)))}")
    return found


def _arguments(function: ast.FunctionDef) -> list[ast.arg]:
    return function.args.posonlyargs + function.args.args + function.args.kwonlyargs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the generated stub")
    parser.add_argument("--generated", type=pathlib.Path, metavar="FILE", help="compare with this one, which was generated before")
    arguments = parser.parse_args()
    made = arguments.generated.read_text() if arguments.generated else generated()
    if arguments.print:
        print(made)
        return 0
    found = differences(WRITTEN.read_text(), made)
    print("\n".join(found) if found else f"the stub says what the module has: {len(members(made))} members")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
