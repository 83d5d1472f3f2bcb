"""Names of the earlier LMStrix, or of its documentation, that have no equivalent: what to use instead. No code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE_NAMES: Mapping[str, str] = {
    "lmstrix.LMStrix is the client: scan, list_models, load, unload, infer, stream": (
        "api.CompletionResponse api.client.CompletionResponse api.client.LmsClient"
    ),
    "lmstrix.LMStrix has these as scan, list_models, test_model, infer and save": (
        "api.main.LMStrixService api.about.about_command api.configs.save_configs_command "
        "api.health.check_health_command api.helptext.show_help_command api.infer.run_inference_command "
        "api.listing.list_models_command"
    ),
    "LMStrix writes no descriptions of models; LMStrix().recommend() says what each is good for": (
        "api.describe.describe_models_command core.describer.describe_models core.describer.describe_single_model "
        "core.describer.describe_single_model_droid core.describer.filter_models_by_keywords "
        "core.describer.sort_models_by_keywords core.describer.format_models_markdown core.web_search.poe_search "
        "core.web_search.parse_search_urls core.web_search.fetch_page_text core.web_search.search_model_info"
    ),
    "LMStrix().save(model) writes LM Studio's files": "core.concrete_config.ConcreteConfigManager",
    "LMStrix().test_model(model) finds the limit": (
        "core.ContextOptimizer core.OptimizationResult core.context.ContextOptimizer core.context.OptimizationResult "
        "core.context_optimizer.ContextOptimizer core.context_tester.TestPattern"
    ),
    "LMStrix().infer(prompt, model) chooses the context, and dry_run says whether a prompt fits": (
        "core.context.ContextManager"
    ),
    "LMStrix().test_history(model) has each step of a test": (
        "core.ContextTestResult core.context_tester.ContextTestResult"
    ),
    "LMStrix().infer(prompt, model) answers": "core.inference.InferenceEngine core.inference.InferenceResult",
    "lmstrix.AsyncLMStrix asks without blocking": "core.inference_manager.AsyncInferenceManager",
    "LMStrix().batch asks every prompt of every model": (
        "core.batch_processor.BatchProcessor utils.batch_processor.BatchProcessor"
    ),
    "LMStrix().load, unload and ps load models and tell what is loaded": "core.models.ModelStateManager",
    "LMStrix().scan() finds models, LMStrix().doctor() checks the server": "core.scanner.Scanner",
    "write the TOML file with a TOML library; prompts lint checks it": (
        "loaders.save_prompts loaders.prompt_loader.save_prompts"
    ),
    "LMStrix().prompts has templates, render and lint": (
        "loaders.prompt_loader.PromptLoader loaders.prompt_loader.TemplateValidator "
        "core.prompt_builder.DynamicPromptBuilder utils.template_tester.TemplateTester utils.prompt_chain.PromptChain "
        "utils.template_selector.SmartTemplateSelector"
    ),
    "read the file with pathlib, and give its text as a variable: infer(prompt, model, variables={'text': …})": (
        "loaders.load_context loaders.load_context_with_limit loaders.load_multiple_contexts loaders.save_context "
        "loaders.context_loader.load_context loaders.context_loader.load_context_with_limit "
        "loaders.context_loader.load_multiple_contexts loaders.context_loader.save_context "
        "loaders.context_loader.ContextLoader"
    ),
    "LMStrix().dry_run(prompt, model) counts the tokens of a prompt": (
        "loaders.estimate_tokens loaders.context_loader.estimate_tokens"
    ),
    "sizes are tokens, or shares as floats: infer(prompt, model, max_tokens=0.25)": (
        "utils.context_parser.parse_out_ctx utils.context_parser.get_model_max_context"
    ),
    "the folder is LMSTRIX_HOME, else LM Studio's; lmstrix config path and lmstrix doctor name it": " ".join(
        f"{module}.{name}"
        for module in ("utils", "utils.paths")
        for name in (
            "get_lmstudio_path",
            "get_lmstrix_data_dir",
            "get_default_models_file",
            "get_context_tests_dir",
            "get_context_test_log_path",
            "get_prompts_dir",
            "get_contexts_dir",
            "get_lmstrix_log_path",
        )
    ),
    "the last used model is remembered by itself; lmstrix models default keeps another": "utils.state.StateManager",
    "settings come from config.toml and LMSTRIX_ variables; LMStrix(…) takes the rest": "utils.config.Config",
    "LMStrix().bench([model, model]) compares models": (
        "utils.comparison.ModelComparator utils.benchmarking.ModelBenchmark utils.performance.PerformanceBenchmark "
        "utils.parameter_optimizer.ParameterOptimizer utils.ab_testing.TemplateABTester"
    ),
    "LMStrix().recommend() ranks models for what is asked of them": "utils.model_selector.IntelligentModelSelector",
    "infer(prompt, model, cache=True) answers the same call from the cache": (
        "utils.cache.MultiLevelCache utils.context_cache.ContextCache"
    ),
    "LMStrix().logs has every call with its tokens and times, and statistics of them": (
        "utils.monitoring.PerformanceMonitor utils.template_analytics.TemplateAnalytics utils.alerts.AlertManager"
    ),
    "one lmstrix.AsyncLMStrix shares its connections; another server has another one": (
        "utils.connection_pool.ConnectionPool utils.load_balancer.LoadBalancer utils.autoscaler.AutoScaler"
    ),
}
"""Names of modules, below `lmstrix`, by what to use instead."""

_WRITTEN_BY_SCANS = "scans and tests write what they find; lmstrix registry add FILE takes in another model"
_TAGS = "lmstrix registry tag MODEL TAG, and LMStrix().list_models('tag:TAG')"
_CALLS = "LMStrix().logs has every call and statistics of them, lmstrix registry stats sums them up"
_BACKUPS = "lmstrix registry backup, restore, export, import and merge"
_LOADS = "LMStrix().load, unload and ps"

MEMBERS: Mapping[str, Mapping[str, str]] = {
    "ModelRegistry": {
        **dict.fromkeys(("add_model", "update_model", "update_model_by_id"), _WRITTEN_BY_SCANS),
        **dict.fromkeys(("remove_model", "cleanup_orphaned_models"), "lmstrix registry remove, or prune"),
        **dict.fromkeys(("clear", "cleanup_old_test_results"), "LMStrix().reset(model), or reset_all()"),
        "filter_models": "LMStrix().list_models('status:tested,size:>5GB')",
        "get_model_info": "ModelRegistry.find_model(name).to_dict()",
        "get_statistics": "lmstrix registry stats",
        **dict.fromkeys(("add_tags", "remove_tags", "get_models_by_tag"), _TAGS),
        **dict.fromkeys(("create_group", "add_to_group", "list_groups", "get_group"), f"a tag names a group: {_TAGS}"),
        **dict.fromkeys(("create_profile", "get_profile"), "profiles of config.toml, and --profile NAME"),
        **dict.fromkeys(("validate", "auto_fix_issues", "compact"), "lmstrix registry validate --fix"),
        **dict.fromkeys(
            ("create_backup", "list_backups", "restore_from_backup", "restore_from_file", "merge_from_backup"), _BACKUPS
        ),
        **dict.fromkeys(("import_from_file", "import_models", "sync_with", "compare_with"), _BACKUPS),
        "scan_for_new_models": "LMStrix().scan().added",
        **dict.fromkeys(("record_inference", "get_usage_trends", "get_performance_metrics"), _CALLS),
        **dict.fromkeys(("get_model_usage_stats", "get_model_performance", "generate_performance_report"), _CALLS),
        "configure_memory_management": "models go by themselves after their ttl_s; LMStrix().unload ends them at once",
    },
    "Model": {
        "reset_test_data": "LMStrix().reset(model)",
        "validate_integrity": "lmstrix registry validate",
        "test_context": "LMStrix().test_model(model)",
        "infer": "LMStrix().stream(prompt, model)",
        "test_result": "ModelRecord.best_result",
    },
    "ModelScanner": {"sync_with_registry": "LMStrix().scan() says what is new and what is missing"},
    "PromptResolver": {"resolve_template": "LMStrix().prompts.render(file, names)"},
    "InferenceManager": {
        "test_inference_capability": "LMStrix().test_model(model, fast=True)",
        "load_model": _LOADS,
        "unload_model": _LOADS,
        "run_inference": "LMStrix().infer(prompt, model)",
    },
    "ContextTester": {
        "test_specific_context": "LMStrix().test_model(model, context_length=N)",
        "quick_health_check": "LMStrix().doctor()",
    },
    "LMStudioClient": {
        **dict.fromkeys(("load_model", "load_model_by_id", "unload_all_models"), _LOADS),
        **dict.fromkeys(("get_loaded_models", "is_model_loaded"), "LMStrix().ps()"),
        **dict.fromkeys(("completion", "chat_completion"), "LMStrix().infer(prompt, model)"),
        "stream_completion": "LMStrix().stream(prompt, model)",
    },
}
"""Methods of the classes that are still there, by what to use instead."""


class WithoutEquivalents:
    """A class of the earlier LMStrix: what it no longer has is told by what to use instead."""

    __slots__ = ()

    def __getattr__(self, name: str) -> object:
        for kind in type(self).__mro__:
            instead = MEMBERS.get(kind.__name__, {}).get(name)
            if instead is not None:
                raise AttributeError(f"{kind.__name__}.{name} is of the earlier LMStrix; instead: {instead}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
