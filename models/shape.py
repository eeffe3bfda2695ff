"""The sizes of a model's expert layers, as every package needs them. Needs no torch."""

from __future__ import annotations

import msgspec

#: Bytes of one number, by the precision of a bundle's experts.
BYTES_PER_NUMBER = {"float32": 4, "float16": 2}


class ModelShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes of a model's expert layers.

    Parameters
    ----------
    num_layers : int
        Expert layers L; dense layers do not count.
    num_experts : int
        Experts per expert layer E.
    top_k : int
        Experts K that the router selects for a token.
    hidden_size : int
        Width d of an expert's input and output.
    intermediate_size : int
        Width I of an expert's hidden layer.
    activation : str
        Name of the nonlinearity, as in ``siftmoe.models.checkpoint.experts.ACTIVATIONS``.
    gated : bool
        Whether an expert has a gate projection in addition to its up projection.
    biased : bool
        Whether its projections have biases.

    Raises
    ------
    ValueError
        If a size is not positive, or K is larger than E.
    """

    num_layers: int
    num_experts: int
    top_k: int
    hidden_size: int
    intermediate_size: int
    activation: str
    gated: bool = True
    biased: bool = False

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_experts", "top_k", "hidden_size", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"model shape: {name} must be positive, got {getattr(self, name)}")
        if self.top_k > self.num_experts:
            raise ValueError(
                f"model shape: top_k {self.top_k} is more than the {self.num_experts} experts"
            )

    @property
    def expert_num_parameters(self) -> int:
        """Parameters of one expert."""
        up = 2 if self.gated else 1
        weights = (up + 1) * self.hidden_size * self.intermediate_size
        biases = up * self.intermediate_size + self.hidden_size if self.biased else 0
        return weights + biases

    def expert_num_bytes(self, dtype: str) -> int:
        """Bytes of one expert's weights in "float32" or "float16"."""
        return self.expert_num_parameters * BYTES_PER_NUMBER[dtype]

    def check_expert(self, layer: int, expert: int) -> None:
        """Raise ValueError if the model has no such expert."""
        if not (0 <= layer < self.num_layers and 0 <= expert < self.num_experts):
            raise ValueError(
                f"the model has no expert {expert} of layer {layer}; "
                f"it has {self.num_layers} layers of {self.num_experts} experts, counted from 0"
            )
