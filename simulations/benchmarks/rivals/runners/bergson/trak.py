"""`bergson trak` on digits as sequences of tokens, read by a GPT-2 of one layer; what it writes stays on disk.

Digits are 16 pixel tokens and the label; only the label is predicted. Training gradients, which a run does not keep,
are added by `bergson build`; with `whole` the unprojected ones too, as whole/ and whole_queries/.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy import ndarray as Array

from simulations.benchmarks.rivals.contract import serve
from simulations.benchmarks.rivals.runners.shared.torch_network import torch

datasets: Any = import_module("datasets")
tokenizers: Any = import_module("tokenizers")
transformers: Any = import_module("transformers")

VOCABULARY, STEPS, LEARNING_RATE = 32, 200, 1e-2
GRADIENTS = ("--projection_target", "global", "--loss_fn", "log_odds", "--filter_modules", "*attn*")


def work(arrays: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """settings: folder of the model, name of the run in it, k, seed of the projection, damping (None: its default)."""
    folder = Path(settings["folder"])
    if not (folder / "model").exists():
        _write(folder, arrays)
    model, training, asked = (str(folder / name) for name in ("model", "training", "queries"))
    projection = ("--projection_dim", str(settings["k"]), "--projection_seed", str(settings["seed"]))
    damping = () if settings["damping"] is None else ("--damping_factor", repr(settings["damping"]))
    shared, data = ("--model", model, *GRADIENTS), ("--data.dataset", training, "--query.dataset", asked)
    run = folder / settings["run"]
    _bergson("trak", str(run), *shared, *data, *projection, *damping)
    _bergson("build", str(run / "index"), *shared, "--dataset", training, *projection)
    if settings["whole"]:
        for name, rows in (("whole", training), ("whole_queries", asked)):
            _bergson("build", str(folder / name), *shared, "--dataset", rows, "--projection_dim", "0")
    return {}


def _bergson(*words: str) -> None:
    subprocess.run([str(Path(sys.executable).parent / "bergson"), *words], check=True, stdout=subprocess.DEVNULL)


def _write(folder: Path, arrays: dict[str, Array]) -> None:
    """The data sets, and the model with a tokenizer that is never asked."""
    for name in ("training", "queries"):
        rows = arrays[name].tolist()
        labels = [[*[-100] * (len(row) - 1), row[-1]] for row in rows]
        datasets.Dataset.from_dict({"input_ids": rows, "labels": labels}).save_to_disk(folder / name)
    words = tokenizers.models.WordLevel({str(token): token for token in range(VOCABULARY)}, unk_token="0")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(words), model_max_length=2048, pad_token="0"
    )
    tokenizer.save_pretrained(folder / "model")
    _trained(torch.from_numpy(arrays["training"]), int(arrays["start"])).save_pretrained(folder / "model")


def _trained(tokens: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    silent = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    size = {"vocab_size": VOCABULARY, "n_positions": 2048, "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**size, **ends, **silent))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens).logits[:, -2], tokens[:, -1]).backward()
        optimizer.step()
    return model


if __name__ == "__main__":
    serve(work, "bergson", "torch", "transformers")
