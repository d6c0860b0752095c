"""Backbones: one file per family, one dict of all."""

from collections.abc import Mapping

from flax import linen as nn

from cluenet_jax.models.backbones import cluenet, clusterformer, clustr, context_cluster, fec
from cluenet_jax.models.backbones.family import Family

FAMILIES: Mapping[str, Family] = {
    "cluenet": cluenet.FAMILY,
    "clustr": clustr.FAMILY,
    "coc": context_cluster.FAMILY,
    "fec": fec.FAMILY,
    "clusterformer": clusterformer.FAMILY,
}


def family_of(backbone: nn.Module) -> Family:
    """The family of a backbone.

    Raises:
      ValueError: It is of none of `FAMILIES`.
    """
    for family in FAMILIES.values():
        if type(backbone) is family.module:
            return family
    raise ValueError(f"{type(backbone).__name__} is of none of the families {', '.join(FAMILIES)}.")
