"""Loads the tokenizer of a Hugging Face folder. Code in the folder is never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siftmoe.models.errors import CheckpointMismatch

if TYPE_CHECKING:
    from pathlib import Path

#: Beginnings of the names of files that hold a vocabulary: Hugging Face, BPE, SentencePiece.
_VOCABULARIES = ("tokenizer", "vocab", "spiece", "sentencepiece", "tiktoken")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a file with a tokenizer's vocabulary."""
    names = [path.name for path in folder.iterdir() if path.name != "tokenizer_config.json"]
    return any(name.startswith(_VOCABULARIES) or name.endswith(".tiktoken") for name in names)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder.

    Raises
    ------
    CheckpointMismatch
        If there is none, or it cannot be loaded without code of its own.
    """
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise CheckpointMismatch(f"{str(folder)!r} has no tokenizer")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointMismatch(
            f"the tokenizer in {str(folder)!r} cannot be loaded ({reason}); copy its files again "
            f"from the model's release; code of its own is never run"
        ) from error


def chat_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Put a prompt into the tokenizer's chat template, as the user's message that is answered next.

    Returns
    -------
    list of int
        Tokens, with those that the template begins with.

    Raises
    ------
    ValueError
        If the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "--chat needs a chat template, the model's tokenizer has none; put chat_template.jinja "
            "of its release into the checkpoint's folder and prepare again, which keeps the "
            "experts, or leave --chat out"
        )
    messages = [{"role": "user", "content": prompt}]
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return [int(token) for token in found]
