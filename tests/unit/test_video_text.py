"""The video-text model as a whole, and its similarity from one vector per video."""

import pytest
import torch

from vmr.errors import ModelError
from vmr.losses import similarity
from vmr.models.text.encoder import TextConfig
from vmr.models.video_text import VideoTextConfig, VideoTextModel, mean_frame_vector
from vmr.models.videomamba.encoder import VideoMambaConfig

CONFIG = VideoTextConfig(
    VideoMambaConfig(width=32, num_layers=2, image_size=32, num_frames=2),
    TextConfig(vocab_size=50, width=32, num_layers=3, num_text_layers=2, num_heads=4, feed_forward=64),
    embed_dim=16,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VideoTextModel(CONFIG).eval()


def test_shapes(model):
    with torch.no_grad():
        video = model.encode_video(torch.randn(2, 2, 3, 32, 32))
        text = model.encode_text(torch.ones(4, 5, dtype=torch.long), torch.ones(4, 5))
        logits = model.match(text.text_tokens, torch.ones(4, 5), model.project_video(video.video_tokens))
    assert video.video_tokens.shape == (2, 2 * 4, 32)  # two frames of 2 x 2 patches, CLS left out
    assert video.frame_embeddings.shape == (2, 2, 16)
    assert video.student is None
    assert text.text_tokens.shape == (4, 5, 32)
    assert text.embedding.shape == (4, 16)
    assert logits.shape == (4, 2)


def test_time_pooled_away(model):
    with torch.no_grad():
        assert model.encode_video(torch.randn(2, 2, 3, 32, 32), keep_temporal=False).frame_embeddings.shape[1] == 1


def test_an_image_is_one_frame(model):
    with torch.no_grad():
        assert model.encode_video(torch.randn(2, 1, 3, 32, 32)).frame_embeddings.shape == (2, 1, 16)


def test_the_mean_frame_vector_gives_upstreams_similarity():
    # frames (2, 0) and (0, 1): unit vectors (1, 0) and (0, 1), their mean (0.5, 0.5)
    frames = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    assert torch.allclose(mean_frame_vector(frames), torch.tensor([[0.5, 0.5]]))
    # text (3, 4) / 5: cosines 0.6 and 0.8, their mean 0.7 = (0.6, 0.8) . (0.5, 0.5)
    text = torch.tensor([[3.0, 4.0]])
    assert torch.allclose(similarity(frames, text, 1.0), torch.tensor([[0.7]]))
    assert torch.allclose(mean_frame_vector(frames) @ torch.tensor([0.6, 0.8]), torch.tensor([0.7]))


def test_similarity_by_one_vector_a_video():
    generator = torch.Generator().manual_seed(0)
    frames, text = torch.randn(5, 8, 16, generator=generator), torch.randn(7, 16, generator=generator)
    expected = similarity(frames, text, 1.0)
    result = mean_frame_vector(frames) @ torch.nn.functional.normalize(text, dim=-1).T
    assert torch.allclose(result, expected, atol=1e-6)


def test_a_model_without_the_head_cannot_guess_words():
    model = VideoTextModel(VideoTextConfig(CONFIG.video, CONFIG.text, 16, masked_lm=False))
    with pytest.raises(ModelError, match="no masked language modelling head"):
        model.predict_words(torch.randn(2, 32))


def test_a_space_without_dimensions():
    with pytest.raises(ModelError, match="embed_dim is 0"):
        VideoTextConfig(embed_dim=0)
    with pytest.raises(ModelError, match="2 text layers of 2 leave none to look at the video"):
        VideoTextConfig(text=TextConfig(num_layers=2, num_text_layers=2))
