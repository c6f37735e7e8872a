"""`vmr-index upgrade`, `copy`, `compact` and `import` are killed at many instants: nothing is lost."""

import json
import sys

import pytest

from tests.integration.processes import finish, launch


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("command", ["upgrade", "copy", "compact", "import"])
@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_kills(command, share, tmp_path):
    """By default at every fourth of the instants."""
    found = json.loads(finish(launch("-m", "tests.faults.upkeep_kills", tmp_path, command, share)).splitlines()[-1])
    assert found["wrong"] == []
    assert min(found["states"]["done"], found["states"]["not done"]) >= 1
    assert sum(found["states"].values()) == found["kills"] > 20 // share
