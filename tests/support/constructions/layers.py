"""Modules: layers, and what is done in forward."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from support.constructions.setup import CLASSES, FEATURES, N, Setup, mlp, normal

PIXELS = partial(normal, N, 1, 6, 6)
STEPS = partial(normal, N, 5, FEATURES)


def tokens(length: int = 5) -> Tensor:
    return torch.randint(7, (N, length), generator=torch.Generator().manual_seed(2))


class Forward(nn.Module):
    """A head and a body of one's own: forward(self, x) is given."""

    def __init__(self, forward: Any, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.head = nn.Linear(5, CLASSES)
        self._forward = forward

    def forward(self, *args: Any, **named: Any) -> Any:
        return self._forward(self, *args, **named)


def forward(function: Any, /, **parts: Any) -> Any:
    """A factory of a module with these parts, made anew each time, and this forward."""
    return lambda: Forward(function, **{name: part() for name, part in parts.items()})


def body() -> nn.Module:
    return nn.Linear(FEATURES, 5)


def recurrent(kind: Any, **settings: Any) -> Setup:
    build = lambda: kind(FEATURES, 5, batch_first=True, **settings)  # noqa: E731
    return Setup(forward(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=build), STEPS())


def encoder(**settings: Any) -> Setup:
    build = lambda: nn.TransformerEncoderLayer(FEATURES, 2, 6, batch_first=True, **settings)  # noqa: E731
    return Setup(forward(lambda m, x: m.head(m.up(m.layer(x).mean(1))), layer=build, up=body), STEPS())


def attention(m: Any, x: Tensor) -> Tensor:
    q = m.body(x)[:, None]
    return m.head(functional.scaled_dot_product_attention(q, q, q, is_causal=True)[:, 0].mean(1))


def image_net(*between: Any) -> Setup:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            *(part() for part in between),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, CLASSES),
        )

    return Setup(build, PIXELS())


def gpt2(wrapped: bool = False, attention: str | None = None) -> Setup:
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {"attn_implementation": attention} if attention else {}

    def build() -> nn.Module:
        config = GPT2Config(
            vocab_size=7, n_positions=5, n_embd=4, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=0, eos_token_id=0, use_cache=False, **settings,
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
        return Forward(lambda m, x: m.inner(input_ids=x), inner=model) if wrapped else model

    def loss(z: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(z[:, :-1].transpose(1, 2), y[:, 1:], reduction="none").mean(1)

    inputs = tokens() if wrapped else {"input_ids": tokens()}
    return Setup(build, inputs, tokens(), loss, read=lambda output: output.logits, optimizer=used_only)


def used_only(module: nn.Module) -> torch.optim.Optimizer:
    """AdamW without parameters that the loss does not use, which are frozen."""
    if isinstance(module, Forward):
        module.head.requires_grad_(False)
    return torch.optim.AdamW([part for part in module.parameters() if part.requires_grad], lr=1e-2, eps=1e-4)


class Tied(nn.Module):
    def __init__(self, padding_idx: int | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=padding_idx)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embed(x)).mean(1))


class Copied(nn.Module):
    """Keeps its weight elsewhere too, out of the reach of a functional call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(FEATURES, CLASSES))
        self.kept = [self.weight]

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.kept[0])

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        super()._apply(function, recurse)
        self.kept = [self.weight]
        return self


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(FEATURES, CLASSES)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x)


class Rounded(torch.autograd.Function):
    """Rounding with a straight-through gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return (10 * x).round() / 10

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope * ctx.saved_tensors[0].detach()


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is reversed: what adversarial training does to the layers below."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return -0.5 * slope


def reversal() -> Setup:
    return Setup(forward(lambda m, x: m.head(torch.tanh(Reversed.apply(m.body(x)))), body=body))


def tied_padding() -> Setup:
    return Setup(lambda: Tied(padding_idx=3), tokens(), tokens()[:, 0])


def embedded(**settings: Any) -> Setup:
    build = lambda: nn.Embedding(7, 5, **settings)  # noqa: E731
    return Setup(forward(lambda m, x: m.head(torch.tanh(m.embed(x)).mean(1)), embed=build), tokens())


def bag(**settings: Any) -> Setup:
    build = lambda: nn.EmbeddingBag(7, 5, **settings)  # noqa: E731
    return Setup(forward(lambda m, x: m.head(torch.tanh(m.bag(x))), bag=build), tokens())


def own(function: Any, **settings: Any) -> Setup:
    return Setup(forward(function, body=body), **settings)


def norm(layer: Any, *sizes: int) -> Setup:
    return Setup(mlp(partial(layer, *sizes), nn.Tanh))


def branch(m: Any, x: Tensor) -> Tensor:
    scale = 1.0 if x.abs().sum().item() > 0 else 2.0
    return m.head(torch.tanh(m.body(x)) * scale)


def in_place(m: Any, x: Tensor) -> Tensor:
    z = m.body(x)
    z += 1
    return m.head(z.tanh_())


def gate(m: Any, x: Tensor) -> Tensor:
    return m.head(m.body(x) * torch.softmax(x.sum(1, keepdim=True), 0))


def centred(m: Any, x: Tensor) -> Tensor:
    z = m.body(x)
    return m.head(torch.tanh(z - z.mean(0)))


class Centring(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z - z.mean(0)


def contrastive(z: Tensor, y: Tensor) -> Tensor:
    unit = functional.normalize(z, dim=1)
    return functional.cross_entropy(unit @ unit.T, torch.arange(len(z)), reduction="none")


def scaled_by_item(m: Any, x: Tensor) -> Tensor:
    z = m.body(x)
    return m.head(torch.tanh(z) * z.detach().norm(dim=1, keepdim=True))


def noisy(m: Any, x: Tensor) -> Tensor:
    z = m.body(x)
    return m.head(z + 0.1 * torch.randn_like(z))


def checkpointed(m: Any, x: Tensor) -> Tensor:
    return m.head(torch.tanh(checkpoint(m.body, x, use_reentrant=False)))


def eval_batch_norm() -> Setup:
    return Setup(mlp(partial(nn.BatchNorm1d, 5), nn.Tanh), train=False)


def frozen() -> Setup:
    def build() -> nn.Module:
        module = mlp()()
        module[0].requires_grad_(False)
        return module

    return Setup(build)


def conv1d() -> Setup:
    build = lambda: nn.Conv1d(FEATURES, 5, 2)  # noqa: E731
    return Setup(forward(lambda m, x: m.head(torch.tanh(m.conv(x.mT)).mean(2)), conv=build), STEPS())


def multihead(**settings: Any) -> Setup:
    build = lambda: nn.MultiheadAttention(FEATURES, 2, batch_first=True, **settings)  # noqa: E731
    return Setup(forward(lambda m, x: m.head(m.up(m.attend(x, x, x)[0].mean(1))), attend=build, up=body), STEPS())


def two_inputs() -> Setup:
    return Setup(
        forward(lambda m, x, z: m.head(torch.tanh(m.body(x) + m.body(z))), body=body),
        (normal(N, 4), normal(N, 4, seed=5)),
    )


def by_name() -> Setup:
    inputs = {"x": normal(N, 4), "scale": normal(N, 1, seed=5)}
    return Setup(forward(lambda m, x, scale: m.head(torch.tanh(m.body(x) * scale)), body=body), inputs)


def logits_of(m: Any, x: Tensor) -> Any:
    return {"logits": m.head(torch.tanh(m.body(x))), "hidden": x}


def gpt2_checkpointed() -> Setup:
    plain = gpt2()

    def build() -> nn.Module:
        model = plain.module()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # another name from the next version on
            model.gradient_checkpointing_enable()  # type: ignore[operator]
        return model

    return Setup(build, plain.inputs, plain.targets, plain.loss, read=plain.read)


def flash() -> Setup:
    def build() -> nn.Module:
        module = mlp()()
        module.config = type("Config", (), {"_attn_implementation": "flash_attention_2"})()
        return module

    return Setup(build)
