"""Who may connect to an agent: CURVE keys, the allow-list, and who was turned away."""
