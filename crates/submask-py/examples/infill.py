"""Fills a hole of a text, and says what the fillings cost: python infill.py runs/dictionary 'lantern: [[12]] light.'"""

from __future__ import annotations

import argparse

import submask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a run, a model folder, or hub://owner/repo")
    parser.add_argument("template", help="a text in which [[12]] is a hole of twelve tokens")
    parser.add_argument("--num", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    model = submask.Model.open(arguments.model)
    samples = model.infill(arguments.template, num=arguments.num, seed=arguments.seed)
    scores = model.score(samples.texts, seed=arguments.seed)
    for text, score in sorted(zip(samples.texts, scores), key=lambda pair: pair[1].nats):
        error = 0.0 if score.standard_error is None else score.standard_error
        print(f"{score.nats:8.2f} ± {error:.2f} nats ({score.kind})  {text}")
    report = samples.report
    print(f"{report.evaluations} network evaluations, {report.idle_steps} of {report.steps} steps idle and skipped")


if __name__ == "__main__":
    main()
