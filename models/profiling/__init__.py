"""Measures a bundle's profile: similarity, sensitivity, response, amplification, bit widths.

The bundle's own experts are measured in torch on calibration text; docs/explanation/profile.md has
the formulas.

- `bundle.add_profile`: measures a profile and puts it into the bundle.
- `preflight.check_calibration`: checks tokenizer and text before a bundle is prepared.
- `measure.ProfileOptions`, `measure.measure_profile`: the whole measurement.
- `text.CalibrationText`: the text, cut into windows of tokens.
- `experts.ExpertStore`, `forward.ProfiledModel`: the model with its experts in torch.
- `products.run_products`, `moments.layer_statistics`: inner products of outputs, and statistics.
- `sensitivity`, `response`, `amplification`: one measured effect of a layer's deviation each.
"""
