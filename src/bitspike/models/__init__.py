"""Builders of whole networks (ResNets, VGGs, study networks), whose neurons and quantizers are arguments."""

from bitspike.models.checkpoints import IMAGENET_MEAN, IMAGENET_STD, load_he_checkpoint, load_nmnist_checkpoint
from bitspike.models.cnn import study_cnn
from bitspike.models.conv1d import conv1d
from bitspike.models.e_spikeformer import e_spikeformer
from bitspike.models.maxformer import maxformer
from bitspike.models.mlp import mlp
from bitspike.models.network import MODELS, Network, Policy, assign, inert_parameters, policy_for, warn_inert
from bitspike.models.nmnist import nmnist_cnn
from bitspike.models.qkformer import qkformer
from bitspike.models.resnet import resnet18_cifar, resnet19, resnet20, wide_resnet20
from bitspike.models.resnet_he import he_resnet20, he_resnet32
from bitspike.models.resnet_imagenet import resnet18, resnet34
from bitspike.models.restimulated import restimulate
from bitspike.models.shared_amplitudes import share_amplitudes
from bitspike.models.spike_driven import spike_driven_transformer
from bitspike.models.spikformer import spikformer
from bitspike.models.stochastic_depth import stochastic_depth
from bitspike.models.vgg import vgg11, vggsnn

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MODELS",
    "Network",
    "Policy",
    "assign",
    "conv1d",
    "e_spikeformer",
    "he_resnet20",
    "he_resnet32",
    "inert_parameters",
    "load_he_checkpoint",
    "load_nmnist_checkpoint",
    "maxformer",
    "mlp",
    "nmnist_cnn",
    "policy_for",
    "qkformer",
    "resnet18",
    "resnet18_cifar",
    "resnet19",
    "resnet20",
    "resnet34",
    "restimulate",
    "share_amplitudes",
    "spike_driven_transformer",
    "spikformer",
    "stochastic_depth",
    "study_cnn",
    "vgg11",
    "vggsnn",
    "warn_inert",
    "wide_resnet20",
]
