"""A table that only some data have."""

from __future__ import annotations

import pandas as pd
from kedro_datasets.pandas import CSVDataset


class OptionalCSVDataset(CSVDataset):
    """A CSV table that loads as an empty one, without columns, where there is no file.

    For what cannot be demanded of real data, such as the truth behind a simulation. In every other respect it is
    ``pandas.CSVDataset``.
    """

    def load(self) -> pd.DataFrame:
        """Read the table, or make an empty one."""
        return super().load() if self.exists() else pd.DataFrame()
