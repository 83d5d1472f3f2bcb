"""Namespaces of what the embedded engine does not have: it refuses every endpoint clients know, with the reason.

Silence would leave JavaScript clients waiting forever, and an unknown endpoint would look like a version conflict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmstrix.engine.faults import EngineFault
from lmstrix.engine.protocol.session import EndpointNamespace, RpcRequest, ServerChannel

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_HUB: Final = "The embedded engine has no model hub, no account and no LM Link."
_NO_PLUGINS: Final = "The embedded engine has no plugins."
# By name, not "all others": an endpoint of a future client should be warned about as unknown.
_REPOSITORY_CALLS: Final = (
    "searchModels",
    "getModelDownloadOptions",
    "installPluginDependencies",
    "installLocalPlugin",
    "getLocalArtifactFiles",
    "getWritableArtifactOwners",
    "isAuthenticated",
    "getAuthenticationStatus",
    "deauthenticate",
    "loginAsComputeDevice",
    "loginWithPreAuthenticatedKeys",
    "getModelCatalog",
    "fuzzyFindStaffPicks",
    "lmLinkStatus",
    "lmLinkSetDisabled",
    "lmLinkUpdateDeviceName",
    "lmLinkSetPreferredDevice",
)
_REPOSITORY_CHANNELS: Final = (
    "downloadModel",
    "downloadArtifact",
    "pushArtifact",
    "ensureAuthenticated",
    "createDownloadPlan",
    "createArtifactDownloadPlan",
)
_PLUGIN_CALLS: Final = (
    "reindexPlugins",
    "processingHandleUpdate",
    "processingHandleRequest",
    "processingPullHistory",
    "processingGetOrLoadTokenSource",
    "processingHasStatus",
    "processingNeedsNaming",
    "processingSuggestName",
    "processingSetSenderName",
    "setConfigSchematics",
    "setGlobalConfigSchematics",
    "pluginInitCompleted",
    "reportError",
)
_PLUGIN_CHANNELS: Final = (
    "startToolUseSession",
    "generateWithGenerator",
    "registerDevelopmentPlugin",
    "setPromptPreprocessor",
    "setPredictionLoopHandler",
    "setToolsProvider",
    "setGenerator",
)


def refusing(why: str, *, calls: Sequence[str] = (), channels: Sequence[str] = ()) -> EndpointNamespace:
    """A namespace whose endpoints all fail with `why`."""

    async def call(_request: RpcRequest) -> object:
        raise EngineFault(why, kind="unsupported")

    async def channel(_channel: ServerChannel) -> None:
        raise EngineFault(why, kind="unsupported")

    return EndpointNamespace(calls=dict.fromkeys(calls, call), channels=dict.fromkeys(channels, channel))


def repository_namespace() -> EndpointNamespace:
    """`/repository`."""
    why = f"{_NO_HUB} Put GGUF files into the models directory instead."
    return refusing(why, calls=_REPOSITORY_CALLS, channels=_REPOSITORY_CHANNELS)


def plugins_namespace() -> EndpointNamespace:
    """`/plugins`."""
    return refusing(_NO_PLUGINS, calls=_PLUGIN_CALLS, channels=_PLUGIN_CHANNELS)
