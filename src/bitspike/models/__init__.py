"""Builders of networks with numbers."""

from bitspike.models.cnn import study_cnn
from bitspike.models.mlp import mlp
from bitspike.models.network import MODELS, Network, Policy, assign, inert_parameters, policy_for, warn_inert

__all__ = ["MODELS", "Network", "Policy", "assign", "inert_parameters", "mlp", "policy_for", "study_cnn", "warn_inert"]
