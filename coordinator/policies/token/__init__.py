"""The exact set of helpers for one token, by budget or by price."""
