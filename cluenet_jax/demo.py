"""A page to look through a network's eyes: drop a picture, move over its clusters.

python -m cluenet_jax.demo [--checkpoint=DIR]

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

import numpy as np

from cluenet_jax import cli, explain
from cluenet_jax.data import decode_image, normalize, prepare_for_test
from cluenet_jax.errors import ImageError, UserError
from cluenet_jax.explain import page
from cluenet_jax.train import checkpoint

_REGIONS = (5, 3, 8)
_PREDICTED = "(the predicted class)"
# Pixels of an upload: less than a file may have, since a server decodes for strangers.
_MAX_PIXELS = 50_000_000


def main(argv: list[str]) -> None:
    """The command line; serves until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m cluenet_jax.demo", description=__doc__)
    parser.add_argument(
        "--checkpoint", default="runs/digits", help="a workdir; by default that of `make run`"
    )
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to serve other machines too")
    parser.add_argument("--port", type=int, default=7860, help="0 for any that is free")
    parser.add_argument("--max_megabytes", type=int, default=20, help="largest upload")
    args = parser.parse_args(argv)
    if not 0 <= args.port < 65536 or args.max_megabytes < 1:
        raise UserError("--port must be 0 .. 65535 and --max_megabytes at least 1.")
    with tempfile.TemporaryDirectory(prefix="cluenet-demo-") as uploads:
        gradio = _import_gradio(uploads)
        loaded = checkpoint.load(args.checkpoint)
        # Compiled before the first visitor.
        size = loaded.meta["image_size"]
        look(loaded, np.zeros((size, size, 3), np.uint8), None)
        app = build(gradio, loaded, args.checkpoint)
        try:
            _, url, _ = app.launch(
                server_name=args.host,
                server_port=args.port or _free_port(args.host),
                head=page.assets() + _ICON,
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
        print(f"Open {url}  (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            app.block_thread()


_ICON = '<link rel="icon" href="data:,">'


def build(gradio: ModuleType, loaded: checkpoint.Loaded, path: str):
    """The page as a Gradio app."""
    names = loaded.meta["class_names"]
    about = f"{loaded.meta['model']}, {len(names)} classes, from {path}"

    def show(image: np.ndarray | None, class_name: str) -> str:
        if image is None:
            return ""
        chosen = None if class_name == _PREDICTED else class_name
        return page.viewer(look(loaded, image, chosen))

    def take(upload: str | None, class_name: str) -> tuple[np.ndarray | None, str]:
        if upload is None:
            return None, ""
        try:
            image = read_upload(upload, loaded.meta)
        except ImageError as error:
            raise gradio.Error(str(error), print_exception=False) from error
        return image, show(image, class_name)

    with gradio.Blocks(
        title="cluenet-jax: what the network looks at",
        analytics_enabled=False,
        # Files that came but were never shown: looked for every minute, gone after one.
        delete_cache=(60, 60),
    ) as app:
        gradio.HTML(f"<h1>What the network looks at</h1><p>{html.escape(about)}</p>")
        # The picture as the network sees it, for another class; in memory only.
        image = gradio.State(time_to_live=3600)
        with gradio.Row():
            upload = gradio.File(label="Drop a picture here", file_types=["image"], height=140)
            target = gradio.Dropdown([_PREDICTED, *names], value=_PREDICTED, label="Importance for")
        shown = gradio.HTML()
        quietly = dict(api_visibility="private", concurrency_limit=1, concurrency_id="network")
        gradio.on([upload.upload, upload.clear], take, [upload, target], [image, shown], **quietly)
        target.change(show, [image, target], shown, **quietly)
    return app


def look(loaded: checkpoint.Loaded, image: np.ndarray, class_name: str | None) -> explain.Seen:
    """Everything that the page shows of a picture, uint8 `[S, S, 3]`."""
    meta = loaded.meta
    normal = np.asarray(normalize(image, meta["mean"], meta["std"]))
    return explain.see(
        loaded.model,
        {"params": loaded.params},
        image,
        normal,
        meta["class_names"],
        _REGIONS,
        class_name=class_name,
    )


def read_upload(path: str, meta: dict) -> np.ndarray:
    """uint8 `[S, S, 3]` of an uploaded file, which is deleted."""
    file = pathlib.Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ImageError("The upload is gone; drop it again.") from error
    finally:
        shutil.rmtree(file.parent, ignore_errors=True)
    image = decode_image(data, "The upload", max_pixels=_MAX_PIXELS)
    return prepare_for_test(image, meta["image_size"], meta["test_resize"], meta["interpolation"])


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
        raise UserError("The page needs Gradio: pip install 'gradio>=6,<7'") from error
    return gradio


if __name__ == "__main__":
    cli.run(main)
