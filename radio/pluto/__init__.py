"""The ADALM-Pluto driver: pyadi-iio and libiio in a process of their own."""
