"""Images per second of decoding and augmentation at 224 pixels, per core.

    python -m benchmarks.input_pipeline [--images=FOLDER] [--seconds=5]

Real JPEG files through (a) our Grain pipeline as training reads it, (b) plain Pillow and
NumPy in a loop, (c) tf.data doing the same, where TensorFlow is installed (or with
--tensorflow=PYTHON, in the Python that has it). All decode, crop a random rectangle and resize it
to 224x224; the peers flip at random (our training does so on the device). All threads run on one
core. Pillow's bilinear filter reads all pixels of the source; TensorFlow's does so with
`antialias` only, and is measured (d) without it too, which is less work and another image. Last,
ours with all of ClusTR's recipe: bicubic crops, RandAugment.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

SIZE, BATCH = 224, 32


def main() -> None:
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", help="a folder of JPEGs; scikit-learn's photographs if absent")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--tensorflow", default=sys.executable, help="a Python with TensorFlow")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=tuple(KINDS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = args.images or sample_folder()
    # Repeated, since training sets have more than two files.
    files = sorted(str(p) for p in pathlib.Path(folder).rglob("*.jp*g"))
    files *= max(2000 // max(len(files), 1), 1)
    if args.only:
        os.sched_setaffinity(0, {0})
        speeds = [measure(KINDS[args.only](files), args.seconds) for _ in range(args.rounds)]
        return print(json.dumps(speeds))
    for kind in KINDS:
        python = args.tensorflow if kind.startswith("tf.data") else sys.executable
        command = [python, __file__, f"--images={folder}", f"--only={kind}"]
        command += [f"--seconds={args.seconds}", f"--rounds={args.rounds}"]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            print(f"{kind}: not measured ({run.stderr.strip().splitlines()[-1]})")
            continue
        speeds = sorted(json.loads(run.stdout.splitlines()[-1]))
        middle = speeds[len(speeds) // 2]
        print(f"{kind}: {middle:.0f} images/s per core ({speeds[0]:.0f} .. {speeds[-1]:.0f})")


def sample_folder() -> str:
    from sklearn.datasets import load_sample_images

    return str(pathlib.Path(load_sample_images().filenames[0]).parent)


def measure(batches, seconds: float) -> float:
    for _ in range(2):
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += 1
    return count * BATCH / (time.perf_counter() - start)


def ours(files: list[str], clustr: bool = False):
    from cluenet_jax import runtime
    from cluenet_jax.config import default_config
    from cluenet_jax.data import DatasetInfo, normalization, train_batches
    from cluenet_jax.tasks import create_task

    runtime.keep_freed_memory()  # As main.py does.

    class Files:
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> dict:
            data = pathlib.Path(files[index]).read_bytes()
            return {"image": data, "label": 0, "name": files[index]}

    config = default_config()
    if clustr:
        from configs import imagenet_clustr

        config = imagenet_clustr.get_config()
    config.data.image_size = SIZE
    config.augment.crop_area = (0.08, 1.0)
    task = create_task(config, DatasetInfo("files", ("any",), *normalization("image_folder")))
    repeats = config.data.num_repeats
    return train_batches(Files(), task.train_example, batch_size=BATCH, seed=0, num_repeats=repeats)


def ours_clustr(files: list[str]):
    return ours(files, clustr=True)


def pillow(files: list[str]):
    import io

    import numpy as np
    from PIL import Image

    from cluenet_jax import runtime

    runtime.keep_freed_memory()
    rng = np.random.default_rng(0)
    while True:
        batch = []
        for i in rng.integers(0, len(files), BATCH):
            image = Image.open(io.BytesIO(pathlib.Path(files[i]).read_bytes())).convert("RGB")
            area = rng.uniform(0.08, 1) * image.width * image.height
            ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
            width = min(round((area * ratio) ** 0.5), image.width)
            height = min(round((area / ratio) ** 0.5), image.height)
            left = rng.integers(0, image.width - width + 1)
            top = rng.integers(0, image.height - height + 1)
            box = (left, top, left + width, top + height)
            pixels = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box))
            batch.append(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
        yield np.stack(batch)


def tf_data(files: list[str], antialias: bool = True):
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)

    def load(path):
        data = tf.io.read_file(path)
        shape = tf.io.extract_jpeg_shape(data)
        corner, size, _ = tf.image.sample_distorted_bounding_box(
            shape, tf.zeros((1, 0, 4)), area_range=(0.08, 1.0), aspect_ratio_range=(3 / 4, 4 / 3),
            use_image_if_no_bounding_boxes=True,
        )  # fmt: skip
        window = tf.stack([corner[0], corner[1], size[0], size[1]])
        # Decodes only the rectangle, as TensorFlow's own ImageNet pipelines do.
        image = tf.io.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.resize(image, (SIZE, SIZE), antialias=antialias)
        return tf.cast(tf.image.random_flip_left_right(image), tf.uint8)

    stream = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
    stream = stream.map(load, num_parallel_calls=1).batch(BATCH).prefetch(1)
    return iter(stream)


def tf_data_aliased(files: list[str]):
    return tf_data(files, antialias=False)


KINDS = {
    "ours": ours,
    "pillow": pillow,
    "tf.data": tf_data,
    "tf.data aliased": tf_data_aliased,
    "ours, ClusTR's recipe": ours_clustr,
}


if __name__ == "__main__":
    main()
