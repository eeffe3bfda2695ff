"""From a plan to requests and back to the layer's output.

Groups a plan's rows by helper, encodes and sends them, checks the replies and sums them.

- `dispatcher.Dispatcher`: runs plans on the agents
- `grouping.group`, `grouping.combine`: shares of helpers, and the sum of their results
- `verification.Verifier`: rows computed twice, and helpers that are wrong
- `reference.BundleExperts`: experts on the user's device, to compute rows again
- `results.DispatchResult`: output, times, payloads and failures of a dispatch
- `rows.RowsOut`: vectors encoded once per token and width
"""
