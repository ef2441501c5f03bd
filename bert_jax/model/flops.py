"""stub"""


def training_flops(config, *, length: int, predictions: int, instances: int = 1) -> float:
    return 6.0 * length * config.layers * 12 * config.width**2
