"""The explorer in a browser, and renders: ``python benchmarks/explorer.py``.

A server process shows 100,000 synapses with 512 features; headless Chromium, which draws by its software WebGL, opens
the page and clicks points. Pictures come from a store of 500 chunks of 80 x 80 x 32 voxels, which the synapses share.

- first paint: from the request of the page to all points being painted, and to WebGL having taken over, when the map
  answers to the mouse; medians of 3 fresh browser contexts;
- click to neighbours: from the mouse button to the last of twelve thumbnails being loaded, median of 20 points, by the
  page's own clock;
- frames per second: the map is dragged in circles, then zoomed in and out by the wheel, for 4 s each; a frame counts if
  WebGL has drawn points in it. Processor time per frame, of all processes of the browser, does not depend on what else
  runs on the machine;
- memory: peak resident set of the server afterwards, a search for defects included;
- renders: one synapse of 96^3 voxels to a picture of 480 x 480 pixels, surfaces and points included, median of 7.

``baseline`` is the limit set for each; ``ratio`` is how far on the right side of the limit the result lies.
``--before=SRC`` measures an earlier explorer as well, in turn with this one: ``SRC`` is the folder ``src`` of its
checkout, its results are in ``before``. Of several ``--rounds`` the better one counts.
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
    const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
    if (plot.pointMap) {
        const [x, y] = plot.pointMap.screenOf(row);
        return [box.left + x, box.top + y];
    }
    const { xaxis, yaxis } = plot._fullLayout, trace = plot.data[1]; // plotly's: the first class
    row = row % trace.x.length;
    return [box.left + xaxis._offset + xaxis.l2p(trace.x[row]), box.top + yaxis._offset + yaxis.l2p(trace.y[row])];
}"""
COUNT_FRAMES = """() => {
    let drawn = false;
    window.framesDrawn = 0;
    for (const { prototype } of [WebGLRenderingContext, WebGL2RenderingContext]) {
        for (const name of ["drawArrays", "drawElements"]) {
            const draw = prototype[name];
            prototype[name] = function (...given) { drawn = true; return draw.apply(this, given); };
        }
    }
    const next = () => { window.framesDrawn += drawn; drawn = false; requestAnimationFrame(next); };
    requestAnimationFrame(next);
}"""
MOVES_S = 4.0


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


def processor_seconds(pid: int) -> float:
    """Time that a process and all that it has started have run on processors so far."""
    import psutil

    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return total


def frames(page: Any, gesture: str) -> tuple[float, float]:
    """Frames per second while the map is moved, and milliseconds of processor time per frame."""
    box = page.locator("#plot").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    if gesture == "pan":
        page.mouse.down()
    before, used_s, start, step = page.evaluate("framesDrawn"), processor_seconds(os.getpid()), time.perf_counter(), 0
    while time.perf_counter() - start < MOVES_S:
        step += 1
        if gesture == "pan":
            page.mouse.move(x + 80 * np.sin(step / 8), y + 80 * np.cos(step / 8))
        else:
            page.mouse.wheel(0, -40 if step // 12 % 2 else 40)
    elapsed_s = time.perf_counter() - start
    drawn = page.evaluate("framesDrawn") - before
    used_s = processor_seconds(os.getpid()) - used_s
    if gesture == "pan":
        page.mouse.up()
    page.wait_for_timeout(500)
    return drawn / elapsed_s, 1e3 * used_s / max(drawn, 1)


def measure_page(address: str) -> dict[str, float]:
    """Seconds to the first paint and to a map that answers, milliseconds from click to neighbours, frames a second."""
    from playwright.sync_api import sync_playwright

    rng = np.random.default_rng(1)
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=SOFTWARE_WEBGL)
        paints, clicks = [], []
        for _ in range(3):
            page = browser.new_context(viewport={"width": 1300, "height": 850}).new_page()
            page.goto(address, timeout=120_000)
            page.wait_for_selector("html[data-ready=true]", timeout=120_000)
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
        page.evaluate(COUNT_FRAMES)
        moved = {gesture: frames(page, gesture) for gesture in ("pan", "zoom")}
        ids = [str(number) for number in range(20)]
        body = {"ids": ids, "kind": "defective"}
        page.request.post(f"{address}api/search", data=body, timeout=120_000)
        browser.close()
    painted_s, ready_s = np.median(paints, axis=0) / 1e3
    return {
        "paint_s": float(painted_s),
        "ready_s": float(ready_s),
        "click_ms": statistics.median(clicks[1:]),  # at the first click the index is built
        **{f"{gesture}_fps": rate for gesture, (rate, _) in moved.items()},
        **{f"{gesture}_cpu_ms": used_ms for gesture, (_, used_ms) in moved.items()},
    }


def measure(source: Path | None = None) -> dict[str, float]:
    """Start a server, of another checkout if asked for, and measure its page and its memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder]
        environment = os.environ | ({"PYTHONPATH": str(source)} if source else {})
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert server.stdout is not None
        found = measure_page(f"http://127.0.0.1:{int(server.stdout.readline())}/")
        return found | {"memory_mb": float(server.communicate("")[0])}


def better(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The better of each measurement."""
    return {name: (max if name.endswith("fps") else min)(found[name] for found in rounds) for name in rounds[0]}


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
    parser.add_argument("--before", type=Path, help="folder src of an earlier checkout, measured in turn")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve)
    sources = ([None] if arguments.before is None else [arguments.before, None]) * arguments.rounds
    rounds: dict[Path | None, list[dict[str, float]]] = {}
    for source in sources:
        rounds.setdefault(source, []).append(measure(source))
        print("before" if source else "now", rounds[source][-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    size = f"{N_SYNAPSES:,} synapses"

    def rows_of(found: dict[str, float]) -> list[dict[str, Any]]:
        return [
            row(f"first paint of the map, {size}", found["paint_s"], 3.0, "s"),
            row(f"the map answers to the mouse, {size}", found["ready_s"], 3.0, "s"),
            row(
                f"click to twelve neighbours with thumbnails, {size} x {N_FEATURES}, median of 20",
                found["click_ms"],
                300.0,
                "ms",
            ),
            row(f"moving the map, {size}", found["pan_fps"], 20.0, "1/s", more_is_better=True),
            row(f"zooming, {size}", found["zoom_fps"], 20.0, "1/s", more_is_better=True),
            row(f"processor time per frame of moving, {size}", found["pan_cpu_ms"], 100.0, "ms"),
            row(f"processor time per frame of zooming, {size}", found["zoom_cpu_ms"], 100.0, "ms"),
            row(f"server's peak memory, {size} x {N_FEATURES}", found["memory_mb"], 1500.0, "MB"),
        ]

    rows = rows_of(better(rounds[None]))
    rows.append(row("renders at 96^3, 480 x 480 pixels", renders_per_second(), 2.0, "1/s", more_is_better=True))
    machine: dict[str, Any] = {
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    machine["load_average"] = round(os.getloadavg()[0], 1)
    result: dict[str, Any] = {"machine": machine, "rows": rows}
    if arguments.before is not None:
        result["before"] = rows_of(better(rounds[arguments.before]))
    for line in rows:
        print(line)
    arguments.result.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
