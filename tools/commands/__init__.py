"""The subcommands of ``siftmoe``: options, one call, and what is printed."""
