"""What is measured after every stage, and how thoroughly."""

from __future__ import annotations

from pydantic import Field

from pipelines.fields.data import DataSource
from stages.base import Frozen


class Perplexity(Frozen):
    """Perplexity, top-1 agreement and KL divergence over windows of the evaluation text."""

    windows: int = Field(16, ge=2, description="windows scored at first")
    window: int = Field(512, ge=8, description="tokens a window; token 1 of each window is not predicted")
    max_windows: int = Field(64, ge=2, description="most windows drawn while a verdict is inconclusive")
    top_k: int = Field(64, ge=1, description="the reference's most likely tokens kept a position, for KL divergence")


class Generation(Frozen):
    """Exact match of greedy continuations with the reference's."""

    prompts: int = Field(8, ge=1, description="prompts cut from the evaluation text")
    prompt_tokens: int = Field(64, ge=1, description="tokens a prompt")
    tokens: int = Field(32, ge=1, description="tokens generated a prompt")


class Speed(Frozen):
    """Reference and candidate generate in alternating blocks, in two live workers."""

    prompt_tokens: tuple[int, ...] = Field((128,), min_length=1, description="prompt lengths for TTFT")
    tokens: int = Field(32, ge=4, description="tokens generated a block")
    pairs: int = Field(5, ge=3, description="least pairs of blocks a prompt length")
    max_pairs: int = Field(30, ge=3, description="most pairs of blocks a prompt length")
    precision: float = Field(0.05, gt=0, lt=1, description="stop when the ratio's interval is within this of its value")
    time_limit_s: float = Field(120, gt=0, description="seconds of sampling a prompt length")


class Task(Frozen):
    """Multiple choice by log-likelihood of each choice after its question."""

    data: DataSource = Field(description="with the reader `multiple-choice`")
    examples: int = Field(200, ge=2, description="how many, drawn with the config's seed")


class Classification(Frozen):
    """Top-1 and top-5 accuracy, and the share of unchanged top-1 answers, over every evaluation image."""

    batch: int = Field(64, ge=1, description="images a call")


class Embeddings(Frozen):
    """Cosine and rank agreement of a text encoder's embeddings with the reference's, and recall where queries are."""

    length: int = Field(128, ge=4, description="tokens a text, special ones included; longer ones are cut there")
    passages: int = Field(500, ge=2, description="evenly spaced: SQuAD's contexts, of other text its paragraphs")
    queries: int = Field(500, ge=0, description="evenly spaced among the passages' questions, where the data has some")
    neighbours: int = Field(10, ge=1, description="nearest passages of each query that are compared and searched")
    batch: int = Field(32, ge=1, description="texts a call")


class Latency(Frozen):
    """A candidate and its float version run in alternating blocks, in two live workers."""

    batch_sizes: tuple[int, ...] = Field((1, 32), min_length=1, description="images a call")
    runs: int = Field(30, ge=5, description="calls a block")
    pairs: int = Field(5, ge=3, description="least pairs of blocks a batch size")
    max_pairs: int = Field(30, ge=3, description="most pairs of blocks a batch size")
    precision: float = Field(0.03, gt=0, lt=1, description="stop when the ratio's interval is within this of its value")
    time_limit_s: float = Field(60, gt=0, description="seconds of sampling a batch size")


class Evaluation(Frozen):
    """What is measured after every stage; `null` leaves a part out, and what does not suit the data is left out."""

    perplexity: Perplexity | None = Field(Perplexity(), description="perplexity, top-1 agreement, KL divergence")
    generation: Generation | None = Field(Generation(), description="exact match of greedy continuations")
    speed: Speed | None = Field(Speed(), description="TTFT, time between tokens, tokens/s, load time, memory")
    tasks: dict[str, Task] = Field({}, description="accuracy of each, under the name given here")
    classification: Classification | None = Field(
        Classification(), description="accuracy and agreement of a classifier; for images"
    )
    embeddings: Embeddings | None = Field(
        None, description="for text encoders, and what marks a config as one of theirs: `{}` takes every default"
    )
    latency: Latency | None = Field(
        Latency(), description="latency and throughput at each batch size; for images and text encoders"
    )
    time_limit_s: float = Field(
        3600, gt=0, description="seconds of scoring a stage, draws for inconclusive verdicts included"
    )
