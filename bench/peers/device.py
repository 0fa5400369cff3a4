"""What PyTorch's sides share: a device, a precision, training steps, and measuring in rounds, as experiments/src/peers.rs.

DEVICE=cuda in the environment runs on the first CUDA device, else on the CPU. PRECISION is `fp32`, which is the default,
`tf32`, or `bf16`: by autocast, with weights in fp32.
"""

import json
import os
import sys
import time

import torch

DEVICE = os.environ.get("DEVICE", "cpu")
CUDA = DEVICE == "cuda"
PRECISION = os.environ.get("PRECISION", "fp32")
ROUNDS = os.environ.get("ROUNDS") == "1"
COMPILES = os.environ.get("COMPILE") == "1"

# Steps that are waited for, one by one, before those that are timed together.
WAITED = 3


def set_device():
    """New tensors are on the device, and products in the precision."""
    if PRECISION not in ("fp32", "tf32", "bf16"):
        sys.exit(f"PRECISION={PRECISION}: fp32, tf32 or bf16")
    torch.set_default_device(DEVICE)
    torch.set_float32_matmul_precision("high" if PRECISION == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = PRECISION == "tf32"
    # Convolutions of one size over and over: the fastest algorithm is looked for once.
    torch.backends.cudnn.benchmark = True


def autocast():
    return torch.autocast(DEVICE, torch.bfloat16, enabled=PRECISION == "bf16")


def wait():
    if CUDA:
        torch.cuda.synchronize()


def held():
    """What a GPU's allocator has given out and reserved at most, in MB."""
    if not CUDA:
        return {}
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"device_mb": allocated / 1e6, "device_reserved_mb": reserved / 1e6}


def in_rounds(ready, measure):
    """A measurement with what was known before. With ROUNDS=1 in the environment one for each line of standard input."""
    if ROUNDS:
        ready["torch"] = torch.__version__
        if CUDA:
            ready["device"] = torch.cuda.get_device_name()
            ready["flash"] = torch.backends.cuda.is_flash_attention_available()
        print(json.dumps(ready), flush=True)
        for _ in sys.stdin:
            print(json.dumps(ready | measure() | held()), flush=True)
        sys.exit()
    return ready | measure() | held()


def train_as_in_a_run(step, count):
    """The losses of the first calls of `step`, and the time of one of COUNT calls, none of which waits for the one before it."""
    losses, waited = [], []
    for _ in range(WAITED):
        start = time.perf_counter()
        losses.append(step().item())
        waited.append((time.perf_counter() - start) * 1e3)

    def measure():
        start = time.perf_counter()
        for _ in range(count):
            step()
        handed = time.perf_counter() - start
        wait()
        return {"ms": (time.perf_counter() - start) * 1e3 / count, "ms_host": handed * 1e3 / count}

    return in_rounds({"losses": losses, "ms_first": waited[0], "ms_waited": waited[-1]}, measure)
