"""What can be configured: one frozen dataclass for each thing, without defaults.

This module imports no torch: every stage validates all of these classes before it starts to work, and a stage that only
copies files should not wait two seconds for torch.
"""

from gan_core.config.measuring import FEWEST_SCORED, LARGEST_MANIFOLD, DoctorConfig, ExtractorConfig
from gan_core.config.networks import (
    LARGEST_SIZE,
    SMALLEST_SIZE,
    DcganConfig,
    MlpConfig,
    NetworkConfig,
    R3ganConfig,
    SnganConfig,
    check_size,
)
from gan_core.config.ranges import Schedule, Scheduled
from gan_core.config.training import (
    AdaConfig,
    AugmentationConfig,
    ComputeConfig,
    DiffAugmentConfig,
    ExecutionConfig,
    NoAugmentation,
    TrainConfig,
)

__all__ = [
    "FEWEST_SCORED",
    "LARGEST_MANIFOLD",
    "LARGEST_SIZE",
    "SMALLEST_SIZE",
    "AdaConfig",
    "AugmentationConfig",
    "ComputeConfig",
    "DcganConfig",
    "DiffAugmentConfig",
    "DoctorConfig",
    "ExecutionConfig",
    "ExtractorConfig",
    "MlpConfig",
    "NetworkConfig",
    "NoAugmentation",
    "R3ganConfig",
    "Schedule",
    "Scheduled",
    "SnganConfig",
    "TrainConfig",
    "check_size",
]
