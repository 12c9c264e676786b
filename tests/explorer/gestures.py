"""What a person does on the explorer's page."""

import numpy as np
from explorer_runs import FIRST_ID


def place_of(page, row):
    """Where a synapse is on the screen."""
    return page.evaluate(
        """([id]) => {
            const plot = document.getElementById("plot"), layout = plot._fullLayout, box = plot.getBoundingClientRect();
            for (const trace of plot.data) for (let i = 0; i < trace.x.length; i++) {
                if (Math.abs(trace.x[i] - id[0]) < 1e-6 && Math.abs(trace.y[i] - id[1]) < 1e-6) {
                    return [box.left + layout.xaxis._offset + layout.xaxis.l2p(trace.x[i]),
                            box.top + layout.yaxis._offset + layout.yaxis.l2p(trace.y[i])];
                }
            }
            return null;
        }""",
        [row],
    )


def click_synapse(page, outputs, row):
    page.mouse.click(*place_of(page, outputs.planes["UMAP"][row].tolist()))
    page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + row}"]')


def draw_lasso(page, outputs, rows):
    """Draw around some synapses, and wait for the set."""
    page.locator("#lasso").click()
    places = np.array([place_of(page, outputs.planes["UMAP"][row].tolist()) for row in rows])
    (left, top), (right, bottom) = places.min(axis=0) - 12, places.max(axis=0) + 12
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top + 1)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=6)
    page.mouse.up()
    page.wait_for_selector("#count")


def isolated_cluster(outputs):
    return np.flatnonzero(outputs.synapses.obs["leiden_cluster"].cat.codes == 2)
