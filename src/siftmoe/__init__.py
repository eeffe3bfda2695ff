"""Energy-aware mixture-of-experts inference over wireless helpers."""
