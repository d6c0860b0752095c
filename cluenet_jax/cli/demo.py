"""A local web page to look through a model's eyes: drop an image, move over its clusters.

python -m cluenet_jax demo [--checkpoint=DIR]

Needs Gradio: `pip install -e '.[demo]'`. Serves this machine only, unless `--host` says
otherwise. Uploads are bounded in size and deleted as soon as they are read.
"""

import argparse
import contextlib
import html
import os
import pathlib
import shutil
import socket
import tempfile
from types import ModuleType
from typing import Any

from PIL import Image

from cluenet_jax.checkpoints.load import TrainedModel, load
from cluenet_jax.cli.checkpoints import OPTIONAL_CHECKPOINT_HELP, checkpoint_or_default
from cluenet_jax.cli.explanations import explain_prediction, model_line
from cluenet_jax.data import Example, decode_image
from cluenet_jax.errors import ImageError, UserError
from cluenet_jax.progress import announce_compiling
from cluenet_jax.visualization import assets, viewer

_REGIONS = (5, 3, 8)
_PREDICTED = "(the predicted one)"
# Pixels of an upload: less than a file may have, since a server decodes for strangers.
_MAX_PIXELS = 50_000_000
_ICON = '<link rel="icon" href="data:,">'


def main(argv: list[str]) -> None:
    """The command line; serves until Ctrl-C."""
    args = _parse(argv)
    with tempfile.TemporaryDirectory(prefix="cluenet-demo-") as uploads:
        gradio = _import_gradio(uploads)
        checkpoint = checkpoint_or_default(args.checkpoint)
        trained = load(checkpoint)
        # Before the first visitor.
        side = trained.preprocessing.image_size
        example = trained.task.unlabeled_example(Image.new("RGB", (side, side)))
        announce_compiling(explain_prediction, "model and its maps")(trained, example, _REGIONS)
        app = build(gradio, trained, checkpoint)
        url = _launch(gradio, app, args)
        print(f"Open {url}  (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            app.block_thread()


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cluenet_jax demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", help=OPTIONAL_CHECKPOINT_HELP)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to serve other machines too")
    parser.add_argument("--port", type=int, default=7860, help="0 for any that is free")
    parser.add_argument("--max_megabytes", type=int, default=20, help="largest upload")
    args = parser.parse_args(argv)
    if not 0 <= args.port < 65536 or args.max_megabytes < 1:
        raise UserError("--port must be 0 .. 65535 and --max_megabytes at least 1.")
    return args


def _launch(gradio: ModuleType, app: Any, args: argparse.Namespace) -> str:
    """Starts the server and returns its URL."""
    try:
        _, url, _ = app.launch(
            server_name=args.host,
            server_port=args.port or _free_port(args.host),
            head=assets() + _ICON,
            # Gradio's own themes load fonts from Google.
            theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            max_file_size=args.max_megabytes * 2**20,
            share=False,
            quiet=True,
            footer_links=[],
            ssr_mode=False,
            prevent_thread_lock=True,
            enable_monitoring=False,
        )
    except OSError as error:
        raise UserError(
            f"Port {args.port} of {args.host} cannot be used; try --port=0. ({error})"
        ) from error
    return url


def build(gradio: ModuleType, trained: TrainedModel, path: str) -> Any:
    """The demo as a Gradio app."""

    def show(example: Example | None, target_name: str) -> str:
        if example is None:
            return ""
        target = None if target_name == _PREDICTED else target_name
        return viewer(explain_prediction(trained, example, _REGIONS, target_name=target))

    def take(upload: str | None, target_name: str) -> tuple[Example | None, str]:
        if upload is None:
            return None, ""
        try:
            example = trained.task.unlabeled_example(read_upload(upload))
        except ImageError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        return example, show(example, target_name)

    with gradio.Blocks(
        title="cluenet-jax: what the model looks at",
        analytics_enabled=False,
        # Files that came but were never shown: looked for every minute, gone after one.
        delete_cache=(60, 60),
    ) as app:
        line = html.escape(model_line(trained, path))
        gradio.HTML(f"<h1>What the model looks at</h1><p>{line}</p>")
        # The image as the model sees it, for another target; in memory only.
        example = gradio.State(time_to_live=3600)
        with gradio.Row():
            upload = gradio.File(label="Drop an image here", file_types=["image"], height=140)
            target = gradio.Dropdown(
                [_PREDICTED, *trained.task.target_names], value=_PREDICTED, label="Importance for"
            )
        shown = gradio.HTML()
        quietly = dict(api_visibility="private", concurrency_limit=1, concurrency_id="model")
        gradio.on(
            [upload.upload, upload.clear], take, [upload, target], [example, shown], **quietly
        )
        target.change(show, [example, target], shown, **quietly)
    return app


def read_upload(path: str) -> Image.Image:
    """The image of an uploaded file, which is deleted."""
    file = pathlib.Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ImageError("The upload is gone; drop it again.") from error
    finally:
        shutil.rmtree(file.parent, ignore_errors=True)
    return decode_image(data, "The upload", max_pixels=_MAX_PIXELS)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return server.getsockname()[1]


def _import_gradio(uploads: str) -> ModuleType:
    # Both are read while it is imported.
    os.environ["GRADIO_TEMP_DIR"] = uploads
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise UserError("The demo needs Gradio: pip install 'gradio>=6,<7'") from error
    return gradio
