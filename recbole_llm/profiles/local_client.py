"""Local models of transformers: batched generation, left-padded, greedy or seeded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    TopPLogitsWarper,
)

from recbole_llm.llm.backbone import DTYPES
from recbole_llm.llm.model_files import ModelFiles, find_model
from recbole_llm.profiles.answer import Answer, Decoding, Request


def load_tokenizer(
    name: str, revision: str | None = None, cache_dir: str | Path = "saved/cache"
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model; errors as ``find_model``.

    Raises:
        ValueError: it is a slow tokenizer, which does not say where its tokens lie in a text.
    """
    files = find_model(name, revision, cache_dir)
    tokenizer = AutoTokenizer.from_pretrained(files.folder, revision=revision)
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer {name!r} has no tokenizer.json; use another by --tokenizer.")
    return tokenizer


class LocalBackend:
    """A causal language model, or with ``sees_images`` an image-text-to-text model.

    The weights are read when something is asked: a run that finds every answer in the store never
    loads them. Requests are sorted by length, so that a batch has little padding.

    Args:
        name: alias, folder, GGUF file (a tied head; text only) or Hugging Face id.
        revision: branch, tag or commit of a Hugging Face id.
        dtype: float32, bfloat16, float16 or auto.
        batch_size: number of requests in a batch.
        cache_dir: folder in which a converted GGUF file is kept.
        device: torch device.
        sees_images: load a model that takes an image with the prompt.
    """

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        batch_size: int = 8,
        cache_dir: str | Path = "saved/cache",
        device: torch.device | str = "cpu",
        sees_images: bool = False,
    ) -> None:
        if dtype not in (*DTYPES, "auto"):
            raise ValueError(f"dtype must be {', '.join(DTYPES)} or auto, got {dtype!r}.")
        self.name, self.dtype, self.batch_size = name, dtype, batch_size
        self.device, self.sees_images = torch.device(device), sees_images
        self.files: ModelFiles = find_model(name, revision, cache_dir)
        self._loaded: tuple[Any, Any] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The files' digest says which model it is, wherever its folder lies."""
        return {
            "backend": "transformers",
            "model": Path(self.name).name if self.files.kind == "folder" else self.name,
            "revision": self.files.digest,
            "dtype": self.dtype,
        }

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer]]:
        """Yield requests with their answers, a batch at a time.

        Raises:
            ValueError: a prompt and its answer do not fit the model's context.
            OSError: the model's files cannot be read.
        """
        ordered = sorted(requests, key=lambda request: (request.decoding[:3], len(request.prompt)))
        while ordered:
            first = ordered[0].decoding[:3]
            batch = [r for r in ordered[: self.batch_size] if r.decoding[:3] == first]
            ordered = ordered[len(batch) :]
            yield from zip(batch, self._generate(batch), strict=True)

    @torch.inference_mode()
    def _generate(self, batch: list[Request]) -> list[Answer]:
        model, processor = self._load()
        tokenizer = getattr(processor, "tokenizer", processor)
        inputs = self._inputs(batch, processor).to(self.device)
        decoding, mask = batch[0].decoding, inputs["attention_mask"]  # (B, T), padding in front
        self._check_length(model, mask, decoding)
        warpers = LogitsProcessorList()
        if decoding.temperature:
            warpers.append(SeededSampling(batch))
        output = model.generate(
            **inputs,
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=warpers,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = output[:, mask.size(1) :].cpu()  # (B, <= max_new_tokens), padding behind
        stops = model.generation_config.eos_token_id
        stops = torch.tensor(stops if isinstance(stops, list) else [stops])
        is_end = torch.isin(new, stops)
        length = torch.where(is_end.any(1), is_end.int().argmax(1), new.size(1))
        texts = [
            tokenizer.decode(row[:n], skip_special_tokens=True)
            for row, n in zip(new, length.tolist(), strict=True)
        ]
        used = mask.sum(1).tolist()
        return [
            Answer(text.strip(), not ended, n_in, n_out)
            for text, ended, n_in, n_out in zip(
                texts, is_end.any(1).tolist(), used, length.tolist(), strict=True
            )
        ]

    def _inputs(self, batch: list[Request], processor: Any) -> Any:
        if not self.sees_images:
            texts = [_chat(processor, [{"role": "user", "content": r.prompt}]) for r in batch]
            special = getattr(processor, "chat_template", None) is None  # a template has its own
            return processor(
                texts,
                return_tensors="pt",
                padding=True,
                add_special_tokens=special,
                return_token_type_ids=False,
            )
        from PIL import Image

        images = []
        for request in batch:
            assert request.image is not None
            try:
                with Image.open(request.image) as image:
                    images.append([image.convert("RGB")])
            except OSError as error:
                raise ValueError(f"{request.image} is not a readable image: {error}") from error
        texts = [
            _chat(
                processor,
                [
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": r.prompt}],
                    }
                ],
            )
            for r in batch
        ]
        return processor(text=texts, images=images, return_tensors="pt", padding=True)

    def _check_length(self, model: Any, mask: Tensor, decoding: Decoding) -> None:
        config = model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        longest = int(mask.sum(1).max())
        if limit is not None and longest + decoding.max_new_tokens > limit:
            raise ValueError(
                f"a prompt of {longest} tokens and an answer of {decoding.max_new_tokens} do not "
                f"fit the {limit} tokens of {self.name!r}. Lower --max_history or "
                f"--max_item_tokens."
            )

    def _load(self) -> tuple[Any, Any]:
        """Read the weights and the tokenizer (or processor), once."""
        if self._loaded is None:
            kind: Any = AutoModelForImageTextToText if self.sees_images else AutoModelForCausalLM
            reader: Any = AutoProcessor if self.sees_images else AutoTokenizer
            where = self.files.folder
            try:
                processor = reader.from_pretrained(where)
                model, info = kind.from_pretrained(
                    where, dtype=DTYPES.get(self.dtype, "auto"), output_loading_info=True
                )
            except ImportError:
                raise
            except Exception as error:  # safetensors, JSON and hub errors share no base
                raise OSError(f"model {self.name!r} cannot be loaded: {error}") from error
            # The trunk of a GGUF file has no head of its own: right only where it is tied.
            if info["missing_keys"]:
                raise OSError(
                    f"model {self.name!r}: weights are missing, among them "
                    f"{sorted(info['missing_keys'])[0]}. Use its folder in Hugging Face format."
                )
            tokenizer = getattr(processor, "tokenizer", processor)
            tokenizer.padding_side = "left"
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            self._loaded = model.to(self.device).eval(), processor
        return self._loaded


class SeededSampling(LogitsProcessor):
    """Sampling by adding Gumbel noise before the argmax, from one generator a row.

    A row's draw depends on its own seed and prompt alone, not on what shares its batch.
    """

    def __init__(self, batch: Sequence[Request]) -> None:
        decoding = batch[0].decoding
        self.temperature = decoding.temperature
        self.top_p = TopPLogitsWarper(decoding.top_p) if decoding.top_p < 1 else None
        self.generators = []
        for request in batch:
            text = f"{request.decoding.seed} {request.prompt}".encode()
            seed = int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
            self.generators.append(torch.Generator().manual_seed(seed))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (B, vocabulary) scores whose argmax is a sample."""
        scores = scores.float() / self.temperature
        if self.top_p is not None:
            scores = self.top_p(input_ids, scores)
        noise = torch.stack([torch.rand(scores.size(1), generator=g) for g in self.generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        return scores + gumbel.to(scores.device)


def _chat(processor: Any, messages: list[dict[str, Any]]) -> str:
    """Put a message into the model's chat format; a base model without one gets the plain text."""
    if getattr(processor, "chat_template", None):
        return str(
            processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        )
    content = messages[0]["content"]
    if isinstance(content, str):
        return content
    return f"{getattr(processor, 'image_token', '<image>')}\n{content[1]['text']}"
