//! Profiles as declared, to shapes of every dynamic input.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, nearest};
use crate::manifest::{Engine, Profile, Range, toml_key};
use crate::onnx::{Dim, Summary, Tensor};

/// A profile, resolved to inputs: each range is `[min, opt, max]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedProfile {
    /// Shapes of every dynamic input, and of those named.
    pub shapes: BTreeMap<String, [Vec<i64>; 3]>,
    /// Values of shape tensors.
    pub values: BTreeMap<String, [Vec<i64>; 3]>,
}

/// Resolves an engine's profiles against its model's inputs.
///
/// # Errors
/// Every mismatch: a dynamic input without a range (with a profile to paste), unknown inputs and
/// dim_params, wrong ranks, fixed dimensions that differ, inputs that share a dim_param and
/// disagree.
pub(super) fn resolve(engine: &Engine, summary: &Summary) -> Result<Vec<ResolvedProfile>, Vec<Diagnostic>> {
    let dynamic: Vec<&Tensor> = summary.inputs.iter().filter(|i| is_dynamic(i)).collect();
    if engine.profiles.is_empty() {
        return match dynamic.as_slice() {
            [] => Ok(Vec::new()),
            inputs => Err(vec![no_profile(engine, inputs)]),
        };
    }
    let mut errors = Vec::new();
    let resolved = engine.profiles.iter().map(|p| resolve_one(engine, p, summary, &mut errors)).collect();
    if errors.is_empty() { Ok(resolved) } else { Err(errors) }
}

fn is_dynamic(input: &Tensor) -> bool {
    input.dims.as_ref().is_none_or(|dims| dims.iter().any(|d| !matches!(d, Dim::Fixed(_))))
}

fn resolve_one(
    engine: &Engine,
    profile: &Profile,
    summary: &Summary,
    errors: &mut Vec<Diagnostic>,
) -> ResolvedProfile {
    unknown_names(engine, profile, summary, errors);
    let mut resolved = ResolvedProfile { shapes: BTreeMap::new(), values: BTreeMap::new() };
    let mut missing: Vec<&Tensor> = Vec::new();
    for input in &summary.inputs {
        if let Some(range) = profile.values.get(&input.name) {
            resolved.values.insert(input.name.clone(), triple(range));
        }
        if let Some(range) = profile.shapes.get(&input.name) {
            errors.extend(shape_mismatch(profile, input, range));
            resolved.shapes.insert(input.name.clone(), triple(range));
        } else if is_dynamic(input) {
            match shape_from_dims(profile, input) {
                Some(shape) => {
                    resolved.shapes.insert(input.name.clone(), shape);
                }
                None => missing.push(input),
            }
        }
    }
    if !missing.is_empty() {
        errors.push(missing_ranges(engine, profile, &missing));
    }
    errors.extend(shared_params_disagree(profile, summary, &resolved));
    resolved
}

fn triple(range: &Range<Vec<i64>>) -> [Vec<i64>; 3] {
    [range.min.clone(), range.opt.clone(), range.max.clone()]
}

fn shape_from_dims(profile: &Profile, input: &Tensor) -> Option<[Vec<i64>; 3]> {
    let mut shape = [Vec::new(), Vec::new(), Vec::new()];
    for dim in input.dims.as_ref()? {
        let range = match dim {
            Dim::Fixed(size) => [*size; 3],
            Dim::Param(name) => {
                let range = profile.dims.get(name)?;
                [range.min, range.opt, range.max]
            }
            Dim::Unknown => return None,
        };
        for (dims, size) in shape.iter_mut().zip(range) {
            dims.push(size);
        }
    }
    Some(shape)
}

fn origin<'a>(profile: &'a Profile, key: &str) -> &'a crate::diagnostic::Origin {
    profile.key_origins.get(key).unwrap_or(&profile.origin)
}

fn unknown_names(engine: &Engine, profile: &Profile, summary: &Summary, errors: &mut Vec<Diagnostic>) {
    let inputs: Vec<&str> = summary.inputs.iter().map(|i| i.name.as_str()).collect();
    let params: BTreeSet<&str> = summary
        .inputs
        .iter()
        .flat_map(|i| i.dims.iter().flatten())
        .filter_map(|d| if let Dim::Param(name) = d { Some(name.as_str()) } else { None })
        .collect();
    let listed = |names: &[&str]| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
        }
    };
    let model = engine.name.model.as_str();
    for name in profile.shapes.keys().chain(profile.values.keys()) {
        if !inputs.contains(&name.as_str()) {
            let mut d = Diagnostic::error("unknown-input", format!("model `{model}` has no input `{name}`"))
                .at(origin(profile, name), "no such input")
                .note(format!("its inputs are: {}", listed(&inputs)));
            if let Some(near) = nearest(name, inputs.iter().copied()) {
                d = d.help(format!("did you mean `{near}`?"));
            }
            errors.push(d);
        }
    }
    for name in profile.dims.keys() {
        if !params.contains(name.as_str()) {
            let params: Vec<&str> = params.iter().copied().collect();
            let mut d = Diagnostic::error(
                "unknown-dim",
                format!("no input of model `{model}` has a dimension `{name}`"),
            )
            .at(origin(profile, name), "no such dimension")
            .note(format!("its named dimensions are: {}", listed(&params)));
            if let Some(near) = nearest(name, params.iter().copied()) {
                d = d.help(format!("did you mean `{near}`?"));
            }
            errors.push(d);
        }
    }
}

fn shape_mismatch(profile: &Profile, input: &Tensor, range: &Range<Vec<i64>>) -> Option<Diagnostic> {
    let dims = input.dims.as_ref()?;
    let place = origin(profile, &input.name);
    if dims.len() != range.min.len() {
        return Some(
            Diagnostic::error(
                "profile-rank",
                format!(
                    "the shape of `{}` has {} dimensions, the input has {}",
                    input.name,
                    range.min.len(),
                    dims.len()
                ),
            )
            .at(place, format!("the input is {}", show_dims(input)))
            .help(format!("give {} numbers for each of min, opt and max", dims.len())),
        );
    }
    for (i, dim) in dims.iter().enumerate() {
        if let Dim::Fixed(size) = dim
            && [&range.min, &range.opt, &range.max].iter().any(|shape| shape[i] != *size)
        {
            return Some(
                Diagnostic::error(
                    "profile-fixed-dim",
                    format!("dimension {i} of `{}` is fixed: {size}", input.name),
                )
                .at(place, format!("the input is {}", show_dims(input)))
                .help(format!("write {size} in min, opt and max")),
            );
        }
    }
    None
}

/// Equal dim_params are equal dimensions to TensorRT.
fn shared_params_disagree(
    profile: &Profile,
    summary: &Summary,
    resolved: &ResolvedProfile,
) -> Vec<Diagnostic> {
    let mut seen: BTreeMap<&str, (&str, [i64; 3])> = BTreeMap::new();
    let mut errors = Vec::new();
    for input in &summary.inputs {
        let (Some(dims), Some(shape)) = (&input.dims, resolved.shapes.get(&input.name)) else { continue };
        if shape.iter().any(|s| s.len() != dims.len()) {
            continue; // Told by `shape_mismatch`.
        }
        for (i, dim) in dims.iter().enumerate() {
            let Dim::Param(name) = dim else { continue };
            let range = shape.each_ref().map(|s| s[i]);
            match seen.get(name.as_str()) {
                None => {
                    seen.insert(name, (&input.name, range));
                }
                Some((_, other)) if *other == range => {}
                Some((first, other)) => errors.push(
                    Diagnostic::error(
                        "profile-dims-disagree",
                        format!(
                            "inputs `{first}` and `{}` share the dimension `{name}` and disagree",
                            input.name
                        ),
                    )
                    .at(origin(profile, &input.name), format!("{range:?} here, {other:?} for `{first}`"))
                    .note("to TensorRT, dimensions of one name are equal")
                    .help(format!(
                        "give both the same range, best by `dims = {{ {} = [min, opt, max] }}`",
                        toml_key(name)
                    )),
                ),
            }
        }
    }
    errors
}

fn no_profile(engine: &Engine, inputs: &[&Tensor]) -> Diagnostic {
    Diagnostic::error(
        "no-profile",
        format!("model `{}` has dynamic inputs and no optimization profile", engine.name.model),
    )
    .at(&engine.origin, "no [[model….profile]] here")
    .note(inputs.iter().map(|i| format!("`{}` is {}", i.name, show_dims(i))).collect::<Vec<_>>().join("\n"))
    .help(format!("add a profile, and mend the numbers:\n{}", paste(engine, inputs)))
}

fn missing_ranges(engine: &Engine, profile: &Profile, missing: &[&Tensor]) -> Diagnostic {
    Diagnostic::error(
        "profile-incomplete",
        format!("profile `{}` gives no range for {}", profile.name, names(missing)),
    )
    .at(&profile.origin, "in this profile")
    .note(missing.iter().map(|i| format!("`{}` is {}", i.name, show_dims(i))).collect::<Vec<_>>().join("\n"))
    .help(format!("add what is missing, and mend the numbers:\n{}", paste(engine, missing)))
}

fn names(inputs: &[&Tensor]) -> String {
    inputs.iter().map(|i| format!("`{}`", i.name)).collect::<Vec<_>>().join(", ")
}

/// `float[batch, 3, 224, ?]`
#[must_use]
pub fn show_dims(tensor: &Tensor) -> String {
    let dims = tensor.dims.as_ref().map_or("…".to_owned(), |dims| {
        dims.iter()
            .map(|d| match d {
                Dim::Fixed(size) => size.to_string(),
                Dim::Param(name) => name.clone(),
                Dim::Unknown => "?".to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", ")
    });
    format!("{}[{dims}]", tensor.element)
}

/// A profile for these inputs, ready to paste.
fn paste(engine: &Engine, inputs: &[&Tensor]) -> String {
    let mut dims: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lines = Vec::new();
    for input in inputs {
        let Some(declared) = &input.dims else {
            lines.push(format!("# the rank of `{}` is not declared: give its whole shape", input.name));
            lines.push(format!("shapes.{} = {{ min = [1], opt = [1], max = [1] }}", toml_key(&input.name)));
            continue;
        };
        if declared.contains(&Dim::Unknown) {
            // Dimensions without a name can be given by input only.
            let shape = |first: i64, other: i64| {
                let size = |(i, dim): (usize, &Dim)| match dim {
                    Dim::Fixed(size) => size.to_string(),
                    _ => if i == 0 { first } else { other }.to_string(),
                };
                declared.iter().enumerate().map(size).collect::<Vec<_>>().join(", ")
            };
            lines.push(format!(
                "shapes.{} = {{ min = [{}], opt = [{}], max = [{}] }}",
                toml_key(&input.name),
                shape(1, 32),
                shape(1, 224),
                shape(8, 640),
            ));
            continue;
        }
        for (i, dim) in declared.iter().enumerate() {
            if let Dim::Param(name) = dim {
                dims.entry(name).or_insert(if i == 0 { "[1, 1, 8]" } else { "[1, 128, 512]" });
            }
        }
    }
    let mut text = format!("[[{}.profile]]\nname = \"default\"", engine.table);
    if !dims.is_empty() {
        let dims: Vec<String> =
            dims.iter().map(|(name, range)| format!("{} = {range}", toml_key(name))).collect();
        text += &format!("\ndims = {{ {} }}", dims.join(", "));
    }
    for line in lines {
        text += &format!("\n{line}");
    }
    text
}
