"""Frames, crops, views and samplers."""

import numpy as np
import torch

from vmr.data.training.order import repeated
from vmr.data.views.crops import center_box, crop_boxes, resized_size
from vmr.data.views.frame_rules import (
    dense_indices,
    segment_ranges,
    sparse_indices,
    sparse_ranges,
    sthsth_indices,
    sthsth_middle_indices,
)
from vmr.data.views.trimmed import frames_of_span, trimmed_clips


class Data:
    """Frames, crops, views and samplers. Frames are counted from 0."""

    def sparse_indices(self, num_frames, length, clip, num_clips):
        return sparse_indices(num_frames, length, clip, num_clips)

    def sparse_ranges(self, num_frames, length):
        return sparse_ranges(num_frames, length)

    def dense_indices(self, num_frames, stride, length, clip, num_clips):
        return dense_indices(num_frames, stride, length, clip, num_clips)

    def ssv2_indices(self, num_frames, length, clip, num_clips):
        if clip is None:
            return sthsth_middle_indices(num_frames, length)
        return sthsth_indices(num_frames, length, clip, num_clips)

    def ssv2_raw_frame_indices(self, num_frames, length, clip, num_clips):
        return sthsth_indices(num_frames, length, clip, num_clips)

    def segment_ranges(self, num_frames, length):
        return segment_ranges(num_frames, length)

    def trimmed_clips(self, duration_s, trimmed_s, stride_s):
        return trimmed_clips(duration_s, trimmed_s, stride_s)

    def trimmed_indices(self, length, fps, start_s, end_s, num_frames, clip, num_clips):
        first, last = frames_of_span(np.arange(length) / fps, (start_s, end_s))
        return first + sparse_indices(num_frames, last - first + 1, clip, num_clips)

    def crops(self, height, width, size, num_crops):
        resized = resized_size(height, width, size)
        return resized, crop_boxes(*resized, size, num_crops)

    def center_crop(self, height, width, size):
        resized = resized_size(height, width, size)
        return resized, center_box(*resized, size)

    def repeated_sampler(self, n, replicas, rank, epoch):
        """Upstream draws the order from torch, and ends an epoch at a multiple of 256 images of all ranks."""
        order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch)).numpy()
        return repeated(order, 3)[rank::replicas][: n // 256 * 256 // replicas]
