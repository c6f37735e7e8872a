"""The Triton kernels without a GPU: in Triton's interpreter, which is chosen before Triton is imported.

    TRITON_INTERPRET=1 python -m pytest tests/triton

The interpreter takes about 40 us per operation of any size, so sequences are short.
"""

import pytest

from vmr.ops.gpu import support


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests, with the reason, if the kernels cannot run on CPU tensors."""
    reason = support.missing_reason() if support.interpreted() else "set TRITON_INTERPRET=1 to run it"
    for item in items:
        if reason and "triton" in item.path.parts[-2] and item.path.name != "test_compiles.py":  # which needs none
            item.add_marker(pytest.mark.skip(reason=f"no Triton interpreter: {reason}"))
