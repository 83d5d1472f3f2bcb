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
    "lmstudio.max_retries": "server.retries",
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

SECTIONS_GONE: Mapping[str, str] = {
    "lmstudio": "the address says host, port and https; which pages a server is asked for is LMStrix's affair",
    "performance": "waits double by themselves; ttl and cache in [defaults.infer] say what is kept",
    "cli": "what a command has when nothing is said is in [defaults.COMMAND], names for words are in [aliases]",
    "workspace": "a project's settings are in its .lmstrix.toml",
    "context_testing": "a test finds its own steps; set precision and budget in [defaults.test]",
    "monitoring": "lmstrix logs has every call with its times; memory is always watched while a test runs",
}
"""Whatever else stands in these has no effect, and why."""

KEYS_GONE: Mapping[str, str] = {
    "registry_path paths.registry_file paths.cache_dir paths.logs_dir paths.config_dir": (
        "all of it lies in the LMStrix home: set LMSTRIX_HOME"
    ),
    "paths.prompts_dir": "prompt files are named where they are; stored ones are in the LMStrix home",
    "safety.enable_safety_checks safety.safety_margin_tokens safety.emergency_stop_threshold "
    "safety.max_memory_usage_mb safety.memory_usage_limit safety.enable_resource_monitoring "
    "safety.memory_check_interval": "what memory is free is read before every load, and never all of it is asked for",
    "safety.max_test_iterations safety.min_test_context safety.test_timeout_seconds": (
        "set precision, budget and load_timeout in [defaults.test]"
    ),
    "safety.max_concurrent_tests": "models are tested one after the other, or each would see less memory",
    "safety.max_consecutive_failures safety.failure_cooldown_seconds safety.auto_reduce_context_on_failure "
    "safety.context_reduction_factor safety.enable_automatic_recovery safety.enable_graceful_degradation "
    "safety.fallback_models safety.circuit_breaker_threshold": (
        "a failure is told with what to do; nothing else is asked in its place"
    ),
    "output.use_emoji": "nothing here prints emoji",
    "output.show_progress output.show_timestamps output.show_model_info output.show_performance_stats "
    "output.verbosity_levels output.default_verbosity": "set output.verbose, output.quiet or output.debug",
    "output.compact_tables output.table_style output.date_format output.number_format": (
        "tables are as wide as the terminal; choose columns in [defaults.list]"
    ),
    "logging.format logging.date_format logging.rotate logging.handlers logging.loggers": (
        "the log has one form; logging.max_bytes begins it anew"
    ),
}
"""Keys that have no effect, and why."""


def has_no_effect(section: str, name: str) -> bool:
    """Whether the earlier LMStrix's documentation had this key, and nothing here corresponds to it."""
    key = f"{section}.{name}" if section else name
    return section in SECTIONS_GONE or any(key in keys.split() for keys in KEYS_GONE)


def converted(key: str, value: object) -> object:
    """The value as its present key takes it."""
    if key == "logging.max_size_mb" and isinstance(value, int | float) and not isinstance(value, bool):
        return int(value * 2**20)
    return value
