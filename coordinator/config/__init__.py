"""The testbed file: model, policy, radio, agents, every value checked."""
