"""A model card: what weights are and how to use them, for colleagues who did not train them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from synapseclr import __version__
from synapseclr.errors import CheckpointError, ConfigurationError
from synapseclr.models.weights import FILE_NAME, EncoderWeights
from synapseclr.storage.addresses import is_local, open_filesystem
from synapseclr.storage.atomic_files import write_whole

_HUB_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)
"""Identifiers of huggingface.co/docs/hub/repositories-licenses that weights are likely to have."""

_CHANNELS = {
    1: "1: intensity around the active zone, both sides merged",
    2: "2: presynaptic side, postsynaptic side",
}

_CONTRASTED = """\
It learned without labels, by contrasting random views of synapses: SimCLR, after
Wilson & Babadi 2022, [doi:10.1101/2022.06.07.495207](https://doi.org/10.1101/2022.06.07.495207)."""
_SEGMENTED = """\
It learned to segment medical images: MedicalNet,
Chen et al. 2019, [arXiv:1904.00625](https://arxiv.org/abs/1904.00625). It has never been trained on synapses."""
_UNTRAINED = "Its weights are random: it is the untrained encoder that trained ones are compared with."

_FRONT_MATTER = """\
---
license: {{ hub_licence | tojson }}
{% if hub_licence == "other" %}
license_name: {{ licence | tojson }}
{% endif %}
library_name: synapseclr
pipeline_tag: image-feature-extraction
tags: [synapseclr, connectomics, electron-microscopy, synapse, 3d, self-supervised, simclr]
---

"""

_CARD = """\
# SynapseCLR encoder `{{ model.encoder }}`

Maps a 3D electron-microscopy image of a synapse to {{ n_features }} features. {{ origin }}

## Load it

```python
import torch
from synapseclr.models import load_encoder
model = load_encoder("{{ file_name }}")
intensity_bcxyz = torch.zeros(1, {{ model.in_channels }}, 32, 32, 32)  # your masked, z-scored chunks
{% if takes_masks %}
mask_bcxyz = torch.zeros(1, 3, 32, 32, 32, dtype=torch.bool)  # presynaptic, cleft, postsynaptic
features_bf = model(intensity_bcxyz, mask_bcxyz)["encoder.fc"]  # (1, {{ n_features }})
{% else %}
features_bf = model(intensity_bcxyz)["encoder.fc"]  # (1, {{ n_features }})
{% endif %}
```

The model is in evaluation mode, on the CPU. It also returns the projector's layers, `projector.mlp.0` and
`projector.mlp.3`{{ "; they are random here: the projector has never been trained" if untrained_projector }}.

## Data

{{ table(data, "Not stated. Ask whoever gave you the weights which volume they were trained on.") }}

## Configuration

{{ table(configuration, "") }}

## Metrics

{{ table(metrics, "None were measured. Do not assume that these weights are better than random ones.") }}

## Licence

{{ licence }}

## Intended use and limits

- For research on segmented volumes: similar synapses, cell types, imputation of traits, segmentation defects, with
  probes trained on annotations of your own.
- Input must be prepared as in training: the same voxel size, chunk size, channels, masking and normalisation. The file
  does not check it (the pipeline `embedding` compares channels and, where `view_voxel_nm` is given above, the scale of
  its views); other input gives features without meaning, and no error.
- Other tissue, species, staining, or another microscope is a shift of domain: measure on annotated synapses of your own
  before you rely on it. Split them by neurite; a random split overstates.
- Errors of the segmentation are in the features: a merged or cut neurite looks like a trait of the synapse.
- Not for diagnosis or any decision about a person.
"""


def model_card(weights: EncoderWeights, metrics: Mapping[str, Any], data: Mapping[str, Any], licence: str) -> str:
    """Write a card in Markdown: how to load the weights, their data, configuration, metrics, licence, use and limits.

    Args:
        weights: What the card is about; architecture and provenance are taken from it.
        metrics: Name to figure, nested as you like (``{"post_cell_type": {"roc_auc": 0.94}}``). None: not measured.
        data: What it was trained on, such as volume, ``voxel_size_nm``, number of synapses; nested as you like.
        licence: SPDX identifier or name of the weights' licence.

    Raises:
        ConfigurationError: If no licence is given.
    """
    return _render(_CARD, weights, metrics, data, licence)


def export(
    weights: EncoderWeights,
    folder: str | Path,
    *,
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    licence: str,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> str:
    """Write a folder to hand out: ``encoder_weights.safetensors``, and the card as ``README.md``.

    The card begins with the front matter that the Hugging Face Hub reads, so that the folder can be uploaded as it is.

    Args:
        weights: Written after a check that they fit their architecture.
        folder: Local path or fsspec URL; made if need be.
        metrics: As for :func:`model_card`.
        data: As for :func:`model_card`.
        licence: SPDX identifier or name of the weights' licence.
        overwrite: Replace files of these names.
        storage_options: Passed to fsspec.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the weights do not fit their architecture, or files of these names are there already.
        ConfigurationError: If no licence is given.
    """
    weights.build()
    files = {
        FILE_NAME: weights.to_bytes(),
        "README.md": _render(_FRONT_MATTER + _CARD, weights, metrics, data, licence).encode(),
    }
    filesystem, path = open_filesystem(folder, storage_options)
    present = [name for name in files if filesystem.exists(f"{path}/{name}")]
    if present and not overwrite:
        raise CheckpointError(
            f"{folder} has {' and '.join(present)} already. Choose another folder, or give overwrite=True."
        )
    filesystem.makedirs(path, exist_ok=True)
    for name, content in files.items():
        if is_local(folder):
            write_whole(f"{path}/{name}", content, is_recorded=False)
        else:
            filesystem.pipe_file(f"{path}/{name}", content)
    return str(folder)


def _render(
    template: str, weights: EncoderWeights, metrics: Mapping[str, Any], data: Mapping[str, Any], licence: str
) -> str:
    from jinja2 import Environment, StrictUndefined

    licence = " ".join(licence.split())
    if not licence:
        raise ConfigurationError("The model card needs the licence of the weights, such as 'BSD-3-Clause'. Give one.")
    model, built = weights.model, weights.build()
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    return environment.from_string(template).render(
        model=model,
        origin=_origin(weights.provenance),
        n_features=built.encoder.n_features,
        takes_masks=built.takes_masks,
        file_name=FILE_NAME,
        licence=licence,
        hub_licence=licence.lower() if licence.lower() in _HUB_LICENCES else "other",
        untrained_projector=weights.provenance.get("initialised") == "projector",
        data=data,
        metrics=metrics,
        configuration={
            "encoder": model.encoder,
            "in_channels": _CHANNELS[model.in_channels],
            "width_factor": model.width_factor,
            "projection_dims": model.projection_dims,
            "parameters": f"{_n_parameters(weights):,}",
            **weights.provenance,
            "sha256 of the tensors": weights.sha256,
            "synapseclr": __version__,
        },
        table=_table,
    )


def _origin(provenance: Mapping[str, str]) -> str:
    if provenance.get("kind") == "medicalnet":
        return _SEGMENTED
    return _UNTRAINED if provenance.get("epochs") == "0" else _CONTRASTED


def _n_parameters(weights: EncoderWeights) -> int:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return sum(tensor.numel() for name, tensor in weights.state_dict.items() if not name.endswith(buffers))


def _table(values: Mapping[str, Any], if_empty: str) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in _flat("", values)]
    return "\n".join(["| what | value |", "|---|---|", *rows]) if rows else if_empty


def _flat(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        label = f"{prefix}{name}"
        rows += _flat(f"{label} / ", value) if isinstance(value, Mapping) else [(label, value)]
    return rows


def _cell(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, Real) and not isinstance(value, Integral):
        return "undefined" if value != value else f"{float(value):.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item) for item in value)
    return " ".join(str(value).split()).replace("|", "\\|")
