#!/bin/bash
# What there was before: engines for the RTX 3090, by hand.
set -e
MODELS=models
COMMON="--fp16 --workspace=2048 --buildOnly"

trtexec --onnx=$MODELS/ch_ppocr_mobile_v2.0_cls_infer.onnx $COMMON \
    --minShapes=x:1x3x48x192 --optShapes=x:6x3x48x192 --maxShapes=x:8x3x48x192 \
    --saveEngine=cls.engine 2>&1 | tee cls.log

# The recognizer was wrong in FP16 until its Softmax layers were FP32.
trtexec --onnx=$MODELS/ch_PP-OCRv4_rec_infer.onnx $COMMON \
    --minShapes=x:1x3x48x40 --optShapes=x:6x3x48x320 --maxShapes=x:8x3x48x1280 \
    --precisionConstraints=obey --layerPrecisions='*softmax*:fp32' --layerOutputTypes='*softmax*:fp32' \
    --saveEngine=rec.engine
