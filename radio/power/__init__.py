"""What samples are in watt: calibration measured, stored, applied."""
