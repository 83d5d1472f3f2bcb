"""What sort of model a config.json describes: one that answers, one that embeds, or none that a chat can use.

A folder of safetensors may hold anything: encoders of pictures, speech recognizers, classifiers. Those are no language
models, and a server of ours or LM Studio's does not list them either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmstrix.ground.types import ModelKind
    from lmstrix.loaders.mlx_config import MlxConfig

_NO_LANGUAGE_MODELS = {
    *("clip", "chinese_clip", "clipseg", "siglip", "siglip2", "align", "blip", "metaclip_2", "owlvit", "owlv2"),
    *("whisper", "wav2vec2", "wav2vec2-bert", "hubert", "speecht5", "seamless_m4t", "parakeet", "moonshine"),
    *("bark", "vits", "musicgen", "parler_tts", "kokoro", "encodec", "dac", "snac", "mimi", "xcodec"),
    *("vit", "deit", "beit", "swin", "dinov2", "dinov3_vit", "sam", "sam2", "sam3", "detr", "rt_detr", "yolos"),
    *("segformer", "depth_anything", "grounding-dino", "resnet", "convnext", "timm_wrapper"),
}
_NO_LANGUAGE_ENDINGS = (
    *("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"),
    *("ForImageClassification", "ForObjectDetection", "ForSemanticSegmentation", "ForDepthEstimation"),
    *("ForAudioClassification", "ForCTC", "ForSpeechSeq2Seq", "Pipeline"),
)
_ENCODERS = {
    *("bert", "albert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "eurobert", "mpnet"),
    *("modernbert", "mobilebert", "neobert", "new", "gte", "nomic_bert", "jina_embeddings_v3", "jina_bert"),
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xlm"),
    *("gemma3_embedding", "lfm2_embedding", "embedding_gemma2", "llama_bidirec", "ministral3_embedding"),
}


def why_no_language_model(config: MlxConfig) -> str | None:
    """What keeps it from being one; None for one that writes or embeds."""
    for ending in _NO_LANGUAGE_ENDINGS:
        if any(architecture.endswith(ending) for architecture in config.architectures):
            return f"a model whose architecture ends in {ending} neither writes nor embeds text"
    return f"{config.model_type} is not a language model" if config.model_type in _NO_LANGUAGE_MODELS else None


def kind_of(config: MlxConfig, *, name: str, pools: bool) -> ModelKind:
    """What a language model is for. `pools` is whether its folder says how to pool.

    `name` is the folder's: a decoder that was trained to embed is told from one that writes by nothing else when the
    files for pooling were left behind.
    """
    bidirectional = config.flag("use_bidirectional_attention") or config.value("is_causal") is False
    encodes = bool({config.model_type, config.text_type} & _ENCODERS) or bidirectional
    return "embedding" if encodes or pools or "embedding" in name.lower() else "llm"
