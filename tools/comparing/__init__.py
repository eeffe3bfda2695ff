"""Policies compared on a fleet: the flow of ``siftmoe loopback`` and ``siftmoe run``."""
