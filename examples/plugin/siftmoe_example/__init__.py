"""An example of a package that extends siftmoe: see its `setup.cfg` for the entry points."""
