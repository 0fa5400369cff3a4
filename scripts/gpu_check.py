#!/usr/bin/env python3
"""Checks a GPU against the reference's numbers, and times it beside PyTorch. Needs Python alone, and PyTorch with
safetensors for the comparison; the programs are built elsewhere, and nothing is downloaded.

    gpu_check.py parity [--report]     the tests of fixtures and of devices on the device, in all precisions, then the memory
                                       of a training step: at most LIMIT seconds (180); stops at the first wrong number, or
                                       goes on with --report
    gpu_check.py time                  rows of a table in its order, each written to gpu.json as soon as it is there:
                                       at most LIMIT seconds (360); --operations: single operations instead
    gpu_check.py table                 the table of a gpu.json

The programs are given by --tests (the test binary `it` of crates/submask), --steps (`dit_steps` of experiments/) and --unet
(`unet_steps`), the fixtures by --fixtures or SUBMASK_FIXTURES, the device by --device (gpu:0). Without a GPU, `--device cpu
--tiny --precision fp32` tries all of it.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from gpu_parity import parity
from gpu_table import markdown
from gpu_time import ROWS, timing


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["parity", "time", "table"])
    parser.add_argument("--tests", help="the test binary")
    parser.add_argument("--steps", help="dit_steps")
    parser.add_argument("--unet", help="unet_steps (default: beside dit_steps)")
    parser.add_argument("--fixtures", help="the folder of fixtures (default: as the tests find it)")
    parser.add_argument("--device", default="gpu:0")
    parser.add_argument("--limit", type=float, help="seconds")
    parser.add_argument("--logs", default="gpu-logs", help="a folder for what the programs print (default: gpu-logs)")
    parser.add_argument("--report", action="store_true", help="say what deviates, and go on")
    parser.add_argument("--precisions", default="fp32,tf32,bf16", help="of the tests, with commas between them")
    parser.add_argument(
        "--filter",
        nargs="+",
        default=["parity_networks", "parity_blocks", "parity_images", "device_"],
        help="names of tests",
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=names)
    parser.add_argument("--row-limit", type=float, default=75, help="seconds of a row")
    parser.add_argument(
        "--compile", nargs="*", help="rows with torch.compile, too, or operations (default: the first two)"
    )
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--precision", choices=["bf16", "tf32", "fp32"], default="bf16", help="of what is timed, and of memory")
    parser.add_argument("--python", default=sys.executable, help="one that has PyTorch")
    parser.add_argument("--operations", action="store_true", help="single operations instead of the table's rows")
    parser.add_argument("--tiny", action="store_true", help="small cases, to try the programs")
    parser.add_argument("--out", default="gpu.json")
    parser.add_argument("--table", help="a file for the table in Markdown")
    asked = parser.parse_args()
    if asked.verb == "parity" and not asked.tests:
        parser.error("--tests names the test binary")
    if asked.verb == "time" and not asked.steps:
        parser.error("--steps names dit_steps")
    if asked.steps:
        unet = asked.unet or Path(asked.steps).with_name("unet_steps")
        # Programs are started in other folders, too.
        asked.programs = {"dit_steps": Path(asked.steps).resolve(), "unet_steps": Path(unet).resolve()}
        asked.steps = asked.programs["dit_steps"]
    return asked


def main():
    asked = arguments()
    if asked.verb == "table":
        print(markdown(json.loads(Path(asked.out).read_text()), ROWS), end="")
        return
    Path(asked.logs).mkdir(parents=True, exist_ok=True)
    sys.exit(parity(asked) if asked.verb == "parity" else timing(asked))


if __name__ == "__main__":
    main()
