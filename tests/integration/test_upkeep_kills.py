"""`vmr-index upgrade`, `copy` and `compact` are killed at many instants: nothing is lost, and they can be repeated."""

import json
import sys

import pytest

from tests.integration.processes import finish, launch


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("command", ["upgrade", "copy", "compact"])
def test_kills(command, tmp_path):
    found = json.loads(finish(launch("-m", "tests.faults.upkeep_kills", tmp_path, command)).splitlines()[-1])
    assert found["wrong"] == []
    assert min(found["states"]["done"], found["states"]["not done"]) >= 1
    assert sum(found["states"].values()) == found["kills"] > 20
