import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from synapseclr.errors import ConfigurationError
from synapseclr.hooks import PipelineClock, SimulationGuard, _flatten


def simulation_of(path):
    pipeline = Pipeline([Node(lambda: 1, None, "em_volume", name="simulate")], tags="simulation")
    return pipeline, DataCatalog({"em_volume": JSONDataset(filepath=str(path))})


def test_the_simulation_may_write_below_a_folder_named_simulated(tmp_path):
    pipeline, catalog = simulation_of(tmp_path / "01_raw/simulated/em")
    SimulationGuard().before_pipeline_run(pipeline, catalog)


def test_the_simulation_never_writes_where_raw_data_lie(tmp_path):
    pipeline, catalog = simulation_of(tmp_path / "01_raw/microns/em")
    with pytest.raises(ConfigurationError, match=r"would overwrite em_volume at .*microns/em"):
        SimulationGuard().before_pipeline_run(pipeline, catalog)


def test_the_clock_adds_up_nodes_and_keeps_earlier_pipelines(tmp_path):
    seconds = JSONDataset(filepath=str(tmp_path / "s.json"))
    seconds.save({"simulation": 3.5, "embedding": 99.0})
    clock = PipelineClock()
    clock.after_catalog_created(DataCatalog({"pipeline_seconds": seconds}))
    node = Node(lambda x: x, "x", "y", name="embed", tags="embedding")
    clock.before_dataset_loaded(node)
    clock.after_dataset_saved(node)
    assert seconds.load()["simulation"] == 3.5
    assert 0 <= seconds.load()["embedding"] < 5


def test_nested_parameters_are_flattened():
    assert _flatten("a", {"b": 1, "c": {"d": [2]}}) == {"a.b": 1, "a.c.d": [2]}
