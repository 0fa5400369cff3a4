#!/usr/bin/env python3
"""Compares what `submask export --format reference` wrote with the checkpoint that was imported.

    compare_export.py EXPORT_FOLDER CHECKPOINT

Keys and shapes must be those of the network's own state dict, which is what `load_state_dict(strict=True)` asks, and
the weights must be the checkpoint's averaged ones, bit for bit. Needs torch and safetensors; classes that the
checkpoint names are replaced by empty ones, none is imported.
"""

import argparse
import pathlib
import pickle
import sys
import types

import torch
from safetensors.torch import load_file


class Stub:
    """Stands for an object of a class that is not there."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Unpickler(pickle.Unpickler):
    """Imports torch's and collections' names only."""

    def find_class(self, module: str, name: str) -> object:
        if module.split(".")[0] in ("torch", "collections"):
            return super().find_class(module, name)
        return Stub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=pathlib.Path)
    parser.add_argument("checkpoint", type=pathlib.Path)
    args = parser.parse_args()

    exported = load_file(args.export / "model.safetensors")
    module = types.SimpleNamespace(Unpickler=Unpickler, load=pickle.load, __name__="stubs")
    checkpoint = torch.load(args.checkpoint, map_location="cpu", weights_only=False, pickle_module=module)
    prefix = "backbone."
    own = {name.removeprefix(prefix): tensor for name, tensor in checkpoint["state_dict"].items()}
    buffers = {"rotary_emb.inv_freq"}
    averaged = dict(zip((name for name in own if name not in buffers), checkpoint["ema"]["shadow_params"], strict=True))

    problems = [f"missing: {name}" for name in own.keys() - exported.keys()]
    problems += [f"unexpected: {name}" for name in exported.keys() - own.keys()]
    for name in own.keys() & exported.keys():
        if own[name].shape != exported[name].shape or own[name].dtype != exported[name].dtype:
            problems.append(f"{name}: {exported[name].shape} {exported[name].dtype}")
        elif name in buffers and not torch.allclose(own[name], exported[name], rtol=1e-6, atol=0):
            problems.append(f"{name}: another buffer")
        elif name in averaged and not torch.equal(averaged[name], exported[name]):
            problems.append(f"{name}: other weights than the averaged ones")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(exported)} tensors: keys and shapes of the state dict, weights of the average")


if __name__ == "__main__":
    main()
