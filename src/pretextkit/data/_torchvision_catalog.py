"""Image sets that torchvision knows: what it needs to hear, and where it looks for the files."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["CATALOG", "DatasetSpec"]


class DatasetSpec(NamedTuple):
    """How torchvision names a set, its parts and its files."""

    class_name: str
    """In ``torchvision.datasets``."""
    train: dict[str, Any]
    """Constructor's options for the training part."""
    test: dict[str, Any] | None
    """Likewise; None where there is one part only, or where no class is in both."""
    folder: str
    """Where torchvision looks for the files, below its root."""
    files: tuple[str, ...]
    names: str = "classes"
    """The attribute with the classes' names."""
    first: int = 0
    """What torchvision calls the first class."""
    downloads: bool = True
    """Whether torchvision knows where to download it from."""
    listing: str = ""
    """The attribute that lists the images, where their order is the file system's, which differs between machines."""


TRAIN, TEST = {"train": True}, {"train": False}
SPLIT_TRAIN, SPLIT_TEST = {"split": "train"}, {"split": "test"}

# Unpacked: torchvision takes these as they are, and the .gz files only with the very bytes first published.
IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
MNIST_FILES = tuple(f"{part}-ubyte" for part in IDX)
QMNIST_FILES = tuple(
    f"qmnist-{part}-{kind}" for part in ("train", "test") for kind in ("images-idx3-ubyte", "labels-idx2-int")
)


def _emnist(split: str, first: int = 0) -> DatasetSpec:
    files = tuple(f"emnist-{split}-{part.replace('t10k', 'test')}-ubyte" for part in IDX)
    return DatasetSpec("EMNIST", {**TRAIN, "split": split}, {**TEST, "split": split}, "EMNIST/raw", files, first=first)


CATALOG = {
    "caltech101": DatasetSpec(
        "Caltech101", {}, None, "caltech101", ("the folder 101_ObjectCategories",), names="categories"
    ),
    "caltech256": DatasetSpec(
        "Caltech256", {}, None, "caltech256", ("the folder 256_ObjectCategories",), names="categories"
    ),
    # Forty attributes of each face are no classes, and no person is in both parts: the images come without labels.
    "celeba": DatasetSpec(
        "CelebA",
        {**SPLIT_TRAIN, "target_type": []},
        {**SPLIT_TEST, "target_type": []},
        "celeba",
        (
            "the folder img_align_celeba",
            "list_eval_partition.txt",
            "identity_CelebA.txt",
            "list_attr_celeba.txt",
            "list_bbox_celeba.txt",
            "list_landmarks_align_celeba.txt",
        ),
    ),
    "cifar10": DatasetSpec("CIFAR10", TRAIN, TEST, "", ("cifar-10-python.tar.gz",)),
    "cifar100": DatasetSpec("CIFAR100", TRAIN, TEST, "", ("cifar-100-python.tar.gz",)),
    # The label is the number of objects, 3 to 10, and its test part has none.
    "clevr-classification": DatasetSpec(
        "CLEVRClassification", SPLIT_TRAIN, {"split": "val"}, "clevr", ("CLEVR_v1.0.zip",), first=3
    ),
    "country211": DatasetSpec("Country211", SPLIT_TRAIN, SPLIT_TEST, "", ("country211.tgz",)),
    "dtd": DatasetSpec("DTD", SPLIT_TRAIN, SPLIT_TEST, "dtd", ("dtd-r1.0.1.tar.gz",)),
    "emnist": _emnist("balanced"),
    "emnist-byclass": _emnist("byclass"),
    "emnist-bymerge": _emnist("bymerge"),
    "emnist-digits": _emnist("digits"),
    "emnist-letters": _emnist("letters", first=1),
    "emnist-mnist": _emnist("mnist"),
    "eurosat": DatasetSpec("EuroSAT", {}, None, "eurosat", ("EuroSAT.zip",)),
    "fashion-mnist": DatasetSpec("FashionMNIST", TRAIN, TEST, "FashionMNIST/raw", MNIST_FILES),
    # Kaggle's train.csv and test.csv will do too, the latter without labels.
    "fer2013": DatasetSpec("FER2013", SPLIT_TRAIN, SPLIT_TEST, "fer2013", ("fer2013.csv",), downloads=False),
    "fgvc-aircraft": DatasetSpec(
        "FGVCAircraft", {"split": "trainval"}, SPLIT_TEST, "", ("fgvc-aircraft-2013b.tar.gz",)
    ),
    "flowers102": DatasetSpec(
        "Flowers102",
        SPLIT_TRAIN,
        SPLIT_TEST,
        "flowers-102",
        ("102flowers.tgz", "imagelabels.mat", "setid.mat"),
    ),
    "food101": DatasetSpec("Food101", SPLIT_TRAIN, SPLIT_TEST, "", ("food-101.tar.gz",)),
    "gtsrb": DatasetSpec(
        "GTSRB",
        SPLIT_TRAIN,
        SPLIT_TEST,
        "gtsrb",
        ("GTSRB-Training_fixed.zip", "GTSRB_Final_Test_Images.zip", "GTSRB_Final_Test_GT.zip"),
    ),
    "imagenet": DatasetSpec(
        "ImageNet",
        SPLIT_TRAIN,
        {"split": "val"},
        "",
        ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
        downloads=False,
    ),
    "imagenette": DatasetSpec("Imagenette", SPLIT_TRAIN, {"split": "val"}, "", ("imagenette2.tgz",)),
    "inaturalist": DatasetSpec(
        "INaturalist",
        {"version": "2021_train"},
        {"version": "2021_valid"},
        "",
        ("2021_train.tgz", "2021_valid.tgz"),
        names="all_categories",
        listing="index",
    ),
    "kmnist": DatasetSpec("KMNIST", TRAIN, TEST, "KMNIST/raw", MNIST_FILES),
    # Its own parts, made for telling whether two pictures show one person, have no person in common.
    "lfw-people": DatasetSpec(
        "LFWPeople",
        {"split": "10fold"},
        None,
        "lfw-py",
        ("lfw-funneled.tgz", "the folder lfw_funneled that is in it", "people.txt", "lfw-names.txt"),
        names="class_to_idx",
        downloads=False,
    ),
    "mnist": DatasetSpec("MNIST", TRAIN, TEST, "MNIST/raw", MNIST_FILES),
    "oxford-iiit-pet": DatasetSpec(
        "OxfordIIITPet",
        {"split": "trainval"},
        SPLIT_TEST,
        "oxford-iiit-pet",
        ("images.tar.gz", "annotations.tar.gz"),
    ),
    "pcam": DatasetSpec(
        "PCAM",
        SPLIT_TRAIN,
        SPLIT_TEST,
        "pcam",
        tuple(f"camelyonpatch_level_2_split_{part}_{axis}.h5" for part in ("train", "test") for axis in "xy"),
    ),
    "places365": DatasetSpec(
        "Places365",
        {"split": "train-standard", "small": True},
        {"split": "val", "small": True},
        "",
        ("filelist_places365-standard.tar", "train_256_places365standard.tar", "val_256.tar"),
    ),
    "qmnist": DatasetSpec(
        "QMNIST",
        TRAIN,
        TEST,
        "QMNIST/raw",
        QMNIST_FILES,
    ),
    "rendered-sst2": DatasetSpec("RenderedSST2", SPLIT_TRAIN, SPLIT_TEST, "", ("rendered-sst2.tgz",)),
    "semeion": DatasetSpec("SEMEION", {}, None, "", ("semeion.data",)),
    "stanford-cars": DatasetSpec(
        "StanfordCars",
        SPLIT_TRAIN,
        SPLIT_TEST,
        "stanford_cars",
        ("the folders cars_train, cars_test and devkit", "cars_test_annos_withlabels.mat"),
        downloads=False,
    ),
    # STL10 is made for learning without labels: 100,000 of its 105,000 training images have none.
    "stl10": DatasetSpec("STL10", {"split": "train+unlabeled"}, SPLIT_TEST, "", ("stl10_binary.tar.gz",)),
    "sun397": DatasetSpec("SUN397", {}, None, "", ("SUN397.tar.gz",), listing="_image_files"),
    "svhn": DatasetSpec("SVHN", SPLIT_TRAIN, SPLIT_TEST, "", ("train_32x32.mat", "test_32x32.mat")),
    "usps": DatasetSpec("USPS", TRAIN, TEST, "", ("usps.bz2", "usps.t.bz2")),
}
"""Name: what torchvision needs."""
