"""Networks of timm's kinds that are small enough for every test, registered with timm."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.deit import VisionTransformerDistilled
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

NAMES = ("small_resnet", "small_efficientnet", "small_swin", "small_distilled", "small_mean_resnet", "small_two_headed")
NO_STATISTICS = ("test_vit", "small_swin")  # of batch norm: the strategies that keep them are refused there
_COMMON = {"input_size": (3, 64, 64), "num_classes": 10, "mean": (0.5,) * 3, "std": (0.5,) * 3}


def serves(network: str, strategy: str) -> bool:
    return not (strategy.endswith("bn_freeze") and network in NO_STATISTICS)


default_cfgs = generate_default_cfgs(
    {
        "small_resnet.none": {**_COMMON, "classifier": "fc", "first_conv": "conv1"},
        "small_efficientnet.none": {**_COMMON, "classifier": "classifier", "first_conv": "conv_stem"},
        "small_swin.none": {**_COMMON, "fixed_input_size": True, "classifier": "head.fc", "first_conv": "patch_embed.proj"},
        "small_distilled.none": {
            **_COMMON,
            "fixed_input_size": True,
            "classifier": ("head", "head_dist"),
            "first_conv": "patch_embed.proj",
        },
        "small_mean_resnet.none": {**_COMMON, "classifier": "fc", "first_conv": "conv1"},
        "small_two_headed.none": {**_COMMON, "classifier": "fc", "first_conv": "conv1"},
    }
)


class MeanResNet(ResNet):
    """A network that looks at the other images of its batch, so that no image's activations are its own and it cannot be cut."""

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x - x.mean(dim=0, keepdim=True) / 2)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return super().forward_head(x + self.conv1.weight.mean() * x.mean(dim=0, keepdim=True), pre_logits)


class TwoHeaded(ResNet):
    """A network that returns logits in evaluation and a pair in training, as a distilled network may."""

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


def _made(cls: type[nn.Module], name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
    return build_model_with_cfg(cls, name, pretrained, feature_cfg={"out_indices": (0, 1)}, **kwargs)


@register_model
def small_resnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _made(ResNet, "small_resnet", pretrained, block=BasicBlock, layers=(1, 1, 1, 1), channels=(8, 8, 16, 16), **kwargs)


@register_model
def small_efficientnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    blocks = decode_arch_def([["ds_r1_k3_s2_e1_c8_se0.25"], ["ir_r1_k3_s2_e4_c12_se0.25"], ["ir_r1_k3_s2_e4_c16_se0.25"]])
    return _made(EfficientNet, "small_efficientnet", pretrained, block_args=blocks, stem_size=8, num_features=32, **kwargs)


@register_model
def small_swin(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _made(
        SwinTransformer, "small_swin", pretrained, **{"embed_dim": 16, "depths": (1, 2), "num_heads": (2, 2), "window_size": 4, **kwargs}
    )


@register_model
def small_distilled(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _made(
        VisionTransformerDistilled,
        "small_distilled",
        pretrained,
        **{"embed_dim": 16, "depth": 3, "num_heads": 2, "patch_size": 16, **kwargs},
    )


@register_model
def small_mean_resnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _made(MeanResNet, "small_mean_resnet", pretrained, block=BasicBlock, layers=(1, 1, 1, 1), channels=(8, 8, 8, 8), **kwargs)


@register_model
def small_two_headed(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return _made(TwoHeaded, "small_two_headed", pretrained, block=BasicBlock, layers=(1, 1, 1, 1), channels=(8, 8, 8, 8), **kwargs)
