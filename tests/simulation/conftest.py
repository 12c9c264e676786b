import pytest

from synapseclr.simulation import SimulationConfig, simulate


@pytest.fixture(scope="session")
def small_volume():
    return simulate(SimulationConfig.small(seed=3, defect_fraction=0.0))


@pytest.fixture(scope="session")
def medium_volume():
    return simulate(
        SimulationConfig(seed=1, shape_vx=(480, 480, 100), n_dendrites=34, n_fillers=260, defect_fraction=0.04)
    )


@pytest.fixture(scope="session")
def texture_volume():
    return simulate(
        SimulationConfig(
            seed=1, shape_vx=(480, 480, 100), n_dendrites=34, n_fillers=260, defect_fraction=0.0, signature="texture"
        )
    )
