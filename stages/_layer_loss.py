"""What a decoder loses without some of its layers: the text's log-likelihood, and angles between hidden states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from stages._causal_lm import layers_of, passed_over
from stages.base import Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Measure = Literal["perplexity", "kl"]
Moved = Callable[[int, int, str], None]


class LayerLoss:
    """Windows of tokens, shape (n, length), and what the whole model says at each of them."""

    def __init__(self, model: Any, windows: NDArray[np.int64]) -> None:
        import torch

        self._model, self._layers = model, list(layers_of(model))
        self._windows = torch.from_numpy(windows)
        self._said = self._windows[:, 1:, None]
        self._whole, self.states = self._run(frozenset())
        self.count, self.tokens = len(self._layers), int(windows.size)

    def nll(self, dropped: frozenset[int] = frozenset()) -> float:
        """Mean negative log-likelihood a token without these layers, in nats."""
        return self._nll(self._run(dropped)[0] if dropped else self._whole)

    def removal(self, dropped: frozenset[int], measure: Measure, moved: Callable[[int], None]) -> dict[int, float]:
        """For each layer left, what the model is without it and `dropped`: mean loss, or KL from the whole, in nats.

        Layers in front of the removed one say again what they said: that saves half of the work.

        Raises:
            Refused: a loss that is no number, with its layer.
        """
        _, states = self._run(dropped)
        found = {}
        for index in (index for index in range(self.count) if index not in dropped):
            moved(index)
            ahead = {before: states[before] for before in range(index)}
            with passed_over(self._layers, {**ahead, index: None, **dict.fromkeys(dropped - ahead.keys())}):
                said = self._log_probabilities()
            found[index] = self._nll(said) if measure == "perplexity" else self._kl(said)
            if not math.isfinite(found[index]):
                raise Refused(
                    f"the loss without layer {index} is {found[index]}",
                    "a layer's outputs hold NaN or infinity: the model itself is broken",
                )
        return found

    def angles(self, count: int) -> list[float]:
        """Mean angle, in 0..1 of a half turn, between what comes into layer l and into layer l + count, for each l.

        Gromov et al. 2024, arXiv:2403.17887, over all tokens where the paper takes the last alone.
        """
        import torch

        inputs = [self._first, *self.states]
        pairs = ((inputs[start], inputs[start + count]) for start in range(self.count - count + 1))
        cosines = (torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1) for a, b in pairs)
        return [float(cosine.arccos().mean() / torch.pi) for cosine in cosines]

    def _run(self, dropped: frozenset[int]) -> tuple[Any, list[Any]]:
        """Log-probabilities, shape (n, length - 1, vocabulary), and each layer's output."""
        with passed_over(self._layers, dict.fromkeys(dropped)), self._remembered() as states:
            said = self._log_probabilities()
        return said, states

    @contextmanager
    def _remembered(self) -> Iterator[list[Any]]:
        states: list[Any] = []
        hooks = [layer.register_forward_hook(lambda _m, _i, output: states.append(output)) for layer in self._layers]
        hooks.append(self._layers[0].register_forward_pre_hook(self._remember_first, with_kwargs=True))
        try:
            yield states
        finally:
            for hook in hooks:
                hook.remove()

    def _remember_first(self, _module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._first = arguments[0] if arguments else named["hidden_states"]

    def _log_probabilities(self) -> Any:
        import torch

        with torch.inference_mode():
            logits = self._model(self._windows, use_cache=False).logits[:, :-1]
            return torch.log_softmax(logits.float(), -1)

    def _nll(self, said: Any) -> float:
        return -float(said.gather(-1, self._said).mean())

    def _kl(self, said: Any) -> float:
        return float((self._whole.exp() * (self._whole - said)).sum(-1).mean())
