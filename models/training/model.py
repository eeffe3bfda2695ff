"""The architecture of the tiny checkpoints, and the upcycling of a dense model.

A dense model is a Mixtral with one expert, so all other weights have the same names and shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import MixtralConfig, MixtralForCausalLM

from siftmoe.models.training.tokenizer import BOS, EOS, PAD, VOCAB_SIZE

NUM_EXPERTS = 8
TOP_K = 2
REINITIALISED_SHARE = 0.25


def tiny_config(num_experts: int = NUM_EXPERTS) -> MixtralConfig:
    """Return the configuration of a tiny Mixtral with 3.6 million parameters (eight experts)."""
    return MixtralConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        num_local_experts=num_experts,
        num_experts_per_tok=min(TOP_K, num_experts),
        tie_word_embeddings=True,
        output_router_logits=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.04,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )


def new_model(num_experts: int, *, seed: int) -> MixtralForCausalLM:
    """Return a randomly initialised model."""
    torch.manual_seed(seed)
    model = MixtralForCausalLM(tiny_config(num_experts))
    model.set_experts_implementation("eager")
    return model


def load_balancing_loss(router_logits: tuple[Tensor, ...], top_k: int) -> Tensor:
    r"""Mean over the layers of the load-balancing loss of Switch Transformers.

    .. math:: E \sum_e f_e P_e

    with :math:`f_e` the share of routed tokens and :math:`P_e` the mean router probability of
    expert e in one layer; it is K for an even load. Hugging Face sums :math:`f` and :math:`P` over
    the layers first, so that single layers may collapse while their sum stays even.
    """
    losses = []
    for logits in router_logits:  # [N, E]
        probabilities = logits.float().softmax(dim=-1)
        chosen = probabilities.topk(top_k, dim=-1).indices
        experts = logits.shape[-1]
        load = torch.bincount(chosen.reshape(-1), minlength=experts).float() / len(logits)
        losses.append(experts * (load * probabilities.mean(dim=0)).sum())
    return torch.stack(losses).mean()


@torch.no_grad()
def upcycle(dense: MixtralForCausalLM, *, seed: int) -> MixtralForCausalLM:
    """Copy a dense model into eight experts, a quarter of the hidden units of each drawn anew.

    Sparse upcycling after Komatsuzaki et al. (arXiv 2212.05055) with the partial
    re-initialisation of Drop-Upcycling (arXiv 2502.19261): the experts start similar, not equal.
    """
    model = new_model(NUM_EXPERTS, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weights = dense.state_dict()
    for name, target in model.state_dict().items():
        if name.endswith("mlp.gate.weight"):
            target.normal_(0, 0.02, generator=generator)
        elif not name.endswith(("gate_up_proj", "down_proj")):
            target.copy_(weights[name])
    for old, new in zip(dense.model.layers, model.model.layers, strict=True):
        gate_up, down = old.mlp.experts.gate_up_proj[0], old.mlp.experts.down_proj[0]
        for expert in range(NUM_EXPERTS):
            fresh_gate_up, fresh_down = _partly_redrawn(gate_up, down, generator)
            new.mlp.experts.gate_up_proj[expert] = fresh_gate_up
            new.mlp.experts.down_proj[expert] = fresh_down
    return model


def _partly_redrawn(
    gate_up: Tensor, down: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    d, units = down.shape
    redrawn = torch.randperm(units, generator=generator)[: int(REINITIALISED_SHARE * units)]
    gate_up, down = gate_up.clone(), down.clone()
    gate, up = gate_up[:units], gate_up[units:]  # views of the clone
    for half in (gate, up):
        noise = torch.randn(len(redrawn), d, generator=generator)
        half[redrawn] = noise * half.std()
    # Half the standard deviation, so that new units do not disturb the trained ones at the start.
    down[:, redrawn] = torch.randn(d, len(redrawn), generator=generator) * down.std() * 0.5
    return gate_up, down
