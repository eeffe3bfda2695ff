"""How alike a model's experts are: the measured profile, and its file. Needs no torch."""
