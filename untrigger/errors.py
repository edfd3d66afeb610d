"""The one error and the one warning that are meant for the user, and what they may show."""

import re


class UserError(Exception):
    """Something the user can mend: one sentence that names the bad value and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """


class UserNotice(UserWarning):
    """Something the user should know and need not mend, in one sentence; a stage tells it with its progress."""


def without_credentials(address: str) -> str:
    """`address` as it may be shown: user and password in it are left out."""
    return re.sub(r"//[^/@]*@", "//", address)
