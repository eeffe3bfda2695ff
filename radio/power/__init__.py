"""Transmit and receive power of a radio: calibration of a unit, and conversion to watt.

Without a calibration the full-scale powers are typical figures with 3 dB of uncertainty.

- `store.CalibrationStore`: all calibrations of a machine, and their file.
- `store.UnitCalibration`: the entries of one unit, and its ``PowerReference``.
- `conversion.transmit_power`, `conversion.mean_square`: power of samples.
- `calibration.LevelEntry`, `calibration.PairEntry`: one measurement, and how far it holds.
- `calibrating.transmit_entry`, `calibrating.pair_entry`: from a reading to an entry.
- `calibration_file.read`, `calibration_file.write`: the file.
- `tone.transmitting_tone`, `tone.hear_tone`: the carrier that is measured.
"""
