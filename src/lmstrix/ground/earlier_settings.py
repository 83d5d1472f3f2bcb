"""Settings files of the earlier LMStrix, whose documentation had other sections: what each key is called now.

A key without an equivalent is told, not refused: such a file was written for another program, and most of it works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "lmstudio_base_url": "server.address",
    "default_timeout": "server.timeout_s",
    "max_retries": "server.retries",
    "debug": "output.debug",
    "safety_threshold": "safety.threshold",
    "lmstudio.base_url": "server.address",
    "lmstudio.api_key": "server.api_token",
    "lmstudio.timeout": "server.timeout_s",
    "lmstudio.connect_timeout": "server.connect_timeout_s",
    "lmstudio.verify_ssl": "server.verify_tls",
    "lmstudio.headers": "server.headers",
    "performance.max_retries": "server.retries",
    "safety.max_context_threshold": "safety.threshold",
    "safety.default_test_threshold": "safety.threshold",
    "output.use_color": "output.color",
    "output.verbose_by_default": "output.verbose",
    "logging.max_size_mb": "logging.max_bytes",
    "cli.defaults": "defaults",
    "cli.aliases": "aliases",
}
"""The present key of each that has one."""

SECTIONS_GONE = frozenset({"lmstudio", "performance", "cli", "workspace", "context_testing"})
"""Whatever else stands in these has no effect."""

_GONE: Mapping[str, str] = {
    "": "registry_path",
    "safety": "enable_safety_checks max_memory_usage_mb max_concurrent_tests emergency_stop_threshold "
    "safety_margin_tokens max_test_iterations min_test_context test_timeout_seconds enable_resource_monitoring "
    "memory_check_interval max_consecutive_failures failure_cooldown_seconds auto_reduce_context_on_failure "
    "context_reduction_factor enable_automatic_recovery",
    "output": "use_emoji compact_tables show_progress table_style date_format number_format verbosity_levels "
    "default_verbosity show_timestamps show_model_info show_performance_stats",
    "logging": "format rotate date_format handlers loggers",
    "paths": "registry_file cache_dir prompts_dir logs_dir config_dir",
}


def has_no_effect(section: str, name: str) -> bool:
    """Whether the earlier LMStrix's documentation had this key, and nothing here corresponds to it."""
    return section in SECTIONS_GONE or name in _GONE.get(section, "").split()


def converted(key: str, value: object) -> object:
    """The value as its present key takes it."""
    if key == "logging.max_size_mb" and isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * 2**20)
    return value
