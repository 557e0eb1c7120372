"""Loads a checkpoint into Hugging Face's GPT2LMHeadModel and compares every weight.

    /usr/bin/python3 -m venv --system-site-packages venv        # with Debian's python3-torch
    venv/bin/pip install "transformers==4.46.3" "numpy<2"
    venv/bin/python tests/reference/load_in_transformers.py OUT
    venv/bin/python tests/reference/load_in_transformers.py OUT 1,2,3   # and the loss of these tokens

Prints what it found; exit 1 where a key is missing or unexpected, or a weight differs.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel


def main(out: Path, tokens: list[int]) -> int:
    model, info = GPT2LMHeadModel.from_pretrained(out, output_loading_info=True)
    model.eval()
    problems = {name: keys for name, keys in info.items() if keys}
    print("problems:", problems or "none")

    saved = load_file(out / "model.safetensors")
    loaded = model.state_dict()
    differing = [name for name, tensor in saved.items() if not torch.equal(tensor, loaded[name])]
    tied = model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(saved)} tensors, {parameters} parameters, head tied: {tied}, differing: {differing or 'none'}")

    tokens = tokens or list(range(min(8, model.config.vocab_size)))
    with torch.no_grad():
        ids = torch.tensor([tokens])
        print(f"loss of {tokens}: {model(ids, labels=ids).loss.item():.6f}")
    return 1 if problems or differing or not tied or parameters != sum(t.numel() for t in saved.values()) else 0


if __name__ == "__main__":
    numbers = [int(n) for n in sys.argv[2].split(",")] if len(sys.argv) > 2 else []
    sys.exit(main(Path(sys.argv[1]), numbers))
