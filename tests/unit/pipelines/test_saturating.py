from pathlib import Path

import pytest

from pipelines.comparing_arrays import saturating
from pipelines.measures import DeviceFacts
from stages.base import Artifact


def found(features: tuple[str, ...], **facts: str | bool) -> list[str]:
    device = DeviceFacts(identity="a", cpu="b", cores=2, features=features, memory_gb=8)
    return saturating(Artifact(kind="onnx", path=Path(), digest="0" * 64, facts={**facts}), device)


def test_int8_on_a_cpu_without_vnni_is_warned_of_with_the_way_out() -> None:
    assert found(("avx", "avx2"), precision="int8") == [
        "INT8 on a CPU without VNNI: sums of products saturate at 16 bits; `reduce_range: true` avoids that here"
    ]


@pytest.mark.parametrize("feature", ["avx_vnni", "avx512_vnni"])
def test_with_vnni_nothing_saturates(feature: str) -> None:
    assert found(("avx2", feature), precision="int8") == []


def test_narrow_weights_and_other_precisions_are_safe_anywhere() -> None:
    assert found(("avx2",), precision="int8", reduce_range=True) == []
    assert found(("avx2",), precision="float32") == []
