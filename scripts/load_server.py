#!/usr/bin/env python3
"""Puts a server under load, and compares every answer with what `submask sample` writes.

    scripts/load_server.py target/release/submask runs/dictionary
    scripts/load_server.py target/release/submask runs/dictionary --clients 20 --seconds 5 --rounds 1

Starts the server, asks it from many clients at once for a while, and prints a table. Of every hundred clients ten read slowly,
ten go away before they have their answer, five send what is no request, and five what is too large. Every answer that was
accepted is compared, byte for byte, with the text that `submask sample` writes with the same settings. Then throughput: 16
clients against one after the other, and against `submask sample --batch 16`; and how soon a killed server is ready again. Exits
with 1 where an answer was wrong or lost. Python's standard library is enough.
"""

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

WORDS = ["lantern: ", "sea: ", "harbour: A", "ship", "The ", "a small ", "boat: to", "wide", "light: ", "stone: a hard"]


# The token of every tuple of digits that was seen.
CODES = {}


class Server:
    """The program, serving one model."""

    def __init__(self, binary, model, *flags):
        self.started = time.monotonic()
        command = [binary, "serve", f"model={model}", "--addr", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if "http://" not in line:
            sys.exit(f"the server did not start: {line!r}")
        self.host, port = line.split("http://")[1].strip().split("/")[0].split(":")
        self.port = int(port)

    def memory(self, key="VmRSS"):
        """Resident memory in MiB; VmHWM is the most so far."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
        return float("nan")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(timeout=60)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


async def ask(server, path, body, *, pace=None, leave_after=None, headers=()):
    """One request on a connection of its own. `pace`: seconds between reads of 256 bytes; `leave_after`: seconds until the
    client closes its connection, whatever it has by then."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=256 if pace else 1 << 16)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + data)
        try:
            await writer.drain()
        except ConnectionError:
            # A body that is too large is answered before all of it has come.
            pass
        if leave_after is not None:
            try:
                await asyncio.wait_for(reader.read(64), leave_after)
            except asyncio.TimeoutError:
                pass
            return None
        received = bytearray()
        while True:
            try:
                part = await reader.read(256 if pace else 1 << 16)
            except ConnectionError:
                break
            if not part:
                break
            received += part
            if pace:
                await asyncio.sleep(pace)
        return parse(bytes(received))
    finally:
        writer.close()


def parse(raw):
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1.1 "):
        raise ValueError(f"no answer: {raw[:80]!r}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size, 16)
            if count == 0:
                break
            if len(rest) < count + 2:
                raise ValueError("a stream that was cut off")
            body, rest = body + rest[:count], rest[count + 2 :]
    else:
        body = rest
        if "content-length" in headers and len(body) != int(headers["content-length"]):
            raise ValueError("an answer that was cut off")
    return Answer(int(lines[0].split()[1]), headers, body)


def events(answer):
    """The events of a stream, up to its proper end."""
    data = [block[6:] for block in answer.body.decode().split("\n\n") if block.startswith("data: ")]
    if not data or data[-1] != "[DONE]":
        raise ValueError(f"a stream without its end: {data[-1:]}")
    return [json.loads(one) for one in data[:-1]]


def requests(binary, model, count):
    """Requests with the texts that `submask sample` writes for them."""
    made = []
    for number in range(count):
        prompt, tokens, seed = WORDS[number % len(WORDS)], 8 + 5 * (number % 4), number // 3
        order = ["random", "random", "left-to-right", "confidence"][number % 4]
        command = [binary, "sample", model, "--prompt", f"{prompt}[[{tokens}]]", "--seed", str(seed), "--num", "1"]
        command += ["--order", order, "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        text = json.loads(done.stdout)["samples"][0]["text"]
        made.append({"prompt": prompt, "tokens": tokens, "seed": seed, "order": order, "text": text})
    return made


def body_of(request, stream):
    body = {"model": "model", "prompt": request["prompt"], "max_tokens": request["tokens"], "echo": True}
    return {**body, "seed": request["seed"], "order": request["order"], "stream": stream}


def infill_of(request, stream):
    template = f"{request['prompt']}[[{request['tokens']}]]"
    return {"model": "model", "template": template, "seed": request["seed"], "order": request["order"], "stream": stream}


class Load:
    """What many clients saw."""

    def __init__(self, server, made, clients, seconds):
        self.server, self.made, self.clients = server, made, clients
        self.end = time.monotonic() + seconds
        self.counts, self.wrong, self.latencies, self.tokens = Counter(), [], [], 0

    def is_over(self):
        return time.monotonic() > self.end

    async def run(self):
        await asyncio.gather(*(self.client(number) for number in range(self.clients)))

    async def client(self, number):
        draws = random.Random(number)
        kind = number % 20
        while not self.is_over():
            request = draws.choice(self.made)
            try:
                if kind in (0, 1):
                    await self.accepted(request, draws, pace=0.05)
                elif kind in (2, 3):
                    leave = draws.uniform(0.05, 0.5)
                    await ask(self.server, "/v1/infill", infill_of(request, True), leave_after=leave)
                    self.counts["went away"] += 1
                    await asyncio.sleep(0.1)
                elif kind == 4:
                    await self.refused(draws, request)
                    await asyncio.sleep(0.2)
                elif kind == 5:
                    answer = await ask(self.server, "/v1/completions", b" " * (2 << 20))
                    self.expect(answer, 413)
                    await asyncio.sleep(0.2)
                else:
                    await self.accepted(request, draws)
            except ConnectionError:
                self.counts["connection refused"] += 1
            except ValueError as error:
                self.wrong.append(str(error))

    async def refused(self, draws, request):
        bodies = [b"{", b"[]", b"\xff\xfe", body_of(request, False) | {"max_tokens": "many"}]
        bodies += [body_of(request, False) | {"no_such_field": 1}, body_of(request, False) | {"temperature": -1}]
        self.expect(await ask(self.server, "/v1/completions", draws.choice(bodies)), 400)

    def expect(self, answer, status):
        self.counts[str(answer.status)] += 1
        if answer.status not in (status, 503):
            self.wrong.append(f"{answer.status} instead of {status}: {answer.body[:200]!r}")

    async def accepted(self, request, draws, pace=None):
        stream, infill = draws.random() < 0.5 or bool(pace), draws.random() < 0.5
        path, body = ("/v1/infill", infill_of) if infill else ("/v1/completions", body_of)
        started = time.monotonic()
        answer = await ask(self.server, path, body(request, stream), pace=pace)
        self.counts[str(answer.status)] += 1
        if answer.status in (429, 503):
            if "retry-after" not in answer.headers:
                self.wrong.append(f"{answer.status} without Retry-After")
            return await asyncio.sleep(draws.uniform(0.2, 1.0))
        if answer.status != 200:
            return self.wrong.append(f"{answer.status}: {answer.body[:200]!r}")
        if not pace:
            self.latencies.append(time.monotonic() - started)
        text = (infilled if infill else completed)(answer, stream)
        self.tokens += request["tokens"]
        if text != request["text"]:
            self.wrong.append(f"{text!r} instead of {request['text']!r}")


def completed(answer, stream):
    if not stream:
        return answer.json()["choices"][0]["text"]
    return "".join(choice["text"] for event in events(answer) for choice in event["choices"])


def infilled(answer, stream):
    if not stream:
        return answer.json()["choices"][0]["text"]
    digits, finished = {}, None
    for event in events(answer):
        if event["type"] == "started":
            digits = {(i, j): digit for i, token in enumerate(event["digits"]) for j, digit in enumerate(token)}
        elif event["type"] == "revealed":
            digits |= {(i, j): digit for i, j, digit in event["digits"]}
        elif event["type"] == "finished":
            finished = event
    if finished is None:
        raise ValueError("a stream of events that does not finish its text")
    # Behind the end of a text nothing is written. What the digits of a token stand for is the same in all answers.
    for i, token in enumerate(finished["tokens"]):
        code = tuple(digit for (place, _), digit in sorted(digits.items()) if place == i)
        if None in code or CODES.setdefault(code, token) != token:
            raise ValueError(f"digits {code} of token {i} in the place of token {token}")
    return finished["text"]


async def throughput(server, request, clients, seconds):
    """Tokens per second that some clients get together, each asking again when it has its answer."""
    end, done = time.monotonic() + seconds, 0
    started = time.monotonic()

    async def client(number):
        nonlocal done
        seed = number
        while time.monotonic() < end:
            answer = await ask(server, "/v1/completions", body_of({**request, "seed": seed}, False))
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {answer.body[:200]!r}")
            done, seed = done + 1, seed + clients

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done * request["tokens"] / (time.monotonic() - started)


def sampled(binary, model, request, num):
    """Tokens per second of `submask sample --batch 16`, without its start."""
    command = [binary, "sample", model, "--prompt", f"{request['prompt']}[[{request['tokens']}]]", "--batch", "16"]

    def seconds(count):
        started = time.monotonic()
        subprocess.run([*command, "--num", str(count), "--json"], check=True, capture_output=True)
        return time.monotonic() - started

    few = seconds(16)
    return (num - 16) * request["tokens"] / (seconds(num) - few)


def fill(server):
    """The sum of sequences of all evaluations so far, and how many evaluations these were."""
    with urllib.request.urlopen(f"http://{server.host}:{server.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    value = lambda name: next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)
    return value("submask_batch_fill_sum"), value("submask_batch_fill_count")


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=24, help="different requests")
    parser.add_argument("--rounds", type=int, default=5, help="of throughput")
    args = parser.parse_args()
    made = requests(args.binary, args.model, args.requests)
    server = Server(args.binary, args.model)
    begin = server.memory()
    load = Load(server, made, args.clients, args.seconds)
    started = time.monotonic()
    asyncio.run(load.run())
    took = time.monotonic() - started
    print(f"{args.clients} clients for {took:.0f} s: {dict(sorted(load.counts.items()))}")
    latencies = load.latencies
    print(
        f"{len(latencies)} answers of clients that read at once: latency p50 {percentile(latencies, 0.5):.2f} s, "
        f"p99 {percentile(latencies, 0.99):.2f} s; {load.tokens / took:.0f} tokens per second of all that were accepted"
    )
    print(f"memory {begin:.0f} MiB before, {server.memory():.0f} after, at most {server.memory('VmHWM'):.0f}")
    longest = {"prompt": "lantern: ", "tokens": 24, "order": "random"}
    for _ in range(args.rounds):
        before = fill(server)
        many = asyncio.run(throughput(server, longest, 16, 10))
        sequences, evaluations = (b - a for a, b in zip(before, fill(server)))
        alone = sampled(args.binary, args.model, longest, 16 * 25)
        one = asyncio.run(throughput(server, longest, 1, 10))
        print(
            f"tokens per second: 16 clients {many:.0f}, {sequences / evaluations:.1f} sequences per evaluation, "
            f"sample --batch 16 {alone:.0f}, one after the other {one:.0f}; ratios {many / alone:.2f} and {many / one:.2f}"
        )
    server.stop(signal.SIGKILL)
    again = Server(args.binary, args.model)
    print(f"ready {time.monotonic() - again.started:.2f} s after it was killed")
    if again.stop() != 0:
        load.wrong.append("the server did not end well")
    for wrong in load.wrong[:10]:
        print(f"WRONG: {wrong}", file=sys.stderr)
    print(f"{len(load.wrong)} answers wrong, lost or mixed up")
    sys.exit(1 if load.wrong else 0)


if __name__ == "__main__":
    main()
