"""Names for the classes of published classifiers, whose files hold none."""

from vmr.models.upstream.published_vision import TEST_SETS


def known_names(data: str) -> tuple[str, ...] | None:
    """Return the names of the classes of a data set, in the order of their numbers.

    Kinetics-400 and ImageNet-1K are named by torchvision, if it is installed. The other data sets do not come with
    names: ask their owners.

    Args:
        data: a key of `TEST_SETS`.

    Returns:
        The names; None where they are not known here.
    """
    if data not in ("in1k", "k400"):
        return None
    try:
        from torchvision.models import ResNet50_Weights
        from torchvision.models.video import R3D_18_Weights
    except ImportError:
        return None
    weights = ResNet50_Weights.IMAGENET1K_V1 if data == "in1k" else R3D_18_Weights.KINETICS400_V1
    return tuple(weights.meta["categories"])


def numbered_names(num_classes: int) -> tuple[str, ...]:
    """Return `class 0`, `class 1` and so on."""
    return tuple(f"class {number}" for number in range(num_classes))


def why_numbered(data: str) -> str:
    """Say why the classes of a published classifier have numbers for names, and what to do."""
    title = TEST_SETS[data].title
    if data in ("in1k", "k400"):
        return f"the classes of {title} have numbers for names: install vmr[train], or give a file of names"
    return f"the classes of {title} have numbers for names, since their names do not come with it: give a file of names"
