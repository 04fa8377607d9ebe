"""The stages images, profiles and encode, from a data set's training part to feature files.

The folder that they write (names of a leaky set's profiles hold ``.LEAKY``, see ``output``)::

    item_descriptions.jsonl  a line an image: item, text (null: failed), reason, attempts, key
    item_texts.jsonl         a line an item: item, text of its columns and its image's description
    profiles.jsonl           a line a user: user, items (tokens the prompt was made from, oldest
                             first), text (null: none), reason, attempts, key of the stored prompt
    item_mm_feat.npy         (items, width) float32, zero rows for items without text; rows as in
    item_mm_ids.txt          one item token a line, in the order of item_ids.txt or <dataset>.item:
                             ``modalities: {mm: <folder>/item_mm_feat.npy}`` reads it as it is
    user_profile_feat.npy    (users, width) float32, zero rows for users without a profile; rows as
    user_profile_ids.txt     in here: one user token a line
    report.json              settings, split, counts of answers, failures, tokens; files' hashes

Prompts and answers are in ``<cache_dir>/reason.sqlite`` (see ``store``).
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_llm.data.atomic import text_columns
from recbole_llm.data.history import UserHistory
from recbole_llm.data.modality import Items, item_texts, listed_rows
from recbole_llm.encoders.images import IMAGE_SUFFIXES, find_images
from recbole_llm.files import sha256_of, write_ids
from recbole_llm.profiles import prompts
from recbole_llm.profiles.answer import Backend
from recbole_llm.profiles.asking import Outcome, Policy, Question, Usage, ask_all
from recbole_llm.profiles.backends import build_backend
from recbole_llm.profiles.output import (
    Folder,
    default_folder,
    read_lines,
    write_features,
    write_lines,
)
from recbole_llm.profiles.settings import Settings
from recbole_llm.profiles.store import FILE_NAME, AnswerStore

if TYPE_CHECKING:
    from recbole_llm.config import Config
    from recbole_llm.data.loading import Split

_PACKAGES = ("recbole-llm", "transformers", "torch", "openai", "sentence-transformers")


class Reasoner:
    """One data set, one split and one set of settings, through the stages.

    Only ``split.train`` reaches a prompt, unless ``settings.leaky``.

    Args:
        settings: of the pipeline.
        config: of the data; reads ``data_path``, ``cache_dir``, ``seed``, ``show_progress``.
        split: the data and its parts.
        data: ``describe_data`` of the split.
        given: the settings of the data as the user gave them, for the audit to split again.

    Raises:
        ValueError, OSError, ImportError: what is wrong with the settings, data, models or folder.
    """

    def __init__(
        self,
        settings: Settings,
        config: Config,
        split: Split,
        data: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        self.settings, self.config, self.split = settings, config, split
        self.profile_prompt = prompts.load_profile_prompt(settings.profile_prompt)
        self.image_prompt = prompts.load_image_prompt(settings.image_prompt)
        self.items = Items(config, ["[PAD]", *row_tokens(config, split)])
        self.columns = text_columns(
            settings.text_columns, self.items.item_file, config, option="--text_columns"
        )
        self.images = self._find_images()
        self.backend = build_backend(settings, config) if settings.stage != "encode" else None
        self.image_backend = self._image_backend()
        self.folder = Folder(self._output(data), settings.leaky)
        self.report = self.folder.prepare()
        self.report |= self._describe(data, given)
        self.report.setdefault("stages", {})

    def run(self) -> dict[str, Any]:
        """Run the stages that are asked for; returns the report, which is also written."""
        with AnswerStore(Path(self.config["cache_dir"]) / FILE_NAME) as store:
            for stage in self.settings.stages:
                {
                    "images": self.describe_images,
                    "profiles": self.write_profiles,
                    "encode": self.encode,
                }[stage](store)
                self.folder.write_report(self.report)
        return self.report

    def describe_images(self, store: AnswerStore) -> None:
        """Ask for a description of each image (eq. 1); an item without one keeps its text alone."""
        if not self.images or self.image_backend is None:
            if self.settings.stage == "images":
                raise ValueError(
                    f"no images for the items of {self.config['dataset']!r}: {self._image_folder()}"
                    f" has no files <item token>{'|'.join(IMAGE_SUFFIXES)}. Name their folder by "
                    f"--image_folder."
                )
            self.report["stages"]["images"] = {"images": 0, "described": 0}
            self.folder.descriptions.unlink(missing_ok=True)
            return
        prompt = prompts.render(
            self.image_prompt,
            dataset=self.config["dataset"],
            max_words=self.settings.max_words,
        )
        questions = [Question(token, prompt, path) for token, path in self.images.items()]
        outcomes, usage = self._ask(questions, self.image_backend, store, "image")
        lines = ({"item": q.name, **_line(outcomes[q.name])} for q in questions)
        write_lines(self.folder.descriptions, lines)
        described = sum(outcome.text is not None for outcome in outcomes.values())
        self.report["stages"]["images"] = {
            "images": len(questions),
            "items_without_image": self.split.dataset.item_num - 1 - len(questions),
            "described": described,
            **usage.to_dict(),
        }

    def write_profiles(self, store: AnswerStore) -> None:
        """Ask for each user's profile from his or her training items, oldest first (eqs. 2-4)."""
        assert self.backend is not None
        texts = self._item_texts()
        write_lines(
            self.folder.item_texts, ({"item": item, "text": text} for item, text in texts.items())
        )
        users = self.histories()
        questions = []
        for user, tokens in users.items():
            # An item without any text has nothing to say, and stays in no prompt.
            shown = [texts[token] for token in tokens]
            if shown:
                questions.append(Question(user, self.profile_request(shown)))
        outcomes, usage = self._ask(questions, self.backend, store, "user")
        nothing = Outcome(None, "no training interactions with text", "", 0)
        lines = (
            {"user": user, "items": tokens, **_line(outcomes.get(user, nothing))}
            for user, tokens in users.items()
        )
        write_lines(self.folder.profiles, lines)
        profiled = sum(outcome.text is not None for outcome in outcomes.values())
        self.report["stages"]["profiles"] = {
            "users": len(users),
            "users_without_items": len(users) - len(questions),
            "profiled": profiled,
            "items_without_text": sum(not text for text in texts.values()),
            **usage.to_dict(),
        }
        self.report["files"] = {
            path.name: sha256_of(path) for path in (self.folder.item_texts, self.folder.profiles)
        }

    def histories(self) -> dict[str, list[str]]:
        """Return each user's last ``max_history`` item tokens with text, oldest first.

        From the training part; from all parts if leaky.
        """
        parts = self.split[1:] if self.settings.leaky else (self.split.train,)
        history, dataset = UserHistory.of(parts), self.split.dataset
        texts = self._item_texts()
        n_users = min(dataset.user_num - 1, self.settings.max_users or dataset.user_num)
        users = {}
        bounds = history.indptr.tolist()
        for user in range(1, n_users + 1):
            items = history.items[bounds[user] : bounds[user + 1]]
            tokens = [str(token) for token in dataset.id2token(dataset.iid_field, items.numpy())]
            tokens = [token for token in tokens if texts.get(token)]
            name = str(dataset.id2token(dataset.uid_field, user))
            users[name] = tokens[-self.settings.max_history :]
        return users

    def profile_request(self, texts: Sequence[str]) -> str:
        """Return Prompt 2 over these descriptions."""
        return prompts.render(
            self.profile_prompt,
            dataset=self.config["dataset"],
            max_words=self.settings.max_words,
            items=texts,
        )

    def encode(self, store: AnswerStore) -> None:
        """Encode descriptions (eq. 5) and profiles (eq. 13) into unit vectors."""
        wanted_by = "Run `recbole_llm reason --stage=profiles` with the same settings first."
        texts = read_lines(self.folder.item_texts, "item", wanted_by)
        profiles = read_lines(self.folder.profiles, "user", wanted_by)
        rows = list(self.items.tokens[1:])
        item_feat = self._encode([texts.get(token, {}).get("text") for token in rows])
        write_features(self.folder.item_feat, item_feat)
        write_ids(self.folder.item_ids, rows)
        user_feat = self._encode([line["text"] for line in profiles.values()])
        write_features(self.folder.user_feat, user_feat)
        write_ids(self.folder.user_ids, profiles)
        self.report["stages"]["encode"] = {
            "encoder": self.settings.encoder,
            "items": len(item_feat),
            "users": len(user_feat),
            "width": int(item_feat.shape[1]),
            "users_without_profile": int((~user_feat.any(1)).sum()),
            "made_from": sha256_of(self.folder.profiles),
        }
        self.report["files"] |= {path.name: sha256_of(path) for path in self.folder.feature_files()}

    def _encode(self, texts: Sequence[str | None]) -> NDArray[np.float32]:
        """Return (n, width) float32, zero where there is no text."""
        from recbole_llm.encoders.text import encode_texts

        distinct = sorted({text for text in texts if text})
        if not distinct:
            raise ValueError(
                f"there is nothing to encode: no text in {self.folder.path}. See the failures in "
                f"its report.json."
            )
        vectors = encode_texts(
            distinct, self.settings.encoder, show_progress=bool(self.config["show_progress"])
        )
        row_of = {text: row for row, text in enumerate(distinct)}
        feature = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            if text:
                feature[row] = vectors[row_of[text]]
        return feature

    def _ask(
        self, questions: list[Question], backend: Backend, store: AnswerStore, unit: str
    ) -> tuple[dict[str, Outcome], Usage]:
        policy = Policy(
            self.settings.decoding(self.config["seed"]),
            self.settings.max_words,
            self.settings.answer_retries,
            self.settings.overlong == "trim",
        )
        show = bool(self.config["show_progress"])
        return ask_all(questions, backend, store, policy, unit=unit, show_progress=show)

    def _item_texts(self) -> dict[str, str]:
        """Return each item's multimodal description, cut to ``max_item_tokens`` (built once)."""
        if not hasattr(self, "_texts"):
            from recbole_llm.profiles.local_client import load_tokenizer

            tokenizer = load_tokenizer(
                self.settings.tokenizer_name,
                self.settings.revision if self.settings.backend == "transformers" else None,
                self.config["cache_dir"],
            )
            full = full_texts(self.columns, self.items, self._descriptions())
            limit = self.settings.max_item_tokens
            self._texts = {
                token: prompts.cut_to_tokens(text, limit, tokenizer) for token, text in full.items()
            }
        return self._texts

    def _descriptions(self) -> dict[str, str]:
        if not self.images:
            return {}
        lines = read_lines(
            self.folder.descriptions,
            "item",
            "Run `recbole_llm reason --stage=images` first, or give --image_folder=none.",
        )
        return {item: line["text"] for item, line in lines.items() if line["text"]}

    def _find_images(self) -> dict[str, Path]:
        """Return the image of each item of the data that has one, in the items' order."""
        if self.settings.image_folder == "none":
            return {}
        folder = self._image_folder()
        if not folder.is_dir():
            if self.settings.image_folder is not None:
                raise FileNotFoundError(f"--image_folder={folder} is no folder.")
            return {}
        known = set(map(str, self.split.dataset.field2id_token[self.split.dataset.iid_field][1:]))
        return find_images(folder, [token for token in self.items.tokens[1:] if token in known])

    def _image_folder(self) -> Path:
        return Path(self.settings.image_folder or Path(self.config["data_path"]) / "images")

    def _image_backend(self) -> Backend | None:
        if not self.images or "images" not in self.settings.stages:
            return None
        if self.settings.backend == "transformers" and self.settings.image_model is None:
            raise ValueError(
                f"{len(self.images)} items have an image in {self._image_folder()}: give "
                f"--image_model=FOLDER, a model that takes images, or --image_folder=none."
            )
        return build_backend(self.settings, self.config, sees_images=True)

    def _output(self, data: Mapping[str, Any]) -> Path:
        if self.settings.output is not None:
            return Path(self.settings.output)
        parent = Path(self.config["data_path"])
        return default_folder(parent, self._identity(data), self.settings.leaky)

    def _identity(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return what names the default folder: whatever the profiles depend on."""
        names = (
            "backend model_name image_model revision dtype temperature top_p max_new_tokens "
            "max_words max_history max_item_tokens overlong tokenizer leaky".split()
        )
        return {
            "dataset": self.config["dataset"],
            "split": data["split"],
            "columns": self.columns,
            "prompts": [self.profile_prompt, self.image_prompt if self.images else None],
            **{name: getattr(self.settings, name) for name in names},
        }

    def _describe(self, data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        versions = {}
        for package in _PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                logging.getLogger().debug("%s is not installed", package)
        described = {
            "leaky": self.settings.leaky,
            "mark": self.folder.mark,
            "dataset": self.config["dataset"],
            "protocol": self.config["protocol"],
            "seed": self.config["seed"],
            "split": data["split"],
            "given": dict(given),
            "settings": self.settings.to_dict(),
            "text_columns": self.columns,
            "profile_prompt": self.profile_prompt,
            "image_prompt": self.image_prompt if self.images else None,
            "store": str((Path(self.config["cache_dir"]) / FILE_NAME).absolute()),
            "versions": versions,
            "threads": torch.get_num_threads(),
        }
        for name, backend in (("model", self.backend), ("image_model", self.image_backend)):
            if backend is not None:
                described[name] = backend.identity
        return described


def row_tokens(config: Config, split: Split) -> list[str]:
    """Return the item tokens in the row order of feature files, which is also the data set's own.

    Without ``item_ids.txt`` and ``.item`` file: the items of the interactions.
    """
    items = Items(config, [])
    if items.ids_file.is_file() or items.item_file.is_file():
        return listed_rows(items)[0]
    return [str(token) for token in split.dataset.field2id_token[split.dataset.iid_field][1:]]


def full_texts(
    columns: Sequence[str], items: Items, descriptions: Mapping[str, str]
) -> dict[str, str]:
    """Return each item's text joined to its image's description, not yet cut (eq. 2)."""
    tokens = items.tokens[1:]
    own = item_texts(columns, items) if columns else [""] * len(tokens)
    return {
        str(token): prompts.item_description(text, descriptions.get(str(token), ""))
        for token, text in zip(tokens, own, strict=True)
    }


def _line(outcome: Outcome) -> dict[str, Any]:
    return {
        "text": outcome.text,
        "reason": outcome.reason,
        "attempts": outcome.attempts,
        "trimmed": outcome.is_trimmed,
        "key": outcome.key,
    }
