"""Credentials for buckets, from the project's configuration to everything that opens a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from synapseclr.storage.addresses import set_default_options


class StorageCredentials:
    """Makes the entries of ``credentials.yml`` that are named after a protocol the default for its URLs.

    ``gs: {token: /home/me/key.json}`` in ``conf/local/credentials.yml`` is enough for ``data_root=gs://...``: no
    catalog entry has to name it. ``conf/local`` counts in every environment; the environment's own file goes before
    it. Entries with other names are Kedro's: for the catalog entries that name them.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Configure fsspec here, and by the environment in the processes that are started from here."""
        set_default_options(_local(context) | _of_environment(context))


def _of_environment(context: KedroContext) -> dict[str, Any]:
    try:
        return dict(context.config_loader["credentials"])
    except MissingConfigException:
        return {}


def _local(context: KedroContext) -> dict[str, Any]:
    from omegaconf import OmegaConf

    loader = context.config_loader
    found = sorted(Path(loader.conf_source, "local").glob("credentials*.y*ml"))
    merged = OmegaConf.to_container(OmegaConf.merge({}, *map(OmegaConf.load, found)), resolve=True)
    return {str(name): value for name, value in merged.items()} if isinstance(merged, dict) else {}
