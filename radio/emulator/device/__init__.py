"""One emulated Pluto: its attributes, converters, tuner and streams on a simulated air."""
