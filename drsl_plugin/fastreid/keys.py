"""The keys that DRSL adds to FastReID's configuration; importing this imports no FastReID."""

from __future__ import annotations

from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings
from drsl_plugin.toolbox.keys import DRSLKeys

DRSL_KEYS = DRSLKeys(
    "MODEL.LOSSES.DRSL",
    {
        "weight": "SCALE",  # as FastReID calls the weight of each of its losses
        **{
            name: name.upper()
            for name in (*DRSLSettings.settings(), *TrainingSettings.settings())
            if name not in ("weight", "weight_x")
        },
    },
)
"""The keys of the node ``MODEL.LOSSES.DRSL``; the cross-entropy's weight is FastReID's ``MODEL.LOSSES.CE.SCALE``."""
SKIP = "DATASETS.SKIP_UNREADABLE"
"""The key by which image files that cannot be read are listed and left out."""
SEED_MEANING = "seed of everything random, 0 or above; below: another one each time"
