"""Long clips fit into ordinary machines: the peak memory is measured in a new process."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from vmr.models.videomamba.encoder import VideoMamba, VideoMambaConfig

model = VideoMamba(VideoMambaConfig.of_size("tiny", num_frames={frames})).eval()
with torch.no_grad():
    features = model(torch.zeros(1, {frames}, 3, 224, 224))
print(features.video_tokens.shape[1])
"""


@pytest.mark.parametrize("frames", [64, 256])
def test_a_long_clip_takes_under_4_gb(frames: int, tmp_path):
    wrapper = (
        "import resource, runpy, sys\n"
        "runpy.run_path(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    (tmp_path / "clip.py").write_text(SCRIPT.format(frames=frames))
    command = [sys.executable, "-c", wrapper, str(tmp_path / "clip.py")]
    tokens, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(tokens) == frames * 14 * 14
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(peak) * unit < 4e9
