"""A shared simulated air, and a radio on it."""
