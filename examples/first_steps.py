"""First steps, cell by cell: run it as a script, or open it in a notebook editor (``# %%``).

python examples/first_steps.py
"""

# %% A model on four agents of this machine, behind simulated radio links.
import siftmoe

run = siftmoe.local("upcycled", agents=4)
print(run.generate("Return the number of", max_new_tokens=20))

# %% What that has cost. Without a radio every energy is modelled.
print(run.table())

# %% The attached Hugging Face model is a model like any other.
inputs = run.tokenizer("Return the", return_tensors="pt")
print(run.model(**inputs).logits.shape)
run.close()

# %% The same text under a policy that chooses helper, expert and bits of every vector at a price.
with siftmoe.local("upcycled", agents=4, policy="siftmoe:price=1e-7:bits=auto") as run:
    print(run.generate("Return the number of", max_new_tokens=20))
print(run.table())

# %% Held-out text: perplexity of ten documents, with its standard error.
with siftmoe.local("upcycled", agents=4, policy="topk-1") as run:
    print(run.evaluate("perplexity", limit=10).metrics["perplexity"])
