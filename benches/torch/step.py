"""Tokens per second of a GPT-2 training step in PyTorch eager, for the sizes that `figures` measures.

Run by benches/torch/compare, in turns with ours:

    python3 step.py SECONDS NAME V L H C T B [NAME V L H C T B ..]

Each size is stepped with 1 and with 2 threads for about SECONDS. Prints `NAME<tab>THREADS<tab>TOKENS/S`,
the median step. Eager mode, scaled_dot_product_attention, tied head, fused AdamW: what a user writes.
The vocabulary is padded to a multiple of 64, which PyTorch likes too.
"""
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.c_attn, self.c_proj = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.c_fc, self.c_out = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x):
        b, t, c = x.shape
        split = lambda y: y.view(b, t, self.heads, c // self.heads).transpose(1, 2)
        q, k, v = map(split, self.c_attn(self.ln_1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, v, layers, heads, c, t):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(v, c), nn.Embedding(t, c)
        self.blocks = nn.ModuleList(Block(c, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(c)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, inputs, targets):
        x = self.wte(inputs) + self.wpe(torch.arange(inputs.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def measure(seconds, threads, v, layers, heads, c, t, b):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    padded = -(-v // 64) * 64
    model = GPT(padded, layers, heads, c, t)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    stream = torch.randint(v, (b * t + 1,))
    inputs, targets = stream[:-1].view(b, t), stream[1:].view(b, t)

    def step():
        started = time.perf_counter()
        loss = model(inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return time.perf_counter() - started

    step(), step()
    taken, began = [], time.perf_counter()
    while len(taken) < 3 or time.perf_counter() - began < seconds:
        taken.append(step())
    return b * t / statistics.median(taken)


if __name__ == "__main__":
    seconds, rest = float(sys.argv[1]), sys.argv[2:]
    for at in range(0, len(rest), 7):
        name, shape = rest[at], list(map(int, rest[at + 1 : at + 7]))
        for threads in (1, 2):
            print(f"{name}\t{threads}\t{measure(seconds, threads, *shape):.1f}", flush=True)
