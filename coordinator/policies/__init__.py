"""Selection policies, one file each: ``select(problem) -> plan``."""
