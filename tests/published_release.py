"""The published bucket in small: its layout, with a dozen synthetic synapses."""

import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import yaml

from synapseclr.models import ModelConfig

PROJECT = Path(__file__).resolve().parents[1]
SIZE_VX = (24, 24, 6)
MODEL = {"encoder": "resnet18_no_max_pool", "width_factor": 0.125, "in_channels": 1, "projection_dims": [16, 8]}
LAYERS = {"encoder.fc": 64, "projector.mlp.0": 16, "projector.mlp.3": 8}
BIG = 648_518_346_349_500_000  # above 2^53


@dataclass
class Published:
    """A bucket or folder as the published one is laid out, with a dozen synthetic synapses."""

    root: str
    storage_options: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        n = 12
        ids = BIG + 7 * np.arange(n)
        self.chunk_ncxyz = rng.integers(1, 256, (n, 2, *SIZE_VX), dtype=np.uint8)
        self.chunk_ncxyz[:, 1] %= 4
        self.chunk_ncxyz[3, 0, :, :, 2] = 0
        codes = self.chunk_ncxyz[:, 1]
        volumes = {
            name: 5.0 * (codes == code).sum(axis=(1, 2, 3))
            for name, code in (("pre_synaptic_volume", 1), ("post_synaptic_volume", 3), ("synaptic_cleft_volume", 2))
        }
        names = [f"{i}__2_{'_'.join(map(str, SIZE_VX))}.npy" for i in ids]
        self.meta = pd.DataFrame(
            {"synapse_id": ids, "filename": names, **volumes, "n_cutout_sections": [int(i == 3) for i in range(n)]}
        )
        self.synapses = pd.DataFrame(
            {
                "id": np.append(ids[::-1], [1, 2]),
                "pre_root_id": np.append(BIG + 1000 + np.arange(n) // 2, [5, 6]),
                "post_root_id": np.append(BIG + 2000 + np.arange(n) // 3, [7, 8]),
                **{f"ctr_pos_{axis}_vx": np.arange(n + 2) * 100 for axis in "xyz"},
            }
        )
        annotated = ids[:8]
        self.meta_ext = pd.DataFrame(
            {
                "synapse_id": annotated,
                "filename": names[:8],
                "cleft_size_log1p_zscore": rng.normal(size=8),
                "presyn_soma_dist_log1p_zscore": rng.normal(size=8),
                "postsyn_soma_dist_log1p_zscore": rng.normal(size=8),
                "pre_cell_type": np.arange(8) % 2,
                "post_cell_type": np.arange(8) // 4,
                "n_mitos_pre": [0, 1] * 4,
                "n_mitos_post": [1, 1, 0, 2] * 2,
                "mito_size_pre_vx_log1p_zscore_zi": [-np.inf, 0.5] * 4,
                "mito_size_post_vx_log1p_zscore_zi": [0.1, 0.2, -np.inf, 0.3] * 2,
                "has_mito_pre": [0, 1] * 4,
                "has_mito_post": [1, 1, 0, 1] * 2,
            }
        )
        self.model = ModelConfig(**MODEL).build(seed=5)
        self.features = {name: rng.normal(size=(n, f)).astype(np.float32) for name, f in LAYERS.items()}

    @property
    def chunks(self) -> str:
        return f"{self.root}/data/MICrONS__L23__8_8_40__processed"

    @property
    def output(self) -> str:
        return f"{self.root}/output/checkpoint__synapseclr__so3__second_stage"

    def put(self, url: str, content: bytes) -> None:
        with fsspec.open(url, "wb", **self.storage_options) as file:
            file.write(content)

    def put_array(self, url: str, array: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array)
        self.put(url, buffer.getvalue())

    def put_table(self, url: str, table: pd.DataFrame) -> None:
        self.put(url, table.to_csv(index=False).encode())

    def write(self) -> None:
        import torch

        for name, chunk_cxyz in zip(self.meta["filename"], self.chunk_ncxyz, strict=True):
            self.put_array(f"{self.chunks}/{name}", chunk_cxyz)
        self.put_table(f"{self.chunks}/meta.csv", self.meta)
        self.put_table(f"{self.chunks}/meta_ext.csv", self.meta_ext)
        self.put_table(f"{self.root}/tables/pni_synapses_v185.csv", self.synapses)
        buffer = io.BytesIO()
        torch.save({f"module.{name}": tensor for name, tensor in self.model.state_dict().items()}, buffer)
        self.put(f"{self.output}/model_checkpoint_99.pt", buffer.getvalue())
        # Two processes with every second synapse each, and three that both have.
        for node, rows in enumerate((np.r_[0:12:2, 1, 3], np.r_[1:12:2, 0])):
            stem = f"{self.output}/features/extracted_features__node.{node}__epoch.99__"
            self.put_array(f"{stem}index_array.npy", rows)
            for name, features_nf in self.features.items():
                self.put_array(f"{stem}{name}.npy", features_nf[rows])
        stem = f"{self.root}/output/checkpoint__random/features/extracted_features__node.0__epoch.0__"
        self.put_array(f"{stem}index_array.npy", np.arange(12))
        self.put_array(f"{stem}encoder.fc.npy", np.random.default_rng(1).normal(size=(12, 64)))


@pytest.fixture
def published(tmp_path) -> Published:
    """The layout in a local folder, anew for each test."""
    folder = Published(str(tmp_path / "published"))
    for name in ("data/MICrONS__L23__8_8_40__processed", "tables", "output/checkpoint__random/features"):
        (tmp_path / "published" / name).mkdir(parents=True)
    (tmp_path / "published/output/checkpoint__synapseclr__so3__second_stage/features").mkdir(parents=True)
    folder.write()
    return folder


@pytest.fixture(scope="module")
def published_bucket(gcs_endpoint) -> Published:
    """The layout in a bucket, for anonymous access."""
    bucket = Published("gs://synapseclr-test/published", {"token": "anon"})
    bucket.write()
    return bucket


@pytest.fixture(scope="module")
def small_configuration(tmp_path_factory) -> Path:
    """The project's configuration, with ``conf/published`` at the size of the synthetic synapses."""
    folder = tmp_path_factory.mktemp("small") / "conf"
    shutil.copytree(PROJECT / "conf", folder)
    changes = {
        "globals.yml": {"published_model": MODEL},
        "preprocessing/parameters.yml": {"preprocessing": {"chunk_size_vx": list(SIZE_VX)}},
        "pretraining/parameters.yml": {
            "pretraining": {
                "augmentation": {
                    "final_crop_size": 20,
                    "final_img_size": 16,
                    "cutout_size_min": 2,
                    "cutout_size_max": 5,
                }
            }
        },
        "manifold/parameters.yml": {"manifold": {"n_components": 4, "n_neighbours": 3, "n_epochs": 20}},
    }
    for name, change in changes.items():
        path = folder / "published" / name
        content = yaml.safe_load(path.read_text())
        _merge(content, change)
        path.write_text(yaml.safe_dump(content))
    return folder


def _merge(target: dict, change: dict) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value
