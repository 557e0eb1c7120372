"""Losses of ten training steps of GPT-2 in PyTorch, the figures that tests/gpt_reference.rs pins.

Run: python3 tests/reference/gpt_losses.py          (Debian: apt-get install python3-torch python3-numpy)

Weights and tokens come from a formula that the Rust test shares, so no file passes between the two.
Written against torch alone (torch.nn.functional, autograd), in f32 and f64.
"""
import math
import numpy as np
import torch
import torch.nn.functional as F

MODELS = {  # name: vocab, layers, heads, width, context, sequences in a step
    "odd": (61, 2, 3, 33, 19, 3),
    "medium": (1000, 3, 4, 64, 64, 4),
}
STEPS, LR, BETAS, EPS, DECAY, MAX_NORM = 10, 1e-2, (0.9, 0.95), 1e-8, 0.1, 1.0


def mix(z):
    """The finalizer of SplitMix64, on uint64 arrays."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(tensor, n):
    """n numbers in [-1, 1), multiples of 2^-23, for the tensor of this index."""
    i = np.arange(n, dtype=np.uint64) + np.uint64(tensor << 32)
    return ((mix(i) >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def token(i, vocab):
    """Token i of the stream: skewed to small numbers, so that there is something to learn."""
    u = int(mix(np.array([i + (1 << 60)], dtype=np.uint64))[0]) >> 40
    return u * u // 2**24 * vocab // 2**24


def parameters(vocab, layers, heads, width, context):
    """(name, tensor) in the order and shapes of Hugging Face's GPT-2; linear weights are (in, out)."""
    c = width
    shapes = [("wte.weight", (vocab, c)), ("wpe.weight", (context, c))]
    for l in range(layers):
        for name, shape in [
            ("ln_1.weight", (c,)), ("ln_1.bias", (c,)),
            ("attn.c_attn.weight", (c, 3 * c)), ("attn.c_attn.bias", (3 * c,)),
            ("attn.c_proj.weight", (c, c)), ("attn.c_proj.bias", (c,)),
            ("ln_2.weight", (c,)), ("ln_2.bias", (c,)),
            ("mlp.c_fc.weight", (c, 4 * c)), ("mlp.c_fc.bias", (4 * c,)),
            ("mlp.c_proj.weight", (4 * c, c)), ("mlp.c_proj.bias", (c,)),
        ]:
            shapes.append((f"h.{l}.{name}", shape))
    shapes += [("ln_f.weight", (c,)), ("ln_f.bias", (c,))]
    result = {}
    for index, (name, shape) in enumerate(shapes):
        x = uniform(index, int(np.prod(shape))) * np.float32(0.125)
        if "ln_" in name and name.endswith("weight"):
            x = x + np.float32(1)
        result[name] = torch.tensor(x.reshape(shape))
    return result


def loss(p, inputs, targets, layers, heads):
    b, t = inputs.shape
    c = p["wte.weight"].shape[1]
    x = p["wte.weight"][inputs] + p["wpe.weight"][:t]
    mask = torch.ones(t, t, dtype=torch.bool).tril()
    norm = lambda x, n: F.layer_norm(x, (c,), p[n + ".weight"], p[n + ".bias"], 1e-5)
    dense = lambda x, n: x @ p[n + ".weight"] + p[n + ".bias"]
    for l in range(layers):
        h = f"h.{l}."
        qkv = dense(norm(x, h + "ln_1"), h + "attn.c_attn")
        q, k, v = (a.view(b, t, heads, c // heads).transpose(1, 2) for a in qkv.split(c, 2))
        s = (q @ k.transpose(2, 3)) / math.sqrt(c // heads)
        y = F.softmax(s.masked_fill(~mask, -math.inf), -1) @ v
        x = x + dense(y.transpose(1, 2).reshape(b, t, c), h + "attn.c_proj")
        u = dense(norm(x, h + "ln_2"), h + "mlp.c_fc")
        g = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
        x = x + dense(g, h + "mlp.c_proj")
    logits = norm(x, "ln_f") @ p["wte.weight"].T
    return F.cross_entropy(logits.view(b * t, -1), targets.reshape(-1))


def train(name, dtype):
    vocab, layers, heads, width, context, batch = MODELS[name]
    p = {n: x.to(dtype).requires_grad_() for n, x in parameters(vocab, layers, heads, width, context).items()}
    groups = [
        {"params": [x for x in p.values() if x.dim() == 2], "weight_decay": DECAY},
        {"params": [x for x in p.values() if x.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    losses, norms = [], []
    for step in range(STEPS):
        stream = [token(i, vocab) for i in range(step * batch * context, (step + 1) * batch * context + 1)]
        inputs = torch.tensor(stream[:-1]).view(batch, context)
        targets = torch.tensor(stream[1:]).view(batch, context)
        optimizer.zero_grad()
        l = loss(p, inputs, targets, layers, heads)
        l.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(p.values(), MAX_NORM)))
        optimizer.step()
        losses.append(float(l))
    return losses, norms


if __name__ == "__main__":
    for name in MODELS:
        for dtype in (torch.float32, torch.float64):
            losses, norms = train(name, dtype)
            print(name, dtype, "losses", [round(x, 7) for x in losses])
            print(name, dtype, "norms ", [round(x, 5) for x in norms])
