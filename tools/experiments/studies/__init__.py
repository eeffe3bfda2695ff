"""The studies by name: the cells they need and the figures they draw.

- `definition.Study`, `definition.Curve`, `definition.Figure`, `definition.Ask`: parts of a study
- `catalogue`: the studies
- `curves`: policies and the values of their knobs
- `axes`: losses and axes that several studies share
- `bits`: the study of widths
- `placement`: the study of who hosts what
- `channel`: the studies of the gain floor and of distances
"""
