"""What a person does on the explorer's page."""

import numpy as np
from explorer_runs import FIRST_ID


def place_of(page, position):
    """Position of a place of the map on the screen."""
    return page.evaluate(
        """(position) => {
            const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
            const [x, y] = plot.pointMap.toScreen(...position);
            return [box.left + x, box.top + y];
        }""",
        position,
    )


def click_synapse(page, outputs, row):
    page.mouse.click(*place_of(page, outputs.planes["UMAP"][row].tolist()))
    page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + row}"]')


def outline_of(page, outputs, rows):
    """Corners of a box around some synapses, on the screen."""
    places = np.array([place_of(page, outputs.planes["UMAP"][row].tolist()) for row in rows])
    (left, top), (right, bottom) = places.min(axis=0) - 12, places.max(axis=0) + 12
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top + 1)]


def drag(page, corners):
    """Press the button at the first place, and release it at the last."""
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=6)
    page.mouse.up()


def draw_lasso(page, outputs, rows):
    """Draw around some synapses, and wait for the set."""
    page.locator("#lasso").click()
    drag(page, outline_of(page, outputs, rows))
    page.wait_for_selector("#count")


def isolated_cluster(outputs):
    return np.flatnonzero(outputs.synapses.obs["leiden_cluster"].cat.codes == 2)
