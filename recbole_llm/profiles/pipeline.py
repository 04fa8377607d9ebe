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

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm.data.atomic import text_columns
from recbole_llm.data.history import UserHistory
from recbole_llm.data.items import Items
from recbole_llm.encoders.images import IMAGE_SUFFIXES
from recbole_llm.encoders.text import encode_each_once, encode_texts
from recbole_llm.files import sha256_of, write_ids
from recbole_llm.profiles.answer import Backend
from recbole_llm.profiles.asking import Outcome, Policy, Question, Usage, ask_all
from recbole_llm.profiles.backends import build_backend
from recbole_llm.profiles.description import describe_set, output_folder
from recbole_llm.profiles.image_words import ImageWords
from recbole_llm.profiles.item_images import find_item_images, image_folder
from recbole_llm.profiles.item_texts import full_texts, row_tokens
from recbole_llm.profiles.output import Folder, read_lines, write_features, write_lines
from recbole_llm.profiles.prompts import (
    cut_to_tokens,
    load_image_prompt,
    load_profile_prompt,
    render,
)
from recbole_llm.profiles.settings import ReasonSettings
from recbole_llm.profiles.store import FILE_NAME, AnswerStore

if TYPE_CHECKING:
    from recbole_llm.config import Config
    from recbole_llm.data.loading import Split


class Reasoner:
    """One data set, one split and one set of settings, through the stages.

    Only ``split.train`` reaches a prompt, unless ``settings.leaky``.

    Args:
        settings: settings of the pipeline.
        config: settings of the data, of which ``data_path``, ``cache_dir``, ``seed`` and
            ``show_progress`` are read.
        split: the data and its parts.
        data: fingerprint of the split, from ``describe_data``.
        given: settings of the data as the user gave them, so that an audit can split again.

    Raises:
        ValueError, OSError, ImportError: the settings, data, models or folder are wrong.
    """

    def __init__(
        self,
        settings: ReasonSettings,
        config: Config,
        split: Split,
        data: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        self.settings, self.config, self.split = settings, config, split
        self.profile_prompt = load_profile_prompt(settings.profile_prompt)
        self.image_prompt = load_image_prompt(settings.image_prompt)
        tokens = row_tokens(config, split)
        self.items = Items(config, ["[PAD]", *tokens])
        self.columns = text_columns(
            settings.text_columns, self.items.item_file, config, option="--text_columns"
        )
        dataset = split.dataset
        known = set(map(str, dataset.field2id_token[dataset.iid_field][1:]))
        self.images = find_item_images(settings, config, [t for t in tokens if t in known])
        self.backend = build_backend(settings, config) if settings.stage != "encode" else None
        self.image_backend = self._image_backend()
        made_from = {
            "split": data["split"],
            "text_columns": self.columns,
            "profile_prompt": self.profile_prompt,
            "image_prompt": self.image_prompt if self.images else None,
        }
        self.folder = Folder(output_folder(settings, config, made_from), settings.leaky)
        backends = {"model": self.backend, "image_model": self.image_backend}
        self.report = self.folder.prepare()
        self.report |= describe_set(settings, config, made_from, given, backends)
        self.report.setdefault("stages", {})

    def run(self) -> dict[str, Any]:
        """Run the stages, up to one that makes no profile; write and return the report."""
        with AnswerStore(Path(self.config["cache_dir"]) / FILE_NAME) as store:
            for stage in self.settings.stages:
                {
                    "images": self.describe_images,
                    "profiles": self.write_profiles,
                    "encode": self.encode,
                }[stage](store)
                self.folder.write_report(self.report)
                if stage == "profiles" and not self.report["stages"][stage]["profiled"]:
                    break  # there is nothing to encode
        return self.report

    def describe_images(self, store: AnswerStore) -> None:
        """Ask for a description of each image (eq. 1); an item without one keeps its text alone."""
        if not self.images or self.image_backend is None:
            if self.settings.stage == "images":
                raise ValueError(
                    f"no images for the items of {self.config['dataset']!r}: "
                    f"{image_folder(self.settings, self.config)} has no files "
                    f"<item token>{'|'.join(IMAGE_SUFFIXES)}. Name their folder by --image_folder."
                )
            self.report["stages"]["images"] = {"images": 0, "described": 0}
            self.folder.descriptions.unlink(missing_ok=True)
            return
        prompt = render(
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
        """Ask for each user's profile from the user's training items, oldest first (eq. 2 to 4)."""
        assert self.backend is not None
        texts = self.item_texts
        write_lines(
            self.folder.item_texts, ({"item": item, "text": text} for item, text in texts.items())
        )
        users = self.histories()
        questions = []
        for user, tokens in users.items():
            # Items without text are left out of the histories, so of the prompts too.
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
        texts = self.item_texts
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
        return render(
            self.profile_prompt,
            dataset=self.config["dataset"],
            max_words=self.settings.max_words,
            items=texts,
        )

    def encode(self, store: AnswerStore) -> None:
        """Encode descriptions (eq. 5) and profiles (eq. 13) into unit vectors."""
        hint = "Run `recbole_llm reason --stage=profiles` with the same settings first."
        texts = read_lines(self.folder.item_texts, "item", hint)
        profiles = read_lines(self.folder.profiles, "user", hint)
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
        """Return (n, width) float32, zero rows where there is no text."""
        if not any(texts):
            raise ValueError(
                f"there is nothing to encode: no text in {self.folder.path}. See the failures in "
                f"its report.json."
            )
        show = bool(self.config["show_progress"])

        def encode(distinct: list[str]) -> NDArray[np.float32]:
            return encode_texts(distinct, self.settings.encoder, show_progress=show)

        return encode_each_once(texts, encode)

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

    @cached_property
    def item_texts(self) -> dict[str, str]:
        """Each item's multimodal description, cut to ``max_item_tokens`` tokens."""
        from recbole_llm.profiles.local_client import load_tokenizer

        tokenizer = load_tokenizer(
            self.settings.tokenizer_name,
            self.settings.revision if self.settings.backend == "transformers" else None,
            self.config["cache_dir"],
        )
        full = full_texts(self.columns, self.items, self._descriptions())
        limit = self.settings.max_item_tokens
        return {token: cut_to_tokens(text, limit, tokenizer) for token, text in full.items()}

    def _descriptions(self) -> dict[str, str]:
        if not self.images:
            return {}
        lines = read_lines(
            self.folder.descriptions,
            "item",
            "Run `recbole_llm reason --stage=images` first, or give --image_folder=none.",
        )
        return {item: line["text"] for item, line in lines.items() if line["text"]}

    def _image_backend(self) -> Backend | None:
        if not self.images or "images" not in self.settings.stages:
            return None
        if self.settings.image_words:
            return ImageWords(self.config["device"])
        if self.settings.backend == "transformers" and self.settings.image_model is None:
            raise ValueError(
                f"{len(self.images)} items have an image in "
                f"{image_folder(self.settings, self.config)}: give --image_model=FOLDER, a model "
                f"that takes images, --image_words for class names in place of descriptions, or "
                f"--image_folder=none."
            )
        return build_backend(self.settings, self.config, sees_images=True)


def _line(outcome: Outcome) -> dict[str, Any]:
    return {
        "text": outcome.text,
        "reason": outcome.reason,
        "attempts": outcome.attempts,
        "trimmed": outcome.is_trimmed,
        "key": outcome.key,
    }
