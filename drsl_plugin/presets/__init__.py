"""The presets: the configuration files of ``configs/``, in a checkout and in an installed wheel."""

from drsl_plugin.presets.copying import copy_preset, merged_settings, preset_text
from drsl_plugin.presets.finding import preset_name, preset_names, preset_path, resolve_config, table_path

__all__ = [
    "copy_preset",
    "merged_settings",
    "preset_name",
    "preset_names",
    "preset_path",
    "preset_text",
    "resolve_config",
    "table_path",
]
