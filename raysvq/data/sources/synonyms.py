"""Other names for splits, labels and masks, in folder names and in the cells of listings.

raysvq accepts one word for each. It knows the others so that an error can say which word is meant.
"""

from __future__ import annotations

import re

from raysvq.schema import ANOMALOUS, NORMAL, TEST, TRAIN, UNKNOWN, VALIDATION


def word_set(text: str) -> frozenset[str]:
    """The words of a text, which blanks separate."""
    return frozenset(text.split())


_NORMAL = word_set(
    "good goods ok okay normal normals nominal pass passed io i_o gut conform conforming defect_free"
    " defectfree no_defect no_defects nodefect non_defect non_defective nondefective not_defective"
    " undamaged intact healthy clean accept accepted flawless negative negatives free_of_defects mt_free"
    " gut_teil gut_teile ok_teil ok_teile perfect"
    " 良品 正常 合格"
)
_ANOMALOUS = word_set(
    "bad ng n_g nok n_o_k not_ok ko k_o nio n_i_o not_good no_good anomaly anomalies anomalous anomal"
    " abnormal abnormals defect defects defective defected fail failed failure faulty reject rejects"
    " rejected damaged broken scrap schlecht ausschuss positive positives outlier outliers 不良"
    " 不良品 异常 異常"
)
_UNKNOWN = word_set("unlabelled unlabeled unlabel unknown")
_MASKS = word_set(
    "mask masks ground_truth ground_truths groundtruth groundtruths gt gts gt_mask gt_masks"
    " mask_images label_masks segmentation segmentations seg segs annotation_masks"
)
_SPLITS = {
    TRAIN: "train|training|trn",
    VALIDATION: "validation|validate|validating|val|valid|dev|eval|evaluation",
    TEST: "test|testing|tst|holdout",
}
_SPLIT_PARTS = (
    "set|data|images?|imgs?|split|lab|labels?|gt|masks?|public|private|private_mixed"
    "|good|bad|ok|ng|ko|normal|anomaly|anomalous|abnormal|defects?|defective"
)
# no_damage, non_cracked, not_defective, uncracked, without_defects; not `no_screw`, which is a defect.
_NO_FAULT = re.compile(
    r"(no|non|not|un|without|free_of|ohne|kein|keine)_?(defect|damage|crack|fault|flaw|anomal|abnormal)[a-z]*"
    r"|(defect|damage|crack|fault|flaw|anomaly)_?(less|free)"
)
_LABEL_PARTS = r"(_(images?|imgs?|parts?|samples?|pictures?|pics|data|set))?(_?\d+)?"


def plain(name: str) -> str:
    """A name in lower case, with `_` between its words: `MyMask-1` -> `my_mask_1`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[\W_]+", "_", apart).strip("_").casefold()


def label_meant(name: str) -> str | None:
    """The label that a word usually stands for; None where it usually stands for none."""
    word = re.sub(rf"^\d+_|{_LABEL_PARTS}$", "", plain(name))
    if _NO_FAULT.fullmatch(word):
        return NORMAL
    for label, usual in ((NORMAL, _NORMAL), (ANOMALOUS, _ANOMALOUS), (UNKNOWN, _UNKNOWN)):
        if word in usual:
            return label
    return None


def split_meant(name: str) -> str | None:
    """The split that a word usually stands for; None where it usually stands for none."""
    for split, usual in _SPLITS.items():
        if re.fullmatch(rf"({usual})(_?({_SPLIT_PARTS}))*", plain(name)):
            return split
    return None


def means_masks(name: str) -> bool:
    """Whether a folder of this name usually holds masks."""
    return plain(name) in _MASKS
