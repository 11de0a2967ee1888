"""F16 GGUF -> quantized GGUF with llama.cpp: quantize.py F16.gguf OUT.gguf TYPE, such as q6_k or q4_k_m."""

import ctypes
import os
import sys

import llama_cpp

source, target, name = sys.argv[1:]
parameters = llama_cpp.llama_model_quantize_default_params()
prefix, _, mixture = name.upper().partition("_K")
kind = f"LLAMA_FTYPE_MOSTLY_{prefix}_K{mixture}" if "_K" in name.upper() else f"LLAMA_FTYPE_MOSTLY_{name.upper()}"
parameters.ftype = getattr(llama_cpp, kind)
parameters.nthread = len(os.sched_getaffinity(0))
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)))
