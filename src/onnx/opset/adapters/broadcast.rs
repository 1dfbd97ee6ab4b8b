//! Opset 7: operands are broadcast as in NumPy, no longer as attributes say.

use super::super::site::{Outcome, Site};
use crate::onnx::make;

/// `broadcast` and `axis` of elementwise operators: from axis on, the second operand lay along the first.
pub(super) fn attributes(site: &mut Site<'_, '_, '_>) -> Outcome {
    let (broadcast, axis) = (site.int("broadcast")?.unwrap_or(0), site.int("axis")?);
    site.remove("broadcast");
    site.remove("axis");
    let Some(axis) = axis.filter(|_| broadcast != 0) else {
        return Ok(()); // Of equal shapes, or the second operand lies along the last axes, as in NumPy.
    };
    let own = site.known_rank(1)?;
    if own == 0 {
        return Ok(());
    }
    let rank = site.known_rank(0)?;
    let axis = if axis < 0 { axis + rank } else { axis };
    let behind = rank - axis - own;
    if axis < 0 || behind < 0 {
        return Err(format!(
            "its second input has {own} dimensions, which do not fit behind axis {axis} of {rank}"
        ));
    }
    widen(site, own, behind);
    Ok(())
}

/// Appends dimensions of 1 to the second input.
fn widen(site: &mut Site<'_, '_, '_>, own: i64, behind: i64) {
    if behind > 0 {
        let axes: Vec<i64> = (own..own + behind).collect();
        let input = site.input_name(1);
        let wide = site.compute("Unsqueeze", &[&input], vec![make::ints("axes", &axes)]);
        site.set_input(1, wide);
    }
}

/// `C` of a Gemm lay along the last axis too.
pub(super) fn gemm(site: &mut Site<'_, '_, '_>) -> Outcome {
    site.int("broadcast")?;
    site.remove("broadcast");
    Ok(())
}

/// A slope of each channel lay along axis 1.
pub(super) fn prelu(site: &mut Site<'_, '_, '_>) -> Outcome {
    if let Some([Some(1)]) = site.dims(1) {
        return Ok(());
    }
    let own = site.known_rank(1)?;
    if own == 0 {
        return Ok(());
    }
    let behind = site.known_rank(0)? - 1 - own;
    if own != 1 || behind < 0 {
        return Err(format!("its slope has {own} dimensions, where opset 6 has one for each channel"));
    }
    widen(site, own, behind);
    Ok(())
}
