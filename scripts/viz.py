"""Show the pipeline graph, or write it as a folder of static files, without asking PyPI for a newer kedro-viz.

    python scripts/viz.py                              # http://127.0.0.1:4141
    python scripts/viz.py --static=build/viz           # a folder that any web server can serve, previews included

`kedro viz run` opens the same graph; this one takes the folder of the outputs too, and writes static copies.
"""

import argparse
import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def serve(port: int, env: str | None, params: dict[str, str], pipeline: str | None = None) -> None:
    """Serve the graph on 127.0.0.1 until interrupted."""
    from synapseclr.commands.pages import serve_graph

    print(f"http://127.0.0.1:{port}/    a box a pipeline; their data sets are among the filters")
    serve_graph(
        host="127.0.0.1",
        port=port,
        project_path=str(PROJECT),
        package_name="synapseclr",
        env=env,
        extra_params=params,
        pipeline_name=pipeline,
    )


def write_static(folder: Path, env: str | None, params: dict[str, str]) -> None:
    """Write the graph with all previews, as `kedro viz build --include-previews` does into ``build/``."""
    import fsspec
    from kedro_viz.integrations.deployment.base_deployer import BaseDeployer
    from kedro_viz.server import load_and_populate_data

    from synapseclr.commands.pages import without_foreign_links

    class FolderDeployer(BaseDeployer):
        def __init__(self) -> None:
            super().__init__()
            folder.mkdir(parents=True, exist_ok=True)
            self._path, self._fs = folder, fsspec.filesystem("file")

    load_and_populate_data(PROJECT, env=env, package_name="synapseclr", extra_params=params)
    FolderDeployer().deploy(is_all_previews_enabled=True)
    page = folder / "index.html"
    page.write_bytes(without_foreign_links(page.read_bytes()))
    print(f"{folder}: show it by `python -m http.server --bind 127.0.0.1 --directory {folder}`")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=4141)
    parser.add_argument("--env", help="configuration environment")
    parser.add_argument("--pipeline", help="serve only this one; default: all, to choose from")
    parser.add_argument("--data-root", help="where the outputs are that previews show; default: the environment's")
    parser.add_argument("--static", type=Path, help="write static files into this folder instead")
    arguments = parser.parse_args()
    static = arguments.static and arguments.static.resolve()
    os.chdir(PROJECT)
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    parameters = {"data_root": arguments.data_root} if arguments.data_root else {}
    if static:
        write_static(static, arguments.env, parameters)
    else:
        serve(arguments.port, arguments.env, parameters, arguments.pipeline)
