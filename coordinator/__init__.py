"""The user's device: runs the backbone, selects helpers and experts, books the energy."""
