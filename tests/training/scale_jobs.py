"""What the tests of the scale-out run in other processes: as a script, what one of several machines runs."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import zarr

from synapseclr.training import EmbeddingConfig, PretrainingConfig, embed_to_shards, fit
from synapseclr.training.launching import machine_index
from synapseclr.volumes import ChunkStore


def say(*content):
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def train_and_embed(url, config, embedding, folder):
    """What two nodes on each of several machines do."""
    chunks, config = ChunkStore(url), PretrainingConfig.model_validate_json(config)
    result = fit(chunks, config, folder, report=say)
    model = result.weights.build()
    embedding = EmbeddingConfig.model_validate_json(embedding)
    digest = result.weights.sha256
    place = str(Path(folder).resolve() / "embeddings.partial")
    shards, spread_n = embed_to_shards(model, chunks, config.augmentation, embedding, place, digest)
    out = Path(folder, f"machine-{machine_index()}")
    out.with_suffix(".weights").write_bytes(result.weights.to_bytes())
    out.with_suffix(".features").write_bytes(zarr.open_array(f"{shards.url}/X")[:].tobytes())
    out.with_suffix(".spread").write_bytes(spread_n.tobytes())


def record_steps(chunks, config, folder, probe, report):
    """Train with draws that all processes share, and note the loss of every step."""
    from synapseclr.training.engine import train_in_process
    from synapseclr.training.module import PretrainingModule

    losses = []
    step, generator = PretrainingModule.training_step, PretrainingModule._generator

    def recorded(self, chunk_bcxyz, batch_index):
        loss = step(self, chunk_bcxyz, batch_index)
        losses.append(float(loss.detach()))
        return loss

    def of_rank_0(self, stage, epoch, batch_index):
        return generator(SimpleNamespace(config=self.config, global_rank=0), stage, epoch, batch_index)

    PretrainingModule.training_step, PretrainingModule._generator = recorded, of_rank_0
    try:
        return losses, train_in_process(chunks, config, folder, probe, report, None)
    finally:
        PretrainingModule.training_step, PretrainingModule._generator = step, generator


if __name__ == "__main__":
    train_and_embed(*sys.argv[1:])
