"""The one error that is meant for the user."""


class UserError(Exception):
    """Something the user can mend: one sentence that names the bad value and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """
