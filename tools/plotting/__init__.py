"""Figures as SVG. The only room that imports matplotlib."""
