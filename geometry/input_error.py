"""`InputError`: what geometry and weights say of input that they cannot use, and how it counts."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Something given that cannot be used: a plain fact, with the values that show it.

    Nodes say it to people: they put their title before it, and what would be right behind it. remedy: the name under
    which nodes/remedies.py knows the latter; empty where the fact says enough.
    """

    def __init__(self, fact: str, remedy: str = "") -> None:
        super().__init__(fact)
        self.remedy = remedy


def check_choice_of(name: str, value: object, options: Iterable[str]) -> None:
    """Raises InputError for a value of a list that is none of its `options`: what comes by a link may be anything."""
    if value not in (names := list(options)):
        raise InputError(f"{name} must be one of {', '.join(names)}, not '{value}'")


def counted(number: int, noun: str) -> str:
    """Such as '1 view' or '2 views'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def there_are(number: int, noun: str) -> str:
    """Such as 'there is 1 view' or 'there are 2 views'."""
    return f"there {'is' if number == 1 else 'are'} {counted(number, noun)}"
