"""vmr as the checker of classifiers, self-distillation and masked pre-training calls it; one mixin for each subject."""

from tests.parity.small.data import Data
from tests.parity.small.masked import Masked
from tests.parity.small.models import Models
from tests.parity.small.scores import Scores
from tests.parity.small.training import Training
from tests.parity.small.transformers import Transformers


class Adapter(Models, Transformers, Data, Scores, Training, Masked):
    """State dicts come and go under upstream's names. Videos are float (B, 3, T, H, W), images (B, 3, H, W)."""
