"""Agreement with segmentation masks, in known cases."""

import numpy as np
import pytest

from cluenet_jax import explain


def test_agreement_with_masks():
    regions = np.array([[[0, 0, 1], [2, 2, 1]]])
    for masks in (regions, 5 - regions):
        agreement = explain.mask_agreement(regions, masks)
        assert agreement["miou"] == agreement["nmi"] == agreement["ari"] == 1
    half = np.array([[[0, 0, 0], [1, 1, 1]]])
    # 0 matches the region of its two first pixels, 2 of 3; 1 likewise.
    np.testing.assert_allclose(explain.mask_agreement(regions, half)["miou"], 2 / 3)
    whole = np.zeros((1, 2, 3), int)
    np.testing.assert_allclose(explain.mask_agreement(whole, half)["miou"], 0.25)
    ignored = np.array([[[0, 0, -1], [1, 1, -1]]])
    assert explain.mask_agreement(regions, ignored)["ari"] == 1
    assert np.isnan(explain.mask_agreement(regions, -np.ones_like(regions))["miou"])
    with pytest.raises(ValueError, match="shape"):
        explain.mask_agreement(regions, half[:, :1])
