#!/usr/bin/env python3
"""Models go there and back between twelvefold and Hugging Face's transformers.

    python3 -m venv venv && venv/bin/pip install -r tests/clients/requirements.txt
    venv/bin/python tests/clients/hugging_face.py

Ours there, for each kind of tokenizer, the outputs of a run and one of its checkpoints: they load with no key missing
or unexpected, AutoTokenizer gives the same ids, and the logits differ by 1e-4 at most; what `twelvefold export`
writes of it in f32, f16 and bf16 loads too and computes the same. Theirs here: a
GPT-2 of random weights, in f32, f16 and bf16; our logits are its, and the first loss of a run that begins
with it is PyTorch's, within 5e-6. Exit 1 at the first difference.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    "The cat sat on the mat.",
    "  two  spaces,\n\ta tab; it's 1234567 o'clock\n\n",
    "hé 😀 ﬁ Ünïcode 日本語 \u00a0 \u200d",
    "ends with a space ",
    "I'LL'd we've NAÏVE",
]


def client(*arguments, text=None):
    """One call of oracles/examples/client.rs."""
    binary = ROOT / "target/debug/examples/client"
    done = subprocess.run([binary, *map(str, arguments)], input=text, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"client {' '.join(map(str, arguments[:3]))}: {done.stderr}")
    return json.loads(done.stdout)


def check(what, good, detail=""):
    print(("ok    " if good else "WRONG ") + what, detail)
    if not good:
        sys.exit(1)


def same_logits(what, folder, model, bound):
    ids = [(7 * i * i + 3 * i + 1) % model.config.vocab_size for i in range(model.config.n_positions)]
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0]
    ours = torch.tensor(client("logits", folder, *ids))
    worst = (theirs - ours).abs().max().item()
    check(f"{what}: logits", worst < bound, f"differ by {worst:.1e} at most")


def ours_there(folder, tokenizer, words):
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    bad = {name: list(keys) for name, keys in info.items() if keys}
    check(f"{tokenizer}: loads as {type(model).__name__}", not bad, bad or "")
    same_logits(tokenizer, folder, model.float().eval(), 1e-4)
    theirs = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        found, expected = theirs.encode(text, add_special_tokens=False), client("encode", folder, text=text)
        check(f"{tokenizer}: ids of {text[:12]!r}", found == expected, "" if found == expected else f"{found} {expected}")
        if not words:
            back = theirs.decode(found, clean_up_tokenization_spaces=False)
            check(f"{tokenizer}: the text comes back", back == text, "" if back == text else repr(back))
    end = client("logits", folder, theirs.eos_token_id)
    check(f"{tokenizer}: the end of a document is {theirs.eos_token}", len(end) == 1)
    ids = theirs("the", return_tensors="pt", add_special_tokens=False)
    out = model.generate(**ids, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)
    check(f"{tokenizer}: generate", out.shape[1] == ids["input_ids"].shape[1] + 5)


NAMES = {"f32": "torch.float32", "f16": "torch.float16", "bf16": "torch.bfloat16"}


def exported(out, folder):
    for dtype in ("f32", "f16", "bf16"):
        to = folder / f"{out.name}-{dtype}"
        done = subprocess.run([ROOT / "target/debug/twelvefold", "export", out, "--out", to, "--dtype", dtype])
        check(f"{out.name}: export in {dtype}", done.returncode == 0)
        model, info = AutoModelForCausalLM.from_pretrained(to, output_loading_info=True)
        bad = {name: list(keys) for name, keys in info.items() if keys}
        check(f"{out.name}: loads in {model.dtype}", not bad and str(model.dtype) == NAMES[dtype], bad or "")
        same_logits(f"{out.name} in {dtype}", to, model.float().eval(), 1e-4)
        theirs, ours = AutoTokenizer.from_pretrained(to), client("encode", to, text=TEXTS[0])
        check(f"{out.name}: ids", theirs.encode(TEXTS[0], add_special_tokens=False) == ours)


def theirs_here(folder):
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=300, n_positions=40, n_embd=48, n_layer=2, n_head=3)
    model = GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():
        # Far from the first values, biases and norms too, so that every part counts.
        parameter.data += torch.randn_like(parameter) * 0.1
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        saved = folder / name
        model.to(dtype).save_pretrained(saved)
        model = model.float()  # The values as they were saved, computed in f32.
        same_logits(f"theirs in {name}", saved, model, 1e-4)
        run = client("train", folder / f"from-{name}", "bytes", saved)
        inputs, targets = torch.tensor(run["inputs"]), torch.tensor(run["targets"])
        with torch.no_grad():
            logits = model(inputs).logits.double()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
        apart = abs(loss - run["losses"][0])
        check(f"theirs in {name}: first loss {loss:.6f}", apart < 5e-6, f"differs by {apart:.1e}")
        again, info = AutoModelForCausalLM.from_pretrained(folder / f"from-{name}", output_loading_info=True)
        bad = {key: list(keys) for key, keys in info.items() if keys}
        check(f"theirs in {name}: trained a step, it loads there again", not bad, bad or "")
        check(f"theirs in {name}: with the positions of the run", again.config.n_positions == 24)


def main():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
    build = ["cargo", "build", "-q", "--locked", "-p", "twelvefold-oracles", "--example", "client"]
    subprocess.run(build, cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "-q", "--locked", "-p", "twelvefold"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for tokenizer in ("bytes", "bpe:320", "words:60"):
            out = folder / tokenizer.replace(":", "-")
            losses = client("train", out, tokenizer)["losses"]
            check(f"{tokenizer}: a run", losses[-1] < losses[0], f"from {losses[0]:.3f} to {losses[-1]:.3f}")
            ours_there(out, tokenizer, tokenizer.startswith("words"))
            exported(out, folder)
            ours_there(out / "checkpoints/step-0000000020", f"{tokenizer}, checkpoint", tokenizer.startswith("words"))
        theirs_here(folder)
    print("all agree")


if __name__ == "__main__":
    main()
