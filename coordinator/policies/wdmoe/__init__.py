"""WDMoE: light experts dropped from slow devices, the band divided anew."""
