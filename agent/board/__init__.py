"""Sensors of the board that an agent runs on: supply power and temperature, read from sysfs.

Figures that a board cannot measure are left out, never estimated.

- `rails.Board`, `rails.find_board`: power sensors of a Jetson's supply rails
- `power.BoardPower`: samples the rails on a thread and integrates the energy
- `heat.Thermometer`: temperatures, limits and throttling
"""
