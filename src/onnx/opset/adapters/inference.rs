//! Operators that once could be told to train, and attributes that only said that they do not.

use super::super::site::{Outcome, Site};

/// Outputs from `first` on, which only training makes, go if nothing reads them.
fn keep_outputs(site: &mut Site<'_, '_, '_>, first: usize, why: &str) -> Outcome {
    if (first..site.node.output.len()).any(|i| site.is_read(i)) {
        return Err(why.to_owned());
    }
    site.node.output.truncate(first);
    Ok(())
}

/// Opset 7: without `is_test`.
pub(super) fn batch_norm_test(site: &mut Site<'_, '_, '_>) -> Outcome {
    if site.int("is_test")?.unwrap_or(0) == 0 {
        return Err("it trains: it has no `is_test = 1`".to_owned());
    }
    site.remove("is_test");
    Ok(())
}

/// Opset 9: statistics are of channels.
pub(super) fn batch_norm_spatial(site: &mut Site<'_, '_, '_>) -> Outcome {
    if site.int("spatial")?.unwrap_or(1) == 0 {
        return Err("it normalizes each position by itself (`spatial = 0`)".to_owned());
    }
    site.remove("spatial");
    Ok(())
}

/// Opset 14: three outputs, and they mean other things.
pub(super) fn batch_norm_outputs(site: &mut Site<'_, '_, '_>) -> Outcome {
    keep_outputs(site, 1, "its statistics are read, which only training makes")
}

/// Opset 7: without `is_test`.
pub(super) fn dropout_test(site: &mut Site<'_, '_, '_>) -> Outcome {
    if site.int("is_test")?.unwrap_or(0) == 0 {
        return Err("it drops values at random: it has no `is_test = 1`".to_owned());
    }
    site.remove("is_test");
    Ok(())
}

/// Opset 10: the mask is of booleans.
pub(super) fn dropout_mask(site: &mut Site<'_, '_, '_>) -> Outcome {
    keep_outputs(site, 1, "its mask is read, which has another type from opset 10 on")
}

/// Opset 12: `ratio` is an input. It decides nothing where nothing is dropped. What the mask is then, only that opset says.
pub(super) fn dropout_ratio(site: &mut Site<'_, '_, '_>) -> Outcome {
    keep_outputs(site, 1, "its mask is read, which means something else from opset 12 on")?;
    site.remove("ratio");
    Ok(())
}

/// Opset 7: all outputs of recurrent operators are optional, without an attribute that says so.
pub(super) fn output_sequence(site: &mut Site<'_, '_, '_>) -> Outcome {
    site.remove("output_sequence");
    Ok(())
}
