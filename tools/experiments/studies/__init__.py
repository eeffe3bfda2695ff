"""The studies by name: which cells they ask for, and what they draw."""
