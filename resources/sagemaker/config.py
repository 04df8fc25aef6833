"""The base of all typed config of this package."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The metaclass of dagster.Config makes every attribute of a nested config unknown to pyright.
    # Its own base is the same to a type checker.
    from pydantic import BaseModel as Config
else:
    from dagster import Config

__all__ = ["Config"]
