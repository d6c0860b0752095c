"""The same models in plain PyTorch, NCHW, as a peer to measure against.

Written from the equations in `cluenet_jax/models`, in the manner of the field: 1x1
convolutions on NCHW maps, tokens for the MLPs, `scaled_dot_product_attention`. A cluster's
members are chosen by a mask over all pixels and centers, as Context Cluster and its
successors do; `tuned=True` gathers and scatters instead, which is faster.
Parameters have the published names, so `cluenet_jax.weights.to_torch` fills them;
`tests/benchmarks/test_torch_peer.py` compares both forms with the recorded cases.
"""

from torch import nn

from benchmarks.torch_cluenet import CLUENet
from benchmarks.torch_clustr import ClusTR


def create_model(
    name: str, num_classes: int | None = None, tuned: bool = False, **options
) -> nn.Module:
    """The peer of `cluenet_jax.create_model(name, num_classes, **options)`.

    Args:
      name: A name of `cluenet_jax.list_models()`.
      num_classes: Number of outputs; the published classifier's if None.
      tuned: Whether clusters are gathered and scattered instead of chosen by masks.
      **options: Options of the backbone that differ from the variant's own.
    """
    from cluenet_jax.models import find_family, model_options

    sizes = {**model_options(name), **options}
    if num_classes is None:
        num_classes = find_family(name).variants[name].num_classes
    if name.startswith("clustr"):
        return ClusTR(sizes, num_classes)
    return CLUENet(sizes, num_classes, tuned)
