//! GroupNormalization.

use super::super::site::{Outcome, Site};

/// Opset 21: scale and bias are of channels, no longer of groups.
pub(super) fn group_norm(site: &mut Site<'_, '_, '_>) -> Outcome {
    let groups = site.int("num_groups")?.ok_or("it has no `num_groups`")?;
    let channels = site.dims(0).and_then(|dims| dims.get(1).copied().flatten());
    let channels = channels.ok_or("the number of channels of its input is not known")?;
    if groups < 1 || channels % groups != 0 {
        return Err(format!("it divides {channels} channels into {groups} groups"));
    }
    if groups == channels {
        return Ok(());
    }
    let column = site.int_vector("column", &[groups, 1]);
    let wide = site.int_vector("wide", &[groups, channels / groups]);
    let flat = site.int_vector("flat", &[channels]);
    for i in [1, 2] {
        let parameter = site.input_name(i);
        let standing = site.compute("Reshape", &[&parameter, &column], Vec::new());
        let repeated = site.compute("Expand", &[&standing, &wide], Vec::new());
        let parameter = site.compute("Reshape", &[&repeated, &flat], Vec::new());
        site.set_input(i, parameter);
    }
    Ok(())
}
