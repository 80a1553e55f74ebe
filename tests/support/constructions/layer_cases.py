"""The table of layers: right, or refused."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from support.constructions.layers import (
    STEPS,
    Centring,
    Copied,
    Counting,
    Rounded,
    Tied,
    attention,
    bag,
    branch,
    by_name,
    centred,
    checkpointed,
    contrastive,
    conv1d,
    embedded,
    encoder,
    eval_batch_norm,
    flash,
    frozen,
    gate,
    gpt2,
    gpt2_checkpointed,
    image_net,
    in_place,
    logits_of,
    multihead,
    noisy,
    norm,
    own,
    recurrent,
    scaled_by_item,
    tokens,
    two_inputs,
)
from support.constructions.setup import Case, Setup, mlp

KINK = "the derivative is exact, and near a kink says little of a removal: mind the verdict"
LAYER = "layers"
LAYERS = [
    Case(LAYER, "Linear, Tanh", Setup),
    Case(LAYER, "GELU, SiLU, Softplus", lambda: Setup(mlp(nn.GELU, nn.SiLU, nn.Softplus))),
    Case(LAYER, "ReLU", lambda: Setup(mlp(nn.ReLU)), remark=KINK),
    Case(LAYER, "LeakyReLU, PReLU", lambda: Setup(mlp(nn.LeakyReLU, nn.PReLU)), remark=KINK),
    Case(LAYER, "LayerNorm", lambda: norm(nn.LayerNorm, 5)),
    Case(LAYER, "RMSNorm", lambda: norm(nn.RMSNorm, 5)),
    Case(LAYER, "GroupNorm", lambda: norm(nn.GroupNorm, 1, 5)),
    Case(LAYER, "BatchNorm in eval mode", eval_batch_norm),
    Case(LAYER, "Dropout with p = 0", lambda: Setup(mlp(partial(nn.Dropout, 0.0), nn.Tanh))),
    Case(LAYER, "Dropout in eval mode", lambda: Setup(mlp(partial(nn.Dropout, 0.5), nn.Tanh), train=False)),
    Case(LAYER, "Conv2d, GroupNorm, GELU", lambda: image_net(lambda: nn.GroupNorm(2, 4), nn.GELU)),
    Case(
        LAYER, "Conv2d, InstanceNorm, AvgPool", lambda: image_net(lambda: nn.InstanceNorm2d(4), lambda: nn.AvgPool2d(2))
    ),
    Case(LAYER, "Conv2d, MaxPool", lambda: image_net(nn.Tanh, lambda: nn.MaxPool2d(2)), remark=KINK),
    Case(LAYER, "Conv1d", conv1d),
    Case(LAYER, "Embedding", embedded),
    Case(LAYER, "Embedding with padding_idx", lambda: embedded(padding_idx=0)),
    Case(LAYER, "tied weights", lambda: Setup(Tied, tokens(), tokens()[:, 0])),
    Case(LAYER, "frozen layers", frozen),
    Case(LAYER, "MultiheadAttention", multihead),
    Case(LAYER, "TransformerEncoderLayer", lambda: encoder(dropout=0.0)),
    Case(LAYER, "scaled_dot_product_attention", lambda: own(attention, inputs=STEPS())),
    Case(LAYER, "RNN", lambda: recurrent(nn.RNN)),
    Case(LAYER, "GRU", lambda: recurrent(nn.GRU), remark="samples go one by one: slower"),
    Case(LAYER, "LSTM, two layers, bidirectional head", lambda: recurrent(nn.LSTM, num_layers=2)),
    Case(LAYER, "a branch on .item()", lambda: own(branch), remark="samples go one by one: slower"),
    Case(LAYER, "operations in place", lambda: own(in_place)),
    Case(LAYER, "several inputs by position", two_inputs),
    Case(LAYER, "several inputs by name", by_name),
    Case(
        LAYER,
        "a tuple as output",
        lambda: own(lambda m, x: (m.head(torch.tanh(m.body(x))), x), read=lambda o: o[0]),
        remark="its first entry goes to the loss",
    ),
    Case(LAYER, "a dict with logits as output", lambda: own(logits_of, read=lambda o: o["logits"])),
    Case(LAYER, "GPT-2 of transformers, default attention", gpt2),
    Case(LAYER, "GPT-2, eager attention", lambda: gpt2(attention="eager")),
    Case(LAYER, "GPT-2 inside a module of one's own", lambda: gpt2(wrapped=True)),
    Case(LAYER, "float32 parameters", lambda: Setup(dtype=torch.float32)),
    Case(LAYER, "Dropout", lambda: Setup(mlp(partial(nn.Dropout, 0.1))), "drops at random .*set p = 0"),
    Case(
        LAYER, "dropout of an LSTM", lambda: recurrent(nn.LSTM, num_layers=2, dropout=0.2), "build it with dropout = 0"
    ),
    Case(LAYER, "dropout of MultiheadAttention", lambda: multihead(dropout=0.2), "build it with dropout = 0"),
    Case(LAYER, "dropout of TransformerEncoderLayer", encoder, "drops at random|build it with dropout = 0"),
    Case(LAYER, "functional dropout", lambda: own(lambda m, x: m.head(functional.dropout(m.body(x), 0.2))), "random"),
    Case(LAYER, "noise in forward", lambda: own(noisy), "random"),
    Case(LAYER, "RReLU", lambda: Setup(mlp(nn.RReLU)), "draws its slopes at random"),
    Case(
        LAYER, "BatchNorm in train mode", lambda: norm(nn.BatchNorm1d, 5), "takes its mean and variance from the batch"
    ),
    Case(LAYER, "SyncBatchNorm", lambda: norm(nn.SyncBatchNorm, 5), "takes its mean and variance from the batch"),
    Case(
        LAYER,
        "a layer that centres over the batch",
        lambda: Setup(mlp(Centring, nn.Tanh)),
        "samples interact in Centring '1'",
    ),
    Case(
        LAYER,
        "centring over the batch in forward",
        lambda: own(centred),
        "samples interact in the forward of Forward itself",
    ),
    Case(
        LAYER,
        "a gate normalised over the batch",
        lambda: own(gate),
        "samples interact in the forward of Forward itself",
    ),
    Case(LAYER, "a contrastive loss", lambda: Setup(loss=contrastive), "samples interact in the loss"),
    Case(LAYER, "sparse Embedding", lambda: embedded(sparse=True), "sparse=False"),
    Case(LAYER, "EmbeddingBag", bag, "has no second derivative in torch; use Embedding and sum or average"),
    Case(LAYER, "Embedding with max_norm", lambda: embedded(max_norm=1.0), "leave max_norm out"),
    Case(
        LAYER,
        "Embedding with scale_grad_by_freq",
        lambda: embedded(scale_grad_by_freq=True),
        "leave scale_grad_by_freq out",
    ),
    Case(
        LAYER,
        "weight_norm",
        lambda: Setup(lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))),
        "weight_norm, whose second derivative is wrong in torch",
    ),
    Case(
        LAYER,
        "spectral_norm",
        lambda: Setup(lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)))),
        "is a spectral norm",
    ),
    Case(LAYER, "gradient checkpointing in forward", lambda: own(checkpointed), "checkpointing"),
    Case(LAYER, "gradient checkpointing of transformers", gpt2_checkpointed, "gradient_checkpointing_disable"),
    Case(
        LAYER,
        "a detached scale, such as .item()",
        lambda: own(scaled_by_item),
        "Hessian-vector product is .* of its size away",
    ),
    Case(
        LAYER,
        "an autograd function with a wrong backward",
        lambda: own(lambda m, x: m.head(Rounded.apply(m.body(x)))),
        "second derivative|Hessian-vector",
    ),
    Case(LAYER, "a buffer that forward changes", lambda: Setup(Counting), "forward changes the buffer 'calls'"),
    Case(
        LAYER,
        "parameters copied elsewhere",
        lambda: Setup(Copied),
        "has another gradient for the batch than in training",
    ),
    Case(LAYER, "bfloat16 parameters", lambda: Setup(dtype=torch.bfloat16), "is trained in torch.bfloat16"),
    Case(LAYER, "flash attention", flash, "has the attention implementation 'flash_attention_2'"),
    Case(
        LAYER,
        "torch.compile",
        lambda: Setup(lambda: torch.compile(mlp()(), backend="eager")),
        "is a wrapper around the model",
    ),
    Case(LAYER, "DataParallel", lambda: Setup(lambda: nn.DataParallel(mlp()())), "is a wrapper around the model"),
    Case(
        LAYER,
        "a parameter that no loss reaches",
        lambda: own(lambda m, x: m.body(x)[:, :3]),
        "has no gradient, so that the optimiser skips it",
    ),
    Case(LAYER, "an output that is no tensor", lambda: own(lambda m, x: {"hidden": m.body(x)}), "wrap it in a module"),
]
