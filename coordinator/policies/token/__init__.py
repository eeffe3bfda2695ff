"""The exact best set of helpers for one token, under a cap or a price.

Compiled closed forms for one and two slots, branch and bound for more.

- `decode.decode_capped`, `decode.decode_priced`: independent tokens
- `cover.cover_batch`: cheapest set under a cap
- `price.price_batch`: best set at a price of deviation
- `tree.branch_and_bound`, `relaxation.reduced_costs`: the search and its bound
"""
