"""The report's own words, each explained in one sentence: where it stands, and in a glossary."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TERMS: Mapping[str, str] = MappingProxyType(
    {
        "pair": "one model on one image set; each pair has a verdict of its own",
        "image set": "labelled images of a fixed, hashed choice, with the label names and the question that the model is asked",
        "reference": "what a model is compared with, on the same images: its own vision encoder, a linear probe on its vision "
        "features, its base, or another model",
        "encoder": "the vision encoder inside the model, as a classifier by itself: it picks the label whose text is "
        "nearest to the image",
        "model": "share of the images that the model gets right; what cannot be read as exactly one class is wrong",
        "n": "images that both model and reference were asked about",
        "gap": "accuracy of the model less that of its reference, in percentage points; negative where the model is worse",
        "90% interval": "where the true value lies, as far as these images tell; two-sided, with 5 % left out at each end",
        "interval": "the same: where the true value lies, as far as these images tell",
        "tolerance": "the largest loss in points that passes by policy",
        "accepted loss": "a larger loss that is known and was recorded for one pair; a pair that passes only by it says so",
        "verdict": "PASS: the whole interval lies above minus the tolerance. FAIL: all of it lies below. INCONCLUSIVE: the "
        "interval contains minus the tolerance, so more images are needed",
        "may be chance": "a FAIL that stands for its own pair, and that one would expect somewhere among so many pairs by "
        "chance (Holm)",
        "no class": "answers that name no class of the image set, or several; they count as wrong",
        "well formed": "answers that are nothing but an opening, an article and a label, as was asked",
        "stage": "a place between the image and the answer at which the class can be read off",
        "vision probe": "a linear classifier, taught on training images, that reads the class off the vision tower's features",
        "projector probe": "the same behind the projector, which is what the language model is given to see",
        "likelihood": "the label that the language model finds most probable",
        "answer": "what the model says, read by rule",
        "clean answer": "an answer that is right and well formed",
        "right to wrong": "images that were right before and are wrong now",
        "wrong to right": "images that were wrong before and are right now",
        "gap to encoder": "mean over the image sets of the model's accuracy less its encoder's, in points",
        "in domain": "mean change since the base on the image sets that were trained on, in points",
        "elsewhere": "mean change since the base on all other image sets, in points; negative where something was unlearned",
    }
)  # fmt: skip
