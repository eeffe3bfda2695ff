"""Accuracy tasks: perplexity, multiple choice, summaries. Needs no torch.

A task gives batches of tokens; a scorer turns the log-probabilities of a model into metrics with
their standard errors.

- `evaluation.load_task`: a task by its name; `task.Task`, `task.GenerationTask`.
- `scores.TaskResult`, `scores.Metric`: the figures that a model reached.
- `sequences.Batch`, `sequences.TextTokenizer`: padded tokens, and the tokenizer's interface.
- `files.read_choice` and its siblings: readers of evaluation files.
- `rouge.rouge_l`: the score of a summary.
"""
