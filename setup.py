"""The optional C++ kernels; everything else about the package is in setup.cfg.

`optional` lets an installation without a compiler succeed: vmr then runs on the plain PyTorch definitions.
"""

import sys

from setuptools import Extension, setup

scan = Extension(
    "vmr.ops._scan",
    sources=["vmr/ops/csrc/vmr_ops.cpp"],
    depends=[
        "vmr/ops/csrc/vmr_ops.h",
        "vmr/ops/csrc/parallel.h",
        *(
            f"vmr/ops/csrc/{name}.inc"
            for name in (
                "kernels",
                "vector",
                "scan_forward",
                "scan_backward",
                "causal_conv",
                "causal_conv_backward",
                "rms_norm",
            )
        ),
    ],
    # No -march: the kernels choose at run time. The warnings named here come from GCC's own intrinsics.
    extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden", "-Wno-psabi", "-Wno-maybe-uninitialized"],
    libraries=["dl", "pthread"] if sys.platform.startswith("linux") else [],
    language="c++",
    optional=True,
)

setup(ext_modules=[scan])
