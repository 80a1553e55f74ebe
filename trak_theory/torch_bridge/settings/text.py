"""Real English text as token sequences: the language reference that ships with Python's own help().

About 465 thousand characters in `pydoc_data.topics`, of which the prose is kept. It differs a little between Python
versions, and so does everything computed from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from trak_theory.numerics.checks import positive_count

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

SHORTEST = 80  # characters; shorter paragraphs are headings, signatures and grammar
UNDERLINE = re.compile(r"[*=~-]{4,}")
END_OF_TEXT = "<|endoftext|>"
CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"  # without a system message
PLAIN = "Question: {}\nAnswer: "


@dataclass(frozen=True, eq=False)
class Sequences:
    """tokens (n, L) integers;  counted (n, L) booleans: whether predicting token k from those before it is a loss term.

    The first token is never predicted. All sequences have one length, so none needs padding.
    """

    tokens: Array
    counted: Array

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.shape != self.counted.shape or self.tokens.shape[1] < 2:
            raise ValueError(
                f"tokens {self.tokens.shape} and counted {self.counted.shape} must be one shape (n, L), L ≥ 2"
            )
        silent = ~self.counted[:, 1:].any(1)
        if silent.any():
            raise ValueError(
                f"sequence {int(silent.argmax())} counts no token: its mean loss is 0/0; shorten its prompt"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | Array) -> Sequences:
        return Sequences(self.tokens[rows], self.counted[rows])


@cache
def paragraphs() -> tuple[tuple[str, str], ...]:
    """(title of its section, paragraph) of all prose, each paragraph on one line, in the order of the text."""
    from pydoc_data.topics import topics

    return tuple(pair for topic in topics.values() for pair in _prose(topic))


def _prose(topic: str) -> Iterator[tuple[str, str]]:
    title = ""
    for block in re.split(r"\n\s*\n", topic):
        lines = block.strip("\n").split("\n")
        if len(lines) > 1 and UNDERLINE.fullmatch(lines[1]):
            title = lines[0].strip()
        elif block[:1].isalpha() and len(block) >= SHORTEST and "::=" not in block:
            yield title, " ".join(block.split())


def byte_level_bpe(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A `tokenizers.Tokenizer` trained on the texts: byte pairs over the bytes that occur, `vocabulary` tokens in all.

    Only bytes seen in training are tokens, so that a vocabulary of 256 has room for merges; others are dropped.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=positive_count("vocabulary", vocabulary), special_tokens=[END_OF_TEXT], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@cache
def _tokenised(vocabulary: int) -> Array:
    """All paragraphs in the text's own BPE, each with an end mark."""
    texts = [paragraph for _, paragraph in paragraphs()]
    tokenizer = byte_level_bpe(texts, vocabulary)
    end = tokenizer.token_to_id(END_OF_TEXT)
    return np.concatenate([[*encoding.ids, end] for encoding in tokenizer.encode_batch(texts)])


def text_sequences(*, vocabulary: int, length: int, count: int, rng: Generator) -> Sequences:
    """`count` random windows of `length` tokens of the text, no token in two of them; every token counts."""
    tokens = _tokenised(vocabulary)
    windows = tokens[: len(tokens) - len(tokens) % positive_count("length", length)].reshape(-1, length)
    chosen = windows[_draw(len(windows), count, rng)]
    return Sequences(chosen, np.ones(chosen.shape, bool))


def instruction_sequences(
    tokenizer: PreTrainedTokenizerBase, template: str, *, length: int, count: int, rng: Generator
) -> Sequences:
    """`count` examples "Explain <title> in Python." → paragraph under that title, cut to `length` tokens.

    template: the prompt around the question, CHATML or PLAIN; tokenizer: of `transformers`. Only the answer counts.
    Prompts that leave less than a quarter of the length to the answer, and answers too short to fill it, are left out.
    """
    examples, starts = [], []
    for title, paragraph in paragraphs():
        texts = (template.format(f"Explain {title} in Python."), paragraph)
        prompt, answer = (tokenizer.encode(text, add_special_tokens=False) for text in texts)
        if len(prompt) <= 3 * length / 4 and len(prompt) + len(answer) >= length:
            examples.append([*prompt, *answer][:length])
            starts.append(len(prompt))
    chosen = _draw(len(examples), count, rng)
    return Sequences(np.array(examples)[chosen], np.arange(length) >= np.array(starts)[chosen, None])


def _draw(available: int, count: int, rng: Generator) -> Array:
    if positive_count("count", count) > available:
        raise ValueError(f"the text has {available} such sequences, {count} were asked for; make them shorter or fewer")
    return rng.permutation(available)[:count]
