"""Selection for many tokens whose loads share a window.

Exact for one slot per token; otherwise best response, local search and certificates.

- `prefill.prefill_capped`: a cap per token
- `average.select_average`, `average.prefill_priced`: an average budget, a price
- `flow.assign_groups`: exact assignment of single slots
- `listed.ListedSearch`: search over listed helper sets
- `exchange.exchange`: exchanges of tokens at full helpers
- `response.CoverGame`: best response with an exact oracle
- `outage.serve_leftover`: least deviation beyond capacity
"""
