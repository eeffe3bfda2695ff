"""Evaluate a deployment with EleutherAI's lm-evaluation-harness.

    pip install -e '.[eval]'
    python examples/lm_evaluation.py

The harness sees an attached Hugging Face model and needs nothing of siftmoe; energy stands beside
its scores. The task is a small multiple-choice set that ships with siftmoe, so nothing is
downloaded; any task of the harness goes in its place.
"""

import json
import tempfile
from pathlib import Path

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import siftmoe
from siftmoe.models.tiny.files import data_path

TASK = """
task: docstring_choice
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def main(items: int = 10) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "docstring_choice.yaml").write_text(
            TASK.format(data=data_path("choice-test"))
        )
        tasks = TaskManager(include_path=folder, include_defaults=False)
        for policy in ("topk", "siftmoe:price=1e-7:bits=auto"):
            with siftmoe.local("upcycled", agents=4, policy=policy) as run:
                harness = HFLM(pretrained=run.model, tokenizer=run.tokenizer, batch_size=4)
                found = simple_evaluate(
                    harness, tasks=["docstring_choice"], task_manager=tasks, limit=items
                )
            print(json.dumps(found["results"]["docstring_choice"], default=str))
            energy = run.table().summary.energy().value / items
            print(f"energy per question, both directions: {energy:.3g} J, modelled")
            print(run.table())


if __name__ == "__main__":
    main()
