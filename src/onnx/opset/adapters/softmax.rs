//! Softmax, LogSoftmax and Hardmax.

use super::super::site::{Outcome, Site};
use crate::onnx::make;

/// Opset 13: over one axis. Before, over all axes from `axis` (default 1) on, as one.
pub(super) fn coerce(site: &mut Site<'_, '_, '_>) -> Outcome {
    let axis = site.int("axis")?.unwrap_or(1);
    let one_axis = axis == -1
        || site.dims(0).is_some_and(|dims| {
            let rank = i64::try_from(dims.len()).unwrap_or(i64::MAX);
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).unwrap_or(usize::MAX);
            dims.get(axis..)
                .is_some_and(|rest| !rest.is_empty() && rest[1..].iter().all(|dim| *dim == Some(1)))
        });
    if one_axis {
        site.set(make::int("axis", axis));
        return Ok(());
    }
    let input = site.input_name(0);
    let shape = site.compute("Shape", &[&input], Vec::new());
    let flat = site.compute("Flatten", &[&input], vec![make::int("axis", axis)]);
    site.set_input(0, flat);
    site.set(make::int("axis", -1));
    site.wrap_output(0, "Reshape", &[&shape], Vec::new());
    Ok(())
}
