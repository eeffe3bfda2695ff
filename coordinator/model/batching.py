"""Continuous batching: sequences that are decoded together join and leave between steps.

Every step feeds one token of every sequence. A sequence that joins is prefilled alone; its keys and
values are then put beside those of the others, padded on the left to one length. Positions are
given explicitly and padding is masked, so what a sequence computes does not depend on the others
(up to the rounding of batched matrix products).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


class DecodingBatch:
    """Sequences of one decoder that advance together, one token a step.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A decoder whose cache holds keys and values of all positions.

    Raises
    ------
    ValueError
        If the model is an encoder-decoder.
    """

    def __init__(self, model: Any) -> None:
        if model.config.is_encoder_decoder:
            raise ValueError("sequences of an encoder-decoder are not decoded in batches")
        self._model = model
        self._device = model.device
        self._cache: DynamicCache | None = None
        self._mask = torch.zeros((0, 0), dtype=torch.long, device=self._device)  # [B, L]
        self.keys: tuple[int, ...] = ()
        self._next_key = 0

    @property
    def lengths(self) -> dict[int, int]:
        """Tokens fed so far, by sequence."""
        return dict(zip(self.keys, self._mask.sum(dim=1).tolist(), strict=True))

    @torch.inference_mode()
    def join(self, ids: Sequence[int]) -> tuple[int, Tensor]:
        """Prefill a sequence and add it to the batch.

        Parameters
        ----------
        ids : sequence of int
            At least one token.

        Returns
        -------
        key : int
            Of the sequence, unique in this batch.
        logits : (S, V) float32
            Of every position.

        Raises
        ------
        ValueError
            If there is no token, or the model's cache cannot be batched.
        """
        if not ids:
            raise ValueError("a sequence has at least one token")
        tokens = torch.tensor([list(ids)], device=self._device)
        mask = torch.ones_like(tokens)
        result = self._model(
            input_ids=tokens, attention_mask=mask, past_key_values=self._new_cache(), use_cache=True
        )
        logits: Tensor = result.logits[0].float()
        self._merge(result.past_key_values, mask)
        key, self._next_key = self._next_key, self._next_key + 1
        self.keys = (*self.keys, key)
        return key, logits

    @torch.inference_mode()
    def step(self, tokens: Mapping[int, int]) -> dict[int, Tensor]:
        """Feed one token to every sequence.

        Parameters
        ----------
        tokens : mapping of int to int
            Token by sequence, for all of them.

        Returns
        -------
        dict of int to (V,) float32
            Logits after it.

        Raises
        ------
        ValueError
            If sequences are missing, or there are none.
        """
        if set(tokens) != set(self.keys) or not tokens:
            raise ValueError(f"a step feeds sequences {list(self.keys)}, got {sorted(tokens)}")
        ids = torch.tensor([[tokens[key]] for key in self.keys], device=self._device)
        position = self._mask.sum(dim=1, keepdim=True)  # [B, 1]
        mask = pad(self._mask, (0, 1), value=1)
        result = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._mask = mask
        logits = result.logits[:, -1].float()  # [B, V]
        return dict(zip(self.keys, logits, strict=True))

    def leave(self, keys: Sequence[int]) -> None:
        """Remove sequences; the padding that only they needed goes with them.

        Raises
        ------
        ValueError
            If a sequence is not in the batch.
        """
        if not set(keys) <= set(self.keys):
            raise ValueError(f"the batch has sequences {list(self.keys)}, got {sorted(keys)}")
        stay = [i for i, key in enumerate(self.keys) if key not in set(keys)]
        self.keys = tuple(self.keys[i] for i in stay)
        if not stay or self._cache is None:
            self._cache = None
            self._mask = self._mask[:0, :0]
            return
        mask = self._mask[stay]
        longest = int(mask.sum(dim=1).max())
        self._mask = mask[:, -longest:]
        self._cache = _cache_of(
            [
                (keys_[stay, :, -longest:], values[stay, :, -longest:])
                for keys_, values in _layers(self._cache)
            ]
        )

    def _new_cache(self) -> DynamicCache:
        return DynamicCache()

    def _merge(self, added: DynamicCache, mask: Tensor) -> None:
        """Put a prefilled sequence below the others."""
        if self._cache is None:
            self._cache, self._mask = added, mask
            _layers(added)
            return
        longest = max(self._mask.shape[1], mask.shape[1])
        self._mask = torch.cat([_on_the_left(part, longest) for part in (self._mask, mask)])
        self._cache = _cache_of(
            [
                (_stack(keys, more_keys, longest), _stack(values, more_values, longest))
                for (keys, values), (more_keys, more_values) in zip(
                    _layers(self._cache), _layers(added), strict=True
                )
            ]
        )


def _layers(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer, (B, heads, L, d) each."""
    for layer in cache.layers:
        if type(layer) is not DynamicLayer:
            raise ValueError(
                f"this model keeps a {type(layer).__name__}; only caches of all keys and values "
                f"are decoded in batches"
            )
    return [(layer.keys, layer.values) for layer in cache.layers]


def _cache_of(layers: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache:
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache


def _stack(first: Tensor, second: Tensor, length: int) -> Tensor:
    """Put (1, heads, S, d) below (B, heads, L, d), both padded on the left to a length."""
    parts = [pad(part, (0, 0, length - part.shape[-2], 0)) for part in (first, second)]
    return torch.cat(parts)


def _on_the_left(mask: Tensor, length: int) -> Tensor:
    return pad(mask, (length - mask.shape[1], 0))
