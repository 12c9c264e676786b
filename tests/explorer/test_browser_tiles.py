"""A browser over a run that the page takes for a large one: tiles, points on zooming in, sets kept by the server."""

import csv

import pytest
from explorer_runs import FIRST_ID, N_SMALL, make_outputs, serve
from gestures import drag, isolated_cluster, outline_of, place_of


@pytest.fixture(scope="module")
def large_explorer(tmp_path_factory):
    """The explorer over 60 synapses, of which it sends at most 25 as points."""
    folder = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("synapseclr.explorer.map_views.MAX_POINTS", 25)
        server, served = serve(make_outputs(folder), folder / "synapse_labels", tiles_above=0)
        yield served
        server.shutdown()


def wait_for_detail(page, detail):
    page.wait_for_function(f"document.querySelector('#plot').dataset.detail === '{detail}'")


def painted(page):
    """Pixels of the layer of tiles that are not empty."""
    return page.evaluate(
        """() => { const canvas = document.querySelector("#plot canvas"), context = canvas.getContext("2d");
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            let n = 0; for (let at = 3; at < data.length; at += 4) n += data[at] > 0; return n; }"""
    )


def test_tiles_become_points_and_sets_stay_with_the_server(open_page, large_explorer):
    outputs = large_explorer.outputs
    asked = []
    page = open_page(large_explorer.address)
    page.on("request", lambda request: asked.append(request.url))
    assert page.locator("#shown").inner_text() == f"{N_SMALL} of {N_SMALL} synapses shown"
    wait_for_detail(page, "tiles")
    assert painted(page) > 30
    rows = isolated_cluster(outputs)

    # A click on the tiles picks the nearest synapse, and the ring is drawn around it.
    page.mouse.click(*place_of(page, outputs.planes["UMAP"][rows[0]].tolist()))
    page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + rows[0]}"]')
    assert page.locator("#plot .ring").count() == 1

    # Filters and colours.
    page.locator("#colour").select_option("outlier_score")
    page.locator("#legend [data-key=high]").wait_for()
    page.locator("#add-filter").select_option("outlier_score")
    page.locator("#filters .bars rect").first.wait_for(state="attached")
    page.get_by_label("outlier score, at least").fill("0.5")
    page.get_by_label("outlier score, at least").press("Enter")
    page.get_by_text(f"30 of {N_SMALL} synapses shown").wait_for()
    page.locator("#filters .remove").click()
    page.get_by_text(f"{N_SMALL} of {N_SMALL} synapses shown").wait_for()

    # A lasso; what is combined has an id of the server.
    page.locator("#lasso").click()
    drag(page, outline_of(page, outputs, rows))
    page.get_by_text("20 synapses selected").wait_for()
    page.locator("#summary").get_by_text("100% third").wait_for()
    page.locator("#set-subtract").click()
    drag(page, outline_of(page, outputs, rows[:1]))
    page.wait_for_function("location.hash.includes('selection=')")
    n_left = int(page.locator("#plot").get_attribute("data-selected"))
    assert 0 < n_left < 20
    assert page.locator("#link-note").is_visible()
    with page.expect_download() as exported:
        page.locator("#export").click()
    lines = list(csv.reader(exported.value.path().read_text().splitlines()))
    assert len(lines) == n_left + 1
    assert {int(line[0]) - FIRST_ID for line in lines[1:]} < set(rows)
    page.locator("#gallery-order").select_option("outlier_score")
    page.wait_for_function(f"document.querySelectorAll('#gallery .thumbs li').length === {n_left}")
    page.locator("#label").fill("left over")
    page.locator("#save-label").click()
    page.locator("#label-saved").get_by_text(f"{n_left} synapses labelled").wait_for()
    page.locator("#tab-labels").click()
    page.locator("#labels-used").get_by_text(f"{n_left} synapses").wait_for()
    page.locator("#colour-labels").click()
    page.locator("#legend").get_by_text(f"left over ({n_left})").wait_for()
    page.locator("#undo-selection").click()
    page.wait_for_function("document.querySelector('#plot').dataset.selected === '20'")

    # Few synapses in sight become points.
    page.locator("#pan").click()
    centre = outputs.planes["UMAP"][rows].mean(axis=0).tolist()
    for _ in range(6):
        page.mouse.move(*place_of(page, centre))
        page.mouse.wheel(0, -160)
    wait_for_detail(page, "points")
    assert painted(page) == 0
    place = place_of(page, outputs.planes["UMAP"][rows[1]].tolist())
    box = page.locator("#plot").bounding_box()
    if box["x"] < place[0] < box["x"] + box["width"] and box["y"] < place[1] < box["y"] + box["height"]:
        page.mouse.click(*place)
        page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + rows[1]}"]')
    page.locator("#reset").click()
    wait_for_detail(page, "tiles")

    # A map in space, of a sample.
    page.locator("#plane").select_option("Volume in 3D")
    wait_for_detail(page, "points")
    assert page.evaluate("document.querySelector('#plot').pointMap.x.length") == 25

    # A neurite by its root id, and an id that nothing has.
    page.locator("#find-id").fill(str(outputs.roots["pre_root_id"][20]))
    page.locator("#find-id").press("Enter")
    page.wait_for_selector("#neuron-colour")
    page.locator("#neuron-outputs").click()
    page.get_by_text("2 synapses selected").wait_for()
    page.locator("#find-id").fill("123")
    page.locator("#find-id").press("Enter")
    page.locator("#said").get_by_text("no synapse").wait_for()

    # What is not available is said.
    page.locator("#large summary").click()
    assert "Not available: axis walk" in page.locator("#large").inner_text()
    assert page.locator("#line").is_disabled()
    assert page.locator("#learn").count() == 0
    whole = ("/api/column/", "/api/plane/", "/api/ids.bin", "/api/roots/")
    assert not [url for url in asked if any(part in url for part in whole)]
