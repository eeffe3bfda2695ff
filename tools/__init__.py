"""What a person runs: the ``siftmoe`` command and its reports."""
