"""Small random checkpoints, written as the real ones are, so that the real loading code reads them."""

import string
from pathlib import Path

import torch
from safetensors.torch import save_file

from recbole_mm import compat

compat.ensure_torchvision()


def bert(folder: Path, *, width: int = 32, positions: int = 32) -> Path:
    """A BERT of two layers whose tokens are characters and a few words."""
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "film", "toy", "spy", "love"]
    letters = [*string.ascii_lowercase, *string.digits, *(f"##{c}" for c in string.ascii_lowercase), ".", ","]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*words, *letters]) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words) + len(letters), hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=positions,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=positions).save_pretrained(folder)
    return folder


def resnet50(file: Path) -> Path:
    """A ResNet-50 state dict, ``.safetensors`` or ``.pth``."""
    from torchvision.models import resnet50 as make

    torch.manual_seed(0)
    state = make(weights=None).state_dict()
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return file


def clip(folder: Path) -> Path:
    """A CLIP image tower."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=24,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def timesformer(folder: Path, *, frames: int = 4, size: int = 32) -> Path:
    """A TimeSformer of two layers."""
    from transformers import TimesformerConfig, TimesformerModel, VideoMAEImageProcessor

    torch.manual_seed(0)
    config = TimesformerConfig(
        image_size=size, patch_size=8, num_frames=frames, hidden_size=48, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=96,
    )  # fmt: skip
    TimesformerModel(config).save_pretrained(folder)
    crop = {"height": size, "width": size}
    VideoMAEImageProcessor(size={"shortest_edge": size}, crop_size=crop).save_pretrained(folder)
    return folder


def wav2vec2(folder: Path) -> Path:
    """A wav2vec 2.0 with the base model's convolutions, 64 wide, and two layers."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(64,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=16000, do_normalize=True).save_pretrained(folder)
    return folder


def yolos(folder: Path) -> Path:
    """A YOLOS of two layers and ten queries."""
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=[64, 64],
        patch_size=16, num_detection_tokens=10, num_labels=3,
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder
