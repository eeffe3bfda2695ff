"""Small random checkpoints of the mixture-of-experts families, as ``save_pretrained`` writes them.

Weights are drawn large enough that an error in an expert shows in the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 64

_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture: how to configure a small model and what is expected of it."""

    config: str
    model: str
    options: dict[str, Any]
    num_layers: int
    num_experts: int
    top_k: int
    encoder_decoder: bool = False


def _decoder(name: str, options: dict[str, Any], **expected: int) -> Family:
    return Family(
        config=f"{name}Config",
        model=f"{name}ForCausalLM",
        options={**_SMALL, **options},
        **expected,
    )


FAMILIES: dict[str, Family] = {
    "mixtral": _decoder(
        "Mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": True},
        num_layers=2,
        num_experts=4,
        top_k=2,
    ),
    "olmoe": _decoder(
        "Olmoe",
        {"num_experts": 6, "num_experts_per_tok": 3},
        num_layers=2,
        num_experts=6,
        top_k=3,
    ),
    "qwen2_moe": _decoder(
        "Qwen2Moe",
        {
            "num_hidden_layers": 3,
            "mlp_only_layers": [1],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "shared_expert_intermediate_size": 20,
        },
        num_layers=2,
        num_experts=4,
        top_k=2,
    ),
    "qwen3_moe": _decoder(
        "Qwen3Moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "head_dim": 8,
            "norm_topk_prob": True,
        },
        num_layers=2,
        num_experts=4,
        top_k=2,
    ),
    "deepseek_v3": _decoder(
        "DeepseekV3",
        {
            "num_hidden_layers": 3,
            "first_k_dense_replace": 1,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 12,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
        },
        num_layers=2,
        num_experts=8,
        top_k=2,
    ),
    "gpt_oss": _decoder(
        "GptOss",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 8,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        num_layers=2,
        num_experts=4,
        top_k=2,
    ),
    "granitemoe": _decoder(
        "GraniteMoe",
        {"num_local_experts": 4, "num_experts_per_tok": 2},
        num_layers=2,
        num_experts=4,
        top_k=2,
    ),
    "nemotron_h": _decoder(
        "NemotronH",
        {
            "num_hidden_layers": None,  # it follows from the block types
            "layers_block_type": ["attention", "moe", "moe"],
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "moe_shared_expert_intermediate_size": 12,
            "n_group": 1,
            "topk_group": 1,
            "head_dim": 8,
            "mamba_num_heads": 2,
            "mamba_head_dim": 8,
        },
        num_layers=2,
        num_experts=4,
        top_k=2,
    ),
    "switch": Family(
        config="SwitchTransformersConfig",
        model="SwitchTransformersForConditionalGeneration",
        options={
            "vocab_size": VOCABULARY,
            "d_model": 16,
            "d_ff": 24,
            "d_kv": 8,
            "num_heads": 2,
            "num_layers": 4,
            "num_decoder_layers": 4,
            "num_sparse_encoder_layers": 2,
            "num_sparse_decoder_layers": 2,
            "num_experts": 4,
            "expert_capacity": 64,
            "initializer_factor": 1.0,
            "decoder_start_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        num_layers=4,
        num_experts=4,
        top_k=1,
        encoder_decoder=True,
    ),
}


def build_model(family: str, *, seed: int = 0, **options: Any) -> Any:
    """A random model of a family in float32; ``options`` override its configuration."""
    import torch  # here, so that collecting tests stays quick
    import transformers

    chosen = FAMILIES[family]
    torch.manual_seed(seed)
    config = getattr(transformers, chosen.config)(**{**chosen.options, **options})
    model = getattr(transformers, chosen.model)(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # what initialises to zero or one would hide a mistake in reading it
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.add_(0.3 * torch.randn(buffer.shape, generator=generator))
    return model


def save_checkpoint(family: str, folder: Path, *, seed: int = 0, **options: Any) -> Path:
    """Write a random checkpoint of a family and return its folder."""
    build_model(family, seed=seed, **options).save_pretrained(folder)
    return folder
