"""The base of datasets that are loaded and never saved."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from kedro.io import AbstractDataset, DatasetError

T = TypeVar("T")


class ReadOnlyDataset(AbstractDataset[None, T], Generic[T]):
    """A dataset that refuses to be saved, and that counts as existing: what is wrong with it is said when it is loaded.

    Attributes:
        refusal: Reason why it cannot be saved; ``{filepath}`` and the other names of :meth:`_describe` are filled in.
    """

    refusal: ClassVar[str]

    def save(self, data: None) -> NoReturn:
        """Refuse; raises DatasetError with the reason."""
        raise DatasetError(self.refusal.format(**self._describe()))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath} if hasattr(self, "_filepath") else {}
