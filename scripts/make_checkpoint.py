#!/usr/bin/env python3
"""Writes a checkpoint of the reference text model with random numbers, as Lightning saves it.

    make_checkpoint.py OUT.ckpt [--hidden D] [--heads H] [--blocks N] [--vocab C] [--subtokens L] [--length L]

The defaults are the published size "small" for GPT-2's vocabulary with one sub-token: 170 million weights, twice
(raw and averaged). Needs torch. What is measured on such a file is in CONTRIBUTING.md.
"""

import argparse

import torch


def base_of(vocab: int, subtokens: int) -> int:
    """The smallest b with b^l >= C."""
    base = 1
    while base**subtokens < vocab:
        base += 1
    return base


def shapes(args: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters in definition order (docs/networks.md)."""
    d, c, vocab = args.hidden, 128, args.vocab
    classes = vocab + 1 if args.subtokens == 1 else vocab
    named: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> None:
        named[f"{name}.weight"] = (outputs, inputs)
        if bias:
            named[f"{name}.bias"] = (outputs,)

    named["vocab_embed.embedding"] = (base_of(vocab, args.subtokens) + 1, d // args.subtokens)
    linear("sigma_map.mlp.0", c, 256)
    linear("sigma_map.mlp.2", c, c)
    for i in range(args.blocks):
        block = f"blocks.{i}"
        named[f"{block}.norm1.weight"] = (d,)
        linear(f"{block}.attn_qkv", 3 * d, d, bias=False)
        linear(f"{block}.attn_out", d, d, bias=False)
        named[f"{block}.norm2.weight"] = (d,)
        linear(f"{block}.mlp.0", 4 * d, d)
        linear(f"{block}.mlp.2", d, 4 * d)
        linear(f"{block}.adaLN_modulation", 6 * d, c)
    named["output_layer.norm_final.weight"] = (d,)
    linear("output_layer.linear", classes, d)
    linear("output_layer.adaLN_modulation", 2 * d, c)
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--subtokens", type=int, default=1)
    parser.add_argument("--length", type=int, default=1024)
    args = parser.parse_args()

    random = torch.Generator().manual_seed(1)
    raw = {name: 0.02 * torch.randn(shape, generator=random) for name, shape in shapes(args).items()}
    width = args.hidden // args.heads
    frequencies = 1.0 / 10000.0 ** (torch.arange(0, width, 2) / width)
    state = {f"backbone.{name}": tensor for name, tensor in raw.items()}
    state["backbone.rotary_emb.inv_freq"] = frequencies
    config = {
        "model": {"hidden_size": args.hidden, "n_heads": args.heads, "n_blocks": args.blocks, "length": args.length},
        "prime": {"target_length": args.subtokens, "carry_over": True},
        "noise": {"type": "loglinear"},
        "time_conditioning": False,
    }
    checkpoint = {
        "epoch": 0,
        "global_step": 1,
        "state_dict": state,
        "ema": {
            "decay": 0.9999,
            "num_updates": 1,
            "shadow_params": [0.9 * tensor for tensor in raw.values()],
        },
        "hyper_parameters": {"config": config},
    }
    torch.save(checkpoint, args.out)
    print(f"{args.out}: {sum(tensor.numel() for tensor in raw.values())} weights, twice")


if __name__ == "__main__":
    main()
