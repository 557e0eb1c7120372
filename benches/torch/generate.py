#!/usr/bin/env python3
"""Tokens per second of greedy text from GPT-2 in transformers, on one thread, with its cache.

    benches/torch/generate.py [SIZE..]      # the sizes of `cargo bench --bench generate`

Random weights: what is computed does not depend on them. Needs torch and transformers.
"""
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

SIZES = {
    "default": (1024, 2, 4, 64, 256),
    "N": (65, 4, 4, 128, 64),
    "M": (4096, 6, 6, 384, 256),
    "small": (50257, 12, 12, 768, 1024),
}


def main():
    torch.set_num_threads(1)
    torch.manual_seed(1)
    print("| size | what | tokens/s |\n|---|---|---|")
    for name in sys.argv[1:] or SIZES:
        v, layers, heads, c, t = SIZES[name]
        config = GPT2Config(vocab_size=v, n_positions=t, n_embd=c, n_layer=layers, n_head=heads,
                            bos_token_id=0, eos_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
        model = GPT2LMHeadModel(config).eval()
        prompt = torch.tensor([[1]])
        mask = torch.ones_like(prompt)
        options = dict(attention_mask=mask, do_sample=False, use_cache=True, pad_token_id=0)
        model.generate(prompt, max_new_tokens=4, min_new_tokens=4, **options)
        n = t - 1
        while n > 0:
            started = time.perf_counter()
            out = model.generate(prompt, max_new_tokens=n, min_new_tokens=n, **options)
            seconds = time.perf_counter() - started
            assert out.shape[1] == n + 1
            print(f"| {name} | cached, {n} tokens | {n / seconds:.0f} |", flush=True)
            n = n // 2 if n > 64 else 0
        with torch.no_grad():
            ids = torch.arange(t)[None] % v
            started = time.perf_counter()
            model(ids, use_cache=True, logits_to_keep=1)
            print(f"| {name} | a prompt of {t} tokens | {t / (time.perf_counter() - started):.0f} |")


if __name__ == "__main__":
    main()
