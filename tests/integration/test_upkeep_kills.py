"""`vmr-index upgrade`, `copy`, `compact` and `import` are killed at many instants: nothing is lost."""

import json
import sys

import pytest

from tests.integration.processes import finish, launch


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize("command", ["upgrade", "copy", "compact", "import"])
def test_kills(command, tmp_path):
    found = json.loads(finish(launch("-m", "tests.faults.upkeep_kills", tmp_path, command)).splitlines()[-1])
    assert found["wrong"] == []
    assert min(found["states"]["done"], found["states"]["not done"]) >= 1
    assert sum(found["states"].values()) == found["kills"] > 20
