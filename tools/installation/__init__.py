"""The installation on this machine: packages, libraries, and what is missing.

- `packages.PACKAGES`, `packages.OPTIONAL`: distributions by extra
- `packages.remedy`: the command that installs an extra
- `missing.way_out`: what installs a package that a command could not import
- `checks.checks`: the findings of ``siftmoe doctor``
"""
