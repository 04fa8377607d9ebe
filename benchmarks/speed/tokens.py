"""Memory of adding users and items to a language model's vocabulary, GALRec's way and plainly.

GALRec reads a user or an item from a frozen external table through a mapping MLP. The plain way is
what ``resize_token_embeddings`` does: a row of the model's own width for each, all of them trained,
and so a gradient and Adam's two moments for each. Either side in a process of its own, with all
layers of the embedded language model in float32.
"""

import gc
import json
import subprocess
import sys
from typing import Any

import torch
from common import Report, markdown, memory_now, parse_arguments, reset_peak
from torch import Tensor, nn

from recbole_llm.llm.backbone import load_backbone
from recbole_llm.model.galrec.reader import NodeReader

N_TOKENS = 41_893  # users and items
DIM = 64  # width of the external embeddings


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        side, n_tokens, dim = sys.argv[2], *map(int, sys.argv[3:])
        print(json.dumps(measure_here(side, n_tokens, dim)))
        return
    arguments = parse_arguments(__doc__, tokens=N_TOKENS, dim=DIM)
    report = Report("tokens", arguments, theirs="plain")
    lines = []
    for side in ("ours", "plain"):
        command = [sys.executable, __file__, "--measure", side]
        command += [str(arguments.tokens), str(arguments.dim)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found: dict[str, Any] = json.loads(output)
        if side == "ours":
            beyond = abs(found["weights_mb"] - found["table_mb"] - found["mlp_mb"])
            report.check("weights beyond external tables and mapping MLP, MB", beyond, 1e-9)
        report.add(what=side, **found)
        cells = (f"{found[key]:.1f}" for key in ("weights_mb", "kept_mb", "peak_mb", "trained_mb"))
        lines.append([side, *cells])
    head = ["side", "weights, MB", "memory kept, MB", "peak while adding, MB", "trained, MB"]
    report.finish(markdown(head, lines))


def measure_here(side: str, n_tokens: int, dim: int) -> dict[str, float]:
    """Add the tokens in this fresh process and do one step of Adam on what is trained for them."""
    llm = load_backbone("smollm2-135m").model.requires_grad_(False)
    table = torch.randn(n_tokens, dim, generator=torch.Generator().manual_seed(0))
    tiny = nn.Embedding(10, 10)
    step([*tiny.parameters()], tiny.weight.sum())  # what torch loads at its first step
    weights = [*llm.parameters(), *llm.buffers()]
    size = sum(weight.nbytes for weight in weights)
    for weight in weights:
        weight.sum()  # read from the file now, not when a side first looks at it
    gc.collect()
    before, _ = memory_now("VmRSS"), reset_peak()
    found = {"table_mb": 0.0, "mlp_mb": 0.0}
    if side == "ours":
        half = n_tokens // 2
        reader = NodeReader(llm, table[:half].clone(), table[half:].clone(), mapping_size=None)
        trained = [*reader.mapping.parameters()]
        found["table_mb"] = table.nbytes / 1e6
        found["mlp_mb"] = sum(weight.nbytes for weight in trained) / 1e6
        total = sum(weight.nbytes for weight in [*reader.parameters(), *reader.buffers()])
        users = reader.user_tokens(torch.arange(1, 65)).unsqueeze(1)
        out = reader.embed(users)
    else:
        n_words = llm.get_input_embeddings().num_embeddings
        llm.resize_token_embeddings(n_words + n_tokens, mean_resizing=False)
        trained = [llm.get_input_embeddings().weight.requires_grad_()]
        total = sum(weight.nbytes for weight in [*llm.parameters(), *llm.buffers()])
        out = llm.get_input_embeddings()(torch.arange(n_words, n_words + 64).unsqueeze(1))
    peak = memory_now("VmHWM") - before
    state = step(trained, out.sum())
    gc.collect()
    kept = memory_now("VmRSS") - before
    del state
    return found | {
        "weights_mb": (total - size) / 1e6,
        "kept_mb": kept / 1e6,
        "peak_mb": peak / 1e6,
        "trained_mb": sum(weight.nbytes for weight in trained) / 1e6,
    }


def step(weights: list[nn.Parameter], loss: Tensor) -> torch.optim.Optimizer:
    """Do one step of Adam; its state goes on counting as kept memory."""
    optimizer = torch.optim.Adam(weights)
    loss.backward()
    optimizer.step()
    return optimizer


if __name__ == "__main__":
    main()
