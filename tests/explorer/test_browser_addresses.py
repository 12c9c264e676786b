"""Addresses of the explorer's page, those that make no sense too, and copies for other servers."""

from explorer_runs import FIRST_ID, HOSTILE, N_SMALL
from gestures import draw_lasso, isolated_cluster

from synapseclr.explorer.static_export import export_explorer


def test_an_address_brings_another_reader_to_the_same_place(open_page, explorer):
    first = open_page(explorer.address)
    first.locator("#colour").select_option("outlier_score")
    draw_lasso(first, explorer.outputs, isolated_cluster(explorer.outputs))
    first.locator("#tab-synapse").click()
    first.locator("#find-id").fill(str(FIRST_ID + 7))
    first.locator("#find-id").press("Enter")
    first.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + 7}"]')
    count = first.locator("#tab-selection").inner_text()
    second = open_page(first.url, color_scheme="dark")
    second.wait_for_selector(f'#synapse[data-synapse="{FIRST_ID + 7}"]')
    assert second.locator("#tab-selection").inner_text() == count == "Selection (20)"
    assert second.locator("#colour").input_value() == "outlier_score"
    assert second.locator("html").get_attribute("data-theme") == "dark"


def test_addresses_and_ids_that_make_no_sense_do_no_harm(open_page, explorer):
    page = open_page(
        f"{explorer.address}#synapse={HOSTILE}&colour=nothing&plane=../x&filter=a~b~c~d&lasso=1,2;x&ids=.."
    )
    assert page.locator("#synapse p[role=alert]").inner_text() == f"This run has no synapse “{HOSTILE}”."
    page = open_page(f"{explorer.address}#synapse=12&filter=absent~1~2")
    page.get_by_text("This run has no synapse “12”.").wait_for()
    page.get_by_text("This run has no such column.").wait_for()
    page.locator("#find-id").fill("../../etc/passwd")
    page.locator("#find-id").press("Enter")
    page.locator("#said").get_by_text("This run has no synapse “../../etc/passwd”.").wait_for()
    page.goto(f"{explorer.address}#synapse={FIRST_ID + N_SMALL - 1}")
    page.get_by_text("There are no pictures of this synapse.").wait_for()
    page.locator("#colour").select_option("leiden_cluster")
    page.locator("#legend").get_by_text(HOSTILE).wait_for()  # as text, not as an element
    assert page.locator("#legend img").count() == 0


def test_a_static_copy_works_without_the_server(open_page, browser, explorer, tmp_path):
    import functools
    import http.server
    import threading

    assert export_explorer(explorer.outputs, tmp_path / "copy", max_pictured=10) == 10
    assert export_explorer(explorer.outputs, tmp_path / "copy", max_pictured=10) == 10  # over itself
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "copy"))
    handler.func.log_message = lambda *arguments: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        pictured = sorted(int(path.name) for path in (tmp_path / "copy" / "api" / "synapse").iterdir())
        page = open_page(f"http://127.0.0.1:{server.server_port}/#synapse={pictured[0]}")
        page.wait_for_selector("canvas[data-drawn=true]")
        page.get_by_text(f"This copy has details and pictures of 10 of {N_SMALL} synapses.").wait_for()
        page.locator("#select-shown").click()
        page.get_by_text(f"{N_SMALL} synapses selected").wait_for()
        assert page.locator("#mark").count() == 0
        missing = next(row for row in range(N_SMALL) if FIRST_ID + row not in pictured)
        page.locator("#tab-synapse").click()
        page.locator("#find-id").fill(str(FIRST_ID + missing))
        page.locator("#find-id").press("Enter")
        page.get_by_text(f"This copy has no details of synapse {FIRST_ID + missing}.").wait_for()
    finally:
        server.shutdown()
    page = browser.new_page()
    page.goto((tmp_path / "copy" / "index.html").as_uri())
    assert str(tmp_path / "copy") in page.locator("#not-served pre").inner_text()
    page.close()
