//! Operators that were renamed, or whose meaning at the border was settled later.

use super::super::site::{Outcome, Site};
use crate::onnx::make;
use crate::onnx::proto::tensor_proto::DataType;

/// Operators that were experiments in older opsets, and gone or another thing in newer ones.
pub(super) fn experiment(_: &mut Site<'_, '_, '_>) -> Outcome {
    Err("it was an experiment that this opset took back".to_owned())
}

/// Opset 11: a new name.
pub(super) fn scatter(site: &mut Site<'_, '_, '_>) -> Outcome {
    site.node.op_type = Some("ScatterElements".to_owned());
    Ok(())
}

/// Opset 11: a negative index counts from the back. Before, it was out of range, and its row all off.
pub(super) fn one_hot(site: &mut Site<'_, '_, '_>) -> Outcome {
    let element = site.element(0)?;
    let zero = match element {
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 | DataType::Uint64 => return Ok(()),
        DataType::Int8 => vec![0; 1],
        DataType::Int16 => vec![0; 2],
        DataType::Int32 => vec![0; 4],
        DataType::Int64 => vec![0; 8],
        of => make::float_bytes(of, 0.0).ok_or("its indices have a type that cannot be compared")?,
    };
    // What is not below the depth is out of range still.
    let (indices, depth) = (site.input_name(0), site.input_name(1));
    let zero = site.constant("zero", make::raw_tensor(element, &[], zero.into()));
    let is_negative = site.compute("Less", &[&indices, &zero], Vec::new());
    let shape = site.int_vector("scalar", &[]);
    let depth = site.compute("Reshape", &[&depth, &shape], Vec::new());
    let outside = site.compute("Cast", &[&depth], vec![make::int("to", i64::from(element as i32))]);
    let indices = site.compute("Where", &[&is_negative, &outside, &indices], Vec::new());
    site.set_input(0, indices);
    Ok(())
}

/// Opset 11 settled on which side the odd one of computed paddings goes.
pub(super) fn conv_transpose(site: &mut Site<'_, '_, '_>) -> Outcome {
    let computed = site.text("auto_pad")?.is_some_and(|mode| mode.starts_with("SAME"));
    if site.ints("output_shape")?.is_none() && !computed {
        return Ok(());
    }
    let unknown = "its paddings are computed, and it cannot be told if they are even";
    if site.ints("output_shape")?.is_some() {
        return Err(unknown.to_owned());
    }
    let weights = site.dims(1).map(<[_]>::to_vec);
    let kernel = match site.ints("kernel_shape")? {
        Some(kernel) => kernel,
        None => weights.and_then(|dims| dims.get(2..)?.iter().copied().collect()).ok_or(unknown)?,
    };
    let or = |list: Option<Vec<i64>>, default: i64| list.unwrap_or_else(|| vec![default; kernel.len()]);
    let (strides, dilations) = (or(site.ints("strides")?, 1), or(site.ints("dilations")?, 1));
    let extra = or(site.ints("output_padding")?, 0);
    for (i, kernel) in kernel.iter().enumerate() {
        let at = |list: &[i64]| list.get(i).copied().ok_or(unknown);
        let total = at(&extra)? + (kernel - 1) * at(&dilations)? + 1 - at(&strides)?;
        if total > 0 && total % 2 != 0 {
            return Err("its computed padding is odd, and ONNX settled only in opset 11 on which side the odd one goes".to_owned());
        }
    }
    Ok(())
}
