"""How videos are cut, and which frames are taken: the options that several commands share."""

from dataclasses import dataclass

from jsonargparse.typing import ClosedUnitInterval, PositiveFloat

from vmr.retrieval.segments import SegmentOptions, Segments, WhichFrames


@dataclass(frozen=True)
class WindowOptions:
    """How videos are cut into rows of an index, and which frames are taken.

    Attributes:
        segments: `fixed` windows; `shots`, windows that begin and end where shots do; `whole`, one row for each video
        window: seconds that one row of the index covers, with shots at most; with null, each whole video is one row
        stride: seconds from the start of one fixed window to the start of the next; default, half a window
        whole_video: give each video of several windows one row more, for the whole of it
        frames: `keyframes` takes the nearest key frame in place of each frame: much faster, and finds less
        skip_still: do not encode a frame again that differs by less than this, on average over its pixels in [0, 1],
            from the last one that was encoded, such as 0.02; for encoders of single frames, such as `offline`
    """

    segments: Segments = "fixed"
    window: PositiveFloat | None = 8.0
    stride: PositiveFloat | None = None
    whole_video: bool = False
    frames: WhichFrames = "all"
    skip_still: ClosedUnitInterval = 0.0

    def checked(self) -> SegmentOptions:
        """Return them for the library.

        Raises:
            VmrError: two of them do not go together.
        """
        return SegmentOptions(self.segments, self.window, self.stride, self.whole_video, self.frames, self.skip_still)
