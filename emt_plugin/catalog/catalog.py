"""The catalog: its files, merged with the user's, and how a name is looked up in it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from emt_plugin.catalog.checkpoints import base_of, is_adapter, provenance_of
from emt_plugin.catalog.endpoints import PREFIX, EndpointSpec, endpoint_named, endpoint_of, problem_of
from emt_plugin.catalog.errors import CatalogError
from emt_plugin.catalog.specs import BUNDLED, ImageSetSpec, ModelSpec, bundled_folder

PAPER_IMAGE_SETS = ("mnist", "cifar10", "cifar100", "miniimagenet")
UNKNOWN_IMAGE_SET = "unknown"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
MODEL_KEYS = {
    "source", "encoder", "reference", "aliases", "image_sets", "revision", "trust_remote_code", "licence", "backend",
    "endpoint",
}  # fmt: skip
REFERENCES = ("encoder", "probe")
IMAGE_SET_KEYS = {
    "source", "config", "split", "image", "label", "prompt", "template", "stems", "names", "label_order", "like",
    "revision", "answer", "tuning_answer", "train_split", "labels", "synonyms", "background", "range",
}  # fmt: skip
Entry = Mapping[str, Any]
Spec = TypeVar("Spec", ModelSpec, ImageSetSpec)


@dataclass(frozen=True)
class Catalog:
    """All known models, image sets and encoders.

    Attributes:
        models: catalog entries by name.
        image_sets: catalog entries by name.
        towers: shapes of known encoders' towers by encoder name.
    """

    models: Mapping[str, Entry]
    image_sets: Mapping[str, Entry]
    towers: Mapping[str, Entry]

    @classmethod
    def load(cls, user_file: Path | None = None) -> Catalog:
        """The packaged catalog, with the entries of ``user_file`` added or put in their place.

        Raises:
            CatalogError: the file cannot be read, or has a table or key that means nothing.
        """
        catalog = cls(_packaged("models"), _packaged("image_sets"), _packaged("encoders"))
        return catalog._with_user_file(user_file) if user_file else catalog

    def model(self, name: str, encoder: str | None = None, revision: str | None = None) -> ModelSpec:
        """What ``name`` (a catalog name, an alias, a folder, a hub id or ``endpoint:NAME``) stands for.

        Args:
            name: as the user wrote it.
            encoder: an encoder given by the user, which wins over the catalog's.
            revision: a hub revision given by the user, which wins over the catalog's.

        Raises:
            CatalogError: the name is none of these.
        """
        if name not in self.models and name not in self._aliases() and _is_adapter(name):
            return self._adapter(name, encoder, revision)
        entry_name = self._entry_name(name)
        entry = self.models.get(entry_name, {})
        endpoint = _endpoint(name, entry)
        known = [*self.models, *self._aliases()]
        source = endpoint.source if endpoint else str(entry.get("source") or self._path_or_hub_id(name, "model", known))
        pinned = entry.get("endpoint", {}).get("revision")
        named = encoder or entry.get("encoder")
        return ModelSpec(
            id=short_id(entry_name if entry else name.removeprefix(PREFIX)),
            source=_located(source),
            name=entry_name if entry else name,
            encoder=self.encoder_source(named) if named else None,
            encoder_from="--emt-encoder" if encoder else "catalog" if named else None,
            image_sets=tuple(entry.get("image_sets", PAPER_IMAGE_SETS)),
            revision=revision or entry.get("revision") or pinned,
            trust_remote_code=bool(entry.get("trust_remote_code", False)),
            backend="endpoint" if endpoint else str(entry.get("backend", "transformers")),
            endpoint=endpoint,
            # An encoder that somebody names is what they want to be compared with.
            reference="probe" if entry.get("reference") == "probe" and not encoder else "encoder",
        )

    def chose_image_sets(self, model: ModelSpec) -> bool:
        """Whether a model's image sets are the paper's for want of an entry that names it."""
        return model.name not in self.models and model.image_sets == PAPER_IMAGE_SETS

    def known_source(self, name: str) -> str | None:
        """The folder or hub id behind a model's name, alias, path or hub id; None for a path that is not here."""
        try:
            return self.model(name).source
        except CatalogError:
            return None

    def _adapter(self, name: str, encoder: str | None, revision: str | None) -> ModelSpec:
        """A PEFT adapter in a folder, on the base model that it names."""
        folder = Path(name).expanduser()
        base = base_of(folder)
        if _is_adapter(base):
            raise CatalogError(f"the adapter {name} was trained on another adapter, {base}: merge that into its base first")
        try:
            spec = self.model(base, encoder, revision)
        except CatalogError as error:
            raise CatalogError(
                f"the adapter {name} was trained on '{base}', which is not known here ({error}); "
                f"evaluate it with --model BASE --checkpoint '{name}'"
            ) from None
        known = provenance_of(folder)
        return replace(
            spec, id=short_id(name), name=name, adapter=str(folder), adapter_base=known.base_weights if known else None
        )

    def encoder_source(self, name: str) -> str:
        """The folder or hub id behind an encoder's name.

        Raises:
            CatalogError: neither a folder, a hub id nor a bundled name.
        """
        if name.startswith(BUNDLED) or f"{BUNDLED}{name}" in self.towers:
            return _located(BUNDLED + name.removeprefix(BUNDLED))
        return self._path_or_hub_id(name, "encoder", list(self.towers))

    def encoders_of_tower(self, tower: Entry) -> tuple[str, ...]:
        """The known encoders whose towers have the shape of ``tower`` (a vision config as a mapping)."""
        return tuple(
            _located(name)
            for name, shape in self.towers.items()
            if all(tower.get(key) == value for key, value in shape.items())
        )

    def image_set(self, name: str) -> ImageSetSpec:
        """What ``name`` (a catalog name, a local file or folder, or a hub id) stands for.

        Raises:
            CatalogError: the name is none of these.
        """
        named = name in self.image_sets and name != UNKNOWN_IMAGE_SET
        entry = self._image_set_entry(name if named else UNKNOWN_IMAGE_SET)
        known = [known for known in self.image_sets if known != UNKNOWN_IMAGE_SET]
        source = _located(str(entry["source"] if named else self._path_or_hub_id(name, "image set", known)))
        kind = _kind(source)
        # Labels of packaged sets serve known_labels alone: their data have names.
        packaged = self.image_sets.get(name) is _packaged("image_sets").get(name)
        return ImageSetSpec(
            id=short_id(name if named or not Path(source).is_file() else Path(name).stem),
            source=source,
            kind=kind,
            prompt=entry["prompt"],
            template=entry["template"],
            stems=tuple(entry["stems"]),
            labels=() if packaged else tuple(entry.get("labels", ())),
            **{key: entry[key] for key in IMAGE_SET_OPTIONS if key in entry},
            range=tuple(entry["range"]) if "range" in entry else None,
            synonyms=tuple((label, tuple(names)) for label, names in entry.get("synonyms", {}).items()),
        )

    def known_labels(self) -> dict[str, tuple[str, ...]]:
        """Label names of the image sets whose labels the catalog knows, by name."""
        known = {}
        for name, entry in self.image_sets.items():
            labels = entry.get("labels") or (wordnet_words().values() if entry.get("names") == "wordnet" else ())
            if labels:
                known[name] = tuple(labels)
        return known

    def known_stems(self) -> tuple[str, ...]:
        """Openings of well-formed answers to any image set."""
        return tuple(dict.fromkeys(stem for entry in self.image_sets.values() for stem in entry.get("stems", ())))

    def models_named(self, names: Iterable[str], encoder: str | None, revision: str | None) -> tuple[ModelSpec, ...]:
        """Specs of all ``names``, with ids that do not clash; what is named twice counts once, by whatever names."""
        specs = [self.model(name, encoder, revision) for name in names]
        distinct = {(spec.source, spec.adapter, spec.encoder, spec.revision): spec for spec in specs[::-1]}
        return unique_ids(list(distinct.values())[::-1])

    def image_sets_named(self, names: Iterable[str]) -> dict[str, ImageSetSpec]:
        """Specs by name, with ids that do not clash; names of one and the same set have the same spec."""
        specs = {name: self.image_set(name) for name in names}
        distinct = list(dict.fromkeys(specs.values()))
        unique = dict(zip(distinct, unique_ids(distinct), strict=True))
        return {name: unique[spec] for name, spec in specs.items()}

    def _aliases(self) -> dict[str, str]:
        return {alias: name for name, entry in self.models.items() for alias in entry.get("aliases", ())}

    def _entry_name(self, name: str) -> str:
        """The catalog's name for a name, an alias or a source that the catalog lists."""
        if name in self.models:
            return name
        sources = {str(entry["source"]): known for known, entry in self.models.items() if "source" in entry}
        return self._aliases().get(name) or sources.get(name) or name

    def _image_set_entry(self, name: str, below: tuple[str, ...] = ()) -> dict[str, Any]:
        """An entry with what it inherits from the one that it is like."""
        entry = dict(self.image_sets[name])
        parent = str(entry.pop("like", UNKNOWN_IMAGE_SET))
        if parent not in self.image_sets:
            raise CatalogError(f"image set '{name}' is like '{parent}', which the catalog does not have")
        if parent in (name, *below) and name != UNKNOWN_IMAGE_SET:
            raise CatalogError(f"image set '{name}' is like itself, by way of {', '.join((*below, parent))}")
        inherited = {} if name == UNKNOWN_IMAGE_SET else self._image_set_entry(parent, (*below, name))
        for key in OF_ITS_OWN:
            inherited.pop(key, None)
        return inherited | entry

    def _path_or_hub_id(self, name: str, what: str, known: list[str]) -> str:
        try:
            path = Path(name).expanduser()
            if name and what == "model" and path.is_file():
                raise CatalogError(f"no model at '{name}': it is a file; name the folder that it lies in")
            if name and path.exists():
                return str(path)
        except (OSError, RuntimeError, ValueError) as error:
            raise CatalogError(f"no {what} at '{name}': {error}") from None
        looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or path.suffix in LOCAL_FILES
        if looks_like_a_path:
            raise CatalogError(f"no {what} at '{name}': the path does not exist")
        if HUB_ID.fullmatch(name):
            return name
        raise CatalogError(f"unknown {what} '{name}'{_nearest(name, known)}; known: {', '.join(sorted(known))}")

    def _with_user_file(self, path: Path) -> Catalog:
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CatalogError(f"cannot read the catalog file {path}: {error}") from None
        stray = sorted(set(tables) - {"models", "image_sets"})
        if stray:
            raise CatalogError(f"{path}: table [{stray[0]}] means nothing; use [models.<name>] and [image_sets.<name>]")
        return replace(
            self,
            models={**self.models, **_entries(path, tables, "models", MODEL_KEYS)},
            image_sets={**self.image_sets, **_entries(path, tables, "image_sets", IMAGE_SET_KEYS)},
        )


LOCAL_FILES = (".parquet", ".csv", ".tsv", ".jsonl", ".tar", ".zip")
# What an entry does not inherit: it is of the data, not of the wording.
OF_ITS_OWN = (
    "source", "config", "split", "train_split", "image", "label", "labels", "synonyms", "revision", "background", "range",
)  # fmt: skip
IMAGE_SET_OPTIONS = (
    "config", "split", "train_split", "image", "label", "answer", "tuning_answer", "names", "label_order", "revision",
    "background",
)  # fmt: skip


def _endpoint(name: str, entry: Entry) -> EndpointSpec | None:
    """Where a model is asked; None for one that is not behind an endpoint."""
    if "endpoint" in entry:
        return endpoint_of(name, entry["endpoint"])
    if name.startswith(PREFIX) and not entry:
        return endpoint_named(name)
    if "://" in name:
        # It may hold a key, so it is not said again.
        raise CatalogError(f"a model is not named by an address: set EMT_MODEL_BASE_URL to it, and write --model {PREFIX}NAME")
    return None


def short_id(name: str) -> str:
    """A model's or image set's id: the last component of its path or hub id, over ``[A-Za-z0-9._-]``."""
    last = Path(name.rstrip("/")).expanduser().name or Path(name).expanduser().resolve().name
    if last in {".", ".."}:
        last = Path(name).resolve().name
    return re.sub(r"[^A-Za-z0-9._-]", "-", last).lstrip(".") or "unnamed"


def unique_ids(specs: list[Spec]) -> tuple[Spec, ...]:
    """The same specs; ids that clash get ``-`` and six hex digits of the full source, or of all that they differ in."""
    ids = [spec.id for spec in specs]
    made = [suffixed(spec) if ids.count(spec.id) > 1 else spec.id for spec in specs]
    return tuple(
        replace(spec, id=f"{spec.id}-{sha256(repr(spec).encode()).hexdigest()[:6]}" if made.count(name) > 1 else name)
        for spec, name in zip(specs, made, strict=True)
    )


def suffixed(spec: ModelSpec | ImageSetSpec) -> str:
    """The id with six hex digits of the full source."""
    full = getattr(spec, "adapter", None) or spec.source
    return f"{spec.id}-{sha256(full.encode()).hexdigest()[:6]}"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _located(source: str) -> str:
    """The folder of a bundled name; any other source as it is."""
    if not source.startswith(BUNDLED):
        return source
    name = source.removeprefix(BUNDLED)
    folder = bundled_folder()
    image_set = folder / "image_sets" / name
    return str(image_set if image_set.is_dir() else folder / "models" / name)


def _is_adapter(name: str) -> bool:
    try:
        return bool(name) and is_adapter(Path(name).expanduser())
    except (OSError, RuntimeError, ValueError):
        return False


def _kind(source: str) -> Literal["hub", "parquet", "saved", "folder", "file"]:
    path = Path(source)
    if path.is_file():
        return "parquet" if path.suffix == ".parquet" else "file"
    if not path.is_dir():
        return "hub"
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return "saved"
    return "parquet" if any(path.glob("*.parquet")) else "folder"


def _entries(path: Path, tables: Entry, table: str, keys: set[str]) -> dict[str, Entry]:
    entries = tables.get(table, {})
    if not isinstance(entries, dict):
        raise CatalogError(f"{path}: entries of '{table}' must be tables: [{table}.<name>]")
    return {name: _checked(path, table, name, entry, keys) for name, entry in entries.items()}


def _checked(path: Path, table: str, name: str, entry: object, keys: set[str]) -> Entry:
    """A user's entry with its relative paths made relative to the file that names them."""
    if not isinstance(entry, dict):
        raise CatalogError(f"{path}: {table}.{name} must be a table")
    stray = sorted(set(entry) - keys)
    if stray:
        raise CatalogError(
            f"{path}: '{stray[0]}' in [{table}.{name}] means nothing{_nearest(stray[0], keys)}; keys: {', '.join(sorted(keys))}"
        )
    if "endpoint" in entry:
        beside = [key for key in ("source", "backend") if key in entry]
        problem = f"leaves no meaning to {beside[0]}; leave that out" if beside else problem_of(entry["endpoint"])
        if problem:
            raise CatalogError(f"{path}: endpoint in [{table}.{name}] {problem}")
    elif "source" not in entry:
        raise CatalogError(f"{path}: [{table}.{name}] has no source (a hub id or a path)")
    for key, value in entry.items():
        if not _fits(key, value):
            raise CatalogError(f"{path}: {key} = {value!r} in [{table}.{name}] {MUST[key] if key in MUST else MUST['other']}")
    located = {key: str(path.parent / value) for key, value in entry.items()
               if key in {"source", "encoder"} and (path.parent / str(value)).exists()}  # fmt: skip
    return {**entry, **located}


# What a value must be, in words.
MUST = {
    "prompt": "must be a string with {labels} where the label names go",
    "template": "must be a string with {} where a label name goes: without it the encoder would see one caption",
    "answer": "must be a string with {} where a label name goes, and may have {a} for its article",
    "tuning_answer": "must be a string with {} where a label name goes, and may have {a} for its article",
    "names": 'must be "as-is", "wordnet" or "numbers"',
    "label_order": 'must be "index" or "alphabetical"',
    "trust_remote_code": "must be true or false",
    "reference": 'must be "encoder" or "probe"',
    "aliases": "must be a list of strings",
    "image_sets": "must be a list of one or more strings",
    "stems": "must be a list of strings",
    "labels": "must be a list of strings",
    "synonyms": 'must be a table of further names by label, such as {sofa = ["couch"]}',
    "background": 'must be "white", "black" or a colour like "#80ff00"',
    "range": "must be two numbers, of which the second is greater",
    "other": "must be a string",
}


def _fits(key: str, value: object) -> bool:
    """Whether a user's value is of the kind that its key wants."""
    if key == "endpoint":
        return True
    if key == "trust_remote_code":
        return isinstance(value, bool)
    if key == "synonyms":
        lists = list(value.values()) if isinstance(value, dict) else [None]
        return all(isinstance(names, list) and names and all(isinstance(name, str) for name in names) for names in lists)
    if key == "range":
        numbers = isinstance(value, list) and len(value) == 2 and all(type(item) in (int, float) for item in value)
        return numbers and isinstance(value, list) and value[0] < value[1]
    if key in {"aliases", "image_sets", "stems", "labels"}:
        filled = isinstance(value, list) and (bool(value) or key != "image_sets")
        return filled and isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not isinstance(value, str) or not value:
        return False
    wanted = {
        "prompt": "{labels}" in value,
        "template": "{}" in value,
        "answer": "{}" in value,
        "tuning_answer": "{}" in value,
        "names": value in {"as-is", "wordnet", "numbers"},
        "background": re.fullmatch(r"white|black|#[0-9a-fA-F]{6}", value) is not None,
        "label_order": value in {"index", "alphabetical"},
        "reference": value in REFERENCES,
    }
    return wanted.get(key, True)


@cache
def wordnet_words() -> Mapping[str, str]:
    """WordNet ids of the classes of miniImageNet, with their words."""
    return {key: str(words) for key, words in _packaged("wordnet").items()}


@cache
def _packaged(name: str) -> Mapping[str, Entry]:
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))
