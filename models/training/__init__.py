"""Makes the shipped checkpoints and evaluation sets.

docs/explanation/checkpoints.md has the commands.

Every module is a command, in this order:

- `corpus`: training text from docstrings; `notice`: the licences of that text.
- `tokenizer`: the byte-level BPE, and the text as tokens.
- `train`: trains a model (`model`: architecture, `loss`: cross entropy); `export`: writes it.
- `evalsets`: perplexity documents and multiple-choice items.
- `baselines`, `evaluate`: the figures without a language model, and those of the checkpoints.
"""
