"""What the air does: channels, fading, and the energy of a transmission."""
