"""Pure: what the line is told of one part. Knows no clock, socket or file."""

import math

from inspector.inspection import Cause, Decision, Prediction, Verdict


def decide(
    prediction: Prediction | None, threshold: float, *, latency_ms: float, deadline_ms: float, failure: str = ""
) -> Decision:
    """Reject when score > threshold; everything that is not a timely, finite prediction is a fault.

    Args:
        prediction: None when the engine gave none.
        threshold: of the bundle or the recipe.
        latency_ms: from exposure to now.
        deadline_ms: the longest latency with which a verdict still reaches its part.
        failure: why there is no prediction.
    """
    if prediction is None:
        return Decision(Verdict.FAULT, None, threshold, failure or "no prediction", Cause.MODEL)
    score = prediction.score
    if not math.isfinite(score):
        return Decision(Verdict.FAULT, None, threshold, f"the score is not a number ({score})", Cause.MODEL)
    if not math.isfinite(threshold):
        return Decision(Verdict.FAULT, score, threshold, f"the threshold is not a number ({threshold})", Cause.MODEL)
    if not 0 <= latency_ms <= deadline_ms:
        return Decision(Verdict.FAULT, score, threshold, _late(latency_ms, deadline_ms), Cause.LATE)
    if score > threshold:
        return Decision(
            Verdict.REJECT, score, threshold, f"score {score:.4g} is above {threshold:.4g}", Cause.THRESHOLD
        )
    return Decision(Verdict.ACCEPT, score, threshold, f"score {score:.4g} is not above {threshold:.4g}")


def _late(latency_ms: float, deadline_ms: float) -> str:
    if latency_ms < 0:
        return "captured in the future: the camera's clock is not this station's"
    return f"late: {latency_ms:.1f} ms of {deadline_ms:.0f} ms"
