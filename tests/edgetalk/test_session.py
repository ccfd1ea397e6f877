from __future__ import annotations

import numpy as np
import pytest

from edgetalk import Session


@pytest.mark.parametrize("name", ["onnx", "f32", "dynamic"])
def test_step_equals_the_numpy_reference(zoo, controls, name, tmp_path):
    engine = zoo.set(name, tmp_path)
    with Session(engine) as session:
        frame = session.step(*controls)
        appearance = session.avatar.features["appearance"].astype(np.float32)
        want, landmarks = zoo.reference.step(appearance, *controls)
        assert frame.dtype == np.uint8 and frame.shape == (32, 32, 3) and frame.std() > 20
        assert np.abs(frame.astype(int) - want).max() <= 1
        np.testing.assert_allclose(session.landmarks, landmarks, atol=1e-5)
