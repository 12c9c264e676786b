"""The explorer in a browser, and renders: ``python benchmarks/explorer.py``.

A server process shows 100,000 synapses with 512 features; headless Chromium, which draws by its software WebGL, opens
the page and clicks points. Pictures come from a store of 500 chunks of 80 x 80 x 32 voxels, which the synapses share.

- first paint: from the request of the page to all points being painted, and to WebGL having taken over, when the map
  answers to the mouse; medians of 3 fresh browser contexts;
- click to neighbours: from the mouse button to the last of twelve thumbnails being loaded, median of 20 points, by the
  page's own clock;
- memory: peak resident set of the server afterwards, a search for defects included;
- renders: one synapse of 96^3 voxels to a picture of 480 x 480 pixels, surfaces and points included, median of 7.

``baseline`` is the limit set for each; ``ratio`` is how far below the limit (above it, for renders) the result lies.
Writes ``benchmarks/results/explorer.json``. Needs Chromium (``make system``).
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results/explorer.json"
N_SYNAPSES, N_FEATURES, N_CHUNKS = 100_000, 512, 500
CHUNK_VX, VOXEL_NM = (80, 80, 32), (16.0, 16.0, 40.0)
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
LISTEN = """() => addEventListener("mousedown", () => { window.pressed = performance.now(); }, true)"""
LOADED = """async (before) => {
    const panel = document.querySelector("#synapse");
    while (true) {
        const pictures = [...panel.querySelectorAll(".thumbs img")];
        const changed = panel.dataset.synapse && panel.dataset.synapse !== before;
        if (changed && pictures.length === 12 && pictures.every((one) => one.complete && one.naturalWidth)) break;
        await new Promise((resolve) => setTimeout(resolve, 4));
    }
    return performance.now() - window.pressed;
}"""
PLACE = """(row) => {
    const plot = document.getElementById("plot"), { xaxis, yaxis } = plot._fullLayout;
    const box = plot.getBoundingClientRect();
    const trace = plot.data[1]; // the first class
    row = row % trace.x.length;
    return [box.left + xaxis._offset + xaxis.l2p(trace.x[row]), box.top + yaxis._offset + yaxis.l2p(trace.y[row])];
}"""


def synapse(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """A chunk uint8 (2, x, y, z): two neurites with wavy outlines, a flat cleft, speckles inside."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(shape)
    middle = [size / 2 for size in shape]
    radius2 = (y - middle[1]) ** 2 + ((z - middle[2]) * shape[1] / shape[2]) ** 2
    wide2 = (0.36 * shape[1] + 3 * np.sin(x / 5 + seed)) ** 2
    chunk = np.zeros((2, *shape), np.uint8)
    chunk[0] = rng.integers(60, 220, shape)
    chunk[1][(x < middle[0] - 2) & (x > 4) & (radius2 < wide2)] = 1
    chunk[1][(x > middle[0] + 2) & (x < shape[0] - 4) & (radius2 < 1.2 * wide2)] = 3
    chunk[1][(np.abs(x - middle[0]) <= 2) & (radius2 < wide2 / 3)] = 2
    return chunk


def serve(folder: Path) -> None:
    """Run the server; say its port, and its memory at the end of its input."""
    import pandas as pd
    from anndata import AnnData

    from synapseclr.explorer.run_outputs import RunOutputs
    from synapseclr.explorer.web_server import create_app, make_explorer_server
    from synapseclr.volumes import ChunkBatch, ChunkStore, ChunkStream, write_chunk_store

    def batches() -> Any:
        for start in range(0, N_CHUNKS, 50):
            ids = np.arange(start, start + 50)
            records = {name: np.zeros(50, int) for name in ("cleft_id", "n_cutout_sections", "n_padded_voxels")}
            chunks = np.stack([synapse(CHUNK_VX, int(seed) % 7) for seed in ids])
            yield ChunkBatch(chunks, {"synapse_id": ids, **records})

    store = f"{folder}/chunks.zarr"
    write_chunk_store(ChunkStream(batches(), CHUNK_VX, VOXEL_NM, 50), store)
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(N_SYNAPSES, 2)).astype(np.float32)
    features = rng.normal(size=(N_SYNAPSES, N_FEATURES)).astype(np.float32)
    pca = rng.normal(size=(N_SYNAPSES, 128)).astype(np.float32)
    ids = np.arange(N_SYNAPSES, dtype=np.int64)
    obs = pd.DataFrame({"synapse_id": ids, "pre_cell_type": (ids % 2).astype(float)}, index=ids.astype(str))
    for axis in "xyz":
        obs[f"centre_{axis}_nm"] = rng.uniform(0, 1e5, N_SYNAPSES)
    outputs = RunOutputs(AnnData(X=features, obs=obs, obsm={"X_umap": plane, "X_pca": pca}), ChunkStore(store))
    outputs.__dict__["chunk_row_of_id"] = {identifier: identifier % N_CHUNKS for identifier in ids.tolist()}
    server = make_explorer_server(create_app(outputs), 0)
    print(server.port, flush=True)
    import threading

    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


def measure_page(address: str) -> tuple[float, float, float]:
    """Seconds to the first paint, and to a map that answers; milliseconds from click to neighbours."""
    from playwright.sync_api import sync_playwright

    rng = np.random.default_rng(1)
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=SOFTWARE_WEBGL)
        paints, clicks = [], []
        for _ in range(3):
            page = browser.new_context(viewport={"width": 1300, "height": 850}).new_page()
            page.goto(address)
            page.wait_for_selector("html[data-ready=true]", timeout=60_000)
            marks = [
                f"performance.getEntriesByName('{name}')[0].startTime" for name in ("map-painted", "explorer-ready")
            ]
            paints.append(page.evaluate(f"[{', '.join(marks)}]"))
        page.evaluate(LISTEN)
        for row in rng.choice(N_SYNAPSES, 21, replace=False).tolist():
            before = page.evaluate("document.querySelector('#synapse').dataset.synapse")
            page.mouse.click(*page.evaluate(PLACE, row))
            clicks.append(page.evaluate(LOADED, before))
            page.wait_for_timeout(300)
        ids = [str(number) for number in range(20)]
        body = {"ids": ids, "kind": "defective"}
        page.request.post(f"{address}api/search", data=body, timeout=120_000)
        browser.close()
    painted_s, ready_s = np.median(paints, axis=0) / 1e3
    return float(painted_s), float(ready_s), statistics.median(clicks[1:])  # at the first click the index is built


def renders_per_second() -> float:
    """Of chunks of 96^3, with VTK started before."""
    from synapseclr.plotting.renders import render_synapse

    taken = []
    for seed in range(8):
        chunk = synapse((96, 96, 96), seed)
        start = time.perf_counter()
        render_synapse(chunk, (16.0, 16.0, 16.0), 480)
        taken.append(time.perf_counter() - start)
    return 1 / statistics.median(taken[1:])


def row(case: str, ours: float, limit: float, unit: str, more_is_better: bool = False) -> dict[str, Any]:
    """One line of the results."""
    ratio = ours / limit if more_is_better else limit / ours
    return {"case": case, "ours": round(ours, 3), "baseline": limit, "unit": unit, "ratio": round(ratio, 2)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", type=Path, help="used by the script itself")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        paint_s, ready_s, click_ms = measure_page(f"http://127.0.0.1:{int(server.stdout.readline())}/")
        memory_mb = float(server.communicate("")[0])
    size = f"{N_SYNAPSES:,} synapses"
    rows = [
        row(f"first paint of the map, {size}", paint_s, 3.0, "s"),
        row(f"the map answers to the mouse, {size}", ready_s, 3.0, "s"),
        row(f"click to twelve neighbours with thumbnails, {size} x {N_FEATURES}, median of 20", click_ms, 300.0, "ms"),
        row(f"server's peak memory, {size} x {N_FEATURES}", memory_mb, 1500.0, "MB"),
        row("renders at 96^3, 480 x 480 pixels", renders_per_second(), 2.0, "1/s", more_is_better=True),
    ]
    machine = {"cpu_count": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    for line in rows:
        print(line)
    arguments.result.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
