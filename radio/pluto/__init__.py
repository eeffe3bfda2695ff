"""Driver of the ADALM-Pluto: pyadi-iio and libiio in a child process.

libiio can hang and crash; the child process keeps both away from the program. Use
``siftmoe.radio.opening.open_radio``.

- `radio.PlutoRadio`: the ``Radio`` that a program holds; it keeps a driver process running.
- `process.DriverProcess`: one driver process as its parent sees it.
- `child.main`: the driver process.
- `frames.encode`, `frames.Decoder`: messages between the two processes.
- `driver.PlutoDriver`: the driver, in the process that calls it.
- `connection.PlutoConnection`: one connection: context and buffers.
- `settings.apply_settings`: write a setting, read it back, compare.
- `library`: all uses of `adi` and `iio`; nothing else imports them.
- `look.look`, `look.scan`: identify radios without changing anything.
- `address.Address`, `values.PlutoInfo`: addresses, ranges and scaling.
"""
