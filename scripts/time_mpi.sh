#!/usr/bin/env bash
# The time of steps under MPI, on an otherwise idle machine:
#
#     scripts/time_mpi.sh PROGRAM [REDUCE]
#
# PROGRAM is `submask` with the cargo feature `mpi`, REDUCE the experiment of that name (experiments/src/bin/reduce.rs). Prints
# three tables. Two ranks in network namespaces of their own, joined by TCP of limited bandwidth, against the model of
# docs/clusters.md (exit code 1 if it is off by more than 25 %), with the bytes that left the interfaces against those counted.
# Two ranks with a core each against one rank with a core. The ordered sum against MPI's all-reduce. The first needs the right to
# make namespaces and Open MPI, and is skipped without.
set -euo pipefail
program=$(realpath "$1")
reduce=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
name=submask-$$
finish() {
    ip netns del "$name-1" 2>/dev/null || true
    ip netns del "$name-2" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

mpirun=(mpirun --allow-run-as-root)
steps=12
# A network of 4.2 million weights (P = 17 MB).
settings=(--set data.valid_fraction=0.1 tokenizer.kind=bytes model.hidden=256 model.heads=4 model.blocks=4 model.cond_dim=64
    train.steps=$steps train.log_every=1 train.validate_every=1000 train.validate_samples=0
    train.validate_sequences=1 train.final_sequences=1 train.final_draws=1 train.final_samples=0 train.checkpoint_every=1000)

# train SLOTS OUT STARTER… [-- SETTING…]: the run's lines.
train() {
    local slots=$1 out=$2 starter=()
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        starter+=("$1")
        shift
    done
    rm -rf "$out"
    "${starter[@]}" "$program" train --data README.md --out "$out" --threads 1 "${settings[@]}" train.accumulate="$slots" "${@:2}" \
        >"$out.out" 2>"$out.err" || { cat "$out.err" >&2; exit 1; }
}
# step_time OUT…: seconds of a step, the median of all but the first two of each run.
step_time() {
    python3 - "$@" <<'PYTHON'
import json, statistics, sys
times = []
for run in sys.argv[1:]:
    records = [json.loads(line) for line in open(f"{run}/metrics.jsonl", encoding="utf-8")]
    steps = [record for record in records if record["kind"] == "step"]
    times += [steps[0]["tokens"] / record["tokens_per_second"] for record in steps[2:]]
print(statistics.median(times))
PYTHON
}
weights() {
    python3 - "$1/checkpoints/step-$steps/model.safetensors" <<'PYTHON'
import json, math, struct, sys
content = open(sys.argv[1], "rb").read()
(length,) = struct.unpack_from("<Q", content)
header = json.loads(content[8 : 8 + length])
print(sum(math.prod(value["shape"]) for name, value in header.items() if name != "__metadata__"))
PYTHON
}

echo "== one rank with a core, two ranks with a core each"
# weak WHAT SETTING…: a slot for each rank.
weak() {
    local what=$1
    shift
    for round in 1 2 3; do
        train 1 "$scratch/one-$round" taskset -c $((round % 2)) -- "$@"
        train 2 "$scratch/two-$round" "${mpirun[@]}" -n 2 --bind-to core --oversubscribe -- "$@"
    done
    one=$(step_time "$scratch"/one-?)
    two=$(step_time "$scratch"/two-?)
    python3 -c "print(f'$what: one rank, 1 slot: {$one:.4f} s; two ranks, 2 slots: {$two:.4f} s; weak scaling {$one / $two:.3f}')"
}
weak "slots of 8 sequences of 256 tokens" model.seq_len=256 train.batch_size=8
# Last: the time of its slot is part of the model below.
small=(model.seq_len=64 train.batch_size=2)
weak "slots of 2 sequences of 64 tokens" "${small[@]}"

echo "== network namespaces"
# link RATE: two namespaces with an interface each.
link() {
    ip netns del "$name-1" 2>/dev/null || true
    ip netns del "$name-2" 2>/dev/null || true
    ip netns add "$name-1" && ip netns add "$name-2" &&
        ip link add sm1 netns "$name-1" type veth peer name sm2 netns "$name-2" || return 1
    for side in 1 2; do
        ip -n "$name-$side" addr add "10.77.0.$side/24" dev "sm$side" && ip -n "$name-$side" link set "sm$side" up &&
            ip -n "$name-$side" link set lo up &&
            tc -n "$name-$side" qdisc add dev "sm$side" root tbf rate "$1" burst 64kb latency 50ms || return 1
    done
}
sent() { ip -n "$name-$1" -s link show "sm$1" | awk '/TX:/ { getline; print $1 }'; }
if ! mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    echo "skipped: mpirun is not Open MPI's"
elif ! command -v ip >/dev/null || ! command -v tc >/dev/null || ! link 1gbit 2>"$scratch/why"; then
    echo "skipped: no right to make network namespaces ($(tail -n 1 "$scratch/why" 2>/dev/null))"
else
    # What mpirun starts on a "host" goes to the namespace that has its address.
    cat >"$scratch/agent" <<AGENT
#!/bin/bash
host=\$1; shift
exec ip netns exec "$name-\${host##*.}" sh -c "\$*"
AGENT
    chmod +x "$scratch/agent"
    size=$(weights "$scratch/one-1")
    off=0
    for rate in 200 400 800; do
        link "${rate}mbit"
        run=$scratch/rate-$rate
        train 2 "$run" ip netns exec "$name-1" "${mpirun[@]}" --host 10.77.0.1:1,10.77.0.2:1 -n 2 --bind-to none \
            --mca plm_rsh_agent "$scratch/agent" --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 \
            --mca oob_tcp_if_include 10.77.0.0/24 -- "${small[@]}"
        left=$(($(sent 1) + $(sent 2)))
        python3 - "$run.err" "$one" "$(step_time "$run")" "$size" "$rate" "$left" <<'PYTHON' || off=1
import re, sys
sys.path.insert(0, "scripts")
from mpi_model import exchange
said, one, measured, size, rate, left = open(sys.argv[1], encoding="utf-8").read(), *map(float, sys.argv[2:])
# Of a full frame 1448 of 1514 bytes are the program's.
modelled = one + exchange(size, 2, rate * 1e6 * 1448 / 1514, 100e-6)
counted = sum(map(int, re.search(r"sent (\d+) bytes in steps.*, (\d+) otherwise", said).groups()))
print(f"{rate:.0f} Mbit/s: step {measured:.3f} s, model {modelled:.3f} s ({measured / modelled - 1:+.1%}); "
      f"{counted} bytes counted, {left:.0f} left the interfaces ({left / counted - 1:+.1%})")
sys.exit(abs(measured / modelled - 1) > 0.25)
PYTHON
    done
    [ "$off" -eq 0 ] || { echo "FAILED: the model is off by more than 25 %" >&2; exit 1; }
fi

if [ -n "$reduce" ]; then
    echo "== 25 million elements, two ranks: the ordered sum, and MPI's all-reduce"
    for way in ordered all-reduce; do
        "${mpirun[@]}" -n 2 --bind-to core --oversubscribe "$reduce" "$way" 25000000 7
    done
fi
