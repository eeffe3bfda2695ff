"""The Hugging Face side: replaced experts, observed forward passes, text in and out.

The only room that touches the model.

- `experts.attach`: routes every expert layer to a `LayerOutput`
- `routers.watch_routers`: keeps the logits of routers for policies that ask for them
- `steps.StepHooks`: detects forward passes and padding
- `turns.Turns`: one forward pass at a time, of several threads
- `session.Session`: answers prompts and evaluates tasks
- `restoring.restored`: gives a model its own experts back
"""
