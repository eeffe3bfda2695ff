"""The process on a board: it hosts experts and answers requests for them."""
