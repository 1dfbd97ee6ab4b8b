//! The adapters: each takes a node of one version of its operator to the next. Those of one file belong together.

mod broadcast;
mod inference;
mod inputs;
mod norm;
mod resize;
mod scan;
mod softmax;
mod values;

use super::site::{Outcome, Site};

/// Changes a node so that it means in the new version what it meant in the old one.
pub(super) type Adapter = fn(&mut Site<'_, '_, '_>) -> Outcome;

/// The adapter that `changes.txt` calls by this name.
pub(super) fn named(name: &str) -> Option<Adapter> {
    Some(match name {
        "broadcast" => broadcast::attributes,
        "drop-broadcast" => broadcast::gemm,
        "prelu" => broadcast::prelu,
        "batch-norm-test" => inference::batch_norm_test,
        "batch-norm-spatial" => inference::batch_norm_spatial,
        "batch-norm-outputs" => inference::batch_norm_outputs,
        "dropout-test" => inference::dropout_test,
        "dropout-mask" => inference::dropout_mask,
        "dropout-ratio" => inference::dropout_ratio,
        "drop-output-sequence" => inference::output_sequence,
        "upsample-scales" => resize::upsample_scales,
        "upsample-input" => resize::upsample_input,
        "upsample-resize" => resize::upsample_resize,
        "resize-modes" => resize::modes,
        "resize-optional" => resize::optional,
        "roi-align-mode" => resize::roi_align,
        "grid-sample-mode" => resize::grid_sample,
        "slice-inputs" => inputs::slice,
        "topk-input" => inputs::top_k,
        "clip-inputs" => inputs::clip,
        "pad-inputs" => inputs::pad,
        "axes-input" => inputs::axes,
        "split-input" => inputs::split,
        "split-outputs" => inputs::split_outputs,
        "dft-axis" => inputs::dft_axis,
        "experiment" => values::experiment,
        "scatter-elements" => values::scatter,
        "one-hot-negative" => values::one_hot,
        "conv-transpose-padding" => values::conv_transpose,
        "scan-batch" => scan::batch,
        "coerce-2d" => softmax::coerce,
        "group-norm-channels" => norm::group_norm,
        _ => return None,
    })
}
