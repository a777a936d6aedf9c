"""A checkpoint on disk: is it one that can be loaded, how large is it, and what is it. No torch needed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from emt_plugin.catalog.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, has_model_weights
from emt_plugin.errors import CouldNotRun
from emt_plugin.store import Store, content_hash

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
BYTES |= {"F8_E4M3": 1, "F8_E5M2": 1}
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
STORED_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
ORIGINAL_LLAVA = {"LlavaLlamaForCausalLM", "LlavaMistralForCausalLM", "LlavaMptForCausalLM", "LlavaQwenForCausalLM"}
LFS_POINTER = b"version https://git-lfs"
# Weights that LLaVA's own LoRA training leaves beside an adapter.
TRAINED_BESIDE = ("non_lora_trainables.bin", "mm_projector.bin")
# Names by which transformers finds weights.
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TEMPLATES = ("*chat_template*", "additional_chat_templates/*.jinja", "tokenizer_config.json", "*processor_config.json")
SETTINGS = (
    "config.json", "generation_config.json", "*processor_config.json", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken", "*chat_template*", "additional_chat_templates/*",
    "*.py", "adapter_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder on this machine.

    Attributes:
        folder: where its files are.
        name: what the user calls it, for messages.
        config: its ``config.json``.
        adapter: folder of a PEFT adapter on top of it.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    adapter: Path | None = None

    @property
    def weights(self) -> list[Path]:
        """Its safetensors files, in order of name."""
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def tower(self) -> dict[str, Any]:
        """The vision tower's configuration, empty where there is none."""
        return dict(self.config.get("vision_config") or {})

    def stored(self, ending: str) -> tuple[str, bytes] | None:
        """Stored dtype (``F32``, ...) and bytes of the first tensor whose name ends so; None where there is none."""
        for path in self.weights:
            for name, tensor in _header(path).items():
                if name.endswith(ending):
                    start, end = tensor["data_offsets"]
                    with path.open("rb") as file:
                        file.seek(8 + _header_length(path) + start)
                        return tensor["dtype"], file.read(end - start)
        return None

    def bytes_needed(self, dtype: str | None) -> int:
        """Bytes of all its tensors in ``dtype`` (``float32``, ...), or as stored for None."""
        total = 0
        for path in [*self.weights, *([self.adapter / ADAPTER_WEIGHTS] if self.adapter else [])]:
            for stored, elements in _tensors(path):
                floating = stored.startswith(("F", "BF"))
                total += elements * (DTYPE_BYTES.get(dtype or "", BYTES.get(stored, 4)) if floating else BYTES.get(stored, 8))
        return total

    def stored_dtype(self) -> str:
        """The coarsest common floating dtype among its stored tensors."""
        stored = self.stored_dtypes()
        return next((name for name in STORED_DTYPES.values() if name in stored), "float32")

    def stored_dtypes(self) -> set[str]:
        """The floating dtypes among its stored tensors, those that are not named here as ``float32``."""
        stored = {dtype for path in self.weights for dtype, _ in _tensors(path)}
        return {STORED_DTYPES.get(code, "float32") for code in stored if code.startswith(("F", "BF"))}

    def own_dtype(self) -> str:
        """The dtype in which transformers loads it where nobody asks for another."""
        text = self.config.get("text_config") or {}
        named = self.config.get("dtype") or self.config.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
        return str(named or self.stored_dtype()).removeprefix("torch.")

    def fingerprint(self, store: Store | None = None) -> str:
        """A hash of the content of its weights and its adapter's; ``store`` remembers those of files that have not changed."""
        base = content_hash(self.weights, store)
        if self.adapter is None:
            return base
        adapter = content_hash([self.adapter / ADAPTER_CONFIG, self.adapter / ADAPTER_WEIGHTS], store)
        return sha256(f"{base}+{adapter}".encode()).hexdigest()

    def refuse_other_base(self, wanted: str | None, store: Store | None = None) -> None:
        """Refuse an adapter that was trained on other weights.

        Args:
            wanted: content hash of the weights that it was trained on; None where it does not say.
            store: remembers hashes of files that have not changed.

        Raises:
            CouldNotRun: they are not this checkpoint's.
        """
        if wanted and self.adapter and content_hash(self.weights, store) != wanted:
            raise CouldNotRun(
                f"the adapter {self.adapter} was trained on other weights than those of {self.folder}; "
                f"name the base that it was trained on with --model"
            )

    def refuse_other_architecture(self, base: Checkpoint) -> None:
        """Refuse a checkpoint that cannot have been trained from ``base``.

        Raises:
            CouldNotRun: its class or the shape of one of its parts is another.
        """
        for part in ("", "text_config", "vision_config"):
            mine, theirs = (config.get(part) or {} if part else config for config in (self.config, base.config))
            for key in ("architectures", "model_type", "hidden_size", "num_hidden_layers", "image_size", "patch_size"):
                if mine.get(key) != theirs.get(key) and (part or key in {"architectures", "model_type"}):
                    where = f"{part}.{key}" if part else key
                    raise CouldNotRun(
                        f"{self.name} is no checkpoint of {base.name}: its {where} is {mine.get(key)}, not {theirs.get(key)}"
                    )

    def is_dated(self) -> bool:
        """Whether its chat template writes the date into prompts."""
        files = [path for pattern in TEMPLATES for path in self.folder.glob(pattern)]
        return any(b"strftime_now" in path.read_bytes() for path in files)

    def settings_hash(self, store: Store | None = None) -> str:
        """A hash of all other files that decide what it makes of an image and a text."""
        found = {path for pattern in SETTINGS for path in self.folder.glob(pattern) if path.is_file()}
        return content_hash(found - set(self.weights), store)


def find(
    source: str,
    name: str,
    fetch_name: str,
    revision: str | None = None,
    encoder: bool = False,
    adapter: str | None = None,
    text: bool = False,
) -> Checkpoint:
    """The checkpoint behind a local folder or a hub id.

    Args:
        source: local folder or hub id.
        name: what the user calls it.
        fetch_name: what ``emt fetch`` calls it.
        revision: hub revision.
        encoder: it is a vision encoder rather than a multimodal LLM.
        adapter: folder of a PEFT adapter on top of it.
        text: it is a language model, which sees no image.

    Raises:
        CouldNotRun: it is not on this machine, is no checkpoint, or is in a format that is not loaded here.
    """
    local = Path(source)
    folder = local if local.is_dir() else _from_hub(source, name, fetch_name, revision)
    config = _config(folder, name)
    checkpoint = Checkpoint(folder, name, config, Path(adapter) if adapter else None)
    _check_format(checkpoint)
    if checkpoint.adapter:
        _check_adapter(checkpoint.adapter, name)
    if text:
        return checkpoint
    if not any((folder / file).exists() for file in PROCESSOR_FILES):
        raise CouldNotRun(
            f"{name} has no processor (processor_config.json or preprocessor_config.json in {folder}); "
            f"save the base model's beside it: AutoProcessor.from_pretrained(BASE).save_pretrained('{folder}')"
        )
    if not encoder and not {"vision_config", "vq_config"} & set(config):
        raise CouldNotRun(f"{name} is no multimodal LLM: its config.json ({config.get('model_type')}) has no vision_config")
    return checkpoint


def is_here(source: str) -> bool:
    """Whether a folder or something of a hub's checkpoint is on this machine; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    return Path(source).is_dir() or isinstance(try_to_load_from_cache(source, "config.json"), str)


def _from_hub(source: str, name: str, fetch_name: str, revision: str | None) -> Path:
    """Folder of a hub checkpoint in the local cache, completed from the hub where there is a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, ignore_patterns=UNUSED_FILES))
    except GatedRepoError:
        raise CouldNotRun(
            f"{source} is gated: accept its terms on the hub and log in with `hf auth login`, then run again"
        ) from None
    except RepositoryNotFoundError:
        raise CouldNotRun(f"{source} is not on the hub, or is private: check the id, or log in with `hf auth login`") from None
    except RevisionNotFoundError:
        raise CouldNotRun(f"{source} has no revision '{revision}': name a branch, tag or commit with --emt-revision") from None
    except Exception as error:  # The hub client passes on the errors of its transport.
        raise CouldNotRun(
            f"{name} ({source}) is not on this machine and the hub cannot be reached ({type(error).__name__}); "
            f"where there is a network, fetch it with: emt fetch {fetch_name}"
        ) from None


UNUSED_FILES = ["*.bin", "*.pth", "*.pt", "*.msgpack", "*.h5", "*.onnx", "*.gguf", "*.ot"]


def _config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = " (it is an adapter: merge it into its base first)" if (folder / ADAPTER_CONFIG).exists() else ""
        raise CouldNotRun(f"{name} is no checkpoint: {folder} has no config.json{hint}") from None
    except (OSError, ValueError) as error:
        raise CouldNotRun(f"{name}: {path} cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise CouldNotRun(f"{name}: {path} is not a configuration")
    return config


def _check_format(checkpoint: Checkpoint) -> None:
    folder, name = checkpoint.folder, checkpoint.name
    architectures = set(checkpoint.config.get("architectures") or ())
    if architectures & ORIGINAL_LLAVA or (folder / "mm_projector.bin").exists():
        raise CouldNotRun(
            f"{name} is in the original LLaVA format; convert it with transformers' own script: "
            f"python -m transformers.models.llava.convert_llava_weights_to_hf"
        )
    if (folder / ADAPTER_CONFIG).exists() and checkpoint.weights:
        raise CouldNotRun(_model_or_adapter(checkpoint))
    if checkpoint.weights:
        for path in checkpoint.weights:
            _check_weights(path, name)
        _check_which(checkpoint)
        return
    pickled = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if pickled:
        raise CouldNotRun(
            f"{name} has pickled weights ({pickled[0].name}), which can run code when loaded; convert them to safetensors: "
            f"load them where you trust them and call save_pretrained"
        )
    raise CouldNotRun(
        f"{name} is no checkpoint: {folder} has no *.safetensors file (pickled weights are not loaded: convert them)"
    )


def _check_which(checkpoint: Checkpoint) -> None:
    """Refuse files of which transformers would take others than are meant, or not all."""
    folder, name = checkpoint.folder, checkpoint.name
    single, index = folder / SINGLE, folder / INDEX
    if single.exists() and index.exists():
        raise CouldNotRun(
            f"{name} holds two sets of weights ({SINGLE} and the files that {INDEX} names), of which transformers takes the "
            f"first: take the one that is not meant out of {folder}"
        )
    if single.exists() or checkpoint.config.get("transformers_weights"):
        return
    if not index.exists():
        raise CouldNotRun(
            f"{name} has neither {SINGLE} nor {INDEX} in {folder}, so {checkpoint.weights[0].name} would not be read: "
            f"copy the index too, or save the model again"
        )
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise CouldNotRun(f"{name}: {index} is cut off or damaged; copy it again") from None
    lacking = sorted(file for file in named if not (folder / str(file)).exists())
    if lacking:
        raise CouldNotRun(
            f"{name} lacks {len(lacking)} of its {len(named)} weight files ({lacking[0]} among them): copy them too"
        )


def _check_weights(path: Path, name: str) -> None:
    """Refuse a file that is no whole safetensors file."""
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise CouldNotRun(f"{name}: {path} is a pointer of Git LFS, not the weights; fetch them with: git lfs pull")
    try:
        size = 8 + _header_length(path) + max((tensor["data_offsets"][1] for tensor in _header(path).values()), default=0)
        whole = path.stat().st_size == size
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError):
        whole = False
    if not whole:
        raise CouldNotRun(f"{name}: {path} is cut off or damaged; copy it again")


def _model_or_adapter(checkpoint: Checkpoint) -> str:
    """What is said of a folder of which transformers would load the model and then attach the adapter, unasked."""
    folder, name = checkpoint.folder, checkpoint.name
    if not has_model_weights(folder):
        return f"{name} is an adapter, not a model: name its own base with --model BASE --checkpoint '{folder}'"
    return (
        f"{name} holds a whole model with an adapter beside it ({ADAPTER_CONFIG} in {folder}), which transformers attaches: "
        f"take {ADAPTER_CONFIG} away if the model is meant (a merged one has the adapter in its weights), or give the "
        f"adapter's files a folder of their own and name that if the adapter is meant"
    )


def _check_adapter(folder: Path, name: str) -> None:
    """Refuse an adapter that peft would load with parts of it missing."""
    if not (folder / ADAPTER_WEIGHTS).exists():
        pickled = " (pickled weights are not loaded: convert them to safetensors)" if any(folder.glob("*.bin")) else ""
        raise CouldNotRun(f"{name} is no adapter: {folder} has no {ADAPTER_WEIGHTS}{pickled}")
    beside = next((file for file in TRAINED_BESIDE if (folder / file).exists()), None)
    if beside:
        raise CouldNotRun(
            f"{name} is an adapter in the original LLaVA format: {beside} beside it was trained too and would be left out; "
            f"merge it and convert it with transformers' own script: "
            f"python -m transformers.models.llava.convert_llava_weights_to_hf"
        )
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        names = list(_header(folder / ADAPTER_WEIGHTS))
        lacking = [module for module in config.get("modules_to_save") or () if not any(f".{module}." in key for key in names)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CouldNotRun(f"{name}: the adapter in {folder} cannot be read ({error})") from None
    if lacking:
        raise CouldNotRun(f"{name} lacks the weights of its {lacking[0]}, which its adapter_config.json names: save it again")


def _header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name, from its header alone."""
    with path.open("rb") as file:
        file.seek(8)
        header = json.loads(file.read(_header_length(path)))
    return {key: tensor for key, tensor in header.items() if key != "__metadata__"}


def _header_length(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > path.stat().st_size:
        raise ValueError(f"{path} is shorter than its own header")
    return length


def _tensors(path: Path) -> Iterator[tuple[str, int]]:
    """(stored dtype, number of elements) of every tensor."""
    for tensor in _header(path).values():
        yield tensor["dtype"], math.prod(tensor["shape"])
