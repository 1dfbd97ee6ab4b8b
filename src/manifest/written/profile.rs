//! `[[profile]]`: ranges of dimensions, shapes and values.

use std::collections::BTreeMap;

use super::super::codes;
use super::super::fields::{Item, shown};
use super::super::model::{Profile, Range};
use crate::diagnostic::{Diagnostic, Origin};

/// TensorRT counts dimensions in 32 bits, with sign.
const MAX: i64 = i32::MAX as i64;

/// Shapes have at most this many dimensions, and shape tensors this many values, in any TensorRT.
const MAX_LENGTH: usize = 64;

/// All profiles of a model, in TensorRT's order.
pub(super) fn decode_list(item: &Item<'_>) -> Option<Vec<Profile>> {
    let mut profiles: Vec<Profile> = Vec::new();
    for (index, entry) in item.list()?.iter().enumerate() {
        let Some(profile) = decode(index, entry) else { continue };
        if let Some(first) = profiles.iter().find(|first| first.name == profile.name) {
            let message = format!("two profiles have the name `{}`", shown(&profile.name));
            let error = Diagnostic::error(codes::DUPLICATE_NAME, message).at(&profile.origin, "again");
            entry.report(error.see(&first.origin, "the first is here"));
        }
        profiles.push(profile);
    }
    Some(profiles)
}

fn decode(index: usize, item: &Item<'_>) -> Option<Profile> {
    let fields = item.table(&[&["name", "dims", "shapes", "values"]])?;
    let name = fields.get("name").map_or_else(
        || Some((format!("profile-{index}"), item.origin().clone())),
        |name| Some((name.text()?, name.origin().clone())),
    );
    let mut keys = BTreeMap::new();
    let dims = fields.get("dims").map(|item| ranges(&item, &mut keys, dim_range));
    let shapes = fields.get("shapes").map(|item| ranges(&item, &mut keys, |item| list_range(item, 0)));
    let values = fields.get("values").map(|item| ranges(&item, &mut keys, |item| list_range(item, -MAX)));
    let (dims, shapes, values) =
        (dims.unwrap_or_default(), shapes.unwrap_or_default(), values.unwrap_or_default());
    if keys.is_empty() {
        let message = format!("`{}` sets nothing", shown(&item.path));
        let error = Diagnostic::error(codes::EMPTY_PROFILE, message).at(item.origin(), "");
        item.report(error.help("add `dims = { batch = [1, 8, 32] }`, `shapes = { … }` or `values = { … }`"));
    }
    let (name, origin) = name?;
    Some(Profile { name, dims, shapes, values, origin, key_origins: keys })
}

fn ranges<T>(
    item: &Item<'_>,
    keys: &mut BTreeMap<String, Origin>,
    decode: impl Fn(&Item<'_>) -> Option<Range<T>>,
) -> BTreeMap<String, Range<T>> {
    let mut ranges = BTreeMap::new();
    for (name, entry) in item.entries().unwrap_or_default() {
        keys.entry(name.clone()).or_insert_with(|| entry.key.clone());
        if name.is_empty() {
            let message = format!("`{}` has an empty key", shown(&item.path));
            entry.report(Diagnostic::error(codes::EMPTY_VALUE, message).at(entry.key, ""));
        }
        if let Some(range) = decode(&entry) {
            ranges.insert(name, range);
        }
    }
    ranges
}

/// `[1, 8, 32]`, `{ min = 1, opt = 8, max = 32 }`, or `8` for all three.
fn dim_range(item: &Item<'_>) -> Option<Range<i64>> {
    let dim = |item: &Item<'_>| item.integer::<i64>(0..=MAX);
    let (min, opt, max) = if item.is_table() {
        let (min, opt, max) = min_opt_max(item)?;
        (dim(&min), dim(&opt), dim(&max))
    } else if item.is_list() {
        let items = item.list()?;
        let [min, opt, max] = items.as_slice() else {
            let message =
                format!("`{}` must be `[min, opt, max]`, not {} numbers", shown(&item.path), items.len());
            item.fail(codes::OUT_OF_RANGE, message);
            return None;
        };
        (dim(min), dim(opt), dim(max))
    } else {
        let fixed = dim(item)?;
        (Some(fixed), Some(fixed), Some(fixed))
    };
    let range = Range { min: min?, opt: opt?, max: max? };
    if range.min > range.opt || range.opt > range.max {
        unordered(item, "", range.min, range.opt, range.max);
        return None;
    }
    Some(range)
}

/// `{ min = […], opt = […], max = […] }`, or `[…]` for all three. In values, a number stands for a list
/// of one.
fn list_range(item: &Item<'_>, least: i64) -> Option<Range<Vec<i64>>> {
    let scalars = least < 0;
    if !item.is_table() {
        let fixed = integers(item, least, scalars)?;
        return Some(Range { min: fixed.clone(), opt: fixed.clone(), max: fixed });
    }
    let (min, opt, max) = min_opt_max(item)?;
    let (min, opt, max) =
        (integers(&min, least, scalars), integers(&opt, least, scalars), integers(&max, least, scalars));
    let (min, opt, max) = (min?, opt?, max?);
    if min.len() != opt.len() || opt.len() != max.len() {
        let message = format!(
            "`{}`: min, opt and max have {}, {} and {} numbers",
            shown(&item.path),
            min.len(),
            opt.len(),
            max.len()
        );
        item.fail(codes::RANK_MISMATCH, message);
        return None;
    }
    for (axis, ((min, opt), max)) in min.iter().zip(&opt).zip(&max).enumerate() {
        if min > opt || opt > max {
            unordered(item, &format!(" at index {axis}"), *min, *opt, *max);
            return None;
        }
    }
    Some(Range { min, opt, max })
}

fn integers(item: &Item<'_>, least: i64, scalars: bool) -> Option<Vec<i64>> {
    if scalars && item.is_integer() {
        return Some(vec![item.integer(least..=MAX)?]);
    }
    let items = item.list()?;
    if items.len() > MAX_LENGTH {
        let message =
            format!("`{}` has {} numbers; the most is {MAX_LENGTH}", shown(&item.path), items.len());
        item.fail(codes::OUT_OF_RANGE, message);
        return None;
    }
    let numbers: Vec<Option<i64>> = items.iter().map(|item| item.integer(least..=MAX)).collect();
    numbers.into_iter().collect()
}

fn min_opt_max<'a>(item: &Item<'a>) -> Option<(Item<'a>, Item<'a>, Item<'a>)> {
    let fields = item.table(&[&["min", "opt", "max"]])?;
    let one = |key: &str| fields.required(key, &format!("{key} = …"));
    let (min, opt, max) = (one("min"), one("opt"), one("max"));
    Some((min?, opt?, max?))
}

fn unordered(item: &Item<'_>, place: &str, min: i64, opt: i64, max: i64) {
    let message = format!(
        "`{}`{place}: min <= opt <= max does not hold: min {min}, opt {opt}, max {max}",
        shown(&item.path)
    );
    let error = Diagnostic::error(codes::UNORDERED_RANGE, message).at(item.origin(), "");
    item.report(error.help("write min, opt and max from the smallest to the largest"));
}
