"""Radios at the bench: the work of ``siftmoe radio`` probe, sound and calibrate.

Looks for radios, sounds the channel between two of them, and measures their power.

- `probing.probe`: looks for radios and describes them
- `pilot_rounds.PilotRounds`, `pilot_rounds.describe`: repeated pilot exchanges
- `live_table.watch`: the live table of ``sound --watch``
- `level.measure_level`, `level.send_tone`: calibration with a power meter
- `pair.measure_pair`: calibration of two radios over a cable
- `meter.read_meter`: the reading of a power meter
- `entries.describe`: a stored calibration in one line
"""
