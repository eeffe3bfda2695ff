"""Selection where all helpers share one band: broadcast, and unicast by time division.

- `select.select_in_band`: sets of ways of every token, in either medium
- `hearing.Hearing`: options of a broadcast, with and without a price on answers
- `search.choose_options`: the best options of tokens that share a window, exactly
- `closing`: proves it where tokens are tied
- `divided`: unicast by time division
"""
