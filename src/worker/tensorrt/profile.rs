//! Optimization profiles. They are checked here, with names and numbers, since the library says no
//! more than that one is invalid.

use std::ffi::CString;
use std::pin::Pin;

use trtx_sys::nvinfer1::IOptimizationProfile;
use trtx_sys::{Dims64, OptProfileSelector};

use super::super::protocol::{ProfileShapes, Refusal};
use super::builder::Builder;
use super::network::Port;
use super::{Result, refuse};

const SELECTORS: [OptProfileSelector; 3] =
    [OptProfileSelector::kMIN, OptProfileSelector::kOPT, OptProfileSelector::kMAX];

/// TensorRT's limit.
const MAX_RANK: usize = 8;

/// Adds the profiles in order.
pub(super) fn apply(builder: &mut Builder, inputs: &[Port], profiles: &[ProfileShapes]) -> Result<()> {
    check(inputs, profiles)?;
    for (index, profile) in profiles.iter().enumerate() {
        add(builder, index, profile)?;
    }
    Ok(())
}

/// Everything that can be known without the library.
fn check(inputs: &[Port], profiles: &[ProfileShapes]) -> Result<()> {
    if profiles.is_empty() {
        return needs_none(inputs);
    }
    for (index, profile) in profiles.iter().enumerate() {
        for (name, range) in &profile.shapes {
            let port = find(inputs, index, name)?;
            check_shape(index, port, range)?;
        }
        for (name, range) in &profile.values {
            let port = find(inputs, index, name)?;
            check_values(index, port, range)?;
        }
        for port in inputs {
            let has = |list: &[(String, [Vec<i64>; 3])]| list.iter().any(|(name, _)| *name == port.name);
            if port.is_dynamic() && !has(&profile.shapes) {
                return Err(lacking(index, "shape", port));
            }
            if port.is_shape && !has(&profile.values) {
                return Err(lacking(index, "values", port));
            }
        }
    }
    Ok(())
}

fn needs_none(inputs: &[Port]) -> Result<()> {
    let open: Vec<&Port> = inputs.iter().filter(|port| port.is_dynamic() || port.is_shape).collect();
    if open.is_empty() {
        return Ok(());
    }
    let what = match (open.iter().any(|port| port.is_dynamic()), open.iter().any(|port| port.is_shape)) {
        (true, true) => "shapes and values",
        (false, _) => "values",
        _ => "shape",
    };
    let help = format!("[[model.NAME.profile]]\nname = \"default\"\n{}", ready_to_paste(&open));
    Err(missing(format!("no profile gives the {what} of {}", named(&open)), help))
}

fn named(ports: &[&Port]) -> String {
    ports.iter().map(|port| format!("`{}` {:?}", port.name, port.dims)).collect::<Vec<_>>().join(", ")
}

fn missing(message: String, help: String) -> Box<Refusal> {
    Box::new(Refusal::new("profile", "profile-missing", message).help(help))
}

/// Something that a profile which is there lacks.
fn lacking(index: usize, what: &str, port: &Port) -> Box<Refusal> {
    let message = format!("profile {index} does not give the {what} of {}", named(&[port]));
    missing(message, format!("add to this profile, with your numbers: {}", ready_to_paste(&[port])))
}

/// What a profile of a manifest says of these, with 1 for every open dimension.
fn ready_to_paste(ports: &[&Port]) -> String {
    let quoted = |name: &str| format!("{name:?}");
    let mut shapes = Vec::new();
    let mut values = Vec::new();
    for port in ports {
        let dims: Vec<i64> = port.dims.iter().map(|dim| if *dim < 0 { 1 } else { *dim }).collect();
        if port.is_dynamic() {
            shapes.push(format!(
                "{} = {{ min = {dims:?}, opt = {dims:?}, max = {dims:?} }}",
                quoted(&port.name)
            ));
        }
        if port.is_shape {
            let ones = vec![1; usize::try_from(dims.iter().product::<i64>()).unwrap_or(1).min(64)];
            values.push(format!(
                "{} = {{ min = {ones:?}, opt = {ones:?}, max = {ones:?} }}",
                quoted(&port.name)
            ));
        }
    }
    let lists = [("shapes", shapes), ("values", values)].into_iter().filter(|(_, list)| !list.is_empty());
    lists.map(|(key, list)| format!("{key} = {{ {} }}", list.join(", "))).collect::<Vec<_>>().join("\n")
}

fn find<'a>(inputs: &'a [Port], index: usize, name: &str) -> Result<&'a Port> {
    if let Some(port) = inputs.iter().find(|port| port.name == name) {
        return Ok(port);
    }
    let nearest = crate::diagnostic::nearest(name, inputs.iter().map(|port| port.name.as_str()));
    let names: Vec<String> = inputs.iter().map(|port| format!("`{}`", port.name)).collect();
    let mut refusal = Refusal::new(
        "profile",
        "profile-unknown-input",
        format!("profile {index} names `{name}`, which is no input of the model: {}", names.join(", ")),
    );
    if let Some(nearest) = nearest {
        refusal = refusal.help(format!("did you mean `{nearest}`?"));
    }
    Err(Box::new(refusal))
}

fn mismatch<T>(index: usize, port: &Port, what: impl std::fmt::Display) -> Result<T> {
    let message = format!("profile {index}: `{}` {:?} {what}", port.name, port.dims);
    refuse("profile", "profile-mismatch", message)
}

fn check_shape(index: usize, port: &Port, range: &[Vec<i64>; 3]) -> Result<()> {
    let [min, opt, max] = range;
    if port.dims.len() > MAX_RANK {
        return mismatch(index, port, format_args!("has more than {MAX_RANK} dimensions"));
    }
    for shape in range {
        if shape.len() != port.dims.len() {
            let rank = port.dims.len();
            return mismatch(
                index,
                port,
                format_args!("has {rank} dimensions, {shape:?} has {}", shape.len()),
            );
        }
        if let Some(bad) = shape.iter().find(|dim| i32::try_from(**dim).map_or(true, |dim| dim < 0)) {
            return mismatch(index, port, format_args!("cannot have a dimension of {bad}"));
        }
        if shape.iter().zip(&port.dims).any(|(asked, is)| *is >= 0 && asked != is) {
            return mismatch(index, port, format_args!("cannot be {shape:?}"));
        }
    }
    let ordered = min.iter().zip(opt).zip(max).all(|((min, opt), max)| min <= opt && opt <= max);
    if ordered { Ok(()) } else { mismatch(index, port, "needs min <= opt <= max") }
}

fn check_values(index: usize, port: &Port, range: &[Vec<i64>; 3]) -> Result<()> {
    let [min, opt, max] = range;
    if !port.is_shape {
        return mismatch(index, port, "is given values, but no shape depends on its values");
    }
    let volume = port.dims.iter().try_fold(1i64, |volume, dim| volume.checked_mul(*dim)).filter(|v| *v >= 0);
    for values in range {
        let same = volume.is_none_or(|volume| i64::try_from(values.len()) == Ok(volume));
        if !same || values.is_empty() || values.len() > 64 {
            return mismatch(index, port, format_args!("is given {} values", values.len()));
        }
    }
    let ordered = min.iter().zip(opt).zip(max).all(|((min, opt), max)| min <= opt && opt <= max);
    if ordered { Ok(()) } else { mismatch(index, port, "needs min <= opt <= max") }
}

/// Hands one checked profile over.
fn add(builder: &mut Builder, index: usize, profile: &ProfileShapes) -> Result<()> {
    let rejected = |what: &str| {
        refuse("profile", "profile-rejected", format!("the library rejects profile {index}{what}"))
    };
    let raw = builder.new_profile();
    if raw.is_null() {
        return rejected(": it could not be made");
    }
    for (name, range) in &profile.shapes {
        let c_name = c_string(name)?;
        for (selector, shape) in SELECTORS.into_iter().zip(range) {
            if !set_shape(raw, &c_name, selector, shape) {
                return rejected(&format!(": `{name}` as {shape:?}"));
            }
        }
    }
    for (name, range) in &profile.values {
        let c_name = c_string(name)?;
        for (selector, values) in SELECTORS.into_iter().zip(range) {
            if !set_values(raw, &c_name, selector, values) {
                return rejected(&format!(": values {values:?} of `{name}`"));
            }
        }
    }
    let position = builder.config().add_profile(raw);
    if position == i32::try_from(index).unwrap_or(i32::MAX) { Ok(()) } else { rejected("") }
}

fn c_string(name: &str) -> Result<CString> {
    CString::new(name).or_else(|_| {
        refuse("profile", "profile-unknown-input", format!("`{}` holds a NUL", name.escape_debug()))
    })
}

#[expect(unsafe_code, reason = "profiles are bare pointers")]
fn set_shape(
    profile: *mut IOptimizationProfile,
    name: &CString,
    selector: OptProfileSelector,
    shape: &[i64],
) -> bool {
    let dims = Dims64::from_slice(shape);
    // SAFETY: the profile is not null and belongs to the builder, which lives for ever; the name
    // lives during the call, which copies it.
    unsafe { Pin::new_unchecked(&mut *profile).setDimensions(name.as_ptr(), selector.into(), &dims) }
}

#[expect(unsafe_code, reason = "profiles are bare pointers")]
fn set_values(
    profile: *mut IOptimizationProfile,
    name: &CString,
    selector: OptProfileSelector,
    values: &[i64],
) -> bool {
    let Ok(count) = i32::try_from(values.len()) else {
        return false;
    };
    // SAFETY: as for `set_shape`; `count` values live at the pointer and are copied.
    unsafe {
        Pin::new_unchecked(&mut *profile).setShapeValuesV2(
            name.as_ptr(),
            selector.into(),
            values.as_ptr(),
            count,
        )
    }
}

/// A call of the configuration that takes a profile.
trait AddProfile {
    fn add_profile(self, profile: *const IOptimizationProfile) -> i32;
}

impl AddProfile for Pin<&mut trtx_sys::nvinfer1::IBuilderConfig> {
    #[expect(unsafe_code, reason = "profiles are bare pointers")]
    fn add_profile(self, profile: *const IOptimizationProfile) -> i32 {
        // SAFETY: the profile is not null and belongs to the builder, which lives for ever.
        unsafe { self.addOptimizationProfile(profile) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, dims: &[i64], is_shape: bool) -> Port {
        Port { name: name.into(), element: "float", dims: dims.to_vec(), is_shape }
    }

    fn range(min: &[i64], opt: &[i64], max: &[i64]) -> [Vec<i64>; 3] {
        [min.to_vec(), opt.to_vec(), max.to_vec()]
    }

    fn shapes(shapes: Vec<(&str, [Vec<i64>; 3])>) -> ProfileShapes {
        let shapes = shapes.into_iter().map(|(name, range)| (name.to_owned(), range)).collect();
        ProfileShapes { shapes, values: Vec::new() }
    }

    #[test]
    fn a_static_network_needs_nothing() {
        check(&[port("x", &[1, 3], false)], &[]).unwrap();
    }

    #[test]
    fn a_dynamic_input_without_a_profile_gets_one_to_paste() {
        let inputs = [port("x", &[-1, 3], false), port("size", &[2], true), port("y", &[4], false)];
        let refusal = check(&inputs, &[]).unwrap_err();
        assert_eq!(refusal.code, "profile-missing");
        assert_eq!(refusal.message, "no profile gives the shapes and values of `x` [-1, 3], `size` [2]");
        assert_eq!(
            refusal.help,
            ["[[model.NAME.profile]]\nname = \"default\"\n\
              shapes = { \"x\" = { min = [1, 3], opt = [1, 3], max = [1, 3] } }\n\
              values = { \"size\" = { min = [1, 1], opt = [1, 1], max = [1, 1] } }"]
        );
        let second = [shapes(vec![("x", range(&[1, 3], &[2, 3], &[4, 3]))])];
        let lacks = check(&inputs, &second).unwrap_err();
        assert_eq!(lacks.message, "profile 0 does not give the values of `size` [2]");
        assert_eq!(
            lacks.help,
            [
                "add to this profile, with your numbers: values = { \"size\" = { min = [1, 1], opt = [1, 1], max = [1, 1] } }"
            ]
        );
    }

    #[test]
    fn shapes_must_fit_the_input() {
        let inputs = [port("x", &[-1, 3], false)];
        let message = |range| check(&inputs, &[shapes(vec![("x", range)])]).unwrap_err().message;
        assert_eq!(
            message(range(&[1], &[1, 3], &[1, 3])),
            "profile 0: `x` [-1, 3] has 2 dimensions, [1] has 1"
        );
        assert_eq!(message(range(&[1, 4], &[1, 3], &[1, 3])), "profile 0: `x` [-1, 3] cannot be [1, 4]");
        assert_eq!(
            message(range(&[2, 3], &[1, 3], &[4, 3])),
            "profile 0: `x` [-1, 3] needs min <= opt <= max"
        );
        assert_eq!(
            message(range(&[1, 3], &[1, 3], &[1 << 40, 3])),
            "profile 0: `x` [-1, 3] cannot have a dimension of 1099511627776"
        );
        assert_eq!(
            message(range(&[-1, 3], &[1, 3], &[1, 3])),
            "profile 0: `x` [-1, 3] cannot have a dimension of -1"
        );
    }

    #[test]
    fn an_unknown_input_is_answered_with_the_known_ones() {
        let inputs = [port("input_ids", &[-1], false)];
        let refusal = check(&inputs, &[shapes(vec![("input_id", range(&[1], &[1], &[1]))])]).unwrap_err();
        assert_eq!(refusal.code, "profile-unknown-input");
        assert_eq!(refusal.help, ["did you mean `input_ids`?"]);
    }

    #[test]
    fn values_are_counted() {
        let inputs = [port("size", &[2], true)];
        let values = |range| {
            let values = vec![("size".to_owned(), range)];
            check(&inputs, &[ProfileShapes { shapes: Vec::new(), values }]).map_err(|r| r.message)
        };
        values(range(&[1, 1], &[2, 2], &[4, 4])).unwrap();
        assert_eq!(
            values(range(&[1], &[2, 2], &[4, 4])).unwrap_err(),
            "profile 0: `size` [2] is given 1 values"
        );
    }
}
