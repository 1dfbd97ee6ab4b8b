//! Guesses: which sizes a dynamic dimension takes, by its name and its place.

use std::collections::BTreeMap;

use crate::onnx::{Dim, Tensor};

/// `[min, opt, max]`
pub(super) type Sizes = [i64; 3];

const BATCH: Sizes = [1, 4, 8];
const SEQUENCE: Sizes = [8, 128, 512];
/// Multiples of 32, which is what strides and upsampling of vision models want.
const IMAGE: Sizes = [160, 320, 640];
/// Of a line of text: what its recognizers are trained with.
const LINE: [Sizes; 2] = [[48; 3], [48, 320, 960]];
/// Of what a decoder has seen: from one step on.
const CACHE: Sizes = [1, 64, 256];
const OTHER: Sizes = [1, 64, 256];

/// A guess, and what it is taken for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Guess {
    pub(super) sizes: Sizes,
    pub(super) what: &'static str,
}

/// Sizes of all dynamic dimensions: by their names, and by input where one has none.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Guesses {
    /// In the order of the model's inputs.
    pub(super) dims: Vec<(String, Guess)>,
    /// Shapes by input: `[min, opt, max]`.
    pub(super) shapes: Vec<(String, [Vec<i64>; 3], &'static str)>,
}

pub(super) fn guess(inputs: &[Tensor], outputs: &[Tensor]) -> Guesses {
    let is_line = gives_text(outputs);
    let mut guesses = Guesses::default();
    let mut named: BTreeMap<&str, Guess> = BTreeMap::new();
    for input in inputs {
        let Some(dims) = &input.dims else {
            let one = || vec![1];
            let what = "the model does not declare its rank: give its whole shape";
            guesses.shapes.push((input.name.clone(), [one(), one(), one()], what));
            continue;
        };
        for (axis, dim) in dims.iter().enumerate() {
            if let Dim::Param(name) = dim
                && !named.contains_key(name.as_str())
            {
                let guess = of_dim(input, dims, axis, Some(name), is_line);
                named.insert(name, guess.clone());
                if !dims.contains(&Dim::Unknown) {
                    guesses.dims.push((name.clone(), guess));
                }
            }
        }
        // A dimension without a name can be given by input only, and then all of them are.
        if dims.contains(&Dim::Unknown) {
            let mut shape = [Vec::new(), Vec::new(), Vec::new()];
            for (axis, dim) in dims.iter().enumerate() {
                let sizes = match dim {
                    Dim::Fixed(size) => [*size; 3],
                    Dim::Param(name) => named.get(name.as_str()).map_or(OTHER, |guess| guess.sizes),
                    Dim::Unknown => of_dim(input, dims, axis, None, is_line).sizes,
                };
                shape.iter_mut().zip(sizes).for_each(|(shape, size)| shape.push(size));
            }
            guesses.shapes.push((input.name.clone(), shape, ""));
        }
    }
    // A name that one input has beside dimensions without names, and another one alone, is needed for the other.
    for input in inputs {
        let Some(dims) = input.dims.as_ref().filter(|dims| !dims.contains(&Dim::Unknown)) else { continue };
        for dim in dims {
            if let Dim::Param(name) = dim
                && !guesses.dims.iter().any(|(known, _)| known == name)
                && let Some(guess) = named.get(name.as_str())
            {
                guesses.dims.push((name.clone(), guess.clone()));
            }
        }
    }
    guesses
}

fn of_dim(input: &Tensor, dims: &[Dim], axis: usize, name: Option<&str>, is_line: bool) -> Guess {
    let guess = |sizes, what| Guess { sizes, what };
    if let Some(found) = name.and_then(by_name) {
        return found;
    }
    if is_cache(&input.name) && dims.len() == 4 && axis > 0 {
        return guess(CACHE, "the length of what is cached");
    }
    if let Some(side) = side(input, dims, axis) {
        return match side {
            Side::Height if is_line => guess(LINE[0], "the height of a line of text"),
            Side::Width if is_line => guess(LINE[1], "the width of a line of text"),
            _ => guess(IMAGE, "a side of an image"),
        };
    }
    let is_integer = input.element.contains("int");
    match (axis, dims.len()) {
        (0, 2..) => guess(BATCH, "the batch"),
        (1, 2) if is_integer => guess(SEQUENCE, "the length of a sequence"),
        (1, 3) => guess(SEQUENCE, "the length of a sequence"),
        _ => guess(OTHER, "not known"),
    }
}

fn by_name(name: &str) -> Option<Guess> {
    let name = name.to_lowercase();
    let holds = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let is = |words: &[&str]| words.contains(&name.as_str());
    let (sizes, what) = if holds(&["batch"]) || is(&["n", "b", "bs"]) {
        (BATCH, "the batch")
    } else if holds(&["height", "width"]) || is(&["h", "w"]) {
        (IMAGE, "a side of an image")
    } else if is_cache(&name) {
        (CACHE, "the length of what is cached")
    } else if holds(&["seq", "length", "token", "time", "frames"]) || is(&["t", "l", "len"]) {
        (SEQUENCE, "the length of a sequence")
    } else {
        return None;
    };
    Some(Guess { sizes, what })
}

/// Keys or values that a decoder was given before, by the names that exporters use.
fn is_cache(input: &str) -> bool {
    let name = input.to_lowercase();
    ["past", "cache", "kv"].iter().any(|word| name.contains(word))
}

/// A side of an image.
enum Side {
    Height,
    Width,
}

fn side(input: &Tensor, dims: &[Dim], axis: usize) -> Option<Side> {
    let [_, second, _, fourth] = dims else { return None };
    let is_channels = |dim: &Dim| matches!(dim, Dim::Fixed(1 | 3 | 4));
    let is_image = matches!(input.element.as_str(), "float" | "float16" | "uint8");
    match axis {
        2 if is_image && is_channels(second) => Some(Side::Height),
        3 if is_image && is_channels(second) => Some(Side::Width),
        1 if is_image && is_channels(fourth) => Some(Side::Height),
        2 if is_image && is_channels(fourth) => Some(Side::Width),
        _ => None,
    }
}

/// Does a model of images give a sequence of classes, `[batch, time, classes]`? Then it reads lines of text.
fn gives_text(outputs: &[Tensor]) -> bool {
    let [output] = outputs else { return false };
    let Some([_, time, classes]) = output.dims.as_deref() else { return false };
    !matches!(time, Dim::Fixed(_)) && matches!(classes, Dim::Fixed(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, element: &str, dims: &[Dim]) -> Tensor {
        Tensor { name: name.to_owned(), element: element.to_owned(), dims: Some(dims.to_vec()) }
    }

    fn named(name: &str) -> Dim {
        Dim::Param(name.to_owned())
    }

    #[test]
    fn dimensions_are_told_by_name_then_by_place() {
        let inputs = [
            input("ids", "int64", &[named("batch_size"), named("sequence_length")]),
            input("mask", "int64", &[named("batch_size"), named("unk__7")]),
            input("x", "float", &[named("unk__214"), Dim::Fixed(2048)]),
            input("image", "float", &[Dim::Fixed(1), Dim::Fixed(3), named("d1"), named("d2")]),
            input("past_k0", "float", &[named("batch_size"), Dim::Fixed(4), named("unk__9"), Dim::Fixed(64)]),
            input("k", "float", &[Dim::Fixed(4), named("past_sequence_length")]),
            input("odd", "float", &[Dim::Fixed(2), Dim::Fixed(9), Dim::Fixed(9), Dim::Fixed(9), named("q")]),
        ];
        let dims = guess(&inputs, &[]).dims;
        let sizes: Vec<(&str, Sizes)> =
            dims.iter().map(|(name, guess)| (name.as_str(), guess.sizes)).collect();
        let expected = [
            ("batch_size", BATCH),
            ("sequence_length", SEQUENCE),
            ("unk__7", SEQUENCE),
            ("unk__214", BATCH),
            ("d1", IMAGE),
            ("d2", IMAGE),
            ("unk__9", CACHE),
            ("past_sequence_length", CACHE),
            ("q", OTHER),
        ];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn dimensions_without_names_are_given_by_input() {
        let line = input("x", "float", &[Dim::Unknown, Dim::Fixed(3), Dim::Unknown, Dim::Unknown]);
        let both = input("y", "float", &[named("n"), Dim::Unknown]);
        let alone = input("z", "float", &[named("n"), Dim::Fixed(2)]);
        let text = input("y", "float", &[Dim::Unknown, Dim::Unknown, Dim::Fixed(6625)]);
        let guesses = guess(&[line, both, alone], &[text]);
        assert_eq!(guesses.shapes[0].1, [vec![1, 3, 48, 48], vec![4, 3, 48, 320], vec![8, 3, 48, 960]]);
        assert_eq!(guesses.shapes[1].1, [vec![1, 1], vec![4, 64], vec![8, 256]]);
        assert_eq!(guesses.dims.len(), 1, "`z` needs `n` by its name");
    }
}
