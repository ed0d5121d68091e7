"""The engine refuses whatever is not exactly the bundle's graph, device, image or score."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inspector.bundle import Bundle, InputSpec, SelfTest, load_bundle
from inspector.camera import NO_PICTURE
from inspector.engine import EngineError, open_engine

from .tiny import SIZE, build_bundle, part, tiny_graph

ANY_SIZE = InputSpec(height=None, width=None, channels=3, bit_depth=8)


def test_a_good_part_scores_zero_and_a_defect_shows_on_the_map(bundle: Bundle) -> None:
    with open_engine("onnxruntime-cpu", bundle) as engine:
        good = engine.infer(part(100))
        bad = engine.infer(part(100, defect=200))
    assert good.score == 0
    assert bad.score == pytest.approx(1)
    assert bad.parts == {"difference": pytest.approx(1)}
    assert bad.anomaly_map.shape == (8, 8)
    assert bad.anomaly_map[3, 3] > 0.9
    assert bad.anomaly_map[7, 7] < 0.1


def test_the_engine_is_named_after_what_really_runs(bundle: Bundle) -> None:
    with open_engine("onnxruntime-cpu", bundle) as engine:
        assert engine.name == "onnxruntime-cpu"


def test_a_device_that_is_not_there_is_never_replaced_without_a_word(bundle: Bundle) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(EngineError, match="would run on CPUExecutionProvider"), open_engine("onnxruntime-cuda", bundle):
        pass


def test_a_failed_self_test_names_both_scores(tmp_path: Path) -> None:
    wrong = SelfTest(image="selftest.png", score=0.3, tolerance=1e-3)
    bundle = load_bundle(build_bundle(tmp_path / "b", self_test=wrong))
    with (
        pytest.raises(EngineError, match=r"selftest\.png scores 0\.2 here and 0\.3 where it was made"),
        open_engine("onnxruntime-cpu", bundle),
    ):
        pass


def test_a_graph_that_cannot_be_loaded_is_an_engine_error(bundle: Bundle) -> None:
    bundle.model.write_bytes(b"no graph")
    with (
        pytest.raises(EngineError, match=r"model\.onnx: ONNX Runtime cannot load it"),
        open_engine("onnxruntime-cpu", bundle),
    ):
        pass


@pytest.mark.parametrize(
    ("graph", "changes", "says"),
    [
        (tiny_graph(map_name="heat"), {}, "no 'anomaly_map'"),
        (tiny_graph(channels=1), {}, "the graph's image is"),
        (tiny_graph(), {"map_height": 16}, "the graph's anomaly_map is"),
        (tiny_graph(), {"parts": ("one", "two")}, "the graph's parts is"),
    ],
)
def test_a_graph_that_is_not_the_manifests_is_refused(
    tmp_path: Path, graph: onnx.ModelProto, changes: dict[str, object], says: str
) -> None:
    bundle = load_bundle(build_bundle(tmp_path / "b", graph, **changes))
    with pytest.raises(EngineError, match=says), open_engine("onnxruntime-cpu", bundle):
        pass


def test_a_score_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    graph = tiny_graph()
    graph.graph.node[1].op_type = "Div"  # pixel / 100, then a logarithm: black is minus infinity
    graph.graph.node[2].op_type = "Log"
    test = SelfTest(image="selftest.png", score=float(np.log(1.2)) / 100, tolerance=1e-4)
    bundle = load_bundle(build_bundle(tmp_path / "b", graph, self_test=test))
    with open_engine("onnxruntime-cpu", bundle) as engine, pytest.raises(EngineError, match="not finite"):
        engine.infer(part(0))


def test_a_map_that_is_not_finite_is_an_error_even_under_a_finite_score(tmp_path: Path) -> None:
    graph = tiny_graph()
    graph.graph.node[1].op_type = "Div"
    graph.graph.node[2].op_type = "Log"
    test = SelfTest(image="selftest.png", score=float(np.log(1.2)) / 100, tolerance=1e-4)
    bundle = load_bundle(build_bundle(tmp_path / "b", graph, self_test=test))
    with open_engine("onnxruntime-cpu", bundle) as engine, pytest.raises(EngineError, match="not finite"):
        engine.infer(part(120, defect=0))


def test_a_grey_image_is_repeated_for_an_rgb_bundle(bundle: Bundle) -> None:
    with open_engine("onnxruntime-cpu", bundle) as engine:
        grey = engine.infer(part(100, defect=160, channels=1))
        colour = engine.infer(part(100, defect=160))
    assert np.array_equal(grey.anomaly_map, colour.anomaly_map)


def test_a_colour_image_is_refused_by_a_grey_bundle(tmp_path: Path) -> None:
    graph, spec = tiny_graph(channels=1), InputSpec(height=SIZE, width=SIZE, channels=1, bit_depth=8)
    bundle = load_bundle(build_bundle(tmp_path / "b", graph, input=spec))
    with pytest.raises(EngineError, match="3 channels and the bundle takes 1"), open_engine("onnxruntime-cpu", bundle):
        pass  # the self-test image itself is colour


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (part(100)[:16], "32 x 16 pixels and the bundle takes 32 x 32"),
        (part(100).astype(np.uint16), "uint16"),
        (part(100)[:, :, 0], "not uint8"),
        (np.zeros((SIZE, SIZE, 2), np.uint8), "2 channels"),
        (NO_PICTURE, "no picture"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(bundle: Bundle, image: np.ndarray, says: str) -> None:
    with open_engine("onnxruntime-cpu", bundle) as engine, pytest.raises(EngineError, match=says):
        engine.infer(image)


def test_a_bundle_for_any_size_takes_any_size(tmp_path: Path) -> None:
    bundle = load_bundle(build_bundle(tmp_path / "b", input=ANY_SIZE))
    with open_engine("onnxruntime-cpu", bundle) as engine:
        assert engine.infer(np.full((50, 70, 3), 100, np.uint8)).anomaly_map.shape == (8, 8)


def test_a_view_of_a_larger_picture_is_inferred_as_it_looks(bundle: Bundle) -> None:
    picture = np.full((64, 64, 3), 100, np.uint8)
    picture[::2, ::2] = 150
    with open_engine("onnxruntime-cpu", bundle) as engine:
        assert engine.infer(picture[::2, ::2]).score == pytest.approx(0.5)


def test_a_runtime_failure_on_one_image_is_an_engine_error(tmp_path: Path) -> None:
    graph = tiny_graph()
    graph.graph.node.insert(1, helper.make_node("Reshape", ["pixels", "square"], ["square_pixels"]))
    graph.graph.node[2].input[0] = "square_pixels"
    graph.graph.initializer.append(helper.make_tensor("square", TensorProto.INT64, [3], [SIZE, SIZE, 3]))
    bundle = load_bundle(build_bundle(tmp_path / "b", graph, input=ANY_SIZE))
    with open_engine("onnxruntime-cpu", bundle) as engine:
        with pytest.raises(EngineError, match="onnxruntime-cpu failed"):
            engine.infer(np.zeros((16, 16, 3), np.uint8))
        assert engine.infer(part(100)).score == 0
