//! Upsample and Resize, and other operators that sample at positions between.

use super::super::site::{Outcome, Site};
use crate::onnx::make;
use crate::onnx::proto::tensor_proto::DataType;

/// Opset 7: a scale for each axis, no longer for height and width.
pub(super) fn upsample_scales(site: &mut Site<'_, '_, '_>) -> Outcome {
    let scale =
        |site: &Site<'_, '_, '_>, name: &str| site.float(name)?.ok_or_else(|| format!("it has no `{name}`"));
    let (height, width) = (scale(site, "height_scale")?, scale(site, "width_scale")?);
    if site.text("mode")?.as_deref() == Some("bilinear") {
        site.set(make::text("mode", "linear"));
    }
    site.remove("height_scale");
    site.remove("width_scale");
    site.set(make::floats("scales", &[1.0, 1.0, height, width]));
    Ok(())
}

/// Opset 9: the scales are an input.
pub(super) fn upsample_input(site: &mut Site<'_, '_, '_>) -> Outcome {
    let scales = site.floats("scales")?.ok_or("it has no `scales`")?;
    let dims = [i64::try_from(scales.len()).unwrap_or(i64::MAX)];
    let data: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let input = site.constant("scales", make::raw_tensor(DataType::Float, &dims, data.into()));
    site.remove("scales");
    site.set_input(1, input);
    Ok(())
}

/// Opset 10: a new name.
pub(super) fn upsample_resize(site: &mut Site<'_, '_, '_>) -> Outcome {
    site.node.op_type = Some("Resize".to_owned());
    Ok(())
}

/// Opset 11: an input before the scales, and modes, of which the old meaning is not the default. The
/// nearest element was the one below where the tensor grows, and the one above where it shrinks.
pub(super) fn modes(site: &mut Site<'_, '_, '_>) -> Outcome {
    let mode = site.text("mode")?.unwrap_or_else(|| "nearest".to_owned());
    if mode == "nearest" {
        let scales = site.elements(1).ok_or("its scales are not constant")?;
        let count = scales.dims().first().copied().unwrap_or(0);
        let scales: Option<Vec<f64>> =
            (0..usize::try_from(count).unwrap_or(0)).map(|i| scales.get(i)).collect();
        let scales = scales.ok_or("its scales cannot be read")?;
        let (grows, shrinks) = (scales.iter().any(|s| *s > 1.0), scales.iter().any(|s| *s < 1.0));
        if grows && shrinks {
            return Err("it grows along one axis and shrinks along another".to_owned());
        }
        site.set(make::text("nearest_mode", if shrinks { "ceil" } else { "floor" }));
    }
    site.set(make::text("coordinate_transformation_mode", "asymmetric"));
    let scales = site.input_name(1);
    let none = site.constant("roi", make::raw_tensor(DataType::Float, &[0], Vec::new().into()));
    site.set_input(1, none);
    site.set_input(2, scales);
    Ok(())
}

/// Opset 13: what is not given is left out, no longer empty; and one mode is gone.
pub(super) fn optional(site: &mut Site<'_, '_, '_>) -> Outcome {
    let mode = site.text("coordinate_transformation_mode")?.unwrap_or_default();
    if mode == "tf_half_pixel_for_nn" {
        return Err("ONNX has no `tf_half_pixel_for_nn` from opset 13 on".to_owned());
    }
    for i in [1, 2] {
        let empty = site.elements(i).is_some_and(|constant| constant.dims() == [0]);
        if empty {
            site.set_input(i, String::new());
        }
    }
    while site.node.input.last().is_some_and(String::is_empty) {
        site.node.input.pop();
    }
    Ok(())
}

/// Opset 16: samples lie half a pixel aside, unless it is said.
pub(super) fn roi_align(site: &mut Site<'_, '_, '_>) -> Outcome {
    site.set(make::text("coordinate_transformation_mode", "output_half_pixel"));
    Ok(())
}

/// Opset 20: modes have the names that Resize gives them.
pub(super) fn grid_sample(site: &mut Site<'_, '_, '_>) -> Outcome {
    let new = match site.text("mode")?.as_deref() {
        Some("bilinear") => "linear",
        Some("bicubic") => "cubic",
        _ => return Ok(()),
    };
    site.set(make::text("mode", new));
    Ok(())
}
