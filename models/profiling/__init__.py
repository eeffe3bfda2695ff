"""How a bundle's profile is measured: similarity, sensitivity, amplification, widths."""
