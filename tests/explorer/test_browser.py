"""A browser drives the explorer as a person does; screenshots are kept in test-artifacts/explorer."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from explorer_runs import FIRST_ID, HOSTILE, N_SMALL
from gestures import click_synapse, drag, draw_lasso, isolated_cluster, outline_of, place_of

_ODD_ON_TOP = """() => {
    const top = document.querySelector("#plot").pointMap.order.slice(-10000);
    return top.reduce((sum, point) => sum + point % 2, 0) / top.length;
}"""
_INK_WHILE_MOVING = """() => {
    const map = document.querySelector("#plot").pointMap, { renderer } = map, { gl } = renderer;
    const { drawingBufferWidth: width, drawingBufferHeight: height } = gl;
    const pixels = new Uint8Array(4 * width * height), paper = map.paper.map((part) => Math.round(255 * part));
    const ink = () => {
        renderer.sample = 4000;
        map.paint();
        gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
        let n = 0;
        const isInk = (at) => paper.some((part, place) => Math.abs(part - pixels[at + place]) > 8);
        for (let at = 0; at < pixels.length; at += 4) n += isInk(at);
        return n;
    };
    map.isMoving = false;
    const rest = ink();
    map.panBy(20, 10);
    const moved = ink();
    map.zoomBy(1.2);
    const zoomed = ink();
    map.fit();
    return [rest, moved, zoomed, renderer.counts(true).reduce((one, other) => one + other)];
}"""


def test_a_click_shows_the_synapse_and_its_neighbours_lead_on(open_page, explorer):
    page = open_page(explorer.address)
    assert page.locator("#shown").inner_text() == f"{N_SMALL} of {N_SMALL} synapses shown"
    assert page.locator("#notes").inner_text() == "A note."
    click_synapse(page, explorer.outputs, 20)
    page.wait_for_selector("canvas[data-drawn=true]")
    pixels = page.evaluate("""() => { const c = document.querySelector(".sections canvas");
        return [...c.getContext("2d").getImageData(24, 20, 1, 1).data]; }""")
    assert pixels[0] > pixels[2] + 40  # the cleft's orange lies over the grey
    page.locator("input[aria-label=Section]").fill("0")
    page.get_by_text("section 0 of 12").wait_for()
    page.locator("#shape summary").click()
    page.wait_for_selector(".scene[data-state=drawn]")
    neighbours = page.locator("#synapse .thumbs button")
    assert neighbours.count() == 12
    features = explorer.outputs.features_nf
    nearest = FIRST_ID + int(np.argsort(np.linalg.norm(features - features[20], axis=1))[1])
    assert neighbours.first.get_attribute("data-synapse") == str(nearest)
    assert page.evaluate("document.querySelector('#synapse .thumbs img').naturalWidth") > 0
    href = page.get_by_text("Open in Neuroglancer").get_attribute("href")
    assert href.startswith("https://neuroglancer")
    n_annotated = sum(row % 4 != 0 for row in np.argsort(np.linalg.norm(features - features[20], axis=1))[1:13])
    page.locator("#agreement").get_by_text(f"{n_annotated} of {n_annotated} excitatory").wait_for()
    page.locator("#why-of").select_option(str(nearest))
    page.locator("#why").get_by_text("Nearer than").wait_for()
    root = str(explorer.outputs.roots["pre_root_id"][20])
    page.locator("#synapse a.root").first.click()
    page.wait_for_selector(f'#neuron[data-neuron="{root}"]')
    page.locator("#neuron-colour").click()
    page.locator("#legend").get_by_text("its outputs (2)").wait_for()
    colour = page.locator("#colour")  # a root id is shortened in the middle, and there in full for who asks
    assert colour.locator("option:checked").inner_text() == f"neurite {root[:4]}…{root[-6:]}"
    assert colour.get_attribute("title") == f"neurite {root}"
    assert colour.locator("option:checked").get_attribute("aria-label") == f"neurite {root}"
    page.locator("#neuron-outputs").click()
    page.get_by_text("2 synapses selected").wait_for()
    assert f"neuron={root}" in page.url  # above 2^53 and 2^63: numbers would round it
    page.locator("#tab-neuron").click()
    with page.expect_download() as saved:
        page.locator("#neuron-export").click()
    table = Path(saved.value.path()).read_text().split()
    posts = explorer.outputs.roots["post_root_id"][20:22]
    assert table == [
        "synapse_id,pre_root_id,post_root_id",
        *(f"{FIRST_ID + 20 + k},{root},{post}" for k, post in enumerate(posts)),
    ]
    page.locator("#find-id").fill(str(FIRST_ID))  # of a synapse, and of a neurite
    page.locator("#find-id").press("Enter")
    page.get_by_text(f"{FIRST_ID} is a neurite's root id too").wait_for()
    page.locator("#neuron").get_by_text("no outputs, 1 input from 1 partner").wait_for(state="attached")
    page.locator("#find-id").fill(str(FIRST_ID + 20))
    page.locator("#find-id").press("Enter")
    page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + 20}"]')
    page.locator("#tab-synapse").click()
    neighbours.first.click()
    page.wait_for_selector(f'#synapse[data-synapse="{nearest}"]')
    page.go_back()
    page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + 20}"]')
    page.locator("#add-compared").click()
    page.locator("#tray").get_by_text(str(FIRST_ID + 20)).wait_for()
    neighbours.nth(2).click()
    page.locator("#add-compared").click()
    page.locator("#open-comparison").click()
    page.wait_for_selector("#trait-differences")
    sliders = page.locator("#comparison input[type=range]")
    sliders.first.fill("3")
    page.wait_for_function("document.querySelectorAll('#comparison input[type=range]')[1].value === '3'")


def test_colours_and_filters_change_what_is_drawn(open_page, explorer):
    page = open_page(explorer.address)
    page.locator("#colour").select_option("outlier_score")
    page.wait_for_function("document.querySelector('#legend [data-key=high]')?.value > 0.9")
    page.locator("#add-filter").select_option("leiden_cluster")
    boxes = page.locator("#filters input[type=checkbox]")
    boxes.nth(0).uncheck()
    page.get_by_text(f"40 of {N_SMALL} synapses shown").wait_for()
    page.locator("#add-filter").select_option("outlier_score")
    page.get_by_label("outlier score, at least").fill("0.5")
    page.get_by_label("outlier score, at least").press("Enter")
    page.get_by_text(f"20 of {N_SMALL} synapses shown").wait_for()
    assert page.locator("#plot").get_attribute("data-points") == "20"
    page.locator("#colour").select_option("leiden_cluster")
    page.wait_for_function("document.querySelectorAll('#legend .swatch').length === 2")
    page.locator("#legend .only").first.click()  # isolates the class
    page.get_by_text(f"10 of {N_SMALL} synapses shown").wait_for()
    page.locator("#legend .only").first.click()
    page.get_by_text(f"20 of {N_SMALL} synapses shown").wait_for()
    page.locator("#appearance summary").click()
    page.locator("#point-size").fill("12")
    page.wait_for_function("location.hash.includes('size=12')")
    page.locator("#plane").select_option("PCA")
    page.wait_for_function("location.hash.includes('plane=PCA')")
    page.locator("#filters .remove").first.click()
    page.get_by_text(f"30 of {N_SMALL} synapses shown").wait_for()
    page.locator("#add-filter").select_option("pre_cell_type")
    page.locator("#filters").get_by_label("no value").last.uncheck()
    page.wait_for_function("!document.querySelector('#shown').textContent.startsWith('30 ')")
    assert "no value" not in page.locator("#legend").inner_text()


def test_a_failed_request_changes_nothing_and_can_be_tried_again(open_page, explorer):
    page = open_page(explorer.address)
    before = page.locator("#legend").inner_text(), page.locator("#colour").input_value(), page.url
    page.route("**/api/column/*", lambda route: route.fulfill(status=404, json={"error": "The disk is away."}))
    page.locator("#colour").select_option("outlier_score")
    page.locator("#failure").get_by_text("The disk is away.").wait_for()
    assert (page.locator("#legend").inner_text(), page.locator("#colour").input_value(), page.url) == before
    page.unroute("**/api/column/*")
    page.locator("#retry").click()
    page.wait_for_function("location.hash.includes('colour=outlier_score')")
    assert page.locator("#colour").input_value() == "outlier_score"
    assert not page.locator("#failure").inner_text()


def test_a_lasso_is_summarised_exported_searched_and_labelled(open_page, explorer):
    page = open_page(explorer.address)
    rows = isolated_cluster(explorer.outputs)
    draw_lasso(page, explorer.outputs, rows)
    assert page.locator("#count").inner_text() == f"{len(rows)} synapses selected"
    page.get_by_text("100% third").wait_for()
    with page.expect_download() as exported:
        page.locator("#export").click()
    lines = list(csv.reader(exported.value.path().read_text().splitlines()))
    assert [int(line[0]) for line in lines[1:]] == (FIRST_ID + rows).tolist()
    page.locator("#find-similar").click()
    page.wait_for_selector("#found .thumbs button")
    page.locator("#find-defective").click()
    page.get_by_text("Likely defective, like the set").wait_for()
    page.locator("#label").fill(f"{HOSTILE} ../..")
    page.locator("#save-label").click()
    page.locator("#said").get_by_text("Saved:").wait_for()
    page.locator("#mark").click()
    page.locator("#said").get_by_text("“defective”").wait_for()
    saved = explorer.outputs.labels.read().labels
    assert saved.groupby("label").size().to_dict() == {"defective": len(rows), f"{HOSTILE} ../..": len(rows)}
    records = [json.loads(path.read_text()) for path in explorer.labels.glob("*.json")]
    assert all("lasso=" in record["chosen_by"] and record["run"] == {"weights": "abc"} for record in records)
    page.locator("#tab-labels").click()
    page.locator("#labels-used").get_by_text("defective").wait_for()
    page.locator("#colour-labels").click()
    page.locator("#legend").get_by_text(f"defective ({len(rows)})").wait_for()
    page.locator("#labels-saved").get_by_role("button").first.click()
    page.locator("#legend").get_by_text(f"{HOSTILE} ../.. ({len(rows)})").wait_for()
    assert set(explorer.outputs.labels.read().labels["label"]) == {f"{HOSTILE} ../.."}
    page.locator("#tab-selection").click()
    page.locator("#neuroglancer").click()
    assert "annotations" in page.locator("#neuroglancer-link").get_attribute("href")
    page.locator("#gallery-order").select_option("outlier_score")
    page.wait_for_function(f"document.querySelector('.gallery button').dataset.synapse === '{FIRST_ID + rows[0]}'")
    page.locator("#gallery [data-tick=yes]").first.click()
    page.locator("#learn").click()
    page.wait_for_function("document.querySelector('#colour').value === 'learnt'")
    page.locator("#undo-tick").click()
    page.wait_for_function("document.querySelector('#colour').value === 'ticked'")
    page.locator("#select-found").click()
    page.get_by_text("24 synapses selected").wait_for()
    page.locator("#clear").click()
    page.get_by_text("Draw a lasso").wait_for()


def test_everything_can_be_reached_by_keyboard(open_page, explorer):
    page = open_page(explorer.address)
    page.keyboard.press("/")
    page.keyboard.type(str(FIRST_ID + 3))
    page.keyboard.press("Enter")
    page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + 3}"]')
    page.locator("#find-id").blur()
    nearest = page.locator("#synapse .thumbs button").first.get_attribute("data-synapse")
    page.keyboard.press("1")
    page.wait_for_selector(f'#synapse[data-synapse="{nearest}"]')
    page.locator("#tab-synapse").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-selection"
    page.locator("#select-shown").focus()
    page.keyboard.press("Enter")
    page.get_by_text(f"{N_SMALL} synapses selected").wait_for()
    page.locator("#browse summary").focus()
    page.keyboard.press("Enter")
    listed = page.locator("#list button").first
    chosen = listed.inner_text().split()[0]
    listed.press("Enter")
    page.wait_for_function("!document.querySelector('#synapse').hidden")
    page.wait_for_selector(f'#synapse[data-synapse="{chosen}"] canvas[data-drawn=true]')
    section = int(page.locator("input[aria-label=Section]").input_value())
    page.keyboard.press("ArrowLeft")  # the focus is in the list
    page.get_by_text(f"section {section - 1} of 12").wait_for()
    page.locator(".sections canvas").hover()
    page.mouse.wheel(0, 100)
    page.get_by_text(f"section {section + 1} of 12").wait_for()
    page.keyboard.press("?")
    page.locator("#help").get_by_text("the nearest neighbour").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('#help').open")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, serious_findings, explorer, theme):
    page = open_page(
        f"{explorer.address}#synapse={FIRST_ID}&theme={theme}&filter=outlier_score~0~1&filter=leiden_cluster~0"
    )
    page.wait_for_selector("canvas[data-drawn=true]")
    page.locator("#browse summary").click()
    assert not serious_findings(page)
    page.locator("#select-shown").click()
    page.wait_for_selector("#summary table")
    assert not serious_findings(page)
    if theme == "dark":
        return
    for width in (820, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert not serious_findings(page)
    page.locator("#sheet-handle").click()
    title, sheet = (page.locator(name).bounding_box() for name in ("#title", "#panel"))
    assert title["width"] > 30
    assert sheet["y"] < 600  # details lie over the map, not below it


def test_two_people_work_side_by_side(open_page, explorer):
    pages = [open_page(explorer.address), open_page(explorer.address)]
    for page, row in zip(pages, (1, 2), strict=True):
        page.locator("#find-id").fill(str(FIRST_ID + row))
    for page in pages:
        page.locator("#find-id").press("Enter")
    for page, row in zip(pages, (1, 2), strict=True):
        page.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + row}"]')
        assert page.locator("#synapse .thumbs button").count() == 12


def test_a_hundred_thousand_synapses_are_drawn_clicked_and_chosen(open_page, big_explorer):
    page = open_page(big_explorer.address)
    assert page.locator("#plot").get_attribute("data-points") == "100000"
    page.locator("#colour").select_option("outlier_score")
    page.wait_for_selector("#plot[data-colour=outlier_score]")
    assert page.evaluate(_ODD_ON_TOP) == pytest.approx(0.5, abs=0.03)  # no class lies on top
    rest, moved, zoomed, n_painted = page.evaluate(_INK_WHILE_MOVING)
    assert n_painted < 10_000  # as on a slow machine
    assert moved == pytest.approx(rest, rel=0.1)  # nothing seems to be lost
    assert rest < zoomed < 2 * rest
    page.wait_for_function("!document.querySelector('#plot').pointMap.isMoving")
    outlying = int(np.argmin(big_explorer.outputs.planes["UMAP"][:, 0]))
    click_synapse(page, big_explorer.outputs, outlying)
    assert page.locator("#synapse .thumbs button").count() == 12
    page.locator("#select-shown").click()
    page.get_by_text("100,000 synapses selected").wait_for()
    page.get_by_text("What sets the selection apart").wait_for()


def test_the_map_stays_where_it_is_while_sets_are_drawn_added_and_undone(open_page, explorer):
    page = open_page(explorer.address)
    cluster = isolated_cluster(explorer.outputs)
    where = place_of(page, explorer.outputs.planes["UMAP"][0].tolist())
    draw_lasso(page, explorer.outputs, cluster)
    assert place_of(page, explorer.outputs.planes["UMAP"][0].tolist()) == where
    page.locator("#box").click()
    others = np.flatnonzero(explorer.outputs.synapses.obs["leiden_cluster"].cat.codes == 0)
    page.locator("#set-add").click()
    corners = outline_of(page, explorer.outputs, others)
    drag(page, [corners[0], corners[2]])
    page.get_by_text("40 synapses selected").wait_for()
    page.locator("#set-subtract").click()
    corners = outline_of(page, explorer.outputs, cluster)
    drag(page, [corners[0], corners[2]])
    page.wait_for_selector("#plot[data-selected='20']")
    page.keyboard.press("u")
    page.wait_for_selector("#plot[data-selected='40']")
    page.locator("#undo-selection").click()
    page.wait_for_selector("#plot[data-selected='20']")
    page.locator("#plane").select_option("Volume in 3D")  # another map: the set stays
    page.wait_for_function("location.hash.includes('ids=')")
    assert page.locator("#plot").get_attribute("data-selected") == "20"


def test_a_line_on_the_map_gives_a_filmstrip(open_page, explorer):
    page = open_page(f"{explorer.address}#colour=leiden_cluster")
    page.keyboard.press("w")
    drag(page, [place_of(page, [-1.0, 0.0]), place_of(page, [11.0, 0.0])])
    page.wait_for_selector("#walk li button")
    assert page.locator("#walk li").count() == 9
    first, last = (page.locator("#walk li button").nth(place).inner_text() for place in (0, -1))
    assert HOSTILE in first
    assert "../../etc" in last
    again = open_page(page.url)
    again.wait_for_selector("#walk li button")
    page.locator("#close-walk").click()
    page.wait_for_function("!location.hash.includes('walk=')")
