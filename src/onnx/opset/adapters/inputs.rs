//! Attributes that became inputs.

use super::super::site::{Outcome, Site};
use crate::onnx::make;
use crate::onnx::proto::tensor_proto::DataType;

/// Moves a list of integers from an attribute to input `i`. Without the attribute, nothing is there.
fn move_ints(site: &mut Site<'_, '_, '_>, name: &str, i: usize) -> Result<bool, String> {
    let Some(values) = site.ints(name)? else { return Ok(false) };
    let input = site.int_vector(name, &values);
    site.remove(name);
    site.set_input(i, input);
    Ok(true)
}

/// Opset 10.
pub(super) fn slice(site: &mut Site<'_, '_, '_>) -> Outcome {
    if !(move_ints(site, "starts", 1)? && move_ints(site, "ends", 2)?) {
        return Err("it has no `starts` or no `ends`".to_owned());
    }
    move_ints(site, "axes", 3)?;
    Ok(())
}

/// Opset 10: `k`.
pub(super) fn top_k(site: &mut Site<'_, '_, '_>) -> Outcome {
    let k = site.int("k")?.ok_or("it has no `k`")?;
    let input = site.int_vector("k", &[k]);
    site.remove("k");
    site.set_input(1, input);
    Ok(())
}

/// Opset 11: `min` and `max`.
pub(super) fn clip(site: &mut Site<'_, '_, '_>) -> Outcome {
    for (i, name) in [(1, "min"), (2, "max")] {
        if let Some(value) = site.float(name)? {
            let input = site.scalar_like(name, f64::from(value), 0)?;
            site.remove(name);
            site.set_input(i, input);
        }
    }
    Ok(())
}

/// Opset 11: `pads` and `value`.
pub(super) fn pad(site: &mut Site<'_, '_, '_>) -> Outcome {
    if !move_ints(site, "pads", 1)? {
        return Err("it has no `pads`".to_owned());
    }
    let value = site.float("value")?.unwrap_or(0.0);
    if value != 0.0 {
        let input = site.scalar_like("value", f64::from(value), 0)?;
        site.set_input(2, input);
    }
    site.remove("value");
    Ok(())
}

/// Opset 13 or 18: `axes`.
pub(super) fn axes(site: &mut Site<'_, '_, '_>) -> Outcome {
    let given = move_ints(site, "axes", 1)?;
    if !given && site.node.op_type() == "Unsqueeze" {
        return Err("it has no `axes`".to_owned());
    }
    Ok(())
}

/// Opset 13: `split`.
pub(super) fn split(site: &mut Site<'_, '_, '_>) -> Outcome {
    move_ints(site, "split", 1).map(drop)
}

/// Opset 18: equal parts must be counted.
pub(super) fn split_outputs(site: &mut Site<'_, '_, '_>) -> Outcome {
    if site.input_name(1).is_empty() {
        site.node.input.truncate(1);
        let count = i64::try_from(site.node.output.len()).unwrap_or(i64::MAX);
        site.set(make::int("num_outputs", count));
    }
    Ok(())
}

/// Opset 20: `axis`, with another default.
pub(super) fn dft_axis(site: &mut Site<'_, '_, '_>) -> Outcome {
    let axis = site.int("axis")?.unwrap_or(1);
    let data = axis.to_le_bytes().to_vec();
    let input = site.constant("axis", make::raw_tensor(DataType::Int64, &[], data.into()));
    site.remove("axis");
    site.set_input(2, input);
    Ok(())
}
