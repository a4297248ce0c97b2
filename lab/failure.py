# SPDX-License-Identifier: MIT
"""How the lab says that it could not be run."""


class CannotRun(Exception):
    """One line: what is wrong, and what to do. The lab ends with status 2."""
