"""The training configuration of benchmarks with convolutional networks: that of Radford et al. 2015."""

from dataclasses import replace

from gan_core.config import Schedule, TrainConfig

TRAIN = TrainConfig(
    seed=0,
    steps=1,
    batch_size=64,
    discriminator_steps=1,
    class_balance="data",
    generator_z="fresh",
    mirror=False,
    loss="non_saturating",
    r1_gamma=0.0,
    r2_gamma=0.0,
    penalty_gradient="exact",
    wgan_gp=0.0,
    generator_learning_rate=2e-4,
    discriminator_learning_rate=2e-4,
    beta1=0.5,
    beta2=0.999,
    ema_half_life=None,
    ema_decay=0.999,
    ema_warmup=10.0,
    report_every=100,
    sample_every=5000,
    checkpoint_every=5000,
    snapshots=1,
)


def relativistic(*, gamma: float, rate: float) -> TrainConfig:
    """Return that with the relativistic loss, R1 and R2 of weight gamma, and learning rates that fall to 0."""
    falling = Schedule(rate, 0.0, "linear", None)
    return replace(
        TRAIN,
        loss="relativistic",
        r1_gamma=gamma,
        r2_gamma=gamma,
        generator_learning_rate=falling,
        discriminator_learning_rate=falling,
        beta1=0.0,
        beta2=0.99,
    )
