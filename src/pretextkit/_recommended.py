"""Settings that suit a pretext task, and what follows from them for a number of images."""

from __future__ import annotations

from dataclasses import dataclass

from pretextkit._validation import check_float, check_int

__all__ = ["Recommended"]

BATCHES_AN_EPOCH = 128
"""Steps of an epoch, at least, before the batch grows."""

FEWEST_EPOCHS, MOST_EPOCHS = 10, 400
"""Bounds on the passes over the images, whatever their number."""


@dataclass(frozen=True)
class Recommended:
    """Settings that suit a pretext task: what :func:`~pretextkit.functional.pretrain` uses if its caller gives none.

    The number of images turns them into the batch size and the epochs of a run.

    Args:
        learning_rate: Highest learning rate of AdamW. The other optimizers have a rate of their own, for every task.
        smallest_batch: Smallest batch size, in images; fewer images make one batch.
        largest_batch: Largest batch size, in images.
        images_to_read: Images that a run reads, all epochs together.

    Raises:
        OptionError: A number is out of range, or ``smallest_batch`` is above ``largest_batch``.

    Example:
        >>> settings = Recommended(images_to_read=160_000)
        >>> settings.batch_size_for(8_000), settings.epochs_for(8_000)
        (32, 20)
        >>> settings.batch_size_for(20), settings.epochs_for(20)
        (20, 400)
    """

    learning_rate: float = 1e-3
    smallest_batch: int = 32
    largest_batch: int = 256
    images_to_read: int = 200_000

    def __post_init__(self) -> None:
        fix = "It is at least smallest_batch."
        smallest = check_int("smallest_batch", self.smallest_batch, of=Recommended)
        checked = {
            "learning_rate": check_float("learning_rate", self.learning_rate, "(0, inf)", of=Recommended),
            "smallest_batch": smallest,
            "largest_batch": check_int("largest_batch", self.largest_batch, at_least=smallest, fix=fix),
            "images_to_read": check_int("images_to_read", self.images_to_read, of=Recommended),
        }
        for name, value in checked.items():  # numbers of Python, because checkpoints hold no others
            object.__setattr__(self, name, value)

    def batch_size_for(self, images: int) -> int:
        """Choose the batch size for a number of images: a power of two that leaves 128 steps an epoch, within bounds.

        Few steps an epoch train worse than small batches, and large batches are faster: only many images afford them.
        """
        images = check_int("images", images, fix="Pass the number of images.")
        batch = 1 << (max(1, images // BATCHES_AN_EPOCH).bit_length() - 1)
        return min(max(batch, self.smallest_batch), self.largest_batch, images)

    def epochs_for(self, images: int) -> int:
        """Choose the epochs for a number of images: those that read ``images_to_read``, but from 10 to 400."""
        images = check_int("images", images, fix="Pass the number of images.")
        return min(max(round(self.images_to_read / images), FEWEST_EPOCHS), MOST_EPOCHS)
