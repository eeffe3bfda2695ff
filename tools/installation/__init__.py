"""The installation on this machine: packages, libraries, and what is missing.

- `packages.PACKAGES`, `packages.OPTIONAL`: distributions by extra
- `packages.remedy`: the command that installs an extra
- `checks.checks`: the findings of ``siftmoe doctor``
"""
