"""What is wrong with an adversarial training, from the numbers of its monitor.

A discriminator that ranks nearly all pairs correctly is no problem by itself: relativistic GANs
that train well reach 95 %. So nothing is concluded from the separation alone: the samples or the
generator's gradient must be bad as well.
"""

from .advice import Finding, lower, raise_, use

FAR = 0.25  # share of the distance of the data's mean, above which samples are far from the data
NEAR = 0.01  # the same, below which the ratio of two distances says nothing
SEPARATES_ALL = 0.99  # of pairs: above it a discriminator no longer ranks generated images
SEPARATES_NONE = 0.6  # of pairs: below it, with samples far from the data, it gives no direction
VANISHED = 1e-3  # norm of a generator's gradient; in a training that goes well it is 1e-2 and more
OVERFITS = 0.75  # of pairs (training example, validation example), where 0.5 is expected
LOW_DIVERSITY = 0.5  # mean distance between samples over that between real examples
UNEVEN = 0.7  # entropy of the modes' shares relative to the real ones'
WORSE = 1.5  # times the best distance: more than the noise of training
LAGS = 2.0  # times the raw weights' distance
ERRORS = 4  # standard errors that make a difference significant


def adversarial_findings(
    numbers: dict, gradients: dict[str, float], best: dict, kind: str = "image"
) -> list[Finding]:
    """Everything that is wrong.

    numbers    see ``AdversarialMonitor.measure``
    gradients  phase -> mean norm in this interval; phases that had no turn may be missing
    best       {"step", "value"} of the smallest distance so far
    kind       of the data: "image", "vector"
    """
    return [
        *strength_findings(numbers, gradients),
        *diversity_findings(numbers),
        *overfitting_findings(numbers, kind),
        *distance_findings(numbers, best),
    ]


def strength_findings(numbers: dict, gradients: dict[str, float]) -> list[Finding]:
    """A discriminator that is too strong or too weak for the generator."""
    separation = numbers["separation"]
    is_far = numbers["raw_relative"] > FAR  # of the weights that the discriminator is trained with
    norms = [norm for phase, norm in gradients.items() if not is_discriminator(phase)]
    has_vanished = bool(norms) and max(norms) < VANISHED
    pairs = f"it ranks {100 * separation:.1f} % of (real, generated) pairs correctly"
    if separation > SEPARATES_ALL and (has_vanished or is_far):
        sign = "the samples are far from the data"
        if has_vanished:
            sign = f"the gradient norm of the generator is {max(norms):.1g}"
        remedies = (lower("lr_d"), raise_("r1", "r2"))
        return [Finding("discriminator too strong", f"{pairs}, and {sign}", remedies)]
    if separation < SEPARATES_NONE and is_far:
        detail = f"{pairs}, though the samples are far from the data"
        remedies = (raise_("lr_d"), lower("lr_g"), lower("r1", "r2"))
        return [Finding("discriminator too weak", detail, remedies)]
    return []


def diversity_findings(numbers: dict) -> list[Finding]:
    """Missing or uneven modes, or samples that are too similar."""
    modes = f"{numbers['modes']} modes ({numbers['kind']})"
    remedies = (use("loss", "relativistic"), raise_("r1", "r2"), use("pack", "2"))
    if numbers["modes_seen"] < numbers["modes"]:
        near = ""
        if "good" in numbers:
            near = f", {100 * numbers['good']:.0f} % of the samples near any"
        detail = f"{numbers['modes_seen']} of {modes} among the samples{near}"
        return [Finding("mode collapse", detail, remedies)]
    if numbers["modes"] > 1 and numbers["entropy"] < UNEVEN:
        share = f"{100 * numbers['entropy']:.0f} % of the entropy of the real shares"
        return [
            Finding("mode collapse", f"few of the {modes} have most samples, {share}", remedies)
        ]
    if numbers["diversity"] < LOW_DIVERSITY:
        detail = (
            f"the mean distance between samples is {numbers['diversity']:.2f} times that between "
            "real examples"
        )
        return [Finding("low diversity", detail, (raise_("r1", "r2"), use("pack", "2")))]
    return []


def overfitting_findings(numbers: dict, kind: str) -> list[Finding]:
    """A discriminator that recognises its training examples."""
    overfitting = numbers["memorising"]
    is_significant = overfitting - ERRORS * numbers["memorising_error"] > 0.5
    if not is_significant or overfitting <= OVERFITS:
        return []
    detail = (
        f"it ranks {100 * overfitting:.0f} % of training examples above validation examples, "
        "where 50 % is expected"
    )
    remedies = (lower("hidden"), raise_("r1"))
    if kind == "image":
        remedies = (use("augment", "translation"), lower("width"), raise_("r1"))
    return [Finding("discriminator overfits", detail, remedies)]


def distance_findings(numbers: dict, best: dict) -> list[Finding]:
    """A distance that was smaller before, or is smaller without the averages."""
    distance = numbers["distance"]
    raw = numbers["raw_distance"]
    noise = ERRORS * numbers["distance_error"]
    if numbers["relative"] <= NEAR:
        return []
    findings = []
    if distance > WORSE * best["value"] and distance - best["value"] > noise:
        detail = (
            f"the distance was {best['value']:.3g} at step {best['step']} and is {distance:.3g} now"
        )
        remedies = (use("checkpoint", "best"),)
        findings.append(Finding("samples get worse", detail, remedies))
    if distance > LAGS * raw and distance - raw > noise:
        detail = f"their distance is {distance:.3g}, that of the raw weights {raw:.3g}"
        findings.append(Finding("averaged weights lag behind", detail, (lower("ema"),)))
    return findings


def is_discriminator(phase: str) -> bool:
    return any(word in phase.lower() for word in ("discriminator", "critic", "judge"))
