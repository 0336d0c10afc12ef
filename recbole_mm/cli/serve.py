"""``recbole-mm serve``: the recommender over HTTP, with a page to look at."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from recbole_mm.cli.recommend import FILMS, RUN
from recbole_mm.errors import ConfigError

_GRACE_S = 10  # for requests that are being answered when the server is told to stop


@click.command()
@RUN
@click.option("--posters", metavar="DIR", help="Folder of posters, named by item id or by another id of --films.")
@FILMS
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on: this machine only.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes.")
@click.option("--approximate", is_flag=True, help="Answer plain questions by a FAISS index with recall@10 >= .99.")
def serve(
    run_dir: str, posters: str | None, films_file: str | None, host: str, port: int, workers: int, approximate: bool
) -> None:
    """Serve a run: a page on /, questions on /api, /openapi.json, /health, /ready and /metrics."""
    try:
        import uvicorn

        from recbole_mm.recommend.recommender import Recommender
        from recbole_mm.recommend.web.app import Settings, create_app
    except ImportError as error:
        raise ConfigError(f"serving needs {error.name}; pip install 'recbole-mm[serve]'") from error
    _prepare(Path(run_dir))
    settings = Settings(str(Path(run_dir).resolve()), _whole(posters), _whole(films_file), approximate)
    if approximate:
        click.echo("making the index, or reading it ...", err=True)
        index = Recommender.load(run_dir).approximate()
        click.echo(f"index: recall@10 {index.recall:.3f}, {index.probed} clusters looked into", err=True)
    with ExitStack() as stack:
        if workers > 1:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="recbole_mm_metrics."))
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            settings.to_environment()
        app = "recbole_mm.recommend.web.app:from_environment" if workers > 1 else create_app(settings)
        click.echo(f"serving {run_dir} on http://{host}:{port} (Ctrl-C stops)")
        uvicorn.run(
            app, factory=workers > 1, host=host, port=port, workers=workers, log_level="warning", access_log=False,
            timeout_graceful_shutdown=_GRACE_S, server_header=False, proxy_headers=False,
        )  # fmt: skip


def _prepare(run_dir: Path) -> None:
    """Make the ``serving`` folder in a process of its own: RecBole and torch are not kept in the server's memory."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from recbole_mm.recommend import store
    from recbole_mm.recommend.export import export

    if store.read(run_dir) is None:
        click.echo("preparing the run for serving (once) ...", err=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(export, run_dir).result()


def _whole(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())
