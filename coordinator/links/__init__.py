"""States of the links to the helpers: fixed, simulated, replayed."""
