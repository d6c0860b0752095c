"""Times of the forms of each operation, at the sizes of the models, on the device at hand.

    python -m benchmarks.variants

The result of each form is checked against the first one's; then it is timed alternately with the
others, forward and with the gradient of all its inputs. Medians over the rounds, in milliseconds.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
    import jax

    from cluenet_jax import runtime

    runtime.keep_freed_memory()
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, median ms of {rounds} rounds")
    for operation, size, forms, inputs in operations():
        times = compare(forms, inputs, rounds)
        print(f"{operation}, {size}")
        for name, (forward, gradient) in times.items():
            backward = f", gradient {gradient:8.2f}" if gradient else ""
            print(f"    {name:24} {forward:8.2f}{backward}")


def operations():
    """Operation, size, forms by name, and inputs of each comparison; floats have gradients."""
    import jax
    import jax.numpy as jnp

    from cluenet_jax import ops
    from cluenet_jax.ops import assign, depthwise
    from cluenet_jax.ops.cpu import argmax as cpu_argmax
    from cluenet_jax.ops.cpu import depthwise as cpu_depthwise

    def normal(*shape):
        return jax.random.normal(jax.random.key(sum(shape)), shape)

    def integers(limit, *shape):
        return jax.random.randint(jax.random.key(limit), shape, 0, limit)

    def sum_by_product(values, index, count):
        return jnp.einsum("bnm,bnc->bmc", jax.nn.one_hot(index, count), values)

    def dispatch_by_product(index, weight, centers):
        chosen = jax.nn.one_hot(index, centers.shape[-2]) * weight[..., None]
        return jnp.einsum("...nm,...md->...nd", chosen, centers)

    for where, (batch, points, channels, count) in {
        "cluster pooling of cluenet_mini_cifar": (64, 1024, 32, 256),
        "cluster pooling of cluenet_tiny": (8, 3136, 64, 784),
        "merging of clustr_b1, coarse": (8, 3136, 64, 49),
        "merging of clustr_b1, fine": (8, 784, 128, 196),
    }.items():
        yield (
            "sum of each cluster",
            f"{where}: {batch} x {points} x {channels} to {count}",
            {
                "segment_sum": lambda v, i, count=count: ops.segment_sum(v, i, count),
                "one-hot matrix product": lambda v, i, count=count: sum_by_product(v, i, count),
            },
            (normal(batch, points, channels), integers(count, batch, points)),
        )
    for where, (batch, heads, points, width, count) in {
        "cluenet_mini_cifar, stage 1": (64, 1, 1024, 32, 16),
        "cluenet_mini_cifar, stage 3": (64, 5, 64, 32, 16),
        "cluenet_tiny, stage 1": (8, 4, 3136, 16, 49),
    }.items():
        yield (
            "dispatch",
            f"{where}: {batch} x {heads} x {points} x {width} from {count}",
            {
                "gather": lambda w, c, i: ops.dispatch(i, w, c),
                "one-hot matrix product": lambda w, c, i: dispatch_by_product(i, w, c),
            },
            (
                normal(batch, heads, points),
                normal(batch, heads, count, width),
                integers(count, batch, heads, points),
            ),
        )
    for shape in ((64, 32, 32, 256), (8, 56, 56, 512)):
        yield (
            "depthwise 3x3",
            " x ".join(map(str, shape)),
            {
                "as selected": ops.depthwise_conv3x3,
                "nine shifts": cpu_depthwise.depthwise_conv3x3,
                "XLA's convolution": depthwise.depthwise_conv3x3,
            },
            (normal(*shape), normal(3, 3, shape[-1])),
        )
    for shape in ((64, 1, 16, 1024), (8, 4, 49, 3136)):
        yield (
            "argmax over centers",
            " x ".join(map(str, shape)),
            {"two reductions": cpu_argmax.argmax_rows, "XLA's argmax": assign.argmax_rows},
            (normal(*shape),),
        )
    for shape in ((64, 32, 32, 256), (8, 56, 56, 512)):
        yield (
            "GELU",
            " x ".join(map(str, shape)),
            {
                "input kept": ops.gelu,
                "jax.nn.gelu": functools.partial(jax.nn.gelu, approximate=False),
            },
            (normal(*shape),),
        )


def compare(forms: dict, inputs: tuple, rounds: int) -> dict[str, tuple[float, float | None]]:
    """By name the times of the result and of its gradient, None where it has none."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    floats = tuple(i for i, x in enumerate(inputs) if x.dtype == jnp.float32)
    expected = next(iter(forms.values()))(*inputs)
    has_gradient = expected.dtype == jnp.float32
    cotangent = jax.random.normal(jax.random.key(0), expected.shape) if has_gradient else None

    def gradient(form, cotangent, *inputs):
        def of_floats(*values):
            given = dict(zip(floats, values, strict=True))
            return form(*(given.get(i, x) for i, x in enumerate(inputs)))

        return jax.vjp(of_floats, *(inputs[i] for i in floats))[1](cotangent)

    programs = {}
    for name, form in forms.items():
        programs[name] = [functools.partial(jax.jit(form), *inputs)]
        np.testing.assert_allclose(programs[name][0](), expected, atol=1e-3)
        if has_gradient:
            backward = jax.jit(functools.partial(gradient, form))
            programs[name].append(functools.partial(backward, cotangent, *inputs))
    times = {name: [[] for _ in pair] for name, pair in programs.items()}
    for turn in range(rounds + 1):
        for name, pair in programs.items():
            for measured, program in zip(times[name], pair, strict=True):
                start = time.perf_counter()
                jax.block_until_ready(program())
                if turn:  # The first one compiles.
                    measured.append((time.perf_counter() - start) * 1e3)
    return {name: (*map(statistics.median, pair), None)[:2] for name, pair in times.items()}


if __name__ == "__main__":
    main()
