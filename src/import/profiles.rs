//! Shapes, to optimization profiles.

use std::collections::BTreeMap;

use super::draft::Shape;
use super::model::Model;
use super::notes::{Notes, listed};
use super::options::{Given, Options};
use super::values::{self, Shapes};
use super::{Version, codes};
use crate::diagnostic::{Diagnostic, nearest};
use crate::onnx::{Dim, Tensor};

type Profile = BTreeMap<String, Shape>;

const KINDS: [&str; 3] = ["--minShapes", "--optShapes", "--maxShapes"];

/// The profiles of a run, in TensorRT's order.
pub(super) fn profiles(
    options: &Options,
    version: Version,
    model: Option<&Model>,
    notes: &mut Notes,
) -> Vec<Profile> {
    let mut profiles = written(options, version, notes);
    inference_shapes(options, version, &mut profiles, notes);
    if let Some(model) = model {
        let place =
            options.given.iter().find(|g| KINDS.contains(&g.flag.name()) || g.flag.name() == "--shapes");
        fit(&mut profiles, version, model, place, notes);
    } else if let Some((name, given)) = wildcard(&profiles, options) {
        let message = format!("which inputs `{name}` means cannot be told: the model is not at hand");
        notes.error(
            given.error(codes::MODEL, message).help("run this where the ONNX file lies, or write the names"),
        );
    }
    ordered(&profiles, options, notes);
    profiles.retain(|profile| !profile.is_empty());
    profiles
}

fn wildcard<'o>(profiles: &[Profile], options: &'o Options) -> Option<(String, &'o Given)> {
    let name = profiles.iter().flat_map(BTreeMap::keys).find(|name| name.contains('*'))?;
    Some((name.clone(), options.given.iter().find(|g| g.value.contains(name.as_str()))?))
}

/// What stands behind `--profile`, or once for all.
fn written(options: &Options, version: Version, notes: &mut Notes) -> Vec<Profile> {
    let shapes = |given: &Given, notes: &mut Notes| {
        values::shapes(&given.value, version).unwrap_or_else(|why| {
            notes.error(given.error(codes::VALUE, format!("`{}`: {why}", given.spelling)));
            Shapes::new()
        })
    };
    let mut of = |all: &[&Given]| {
        let mut three: [Option<Shapes>; 3] = [None, None, None];
        for given in all {
            if let Some(at) = KINDS.iter().position(|kind| *kind == given.flag.name()) {
                three[at] = Some(shapes(given, notes));
            }
        }
        broadcast(three, all, notes)
    };
    if !options.has("--profile") {
        let all: Vec<&Given> = options.given.iter().filter(|g| KINDS.contains(&g.flag.name())).collect();
        return if all.is_empty() { Vec::new() } else { vec![of(&all)] };
    }
    let mut indexed: BTreeMap<usize, (Profile, &Given)> = BTreeMap::new();
    let mut errors: Vec<Diagnostic> = Vec::new();
    let mut used = 0;
    for (at, given) in options.given.iter().enumerate().filter(|(_, g)| g.flag.name() == "--profile") {
        let behind = options.given[at + 1..].iter().take_while(|g| KINDS.contains(&g.flag.name()));
        let all: Vec<&Given> = behind.collect();
        used += all.len();
        let Ok(index) = given.value.parse::<usize>() else {
            errors.push(given.error(codes::VALUE, format!("`{}` is no index of a profile", given.value)));
            continue;
        };
        if all.is_empty() {
            let error =
                given.error(codes::CONFLICT, format!("no shapes follow `{}` at once", given.word.text));
            errors.push(error.help("put `--minShapes`, `--optShapes` and `--maxShapes` right behind it"));
        }
        if let Some((_, first)) = indexed.insert(index, (of(&all), given)) {
            let error = given.error(codes::CONFLICT, format!("profile {index} is given twice"));
            errors.push(error.see(&first.word.origin, "given first here"));
        }
    }
    let apart = options.given.iter().filter(|g| KINDS.contains(&g.flag.name())).count() - used;
    if let Some(given) = options.given.iter().find(|g| KINDS.contains(&g.flag.name())).filter(|_| apart > 0) {
        let error = given.error(codes::CONFLICT, "there are shapes that belong to no `--profile`");
        errors.push(error.help("put them right behind the `--profile` that they are for"));
    }
    if let Some((index, (_, given))) =
        indexed.iter().enumerate().find(|(at, (index, _))| at != *index).map(|(at, (_, v))| (at, (at, v.1)))
    {
        errors.push(
            given.error(codes::CONFLICT, format!("profile {index} is missing: they are numbered from 0")),
        );
    }
    errors.into_iter().for_each(|error| notes.error(error));
    indexed.into_values().map(|(profile, _)| profile).collect()
}

/// What is missing of minimum, optimum and maximum, as trtexec fills it in.
fn broadcast(three: [Option<Shapes>; 3], given: &[&Given], notes: &mut Notes) -> Profile {
    let [min, opt, max] = three;
    let names = [("minimum", min.is_none()), ("optimum", opt.is_none()), ("maximum", max.is_none())];
    let missing: Vec<&str> =
        names.iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| *name).collect();
    let (min, opt, max) = match (min, opt, max) {
        (Some(min), Some(opt), Some(max)) => (min, opt, max),
        (min, Some(opt), max) => (min.unwrap_or_else(|| opt.clone()), opt.clone(), max.unwrap_or(opt)),
        (min, None, Some(max)) => (min.unwrap_or_else(|| max.clone()), max.clone(), max),
        (Some(min), None, None) => (min.clone(), min.clone(), min),
        (None, None, None) => return Profile::new(),
    };
    // Only one is the usual way to say that a shape is fixed.
    if missing.len() == 1 {
        let message = format!("the {} is not given: `trtexec` takes it from the others", missing[0]);
        notes.warning(given[0].error(codes::IGNORED, message));
    }
    let mut profile = Profile::new();
    for name in min.keys().chain(opt.keys()).chain(max.keys()) {
        let of = |shapes: &Shapes| shapes.get(name).cloned();
        match (of(&min), of(&opt), of(&max)) {
            (Some(min), Some(opt), Some(max)) => {
                profile.insert(name.clone(), Shape { min, opt, max, is_values: false });
            }
            _ if profile.contains_key(name) => {}
            _ => {
                profile.insert(name.clone(), Shape::default());
                let message = format!("`{name}` has not all of minimum, optimum and maximum");
                notes.error(given[0].error(codes::CONFLICT, message).help("give it in all three options"));
            }
        }
    }
    profile
}

/// `--shapes`: an input without a profile gets this shape as minimum, optimum and maximum.
fn inference_shapes(options: &Options, version: Version, profiles: &mut Vec<Profile>, notes: &mut Notes) {
    let Some(given) = options.get("--shapes") else { return };
    let shapes = match values::shapes(&given.value, version) {
        Ok(shapes) => shapes,
        Err(why) => return notes.error(given.error(codes::VALUE, format!("`--shapes`: {why}"))),
    };
    let index = options.get("--useProfile").and_then(|g| g.value.parse().ok()).unwrap_or(0);
    if profiles.is_empty() {
        profiles.push(Profile::new());
    }
    let Some(profile) = profiles.get_mut(index) else { return };
    let mut unused = Vec::new();
    for (name, dims) in shapes {
        if profile.contains_key(&name) {
            unused.push(name);
            continue;
        }
        let shape = Shape { min: dims.clone(), opt: dims.clone(), max: dims, is_values: false };
        profile.insert(name, shape);
    }
    if !unused.is_empty() {
        let names = listed(unused.iter().map(String::as_str));
        let message = format!("`--shapes` of {names} is for timing the engine, and has no meaning here");
        notes.note(given.error(codes::NO_MEANING, message));
    }
}

/// Minimum, optimum and maximum are in order.
fn ordered(profiles: &[Profile], options: &Options, notes: &mut Notes) {
    for (name, shape) in profiles.iter().flatten() {
        let same_rank = shape.min.len() == shape.opt.len() && shape.opt.len() == shape.max.len();
        let in_order =
            shape.min.iter().zip(&shape.opt).chain(shape.opt.iter().zip(&shape.max)).all(|(a, b)| a <= b);
        let Some(given) = options.given.iter().find(|g| KINDS.contains(&g.flag.name())) else { continue };
        if !same_rank {
            notes.error(given.error(
                codes::CONFLICT,
                format!("the shapes of `{name}` have different numbers of dimensions"),
            ));
        } else if !in_order {
            notes.error(given.error(
                codes::CONFLICT,
                format!("the shapes of `{name}` are not minimum <= optimum <= maximum"),
            ));
        }
    }
}

/// Holds profiles against the inputs of the model.
fn fit(
    profiles: &mut Vec<Profile>,
    version: Version,
    model: &Model,
    place: Option<&Given>,
    notes: &mut Notes,
) {
    let dynamic: Vec<&Tensor> = model.summary.inputs.iter().filter(|i| is_dynamic(i)).collect();
    if dynamic.is_empty() && profiles.iter().all(BTreeMap::is_empty) {
        return;
    }
    if profiles.is_empty() {
        profiles.push(Profile::new());
    }
    for profile in profiles.iter_mut() {
        let expanded = std::mem::take(profile);
        for (name, shape) in expanded {
            let inputs = inputs_of(&name, version, model);
            if inputs.is_empty() {
                notes.error(unknown_input(&name, model, place));
            }
            for input in inputs {
                if let Some(shape) = of_input(input, &shape, place, notes) {
                    profile.entry(input.name.clone()).or_insert(shape);
                }
            }
        }
        for input in &dynamic {
            if !profile.contains_key(&input.name) {
                profile.insert(input.name.clone(), made_up(input, notes));
            }
        }
    }
}

fn is_dynamic(input: &Tensor) -> bool {
    input.dims.as_ref().is_none_or(|dims| dims.iter().any(|dim| !matches!(dim, Dim::Fixed(_))))
}

fn inputs_of<'m>(name: &str, version: Version, model: &'m Model) -> Vec<&'m Tensor> {
    let inputs = &model.summary.inputs;
    if let Some(exact) = inputs.iter().find(|input| input.name == name) {
        return vec![exact];
    }
    let takes_wildcards = version >= Version(9, 0, 0);
    inputs.iter().filter(|i| takes_wildcards && super::layers::matches(name, &i.name, version)).collect()
}

fn unknown_input(name: &str, model: &Model, place: Option<&Given>) -> Diagnostic {
    let inputs = model.summary.inputs.iter().map(|i| i.name.as_str());
    let mut error = Diagnostic::error(codes::VALUE, format!("the model has no input `{name}`"));
    if let Some(place) = place {
        error = error.at(&place.word.origin, "");
    }
    let error = error.note(format!("its inputs are {}", listed(inputs.clone())));
    match nearest(name, inputs) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error,
    }
}

/// The shape for this input: none if it needs none.
fn of_input(input: &Tensor, shape: &Shape, place: Option<&Given>, notes: &mut Notes) -> Option<Shape> {
    let dims = input.dims.as_ref()?;
    let fixed: Option<Vec<i64>> =
        dims.iter().map(|dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None }).collect();
    let all = [&shape.min, &shape.opt, &shape.max];
    let is_integer = ["int32", "int64"].contains(&input.element.as_str());
    if let Some(fixed) = &fixed {
        if all.iter().all(|given| *given == fixed) {
            return None;
        }
        // What a shape tensor holds is given in the place of its shape.
        let holds =
            if fixed.is_empty() { Some(1) } else { fixed.first().copied().filter(|_| fixed.len() == 1) };
        let fits = holds.is_some_and(|n| all.iter().all(|given| given.len() as i64 == n));
        if is_integer && fits {
            return Some(Shape { is_values: true, ..shape.clone() });
        }
    }
    let rank = shape.opt.len() != dims.len();
    let differs = |given: &&Vec<i64>| {
        given.iter().zip(dims).any(|(given, dim)| matches!(dim, Dim::Fixed(size) if size != given))
    };
    if rank || all.iter().any(differs) {
        let what = crate::import::model::show(input);
        let message = format!("the shape given for `{}` does not fit: the model says {what}", input.name);
        if let Some(place) = place {
            notes.error(place.error(codes::CONFLICT, message));
        }
        return None;
    }
    Some(shape.clone())
}

/// What trtexec does of a dynamic input without a shape: every dynamic dimension is 1.
fn made_up(input: &Tensor, notes: &mut Notes) -> Shape {
    let one = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 1 };
    let dims: Vec<i64> = input.dims.iter().flatten().map(one).collect();
    let shape = dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    let message = format!(
        "no shape is given for the input `{}`: `trtexec` builds for {shape} alone, and so does this",
        input.name
    );
    notes.warning(
        Diagnostic::warning(codes::IGNORED, message).help("give it a range in `[[profile]]`, such as `dims`"),
    );
    Shape { min: dims.clone(), opt: dims.clone(), max: dims, is_values: false }
}
