//! Inputs made from a seed, at every profile's min, opt and max.

use std::collections::BTreeMap;

use super::random::Random;
use super::sample::{Array, Sample, SampleError, width};
use super::spec::ProfileShapes;
use crate::manifest::{Fill, toml_key};
use crate::onnx::{Dim, Tensor};

/// What inputs are made from.
#[derive(Debug, Clone, Copy)]
pub struct Shapes<'a> {
    /// The model's inputs.
    pub inputs: &'a [Tensor],
    /// The profiles.
    pub profiles: &'a [ProfileShapes],
}

/// One point of a profile: `default-min`, with shapes and values by input.
struct Point {
    name: String,
    shapes: BTreeMap<String, Vec<i64>>,
    values: BTreeMap<String, Vec<i64>>,
}

impl Shapes<'_> {
    /// Every profile's min, opt and max; those that are the same once.
    fn points(&self) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        for (p, profile) in self.profiles.iter().enumerate() {
            for (i, end) in ["min", "opt", "max"].into_iter().enumerate() {
                let at = |ranges: &BTreeMap<String, [Vec<i64>; 3]>| -> BTreeMap<String, Vec<i64>> {
                    ranges.iter().map(|(name, range)| (name.clone(), range[i].clone())).collect()
                };
                let name =
                    if self.profiles.len() == 1 { end.to_owned() } else { format!("profile-{p}-{end}") };
                let point = Point { name, shapes: at(&profile.shapes), values: at(&profile.values) };
                if !points.iter().any(|o| o.shapes == point.shapes && o.values == point.values) {
                    points.push(point);
                }
            }
        }
        if points.is_empty() {
            points.push(Point { name: "fixed".to_owned(), shapes: BTreeMap::new(), values: BTreeMap::new() });
        }
        points
    }
}

/// How many samples are made when this many are asked for: one for each shape at least.
#[must_use]
pub fn sample_count(shapes: Shapes<'_>, samples: u64) -> u64 {
    samples.max(shapes.points().len() as u64)
}

/// What decides what an input is filled with, beside its shape.
pub(super) struct Filling<'a> {
    pub(super) seed: u64,
    pub(super) ranges: &'a BTreeMap<String, (f64, f64)>,
    pub(super) fill: &'a BTreeMap<String, Fill>,
    /// How many entries tables have that inputs are looked up in.
    pub(super) bounds: &'a BTreeMap<String, i64>,
}

/// Makes the sample of this number.
///
/// # Errors
/// What an input takes cannot be told.
pub(super) fn generate(
    shapes: Shapes<'_>,
    filling: &Filling<'_>,
    number: u64,
) -> Result<Sample, SampleError> {
    let points = shapes.points();
    let n = usize::try_from(number).unwrap_or(usize::MAX);
    let point = &points[n % points.len()];
    let mut arrays = BTreeMap::new();
    for input in shapes.inputs {
        let array = match point.values.get(&input.name) {
            Some(values) => shape_tensor(input, values),
            None => {
                let shape = shape_of(input, point)?;
                let mut random = Random::of(filling.seed, &[&number.to_string(), &input.name]);
                fill(input, shape, filling, &mut random, number)?
            }
        };
        arrays.insert(input.name.clone(), array);
    }
    Ok(Sample { name: format!("{number}-{}", point.name), arrays })
}

#[expect(clippy::cast_precision_loss, reason = "dimensions fit into 32 bits")]
fn shape_tensor(input: &Tensor, values: &[i64]) -> Array {
    let rank = input.dims.as_ref().map_or(1, Vec::len);
    let shape = if rank == 0 { Vec::new() } else { vec![i64::try_from(values.len()).unwrap_or(0)] };
    Array::from_floats(&input.element, shape, values.iter().map(|v| *v as f64))
}

fn shape_of(input: &Tensor, point: &Point) -> Result<Vec<i64>, SampleError> {
    if let Some(shape) = point.shapes.get(&input.name) {
        return Ok(shape.clone());
    }
    let fixed =
        |dims: &Vec<Dim>| dims.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect();
    input.dims.as_ref().and_then(fixed).ok_or_else(|| {
        let message = format!("no profile gives input `{}` a shape", input.name);
        SampleError::new("sample-shape", message)
    })
}

/// Integers that a `mask` input of floats or integers is told by.
fn is_mask(name: &str) -> bool {
    name.to_ascii_lowercase().contains("mask")
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "what a range of a manifest holds"
)]
fn fill(
    input: &Tensor,
    shape: Vec<i64>,
    filling: &Filling<'_>,
    random: &mut Random,
    number: u64,
) -> Result<Array, SampleError> {
    let name = input.name.as_str();
    let element = input.element.as_str();
    if width(element).is_none() {
        let message = format!("input `{name}` is {element}, which cannot be made up");
        return Err(SampleError::new("sample-type", message));
    }
    let is_float = ["float", "float16", "bfloat16", "double"].contains(&element);
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?));
    let Some(count) = count.filter(|n| *n <= 1 << 33) else {
        return Err(SampleError::new("sample-shape", format!("`{name}` of {shape:?} is too large")));
    };
    let range = filling.ranges.get(name).copied();
    let default = match range {
        None if is_mask(name) => Fill::Mask,
        None if is_float => Fill::Normal,
        _ => Fill::Uniform,
    };
    let how = filling.fill.get(name).copied().unwrap_or(default);
    let low_high = |default: (f64, f64)| range.unwrap_or(default);
    let values: Vec<f64> = match how {
        Fill::Constant(value) => vec![value; count],
        Fill::Mask => mask(&shape, count, random, number),
        Fill::Normal if is_float => {
            let (low, high) = low_high((f64::NEG_INFINITY, f64::INFINITY));
            (0..count).map(|_| random.normal().clamp(low, high)).collect()
        }
        Fill::Uniform | Fill::Normal if is_float => {
            let (low, high) = low_high((-1.0, 1.0));
            (0..count).map(|_| low + (high - low) * random.unit()).collect()
        }
        Fill::Uniform | Fill::Normal => {
            let bound = filling.bounds.get(name).map(|n| (0.0, (*n - 1).max(0) as f64));
            let bound = bound.or((element == "bool").then_some((0.0, 1.0)));
            let Some((low, high)) = range.or(bound) else {
                let message = format!("it cannot be told which integers input `{name}` takes");
                let (key, top) = (toml_key(name), if element == "int8" { 127 } else { 255 });
                let help = format!(
                    "say it: `ranges = {{ {key} = [0, {top}] }}` or `fill = {{ {key} = 1 }}` in `inputs`"
                );
                return Err(SampleError::new("range-unknown", message).help(help));
            };
            let (low, high) = (low.ceil() as i64, high.floor() as i64);
            (0..count).map(|_| random.integer(low, high.max(low)) as f64).collect()
        }
    };
    Ok(Array::from_floats(element, shape, values.into_iter()))
}

/// Rows along the last axis: ones, then zeros. The first row of all is whole, and of every second sample one row is
/// zeros throughout, which is what a padded batch has and what a Softmax dies of.
fn mask(shape: &[i64], count: usize, random: &mut Random, number: u64) -> Vec<f64> {
    let length = shape.last().map_or(1, |d| usize::try_from(*d).unwrap_or(1)).max(1);
    let rows = count / length;
    let mut values = Vec::with_capacity(count);
    for row in 0..rows {
        let most = i64::try_from(length).unwrap_or(i64::MAX);
        let ones = match row {
            0 if number.is_multiple_of(2) => length,
            row if row + 1 == rows && !number.is_multiple_of(2) => 0,
            _ => usize::try_from(random.integer(1, most)).unwrap_or(length),
        };
        values.extend((0..length).map(|i| if i < ones { 1.0 } else { 0.0 }));
    }
    values
}
