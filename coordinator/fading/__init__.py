"""Fast fading: the least expected energy-to-go over the gains that are still to come."""
