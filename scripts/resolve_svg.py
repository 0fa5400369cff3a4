#!/usr/bin/env python3
"""A moving picture of a text that resolves: masked tokens become partly known, then known, evaluation by evaluation.

    scripts/resolve_svg.py target/release/submask runs/dictionary --template 'lantern:[[24]]' --seed 1 --out docs/resolve.svg

The program serves the model for the length of a request; what the picture shows is what `/v1/infill` tells of every event. The SVG is
animated by its own style sheet, needs no script, fits light and dark pages, and shows the whole text where motion is not wanted. Written
with Python's standard library alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

# How the built-in tokenizers end a text.
END = "<|endoftext|>"
COLUMNS = 66
# Of the font, whose letters are all of one width, in pixels.
LETTER, LINE = 11.0, 40.0
MARGIN, STRIP = 18.0, 9.0
# Seconds that an evaluation is shown, and the whole text at the end.
SHOWN, REST = 0.22, 4.0

STYLE = """
text{font:18px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2328;white-space:pre}
.s{font-size:14px;fill:#59636e}.n{font-size:12px;fill:#7d4e00;text-anchor:middle}
.k{fill:#59636e}.m{fill:#d1d9e0}.p{fill:#ffe7a8;stroke:#d4a72c}.f{fill:#dafbe1}
.i{fill:none;stroke:#d1d9e0}.e{fill:#0969da}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.s,.k{fill:#9198a1}.m{fill:#3d444d}
.p{fill:#4b3a10;stroke:#bb8009}.n{fill:#f0c75e}.f{fill:#12361f}.i{stroke:#3d444d}.e{fill:#4493f8}}
@media (prefers-reduced-motion:reduce){*{animation:none!important}}
"""


@dataclass
class Token:
    """A token: its text in the end, and what happened to it at which evaluation."""

    given: bool
    text: str = ""
    # (evaluation, how many tokens are still possible): the states in between.
    partial: list[tuple[int, int]] = field(default_factory=list)
    clean: int = 0


@dataclass
class Story:
    tokens: list[Token]
    # The grid's step of every evaluation.
    steps: list[int]
    # Steps of the grid.
    grid: int


def events(program: str, run: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    """What the server tells of a request."""
    server = subprocess.Popen(
        [program, "serve", run, "--addr", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip().removeprefix("listening on ")
        if not address.startswith("http"):
            sys.exit(f"{program} does not serve {run}: try it by hand")
        with urllib.request.urlopen(f"{address}/v1/models") as answer:
            request["model"] = json.load(answer)["data"][0]["id"]
        ask = urllib.request.Request(
            f"{address}/v1/infill", json.dumps(request).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(ask) as answer:
            lines = [line.decode().strip() for line in answer]
    finally:
        server.terminate()
        server.wait()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return [json.loads(text) for text in data if text != "[DONE]"]


def story(told: list[dict[str, Any]], grid: int) -> Story:
    """The events, token by token."""
    started = next(event for event in told if event["type"] == "started")
    tokens = [Token(given) for given in started["given"]]
    steps = []
    for event in told:
        if event["type"] == "revealed":
            steps.append(event["step"])
            for token, count in event["possible"]:
                tokens[token].partial.append((len(steps), count))
            for token, _ in event["pieces"]:
                tokens[token].clean = len(steps)
        elif event["type"] == "finished":
            for token, piece in zip(tokens, event["pieces"], strict=True):
                token.text = piece
    # The end of the text before stands before a text, given; it is nothing to look at.
    visible = [token for token in tokens if not (token.given and token.text == END)]
    return Story(visible, steps, grid)


def shown(text: str) -> str:
    """A token's text on one line."""
    return text.replace(END, "∎").replace("\n", "⏎")


class Picture:
    """The SVG, element by element."""

    def __init__(self, told: Story, caption: str) -> None:
        self.story = told
        self.caption = caption
        self.body: list[str] = []
        self.moments: set[tuple[str, int]] = set()
        self.length = (len(told.steps) + 1) * SHOWN + REST

    def when(self, element: str, begin: int | None = None, end: int | None = None) -> str:
        """An element that is seen from the evaluation `begin` on, and no more from `end` on."""
        for kind, moment in (("b", begin), ("d", end)):
            if moment:
                self.moments.add((kind, moment))
                element = f'<g class="{kind}{moment}">{element}</g>'
        return element

    def cell(self, token: Token, x: float, y: float, width: float) -> None:
        # As wide as it is meant to be, whatever font there is.
        fit = f'textLength="{len(shown(token.text)) * LETTER:g}" lengthAdjust="spacingAndGlyphs"'
        text = f'<text x="{x:g}" y="{y:g}" {fit}>{escape(shown(token.text))}</text>'
        if token.given or not token.clean:
            self.body.append(text.replace("<text ", '<text class="k" ', 1))
            return
        box = f'x="{x + 1:g}" y="{y - 19:g}" width="{width - 2:g}" height="26" rx="4"'
        states = [*token.partial, (token.clean, 0)]
        self.body.append(self.when(f'<rect class="m" {box}/>', end=states[0][0]))
        for (begin, count), (end, _) in zip(states, states[1:], strict=False):
            middle = x + width / 2
            label = f'<text class="n" x="{middle:g}" y="{y - 2:g}">{count}</text>'
            self.body.append(self.when(f'<rect class="p" {box}/>{label}', begin, end))
        self.body.append(self.when(f'<rect class="f" {box}/>', token.clean, token.clean + 2))
        self.body.append(self.when(text, token.clean))

    def counts(self, x: float, y: float) -> None:
        """The line of numbers, of every evaluation."""
        free = [token for token in self.story.tokens if not token.given]
        for evaluation in range(len(self.story.steps) + 1):
            clean = sum(token.clean <= evaluation for token in free)
            begun = sum(min([token.clean, *(moment for moment, _ in token.partial)]) <= evaluation for token in free)
            step = self.story.steps[evaluation - 1] + 1 if evaluation else 0
            line = (
                f"step {step:>2} of {self.story.grid}, network evaluations: {evaluation:>2}   "
                f"tokens: {len(free) - begun:>2} masked, {begun - clean:>2} partial, {clean:>2} known"
            )
            last = evaluation == len(self.story.steps)
            text = f'<text class="s" x="{x:g}" y="{y:g}">{line}</text>'
            self.body.append(self.when(text, evaluation, None if last else evaluation + 1))

    def strip(self, x: float, y: float, width: float) -> None:
        """The steps of the grid: filled where the network was evaluated, empty where nothing was revealed."""
        each = width / self.story.grid
        evaluated = {step: number for number, step in enumerate(self.story.steps, 1)}
        for step in range(self.story.grid):
            box = f'x="{x + step * each + 1:g}" y="{y:g}" width="{each - 2:g}" height="{STRIP:g}" rx="2"'
            self.body.append(f'<rect class="i" {box}/>')
            if step in evaluated:
                self.body.append(self.when(f'<rect class="e" {box}/>', evaluated[step]))

    def keyframes(self) -> str:
        """One animation per moment: `b7` begins to be seen at evaluation 7, `d7` ceases to be."""
        rules = []
        for kind, moment in sorted(self.moments):
            share = 100 * moment * SHOWN / self.length
            before, after = (0, 1) if kind == "b" else (1, 0)
            name = f"{kind}{moment}"
            rules.append(
                f"@keyframes {name}{{0%{{opacity:{before}}}{share:.2f}%,to{{opacity:{after}}}}}"
                # Without motion the end is seen.
                f".{name}{{opacity:{after};animation:{name} {self.length:g}s step-end infinite}}"
            )
        return "\n".join(rules)

    def svg(self) -> str:
        column, line = 0, 0
        places = []
        for token in self.story.tokens:
            # A count of tokens has room for two letters.
            width = max(1 if token.given else 2, len(shown(token.text)))
            if column + width > COLUMNS:
                column, line = 0, line + 1
            places.append((token, column, line, width))
            column += width
        top = MARGIN + 34
        width = COLUMNS * LETTER + 2 * MARGIN
        self.counts(MARGIN, MARGIN + 10)
        for token, at, row, letters in places:
            self.cell(token, MARGIN + at * LETTER, top + 22 + row * LINE, letters * LETTER)
        bottom = top + (line + 1) * LINE + 4
        self.strip(MARGIN, bottom, COLUMNS * LETTER)
        idle = self.story.grid - len(self.story.steps)
        notes = (
            f"filled: the network was evaluated; empty: an idle step, which costs nothing ({idle} of {self.story.grid})",
            "grey: masked; yellow: a part of the digits is known, and so many tokens still agree with it",
        )
        for number, note in enumerate(notes):
            at = f'x="{MARGIN:g}" y="{bottom + 28 + 18 * number:g}"'
            self.body.append(f'<text class="s" style="font-size:12px" {at}>{escape(note)}</text>')
        height = bottom + 60
        body = "\n".join(self.body)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'height="{height:g}" role="img">\n<title>{escape(self.caption)}</title>\n'
            f"<style>{STYLE}{self.keyframes()}</style>\n{body}\n</svg>\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("run")
    parser.add_argument("--template", default="lantern:[[24]]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("resolve.svg"))
    given = parser.parse_args()
    request = {"template": given.template, "seed": given.seed, "steps": given.steps, "stream": True}
    told = story(events(given.program, given.run, request), given.steps)
    text = "".join(token.text for token in told.tokens)
    picture = Picture(told, f"A text resolves from masked over partly known to known tokens: {shown(text)}")
    given.out.write_text(picture.svg(), encoding="utf-8")
    print(f"{given.out}: {given.out.stat().st_size} bytes, {len(told.steps)} evaluations of {told.grid} steps: {text!r}")


if __name__ == "__main__":
    main()
