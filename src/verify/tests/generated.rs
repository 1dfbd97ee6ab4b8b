//! Inputs made from a seed.

use std::collections::BTreeMap;

use super::super::bound::index_bounds;
use super::super::generate::{Shapes, sample_count};
use super::super::sample::Sample;
use super::super::spec::{Inputs, MeasureSpec, ProfileShapes};
use crate::manifest::Fill;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, ModelProto};
use crate::onnx::testing::{WithAttribute, ints, model, node, raw, value, weight};
use crate::onnx::{Dim, Tensor, read_canonical};
use prost::Message;

fn input(name: &str, element: &str) -> Tensor {
    let dims = Some(vec![Dim::Param("b".to_owned()), Dim::Param("s".to_owned())]);
    Tensor { name: name.to_owned(), element: element.to_owned(), dims }
}

fn spec(inputs: &[Tensor], ranges: &[(&str, (f64, f64))], fill: &[(&str, Fill)]) -> MeasureSpec {
    let range = [vec![1, 2], vec![2, 8], vec![4, 16]];
    let shapes = inputs.iter().map(|input| (input.name.clone(), range.clone())).collect();
    MeasureSpec {
        inputs: Inputs::Generated {
            seed: 7,
            samples: 4,
            ranges: ranges.iter().map(|(name, range)| ((*name).to_owned(), *range)).collect(),
            fill: fill.iter().map(|(name, fill)| ((*name).to_owned(), *fill)).collect(),
        },
        model_inputs: inputs.to_vec(),
        profiles: vec![ProfileShapes { shapes, values: BTreeMap::new() }],
        outputs: Vec::new(),
        ignore_where: BTreeMap::new(),
        tf32: false,
        is_weak: false,
    }
}

fn samples(spec: &MeasureSpec, bounds: &[(&str, i64)]) -> Vec<Sample> {
    let bounds = bounds.iter().map(|(name, bound)| ((*name).to_owned(), *bound)).collect();
    (0..spec.count()).map(|n| spec.sample(n, &bounds).unwrap()).collect()
}

#[test]
fn every_profile_is_met_at_min_opt_and_max() {
    let spec = spec(&[input("x", "float")], &[], &[]);
    let made = samples(&spec, &[]);
    let shapes: Vec<&[i64]> = made.iter().map(|s| s.arrays["x"].shape.as_slice()).collect();
    assert_eq!(shapes, [[1, 2], [2, 8], [4, 16], [1, 2]]);
    assert_eq!(made[2].name, "2-max");
    assert_ne!(made[0].arrays["x"], made[3].arrays["x"], "samples of one shape differ");
    assert_eq!(made, samples(&spec, &[]), "the same seed gives the same samples");
    // One for each shape at least, however few are asked for.
    let shapes = Shapes { inputs: &spec.model_inputs, profiles: &spec.profiles };
    assert_eq!((sample_count(shapes, 1), sample_count(shapes, 100)), (3, 100));
}

#[test]
fn what_a_seed_gives_is_the_same_for_ever() {
    // Kept metrics are looked up by the seed: if this fails, other numbers are made from it.
    let made = samples(&spec(&[input("x", "float"), input("i", "int64")], &[("i", (-5.0, 5.0))], &[]), &[]);
    assert_eq!(made[0].arrays["i"].to_integers(), [3, 1]);
    let x: Vec<f64> = made[0].arrays["x"].to_floats().iter().map(|x| (x * 1e3).round()).collect();
    assert_eq!(x, [883.0, -1943.0]);
}

#[test]
fn integers_stay_within_their_range_or_their_table() {
    let inputs = [input("ids", "int64"), input("n", "int32")];
    let made = samples(&spec(&inputs, &[("n", (3.0, 5.0))], &[]), &[("ids", 7)]);
    let all = |name: &str| made.iter().flat_map(|s| s.arrays[name].to_integers()).collect::<Vec<_>>();
    assert!(
        all("ids").iter().all(|id| (0..7).contains(id)) && all("ids").contains(&6) && all("ids").contains(&0)
    );
    assert!(all("n").iter().all(|n| (3..=5).contains(n)) && [3, 4, 5].iter().all(|n| all("n").contains(n)));
    // Nothing says what they are.
    let error = spec(&inputs, &[], &[]).sample(0, &BTreeMap::new()).unwrap_err();
    assert_eq!((error.code, error.help.unwrap().contains("ranges = { ids")), ("range-unknown", true));
}

#[test]
fn floats_are_normal_or_even_and_constants_are_constant() {
    let inputs = [input("x", "float"), input("u", "float16"), input("c", "double")];
    let made = samples(&spec(&inputs, &[("u", (2.0, 3.0))], &[("c", Fill::Constant(0.5))]), &[]);
    let all = |name: &str| made.iter().flat_map(|s| s.arrays[name].to_floats()).collect::<Vec<_>>();
    let mean = all("x").iter().sum::<f64>() / all("x").len() as f64;
    assert!(mean.abs() < 0.4 && all("x").iter().any(|x| x.abs() > 1.0), "{mean}");
    assert!(all("u").iter().all(|u| (2.0..=3.0).contains(u)));
    assert!(all("c").iter().all(|c| *c == 0.5));
}

#[test]
fn masks_have_lengths_a_whole_row_and_a_row_of_padding() {
    let made = samples(&spec(&[input("attention_mask", "int64")], &[], &[]), &[]);
    let mut rows = Vec::new();
    for sample in &made {
        let mask = &sample.arrays["attention_mask"];
        let length = usize::try_from(mask.shape[1]).unwrap();
        rows.extend(mask.to_integers().chunks(length).map(<[i128]>::to_vec));
    }
    assert!(rows.iter().all(|row| row.windows(2).all(|w| w[0] >= w[1])), "ones, then zeros: {rows:?}");
    assert!(rows.iter().any(|row| row.iter().all(|v| *v == 0)), "a row of padding: {rows:?}");
    assert!(rows.iter().any(|row| row.iter().all(|v| *v == 1)), "a whole row: {rows:?}");
}

#[test]
fn the_length_of_a_table_bounds_what_is_looked_up_in_it() {
    let ids = value("ids", DataType::Int64, &["b".into(), "s".into()]);
    let nodes = vec![
        node("cast", "Cast", &["ids"], &["flat"]),
        node("float", "Cast", &["table"], &["f"]).int("to", 1),
        node("scale", "Mul", &["f", "scales"], &["scaled"]),
        node("words", "Gather", &["scaled", "flat"], &["w"]),
        node("types", "Gather", &["small", "ids"], &["t"]),
        node("add", "Add", &["w", "t"], &["y"]),
        node("shape", "Reshape", &["y", "to"], &["z"]),
    ];
    let graph = GraphProto {
        input: vec![ids],
        output: vec![value("z", DataType::Float, &["".into()])],
        node: nodes,
        initializer: vec![
            raw("table", DataType::Int8, &[100, 4], vec![1; 400]),
            weight("scales", &[100, 1]),
            weight("small", &[200, 4]),
            ints("to", &[1], &[-1]),
        ],
        ..GraphProto::default()
    };
    let proto: ModelProto = model(17, graph);
    let read = read_canonical(proto.encode_to_vec().into(), None).unwrap();
    assert_eq!(index_bounds(&read), [("ids".to_owned(), 100)].into(), "the shorter of both");
}
