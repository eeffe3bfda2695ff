"""Pilots exchanged with agents, and the channel states that come of it."""
