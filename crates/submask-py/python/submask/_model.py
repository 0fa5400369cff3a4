"""Models: opened, sampled, scored and evaluated."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native
from ._arguments import described, invalid, numbers, text, unsigned, whole
from ._evaluated import evaluated
from ._events import Stream
from ._given import channels_of, each_of, image_of
from ._open import OpenModel
from ._samples import Change, Report, Samples, Tokens, Trajectory
from ._score import Evaluation, Score, pairs_of, score_of
from ._settings import Estimator, Order, Sampling, Unit, estimation, flag, naming, sampling

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Model"]


class Model(OpenModel):
    """A model of text, images or points, ready to generate and to be evaluated. :meth:`open` gives one.

    It may be used by several threads at once: nothing holds the GIL while it computes. Results are the same as the program
    ``submask`` gives, bit for bit, on the same processor.

    Attributes:
        subject: what it is of: ``"text"``, ``"images"`` or ``"points"``.
        vocab_size: number of token classes C.
        subtoken_len: sub-tokens per token ℓ.
        base: base b of the sub-tokens, which are 0 to b − 1.
        mask_id: the number of a masked sub-token, which is b.
        seq_len: tokens of a sequence; of text of the longest one.
        block_len: tokens per block of a model that writes block by block; 0: none.
        network: the network's name.
        is_autoregressive: whether it is the autoregressive baseline.
        is_of_pairs: whether it was trained on pairs of prompts and completions.
        reads_time: whether its network reads the time.
        image_shape: height, width and channels, of a model of images; otherwise ``None``.
        classes: names of the classes that its network reads; ``None`` where it reads none.
        parameters: number of weights.
        tokenizer: how its texts become tokens; ``None`` where it is not of text.
        path: the model folder.
    """

    def sample(
        self,
        num: int = 1,
        *,
        prompt: str | None = None,
        length: int | None = None,
        trace: bool = False,
        log_probs: None = None,
        **settings: Unpack[Sampling],
    ) -> Samples:
        """Draws samples: the same as ``submask sample``.

        Args:
            num: how many.
            prompt: of a model of text, the text that is given, perhaps with holes: see :meth:`infill`. Without holes it is
                continued.
            length: tokens of a text; the model's length unless it is given, or as many as the prompt asks for.
            trace: whether it is kept how every sample came about.
            log_probs: :meth:`stream` tells the probabilities of draws.
            **settings: ``steps``, ``order``, ``temperature``, ``seed`` and the others of :class:`submask.Sampling`.

        Raises:
            InvalidError: of settings that do not go together or mean nothing for the model.

        >>> model.sample(2, prompt="harbour: ", seed=1).texts  # doctest: +SKIP
        """
        if log_probs is not None:
            raise invalid("log_probs", log_probs, "none here: model.stream(log_probs=N) tells them event by event")
        return self._sample(num, {"prompt": prompt, "length": length, "trace": trace}, settings, None, None)

    def infill(
        self,
        template: str | None = None,
        num: int = 1,
        *,
        given: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        keep_digits: int | None = None,
        keep_channels: Sequence[int] = (),
        length: int | None = None,
        trace: bool = False,
        **settings: Unpack[Sampling],
    ) -> Samples:
        """Fills the holes of a text, or draws parts of an image anew.

        Args:
            template: a text with holes, which the model fills looking at both sides: ``[[5]]`` is a hole of five tokens,
                ``[[*]]`` one up to the end of the sequence, ``\\[[`` two brackets.
            num: how many samples.
            given: of a model of images, the image uint8 [h, w, c]; a part of it is kept.
            mask: bool [h, w]: which of its pixels are drawn anew.
            keep_digits: how many sub-tokens of every token are kept, the most significant ones.
            keep_channels: which channels are kept, from 0; all, unless some are named.
            length: as :meth:`sample` takes it.
            trace: as :meth:`sample` takes it.
            **settings: as :meth:`sample` takes them.

        >>> model.infill("lantern: [[12]] light.", 4).texts  # doctest: +SKIP
        """
        if (template is None) == (given is None):
            problem = "none" if template is None else "a template and an image"
            raise invalid("template", problem, "a text with holes, or given: an image uint8 [h, w, c]")
        options = {
            "prompt": None if template is None else text(template, "template"),
            "length": length,
            "trace": trace,
            "keep_digits": keep_digits,
            "keep_channels": keep_channels,
        }
        return self._sample(num, options, settings, given, mask)

    def stream(
        self,
        num: int = 1,
        *,
        prompt: str | None = None,
        length: int | None = None,
        log_probs: int | None = None,
        given: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        keep_digits: int | None = None,
        keep_channels: Sequence[int] = (),
        **settings: Unpack[Sampling],
    ) -> Stream:
        """Draws samples on a thread of its own, and tells what happens: an iterator of :class:`Started`, :class:`Revealed` and
        :class:`Finished`, which know the state of their sample.

        Closing the stream, leaving it as a context manager, or dropping it ends the work.

        Args:
            num: how many samples.
            prompt: a text, perhaps with holes, as :meth:`sample` takes it.
            length: as :meth:`sample` takes it.
            log_probs: whether it is told with what probabilities sub-tokens are drawn, and of how many most probable tokens
                beside. It asks for an order other than random, at temperature 1, with nothing left out.
            given: as :meth:`infill` takes it.
            mask: as :meth:`infill` takes it.
            keep_digits: as :meth:`infill` takes it.
            keep_channels: as :meth:`infill` takes it.
            **settings: as :meth:`sample` takes them.

        >>> with model.stream(prompt="the [[3]]") as events:  # doctest: +SKIP
        ...     for event in events:
        ...         print(event)
        """
        options = self._options(
            num,
            {
                "prompt": prompt,
                "length": length,
                "log_probs": None if log_probs is None else whole(log_probs, "log_probs"),
                "keep_digits": keep_digits,
                "keep_channels": keep_channels,
            },
            settings,
        )
        with naming({"num": num, "prompt": prompt, "length": length, "log_probs": log_probs, **settings}):
            source = _native.EventStream(self._native, options, *image_of(given, mask))
        return Stream(source, self.subtoken_len, None if self.image_shape is None else self._image_of)

    @overload
    def score(  # type: ignore[overload-overlap]  # A text is no iterable of texts here.
        self,
        texts: str | Mapping[str, Any],
        *,
        prompt: str | None = None,
        estimator: Estimator | None = None,
        draws: int | None = None,
        seed: int = 0,
        order: Order | None = None,
        unit: Unit | None = None,
        per_step: int | None = None,
        steps: int | None = None,
        end: bool = False,
        stride: int | None = None,
        carry_over: bool | None = None,
        batch: int = 16,
    ) -> Score: ...
    @overload
    def score(
        self,
        texts: Iterable[str | Sequence[str] | Mapping[str, Any]],
        *,
        prompt: str | None = None,
        estimator: Estimator | None = None,
        draws: int | None = None,
        seed: int = 0,
        order: Order | None = None,
        unit: Unit | None = None,
        per_step: int | None = None,
        steps: int | None = None,
        end: bool = False,
        stride: int | None = None,
        carry_over: bool | None = None,
        batch: int = 16,
    ) -> list[Score]: ...
    def score(
        self,
        texts: str | Mapping[str, Any] | Iterable[str | Sequence[str] | Mapping[str, Any]],
        *,
        prompt: str | None = None,
        estimator: Estimator | None = None,
        draws: int | None = None,
        seed: int = 0,
        order: Order | None = None,
        unit: Unit | None = None,
        per_step: int | None = None,
        steps: int | None = None,
        end: bool = False,
        stride: int | None = None,
        carry_over: bool | None = None,
        batch: int = 16,
    ) -> Score | list[Score]:
        """Tells how probable a model of text finds texts: the same as ``submask score``.

        Args:
            texts: a text; or texts, pairs (prompt, text), or dicts with ``"text"``, and with ``"prompt"`` if wanted (or with
                ``"prompt"`` and ``"completion"``; other keys are not read), such as a data set gives. A pair stands in a list,
                ``[(prompt, text)]``: a tuple of two strings alone is two texts.
            prompt: what stands before the texts, given and not charged.
            estimator: what is estimated; ``"nelbo-subtoken"`` unless it is given, of autoregressive models ``"exact"``.
            draws: Monte Carlo draws per text, 32 unless they are given; of the estimator ``"orders"``, orders.
            seed: seed of the draws.
            order: order of generation, of the estimator ``"exact"``; left to right unless it is given.
            unit: what is revealed at once, of the estimators ``"exact"`` and ``"orders"``.
            per_step: units revealed per evaluation, of the estimator ``"exact"``.
            steps: steps of the sampler, of the estimator ``"path"``.
            end: whether one end of text is charged after a text.
            stride: new tokens per window of a text that is longer than the model's sequences.
            carry_over: whether tokens that contradict a visible sub-token are excluded; as the model says unless it is given.
            batch: sequences per network call; it does not change the scores.

        Returns:
            One score of a text, a list of scores of several.
        """
        prompts, own, names = pairs_of(texts, prompt)
        if not own:
            return []
        layout = {"end": flag(end, "end"), "stride": None if stride is None else whole(stride, "stride", 1)}
        how = estimation(
            estimator=estimator,
            draws=draws,
            steps=steps,
            order=order,
            unit=unit,
            per_step=per_step,
            seed=seed,
            carry_over=carry_over,
            batch=batch,
        )
        with naming(how | layout):
            told, notes = _native.score_texts(self._native, prompts, own, names, layout, how)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        scores = [score_of(parts) for parts in told]
        return scores[0] if isinstance(texts, (str, Mapping)) else scores

    def evaluate(
        self,
        data: Any = None,
        *,
        estimator: Estimator | None = None,
        draws: int | None = None,
        sequences: int | None = None,
        seed: int = 0,
        order: Order | None = None,
        unit: Unit | None = None,
        per_step: int | None = None,
        steps: int | None = None,
        carry_over: bool | None = None,
        batch: int = 16,
        **reading: Any,
    ) -> Evaluation:
        """Measures how well the model predicts data: the same as ``submask eval``.

        Args:
            data: what is evaluated. ``None``: what the model's run held out. A path or several: files and folders as the
                program reads them; a string is a path, never a text. Tokens [n, L], or images uint8 [n, h, w, c]. An iterable
                of dicts, such as a data set: records of text, or of ``"image"`` and ``"label"``.
            estimator: what is estimated; ``"nelbo-subtoken"`` unless it is given, of autoregressive models ``"exact"``.
            draws: Monte Carlo draws per sequence, 1 unless they are given; 32 with ``by_document=True``.
            sequences: how many sequences or documents are evaluated, spread over all; all unless it is given.
            seed: seed of the draws.
            order: order of generation, of the estimator ``"exact"``.
            unit: what is revealed at once, of the estimators ``"exact"`` and ``"orders"``.
            per_step: units revealed per evaluation, of the estimator ``"exact"``.
            steps: steps of the sampler, of the estimator ``"path"``.
            carry_over: whether tokens that contradict a visible sub-token are excluded; as the model says unless it is given.
            batch: sequences per network call; it does not change the figures.
            **reading: how data are read. Of text: ``by_document``, ``end``, ``stride``, ``split``, ``field``,
                ``prompt_field``, ``completion_field``, ``format``, ``join``, ``separator``, ``skip_bad``. Of images:
                ``images``, ``part``, and ``labels``, a file or, of arrays, whole numbers [n].

        Returns:
            Figures in the units of the model's subject, and the value of every sequence.

        Raises:
            FileError: of a path that does not exist. Texts are dicts: a string is a path.
            InvalidError: of data or an argument that is not allowed; a record is named ``data[0]``.
        """
        how = estimation(
            estimator=estimator,
            draws=draws,
            steps=steps,
            order=order,
            unit=unit,
            per_step=per_step,
            seed=seed,
            carry_over=carry_over,
            batch=batch,
        )
        count = None if sequences is None else whole(sequences, "sequences", 1)
        with naming(how | reading):
            return evaluated(self._native, data, count, reading, how)

    def logits(
        self,
        y_t: ArrayLike,
        t: ArrayLike | None = None,
        positions: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        *,
        batch: int = 8,
    ) -> NDArray[np.float32]:
        """What the network says of sequences that are masked in part, before temperature and before tokens that contradict a
        visible sub-token are excluded.

        Args:
            y_t: sub-tokens [B, L, ℓ], ``mask_id`` where masked, or [L, ℓ] of one sequence. An array of uint32 is not copied.
            t: times in [0, 1], one for all or [B], for a network that reads the time. Unless it is given, the time at which
                this share of the sub-tokens is masked.
            positions: places b·L + i of the tokens that are asked for, [P], in any order; all unless they are given.
            labels: classes, one for all or [B], for a network that reads classes; their number itself stands for none.
            batch: sequences evaluated together; it does not change the numbers.

        Returns:
            float32 [P, C]; without ``positions`` [B, L, C], or [L, C] of one sequence. A model with blocks predicts up to the
            first block with a masked sub-token: there, fewer than L. An autoregressive model has a row for every sub-token that
            is given and one more, and a column for every value of a sub-token.
        """
        states = unsigned(y_t, "y_t", f"[B, L, {self.subtoken_len}]")
        if states.ndim not in (2, 3) or states.shape[-1] != self.subtoken_len or states.size == 0:
            allowed = f"uint32 [B, L, {self.subtoken_len}] or [L, {self.subtoken_len}]"
            raise invalid("y_t", described(np.asarray(y_t)), allowed)
        count = states.shape[0] if states.ndim == 3 else 1
        times = None if t is None else numbers(t, "t", 0.0, 1.0, "numbers from 0 to 1")
        classes = None if labels is None else unsigned(labels, "labels", "[B]")
        places = None if positions is None else unsigned(positions, "positions", "[P]")
        if places is not None and places.ndim != 1:
            raise invalid("positions", described(places), "whole numbers [P]")
        rows = _native.logits(
            self._native,
            states.reshape(-1),
            count,
            None if times is None else each_of(times, "t", count),
            None if places is None else places.astype(np.uintp),
            None if classes is None else each_of(classes, "labels", count),
            whole(batch, "batch", 1),
        )
        if positions is not None or states.ndim == 2:
            return rows
        return rows.reshape(count, -1, rows.shape[1])

    def _sample(
        self,
        num: int,
        given_options: Mapping[str, Any],
        settings: Sampling,
        given: ArrayLike | None,
        mask: ArrayLike | None,
    ) -> Samples:
        options = self._options(num, given_options, settings)
        with naming({"num": num, **given_options, **settings}):
            parts = _native.sample_model(self._native, options, *image_of(given, mask))
        tokens, texts, images, report, trajectories = parts
        shown: dict[str, Any] = {}
        if texts is not None:
            shown["texts"] = texts
        elif images is not None:
            shown["images"] = images
        elif self.subject == "points":
            shown["points"] = np.stack(tokens)
        return Samples(tokens, Report(**report), [self._trajectory(*parts) for parts in trajectories], shown)

    def _options(self, num: int, given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        prompt, length, digits = given["prompt"], given["length"], given.get("keep_digits")
        channels = given.get("keep_channels", ())
        return sampling(settings) | {
            "num": whole(num, "num", 1),
            "prompt": None if prompt is None else text(prompt, "prompt"),
            "length": None if length is None else whole(length, "length", 1),
            "trace": flag(given.get("trace", False), "trace"),
            "log_probs": given.get("log_probs"),
            "keep_digits": None if digits is None else whole(digits, "keep_digits"),
            "keep_channels": channels_of(channels),
        }

    def _trajectory(self, start: Tokens, changes: Iterable[tuple[int, float, NDArray[np.int64]]]) -> Trajectory:
        return Trajectory(start.reshape(-1, self.subtoken_len), [Change(*change) for change in changes])

    def _image_of(self, tokens: Tokens) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = _native.images_of(self._native, tokens)[0]
        return image
