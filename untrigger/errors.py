"""The one error and the one warning that are meant for the user, and what they may show."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class UserError(Exception):
    """Something the user can mend: one sentence that names the bad value and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """


class UserNotice(UserWarning):
    """Something the user should know and need not mend, in one sentence; stages and commands tell it."""


@contextmanager
def notices_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block what the library warns the user of goes to `tell`, and other warnings go their usual way."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, UserNotice):
                tell(str(message))
            else:
                shown(message, category, *where, **more)

        warnings.showwarning = show
        yield


def without_credentials(address: str) -> str:
    """`address` as it may be shown: user and password in it are left out."""
    return re.sub(r"//[^/@]*@", "//", address)


LONGEST_NAME = 300
"""Letters; that of no tensor is longer."""


def shown_name(name: str) -> str:
    """A name out of a file as it may stand in a sentence: without what a terminal obeys, and not without end."""
    return name if name.isprintable() and len(name) <= LONGEST_NAME else f"{name[:40]!a}..."
