"""A training whose tracking server is lost after its first epoch."""

import json

import pandas as pd
import pytest
from loopback_mlflow import RUN_ID, LoopbackMLflow

from synapseclr.pipelines.pretraining.nodes import log_encoder_model, train_encoder
from synapseclr.tracking import Outbox, set_current_outbox
from synapseclr.training import EmbeddingConfig
from synapseclr.training.serving import ServingConfig


class LosingItsServer(Outbox):
    """An outbox whose server goes when the first epoch is reported."""

    def metrics(self, values, step=0):
        if step == 1:
            self.lose()
        super().metrics(values, step)


@pytest.mark.parametrize("fault", ["dies", "hangs"])
def test_the_training_ends_with_weights_and_history_and_keeps_what_it_logged(
    chunks, tiny_config, tmp_path, monkeypatch, caplog, fault
):
    monkeypatch.setattr("synapseclr.tracking.server.PROBE_SECONDS", 0.3)
    server = LoopbackMLflow()
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: server.uri)
    outbox = LosingItsServer(server.uri, RUN_ID, tmp_path, "kedro run --nodes=NODE")
    outbox.lose = server.die if fault == "dies" else lambda: setattr(server, "hangs", True)
    metadata = pd.DataFrame({"synapse_id": chunks.synapse_id, "chunk_index": range(len(chunks))})
    metadata = metadata.assign(pre_root_id=1, post_root_id=2)
    annotations = pd.DataFrame({"synapse_id": chunks.synapse_id[:2], "pre_cell_type": [0.0, 1.0]})
    set_current_outbox(outbox)
    try:
        weights, history = train_encoder(chunks, metadata, annotations, tiny_config, str(tmp_path / "checkpoints"))
        log_encoder_model(weights, chunks, tiny_config, EmbeddingConfig(), ServingConfig())
        assert not outbox.close("FINISHED")
    finally:
        set_current_outbox(None)
        server._ended.set()
        if fault == "hangs":
            server.die()
    assert len(weights.to_bytes()) > 1000
    assert list(history["epoch"]) == [1, 2, 3]
    told = json.loads((tmp_path / f"{RUN_ID}.json").read_text())
    assert {row[3] for entry in told["entries"] for row in entry["metrics"]} == {1, 2, 3}
    assert told["commands"] == ["kedro run --nodes=log_encoder_model"]
    assert caplog.text.count("is away") == 1
