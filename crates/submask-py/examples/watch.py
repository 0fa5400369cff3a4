"""Shows a text while it resolves: python watch.py runs/dictionary --prompt 'lantern: [[12]] light.'"""

from __future__ import annotations

import argparse

import numpy as np
import submask
from numpy.typing import NDArray


def shown(model: submask.Model, state: NDArray[np.uint32]) -> str:
    """A sign per token: how many of its sub-tokens are known, ▁ being none and █ all."""
    known = (state != model.mask_id).sum(axis=1)
    return "".join("▁" if count == 0 else "█" if count == model.subtoken_len else str(count) for count in known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a run, a model folder, or hub://owner/repo")
    parser.add_argument("--prompt", help="a text that is continued, or one with holes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    model = submask.Model.open(arguments.model)
    with model.stream(prompt=arguments.prompt, seed=arguments.seed) as events:
        for event in events:
            if isinstance(event, submask.Finished):
                print(f"\n{event.text}\n{event.report.evaluations} network evaluations")
            else:
                print(shown(model, event.state))


if __name__ == "__main__":
    main()
