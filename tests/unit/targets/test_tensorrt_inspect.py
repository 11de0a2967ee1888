from targets._tensorrt_inspect import Inspected, Layer, Tensor, inspected

FORMAT = "Format: (NHWC) Channel major format }]"
DESCRIPTION = f"""Layers:
Name: __mye1301_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, \
Metadata: {""}
Name: node_conv2d_myl0_2, LayerType: correlation, Inputs: [ {{ Name: a, Dimensions: [-1,3,32,32], Strides: \
[3072,1,96,3], StrideOrder: [3,0,2,1], Datatype: Int8, {FORMAT}, Constants: [ {{ Name: w, Dimensions: [64,4,3,3], \
Strides: [36,1,12,4], StrideOrder: [3,0,2,1], Datatype: Int8, {FORMAT}, Outputs: [ {{ Name: b, Dimensions: \
[-1,64,30,30], Strides: [57600,1,1920,64], StrideOrder: [3,0,2,1], Datatype: Float, {FORMAT}, TacticName: \
__myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: node_conv2d][ONNX Layer: x_DequantizeLinear]
Name: __myl_MulAddRelu_myl0_3, LayerType: kgen, Inputs: [ {{ Name: b, Dimensions: [-1,64,30,30], Strides: \
[57600,1,1920,64], StrideOrder: [3,0,2,1], Datatype: Float, {FORMAT}, Constants: [], Outputs: [ {{ Name: logits, \
Dimensions: [-1,10], Strides: [10,1], StrideOrder: [1,0], Datatype: Half, {FORMAT}, TacticName: , StreamId: 0, \
Metadata: [ONNX Layer: node_conv2d][ONNX Layer: node_relu]

I/O Tensors:
 Name: images, IOMode: Input, DataType: Float, Dimensions: [-1,3,32,32], Location: Device, IsShapeInferenceIO: false, \
ProfileInfo: [ {{ MinShape: [1,3,32,32], OptShape: [8,3,32,32], MaxShape: [32,3,32,32], Format: linear FP32 }}]
 Name: logits, IOMode: Output, DataType: Half, Dimensions: [-1,10], Location: Device, IsShapeInferenceIO: false, \
ProfileInfo: [ {{ Format: Row major linear FP32 format (kLINEAR) }}]

Engine Metadata:
 Multi-Device: Disabled
"""


def read() -> Inspected:
    found = inspected(["Parsing", DESCRIPTION, "Adding 1 engine(s) to plan file."])
    assert found is not None
    return found


def test_layers_are_read_with_datatypes_and_the_onnx_nodes_in_them() -> None:
    assert read().layers == (
        Layer(name="__mye1301_0_myl0_0", type="shape_call", inputs=(), outputs=(), onnx=()),
        Layer(
            name="node_conv2d_myl0_2",
            type="correlation",
            inputs=("int8",),
            outputs=("float32",),
            onnx=("node_conv2d", "x_DequantizeLinear"),
        ),
        Layer(
            name="__myl_MulAddRelu_myl0_3",
            type="kgen",
            inputs=("float32",),
            outputs=("float16",),
            onnx=("node_conv2d", "node_relu"),
        ),
    )


def test_inputs_have_a_profile_and_outputs_have_none() -> None:
    profile = ((1, 3, 32, 32), (8, 3, 32, 32), (32, 3, 32, 32))

    assert read().inputs == (Tensor(name="images", dtype="float32", shape=(-1, 3, 32, 32), profile=profile),)
    assert read().outputs == (Tensor(name="logits", dtype="float16", shape=(-1, 10)),)


def test_a_node_computes_in_what_its_operator_takes_and_not_in_what_is_generated_around_it() -> None:
    assert read().computed_in(["node_conv2d", "node_relu", "elsewhere"]) == {"int8": 1, "float32": 1, "unknown": 1}


def test_layers_are_counted_by_type() -> None:
    assert read().layer_types() == {"shape_call": 1, "correlation": 1, "kgen": 1}


def test_no_description_is_none() -> None:
    assert inspected(["Parsing", "Engine generation completed"]) is None
