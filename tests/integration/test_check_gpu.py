"""`vmr-info --check-gpu`: the real command without a GPU, and on Triton's interpreter."""

import os
import subprocess
import sys

import pytest

from vmr.ops.gpu import support

COMMAND = [sys.executable, "-c", "from vmr.cli.info import main; main(['--check-gpu'])"]


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(COMMAND, env={**variables, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("variable", [{"CUDA_VISIBLE_DEVICES": ""}, {"VMR_DISABLE_TRITON": "1"}])
def test_where_it_cannot_run_one_line_says_why(variable):
    done = run(**variable)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the GPU kernels cannot run here: ") and done.stderr.count("\n") == 1


def test_a_model_beside_it_is_refused():
    command = [sys.executable, "-c", "from vmr.cli.info import main; main(['offline', '--check-gpu'])"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --check-gpu is about this machine, not about a model: leave out 'offline'\n"


@pytest.mark.skipif(not support.triton_version(), reason="Triton is not installed")
def test_every_operation_is_compared_in_every_dtype():
    done = run(TRITON_INTERPRET="1")
    if "the interpreter of Triton" in done.stderr:
        pytest.skip(done.stderr)  # kernels of this version are for GPUs alone
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "float" in line and "│" in line]
    assert sum("ok" in row for row in rows) == 9  # scan, convolution, add and norm; float32, bfloat16, float16
    assert "interpreter" in done.stdout and "WRONG" not in done.stdout
