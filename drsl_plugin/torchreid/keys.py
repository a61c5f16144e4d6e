"""The keys that DRSL adds to Torchreid's configuration; importing this imports no Torchreid."""

from __future__ import annotations

from drsl_plugin.losses.settings import DRSLSettings, TrainingSettings
from drsl_plugin.toolbox.keys import DRSLKeys

DRSL_KEYS = DRSLKeys("loss.drsl", {name: name for name in (*TrainingSettings.settings(), *DRSLSettings.settings())})
"""The keys of the node ``loss.drsl``, which are the settings' names."""
SKIP = "data.skip_unreadable"
"""The key by which image files that cannot be read are listed and left out."""
