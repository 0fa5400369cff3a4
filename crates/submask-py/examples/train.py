"""Trains a small model on a text, and stops when it gets no better: python train.py runs/small book.txt --steps 200"""

from __future__ import annotations

import argparse

import submask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="the folder of the run")
    parser.add_argument("data", nargs="+", help="files or folders of text")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()

    settings = {
        "tokenizer.kind": "bytes",
        "model.hidden": 64,
        "model.heads": 4,
        "model.blocks": 2,
        "model.cond_dim": 32,
        "model.seq_len": 64,
        "train.steps": arguments.steps,
        "train.batch_size": 16,
        "train.warmup_steps": 10,
        "train.validate_every": max(arguments.steps // 4, 1),
        "train.patience": 2,
    }

    def told(event: submask.events.Event) -> None:
        if isinstance(event, submask.events.Step):
            print(f"step {event.step}: {event.loss:.3f} nats per token")
        elif isinstance(event, submask.events.Validation):
            print(*event.figures, sep="\n")

    result = submask.train(out=arguments.out, data=arguments.data, settings=settings, callback=told)
    print(f"{result.checkpoint} after {result.step} steps")
    print(submask.Model.open(arguments.out).sample(1, seed=1).texts[0])


if __name__ == "__main__":
    main()
