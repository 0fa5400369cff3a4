"""What gpu_check.py starts: programs that are ended when the time is over, and that say what they last wrote."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path


# A program's last words are its message, not the functions that it was in.
QUIET = {"RUST_BACKTRACE": "0"}


class Failed(Exception):
    """What is wrong, and where."""


class Clock:
    """Seconds that are left."""

    def __init__(self, limit):
        self.start, self.limit = time.monotonic(), limit

    def spent(self):
        return time.monotonic() - self.start

    def left(self):
        return self.limit - self.spent()

    def part(self, seconds):
        """A clock for a part of the work."""
        return Clock(min(self.left(), seconds))


def lines_of(command, environment, clock):
    """Lines that a program prints, as they come; it is ended when the time is over. Ends with its exit status."""
    process = subprocess.Popen(
        list(map(str, command)),
        env=os.environ | environment | QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    timer = threading.Timer(max(clock.left(), 1), process.kill)
    timer.start()
    try:
        for line in process.stdout:
            yield line.rstrip("\n")
        yield process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def run(command, environment, clock, log):
    """Runs a program to its end; its last words are the error if that is not success."""
    with open(log, "a") as errors:
        try:
            status = subprocess.run(
                list(map(str, command)),
                env=os.environ | environment | QUIET,
                stdout=errors,
                stderr=errors,
                timeout=max(clock.left(), 1),
            ).returncode
        except subprocess.TimeoutExpired:
            raise Failed("the time was over") from None
        except OSError as error:
            raise Failed(str(error)) from None
    if status != 0:
        raise Failed(f"status {status}: {last_words(log)}")


def last_words(log):
    """The last lines of what a program wrote, on one line."""
    lines = [line.strip() for line in Path(log).read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-4:])[-600:] or "it wrote nothing"


class Side:
    """A program that says what it knows, and then measures once for each line that it is given."""

    def __init__(self, command, environment, log):
        self.log, errors = log, open(log, "w")
        self.process = subprocess.Popen(
            list(map(str, command)),
            env=os.environ | environment | QUIET | {"ROUNDS": "1", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        errors.close()

    def read(self, clock):
        """The next line that is JSON."""
        is_over = threading.Event()

        def end():
            is_over.set()
            self.process.kill()

        timer = threading.Timer(max(clock.left(), 1), end)
        timer.start()
        try:
            for line in self.process.stdout:
                try:
                    return json.loads(line)
                except json.JSONDecodeError:
                    continue
        finally:
            timer.cancel()
        if is_over.is_set():
            raise Failed(f"no answer in {clock.limit:.0f} s: {last_words(self.log)}")
        raise Failed(f"ended with status {self.process.wait()}: {last_words(self.log)}")

    def measure(self, clock):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:
            # Its status says more.
            pass
        return self.read(clock)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
