"""Bring boards to a known state over SSH: build a release, push it, prove it, switch to it."""
