"""GGUF -> Hugging Face folder, as transformers' documentation does it: dequantize.py MODEL.gguf FOLDER."""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model, out = Path(sys.argv[1]), Path(sys.argv[2])
loaded = AutoModelForCausalLM.from_pretrained(model.parent, gguf_file=model.name, dtype=torch.float32)
if hasattr(loaded.config, "quantization_config"):
    del loaded.config.quantization_config
loaded.hf_quantizer, loaded.is_quantized = None, False
loaded.save_pretrained(out)
AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name).save_pretrained(out)
