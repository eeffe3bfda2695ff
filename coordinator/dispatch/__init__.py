"""A plan to requests and back: rows grouped by helper, sent, and their results summed."""
