"""The explorer at ten million synapses: ``python benchmarks/explorer_tiles.py --synapses 10000000``.

Makes a run's folder (manifold with 16 features, a map, 64-bit root ids, positions, clusters; imputed traits and outlier
scores as tables; an index in files; no chunks), starts ``kedro explore`` twice, and lets headless Chromium do what a
person does:

- start: until the server answers, first when the mapped columns are made, then when they are there;
- first paint: from the request of the page to all tiles in sight being painted, median of 3 fresh browser contexts;
- colour, filter, zoom, points on zooming in: from the change to the map being painted anew;
- lasso around about a million synapses (of smaller runs, a tenth of them): from the release of the button to the number
  of selected ones, and to their summary;
- search: a synapse by its id and a neurite by its root id, to what the panel shows of it; the most similar ones;
- memory: ``VmHWM`` of the server's process, with mapped pages in it, when the columns are made and afterwards.

``limit`` is what was promised for ten million; on a machine that does something else beside, times are longer.
Writes ``benchmarks/results/explorer_tiles.json`` and, with ``--pictures``, screenshots. Needs Chromium
(``make system``) and 5 GB of disk for ten million synapses.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results/explorer_tiles.json"
SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
N_FEATURES, N_CLUSTERS, FIRST_ID, ROOT_ID = 16, 24, 2**60, 864_691_128_000_000_000
LIMITS = {"first_paint_s": 3.0, "filter_s": 1.0, "memory_serving_mb": 4000.0, "memory_making_mb": 4000.0}
UNTIL = """async (condition) => {
    const holds = new Function(`return ${condition}`), latest = performance.now() + 60_000;
    while (!holds() && performance.now() < latest) await new Promise((resolve) => setTimeout(resolve, 4));
    if (!holds()) throw new Error(`not within a minute: ${condition}`);
    return performance.now() - window.changedAt;
}"""
LISTEN = """() => {
    const mark = () => { window.changedAt = performance.now(); };
    for (const name of ["change", "pointerup", "wheel", "submit", "click"]) addEventListener(name, mark, true);
}"""
PLOT = "document.querySelector('#plot').dataset"


def block(rows: range) -> dict[str, np.ndarray]:
    """Everything that is drawn of some synapses; islands, arcs and a haze on the map."""
    rng = np.random.default_rng([7, rows.start])
    n = len(rows)
    cluster = rng.choice(N_CLUSTERS, n, p=np.arange(1, N_CLUSTERS + 1) / np.arange(1, N_CLUSTERS + 1).sum())
    shape = np.random.default_rng(1)
    angle, radius = shape.uniform(0, 2 * np.pi, N_CLUSTERS), 3 + 9 * np.sqrt(shape.uniform(size=N_CLUSTERS))
    width, bend = shape.uniform(0.25, 1.1, N_CLUSTERS), shape.uniform(0.2, 1.2, N_CLUSTERS)
    along = rng.normal(size=n) * bend[cluster]
    away = radius[cluster] + rng.normal(size=n) * width[cluster]
    plane = np.stack([away * np.cos(angle[cluster] + along * 0.3), away * np.sin(angle[cluster] + along * 0.3)], axis=1)
    is_haze = rng.random(n) < 0.04
    plane[is_haze] = rng.normal(size=(is_haze.sum(), 2)) * 7
    features = (
        rng.normal(size=(n, N_FEATURES)) + np.random.default_rng(2).normal(size=(N_CLUSTERS, N_FEATURES))[cluster] * 2
    )
    size = 0.6 * along + 0.1 * away + rng.normal(size=n) * 0.5
    return {
        "plane": plane.astype(np.float32),
        "features": features.astype(np.float32),
        "cluster": cluster.astype(np.int8),
        "size": size,
        "type": (rng.random(n) < 1 / (1 + np.exp(-(away - 9)))).astype(float),
        "centre": rng.uniform(0, 4e5, (n, 3)) + 3e4 * np.sin(along)[:, None],
        "score": rng.random(n) ** 3 + is_haze,
        "is_annotated": rng.random(n) < 0.01,
        "pre": ROOT_ID + rng.integers(0, 600_000, n),
        "post": ROOT_ID + 10_000_000 + rng.integers(0, 900_000, n),
    }


def make_run(folder: Path, n: int) -> None:
    """Write a run's outputs, the features shard by shard."""
    from synapseclr.analysis.disk_index import build_disk_index
    from synapseclr.storage.atomic_files import replace_folder
    from synapseclr.storage.sharded_anndata import MatrixShards, open_lazily

    outputs = folder / "07_model_output"
    outputs.mkdir(parents=True)
    matrix = outputs / "synapse_manifold.zarr"
    widths = {"X": N_FEATURES, "X_umap": 2, "X_pca": 3}
    shards = MatrixShards(f"{matrix}.partial", n, widths, "benchmark")
    columns: dict[str, list[np.ndarray]] = {}
    for shard in shards.begin():
        drawn = block(shards.rows(shard))
        layers = {"X": drawn["features"], "X_umap": drawn["plane"], "X_pca": drawn["features"][:, :3]}
        shards.write(shard, layers)
        for name in drawn.keys() - {"features", "plane"}:
            columns.setdefault(name, []).append(drawn[name])
    values = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
    ids = FIRST_ID + 3 * np.arange(n, dtype=np.int64)
    known = values.pop("is_annotated")
    obs = pd.DataFrame(
        {
            "synapse_id": ids,
            "pre_root_id": values.pop("pre"),
            "post_root_id": values.pop("post"),
            **{f"centre_{axis}_nm": values["centre"][:, at].astype(np.float32) for at, axis in enumerate("xyz")},
            "pre_cell_type": np.where(known, values["type"], np.nan).astype(np.float32),
            "cleft_size_log1p_zscore": np.where(known, values["size"], np.nan).astype(np.float32),
            "leiden_cluster": pd.Categorical.from_codes(values["cluster"], [str(code) for code in range(N_CLUSTERS)]),
        },
        index=pd.Index(ids.astype(str), name="synapse"),
    )
    shards.finish(obs, {"provenance": {"benchmark": "explorer_tiles"}})
    del obs
    replace_folder(Path(shards.url), matrix)
    shards.forget()
    probability = 0.1 + 0.8 * values["type"]
    imputed = {
        "synapse_id": ids,
        "cleft_size_log1p_zscore_mean": values["size"].astype(np.float32),
        "cleft_size_log1p_zscore_sd": np.full(n, 0.4, np.float32),
        "pre_cell_type_probability": probability.astype(np.float32),
        "pre_cell_type_probability_sd": np.full(n, 0.08, np.float32),
    }
    pd.DataFrame(imputed, copy=False).to_parquet(outputs / "imputed_traits.parquet")
    order = np.argsort(-values["score"])
    scores = {
        "rank": np.arange(1, n + 1),
        "synapse_id": ids[order],
        "score": values["score"][order].astype(np.float32),
        "unsupervised": values["score"][order].astype(np.float32),
        "likeness": np.full(n, np.nan, np.float32),
    }
    pd.DataFrame(scores, copy=False).to_parquet(outputs / "outlier_scores.parquet")
    build_disk_index(open_lazily(str(matrix)).X, outputs / "feature_index")


class Explorer:
    """``kedro explore`` over a folder."""

    def __init__(self, folder: Path) -> None:
        start = time.perf_counter()
        command = [sys.executable, "-m", "kedro", "explore", "--no-browser", "--port=0", f"--params=data_root={folder}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.search(r"on (http://127\.0\.0\.1:\d+/)", line)
            if found:
                break
        else:
            raise SystemExit("The explorer has not started.")
        self.address, self.start_s = found[1], time.perf_counter() - start

    def memory_mb(self, kind: str = "VmHWM") -> float:
        """Peak of the memory in use, or another one of the lines that the system keeps of a process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def end(self) -> None:
        """Stop the server."""
        self.process.terminate()
        self.process.wait()


class Visit:
    """A page of the explorer, and the times that changes take on it."""

    def __init__(self, page: Any, pictures: Path | None) -> None:
        self.page, self.pictures, self.seconds = page, pictures, {}
        page.evaluate(LISTEN)

    def painted(self) -> str:
        """State of the map that is drawn now, as text."""
        return str(self.page.evaluate(f"{PLOT}.painted"))

    def until(self, name: str, condition: str, *, picture: bool = True) -> None:
        """Wait, and keep the seconds since the last change."""
        self.seconds[name] = self.page.evaluate(UNTIL, condition) / 1e3
        if picture:
            self.picture(name.removesuffix("_s"))

    def picture(self, name: str) -> None:
        """Take a screenshot."""
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self.pictures / f"{name}.png")

    def draw(self, corners: list[tuple[float, float]]) -> None:
        """Drag along the corners, given as places of the map."""
        to_screen = """([x, y]) => { const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
            const [px, py] = plot.pointMap.toScreen(x, y); return [box.left + px, box.top + py]; }"""
        places = [self.page.evaluate(to_screen, list(corner)) for corner in corners]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in [*places[1:], places[0]]:
            self.page.mouse.move(*place)
        self.page.mouse.up()


def root_of(row: int, n: int) -> int:
    """Presynaptic root id of a synapse."""
    from synapseclr.storage.sharded_anndata import SHARD_ROWS

    start = row // SHARD_ROWS * SHARD_ROWS
    return int(block(range(start, min(start + SHARD_ROWS, n)))["pre"][row - start])


def lasso_corners(wanted: int, n: int) -> list[tuple[float, float]]:
    """Circle around the middle of the largest cluster with about so many synapses."""
    drawn = block(range(200_000))
    plane = drawn["plane"]
    middle = np.median(plane[drawn["cluster"] == N_CLUSTERS - 1], axis=0)
    radius = np.quantile(np.linalg.norm(plane - middle, axis=1), wanted / n)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return [(float(middle[0] + radius * np.cos(at)), float(middle[1] + radius * np.sin(at))) for at in angle]


def measure_page(address: str, n: int, pictures: Path | None) -> tuple[dict[str, float], list[str], dict[str, int]]:
    """Seconds by what was done, what the console said, and numbers of synapses."""
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=SOFTWARE_WEBGL)
        paints = []
        for _ in range(3):
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.set_default_timeout(120_000)
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
            page.goto(address)
            page.wait_for_selector("html[data-ready=true]")
            paints.append(page.evaluate("performance.getEntriesByName('map-painted')[0].startTime") / 1e3)
        visit = Visit(page, pictures)
        visit.picture("first_paint")
        counts = {}
        for name, column in (
            ("colour_classes_s", "leiden_cluster"),
            ("colour_numbers_s", "cleft_size_log1p_zscore_mean"),
        ):
            before = visit.painted()
            page.locator("#colour").select_option(column)
            visit.until(name, f"{PLOT}.painted !== '{before}' && {PLOT}.colour === '{column}'")
        page.locator("#add-filter").select_option("outlier_score")
        page.locator("#filters .bars rect").first.wait_for(state="attached")
        page.wait_for_timeout(500)
        before, shown = visit.painted(), page.locator("#shown").inner_text()
        page.get_by_label("outlier score, at least").fill("0.3")
        page.get_by_label("outlier score, at least").press("Enter")
        visit.until(
            "filter_s", f"{PLOT}.painted !== '{before}' && document.querySelector('#shown').textContent !== '{shown}'"
        )
        counts["filtered"] = int(page.evaluate(f"{PLOT}.points"))
        before = visit.painted()
        page.locator("#filters .remove").click()
        visit.until("filter_removed_s", f"{PLOT}.painted !== '{before}'", picture=False)
        page.locator("#colour").select_option("leiden_cluster")
        page.wait_for_function(f"{PLOT}.colour === 'leiden_cluster'")
        page.wait_for_timeout(500)

        page.locator("#lasso").click()
        visit.draw(lasso_corners(1_000_000 if n > 5_000_000 else n // 10, n))
        visit.until("lasso_s", f"Number({PLOT}.selected) > 0", picture=False)
        counts["selected"] = int(page.evaluate(f"{PLOT}.selected"))
        visit.until("lasso_painted_s", f"{PLOT}.painted.split(' ')[1] !== 'none'", picture=False)
        visit.until("summary_s", "document.querySelector('#summary table')", picture=False)
        page.wait_for_timeout(1000)
        visit.picture("lasso")
        page.locator("#clear").click()
        page.locator("#pan").click()
        page.wait_for_function(f"{PLOT}.painted.split(' ')[1] === 'none'")

        box = page.locator("#plot").bounding_box()
        middle = page.evaluate(
            """([x, y]) => { const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
                const [px, py] = plot.pointMap.toScreen(x, y); return [box.left + px, box.top + py]; }""",
            list(np.mean(lasso_corners(1000, n), axis=0)),
        )
        zooms = []
        for _ in range(20):
            page.mouse.move(*middle)
            page.mouse.wheel(0, -350)
            zooms.append(page.evaluate(UNTIL, f"{PLOT}.whole === 'true' || {PLOT}.detail === 'points'") / 1e3)
            if len(zooms) == 2:
                visit.picture("zoom")
            page.wait_for_timeout(700)  # the pointer rests: points are asked for
            if page.evaluate(f"{PLOT}.detail") == "points":
                break
            page.wait_for_timeout(800)
            if page.evaluate(f"{PLOT}.detail") == "points":
                break
        visit.seconds["zoom_s"] = statistics.median(zooms)
        page.wait_for_function(f"{PLOT}.detail === 'points'")
        counts["points"] = page.evaluate("document.querySelector('#plot').pointMap.x.length")
        page.wait_for_timeout(800)
        visit.picture("points")
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.locator("#reset").click()
        visit.until("whole_map_s", f"{PLOT}.detail === 'tiles' && {PLOT}.whole === 'true'", picture=False)

        wanted = FIRST_ID + 3 * (n // 2)
        page.locator("#find-id").fill(str(wanted))
        page.locator("#find-id").press("Enter")
        visit.until("find_synapse_s", f"document.querySelector('#synapse').dataset.synapse === '{wanted}'")
        root = root_of(n // 2, n)
        page.locator("#find-id").fill(str(root))
        page.locator("#find-id").press("Enter")
        visit.until("find_neurite_s", f"document.querySelector('#neuron').dataset.neuron === '{root}'")
        page.locator("#neuron-outputs").click()
        page.wait_for_selector("#find-similar")
        page.wait_for_timeout(500)
        page.locator("#find-similar").click()
        visit.until("find_similar_s", "document.querySelector('#found .thumbs')")
        browser.close()
    return (
        {"first_paint_s": statistics.median(paints), "first_paint_slowest_s": max(paints)} | visit.seconds,
        said,
        counts,
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synapses", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", type=Path, help="keep the run here, and use it if it is there; default: a temporary one"
    )
    parser.add_argument("--pictures", type=Path, help="folder of screenshots")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "run"
        if not folder.exists():
            subprocess.run([sys.executable, "-c", MAKE, str(folder.resolve()), str(arguments.synapses)], check=True)
        found: dict[str, Any] = {}
        for name in ("making", "serving"):
            explorer = Explorer(folder.resolve())
            try:
                found[f"start_{name}_s"] = explorer.start_s
                if name == "serving":
                    seconds, said, counts = measure_page(explorer.address, arguments.synapses, arguments.pictures)
                    found |= seconds
                    found["memory_own_mb"] = explorer.memory_mb("RssAnon")
                found[f"memory_{name}_mb"] = explorer.memory_mb()
            finally:
                explorer.end()
        columns = folder / "07_model_output" / "explorer_columns"
        found["columns_gb"] = sum(path.stat().st_size for path in columns.rglob("*") if path.is_file()) / 1e9
    rows = [
        {"case": case, "ours": round(value, 3)} | ({"limit": LIMITS[case]} if case in LIMITS else {})
        for case, value in found.items()
    ]
    machine = {
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1),
    }
    result = {"machine": machine, "synapses": arguments.synapses, "counts": counts, "console": said, "rows": rows}
    print(json.dumps(result, indent=2))
    arguments.result.write_text(json.dumps(result, indent=2) + "\n")


MAKE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from explorer_tiles import make_run
make_run(Path(sys.argv[1]), int(sys.argv[2]))
"""

if __name__ == "__main__":
    main()
