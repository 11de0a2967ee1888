"""OpenVINO: Model Server's graph and configuration, and a program that serves with OpenVINO GenAI where there is none.

Names are those of Model Server's llm_calculator.proto and of its configuration schema.
"""

from __future__ import annotations

import json

from pydantic import JsonValue

from pipelines.llm_servers.carried import program, requirements
from pipelines.llm_servers.shell import FIND_TAPEOUT, in_environment, neither, script, where_there_is
from pipelines.records import RunRecord
from stages.base import Artifact, name_of
from targets.openvino_llm import OpenvinoLlm

GRAPH = """# A language model in OpenVINO Model Server: ovms --config_path config.json --rest_port 8000, API at /v3.
input_stream: "HTTP_REQUEST_PAYLOAD:input"
output_stream: "HTTP_RESPONSE_PAYLOAD:output"
node: {{
  name: "LLMExecutor"
  calculator: "HttpLLMCalculator"
  input_stream: "LOOPBACK:loopback"
  input_stream: "HTTP_REQUEST_PAYLOAD:input"
  input_side_packet: "LLM_NODE_RESOURCES:llm"
  output_stream: "LOOPBACK:loopback"
  output_stream: "HTTP_RESPONSE_PAYLOAD:output"
  input_stream_info: {{
    tag_index: "LOOPBACK:0",
    back_edge: true
  }}
  node_options: {{
    [type.googleapis.com / mediapipe.LLMCalculatorOptions]: {{
      models_path: "../",
      device: "CPU",
      plugin_config: '{plugin_config}',
      cache_size: {cache_gb},
      max_num_seqs: {sequences},
      max_num_batched_tokens: {batched_tokens},
      enable_prefix_caching: true
    }}
  }}
  input_stream_handler {{
    input_stream_handler: "SyncSetInputStreamHandler",
    options {{
      [mediapipe.SyncSetInputStreamHandlerOptions.ext] {{
        sync_set {{
          tag_index: "LOOPBACK:0"
        }}
      }}
    }}
  }}
}}
"""
CACHE_GB, SEQUENCES, BATCHED_TOKENS = 2, 64, 2048
USAGE = [
    "  PORT=9000 ./serve.sh [further arguments of the server]",
    "With OpenVINO Model Server on the path (API: /v3) it is that, with ovms/config.json; else serve.py, one answer at",
    "a time. Settings are those that the model was measured with.",
]
NATIVE = """ovms --config_path "$here/ovms/config.json" --rest_port "$port" --rest_bind_address 127.0.0.1 "$@\""""
PROGRAM = """"$python" "$here/serve.py" --port "$port" --name "$name" "$@\""""
KEPT = ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE")
NEEDED = ("openvino", "openvino-genai", "openvino-tokenizers")


def serve_script(_: Artifact) -> str:
    """serve.sh."""
    return script(
        "openvino_model.xml",
        "OpenVINO",
        USAGE,
        where_there_is("ovms", NATIVE),
        FIND_TAPEOUT,
        in_environment("openvino_llm", PROGRAM),
        neither(
            "neither ovms nor tapeout was found",
            "install OpenVINO Model Server or Tapeout, or: pip install -r requirements.txt, python serve.py",
        ),
    )


def companions(artifact: Artifact, record: RunRecord) -> dict[str, str]:
    """The server's files by their path in the bundle."""
    properties = _properties(record)
    graph = GRAPH.format(
        plugin_config=json.dumps(properties), cache_gb=CACHE_GB, sequences=SEQUENCES, batched_tokens=BATCHED_TOKENS
    )
    served: dict[str, JsonValue] = {"name": record.name, "base_path": "./"}
    config: dict[str, JsonValue] = {"model_config_list": [], "mediapipe_config_list": [served]}
    told = properties | {"context_length": artifact.facts.get("context_length") or 2048}
    return {
        "ovms/graph.pbtxt": graph,
        "ovms/config.json": json.dumps(config, indent=1) + "\n",
        "serve.json": json.dumps(told, indent=1) + "\n",
        "requirements.txt": requirements(record, NEEDED),
        **program("serve_openvino"),
    }


def _properties(record: RunRecord) -> dict[str, JsonValue]:
    """What the model was measured with, as the runtime names it; the number of threads is the server's own."""
    fields = [stage.fields for stage in record.stages if stage.stage == name_of(OpenvinoLlm())]
    target = OpenvinoLlm.model_validate(fields[-1] if fields else {})
    named = target.settings(threads=1)
    return {name: named[name] for name in KEPT}
