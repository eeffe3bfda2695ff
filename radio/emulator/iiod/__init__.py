"""The IIOD protocol of libiio 0.24, as clients speak it to a Pluto."""
