//! Which operator takes and makes which types, in which version: data of `schema.txt`, each row read when it is first
//! asked for, since a model has few of them.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use super::element::{Type, TypeSet};
use super::proto::tensor_proto::DataType;
use super::tensor::element_named;

/// One version of an operator.
#[derive(Debug)]
pub struct OpSchema {
    /// The opset that brought this version.
    pub since_version: i64,
    /// Inputs in order.
    pub inputs: Vec<Param>,
    /// Outputs in order.
    pub outputs: Vec<Param>,
    /// What each type parameter may be.
    pub constraints: BTreeMap<&'static str, TypeSet>,
}

/// An input or output of an operator.
#[derive(Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub of: ParamType,
    /// How often it is given.
    pub arity: Arity,
}

/// The type of an input or output.
#[derive(Debug, PartialEq, Eq)]
pub enum ParamType {
    /// What this type parameter is bound to.
    Parameter(&'static str),
    /// Always the same.
    Fixed(Type),
}

/// How often an input or output is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Once.
    Single,
    /// Once or not at all.
    Optional,
    /// Any number of times; all of one type.
    Variadic,
    /// Any number of times; each of its own type.
    Heterogeneous,
}

impl OpSchema {
    /// The parameter of input `i`; the last one, if that is variadic, goes on for ever.
    #[must_use]
    pub fn input(&self, i: usize) -> Option<&Param> {
        param(&self.inputs, i)
    }

    /// The parameter of output `i`.
    #[must_use]
    pub fn output(&self, i: usize) -> Option<&Param> {
        param(&self.outputs, i)
    }

    /// May the type parameter `parameter` be a tensor of this element type?
    #[must_use]
    pub fn allows(&self, parameter: &str, element: DataType) -> bool {
        self.constraints.get(parameter).is_some_and(|set| set.contains(&Type::Tensor(element)))
    }
}

fn param(params: &[Param], i: usize) -> Option<&Param> {
    let repeats = |last: &&Param| matches!(last.arity, Arity::Variadic | Arity::Heterogeneous);
    params.get(i).or_else(|| params.last().filter(repeats))
}

/// The operator `op` as version `version` of its domain has it; none for one that is not known. The
/// default domain is the empty string or `ai.onnx`.
#[must_use]
pub fn schema(domain: &str, op: &str, version: i64) -> Option<&'static OpSchema> {
    let domain = if domain == "ai.onnx" { "" } else { domain };
    let row = TABLE.operators.get(domain)?.get(op)?.iter().rev().find(|row| row.since_version <= version)?;
    Some(row.schema.get_or_init(|| read(row.line, &TABLE.sets).unwrap_or_else(|| damaged(row.line))))
}

/// The operators of a domain, each with the opsets that brought its versions, in order.
#[cfg(test)]
pub(super) fn versions(domain: &str) -> impl Iterator<Item = (&'static str, Vec<i64>)> {
    let all = TABLE.operators.get(domain).into_iter().flatten();
    all.map(|(op, rows)| (*op, rows.iter().map(|row| row.since_version).collect()))
}

const TEXT: &str = include_str!("schema.txt");

#[derive(Debug, Default)]
struct Table {
    sets: Vec<TypeSet>,
    /// By domain and operator; versions ascend.
    operators: BTreeMap<&'static str, BTreeMap<&'static str, Vec<Row>>>,
}

/// One version of an operator.
#[derive(Debug)]
struct Row {
    since_version: i64,
    line: &'static str,
    schema: OnceLock<OpSchema>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| parse(TEXT).unwrap_or_else(|line| damaged(line)));

fn damaged(line: &str) -> ! {
    panic!("schema.txt is damaged at `{line}`")
}

/// Reads the table but for what its rows say, or gives the line that is wrong.
fn parse(text: &'static str) -> Result<Table, &'static str> {
    let mut table = Table::default();
    let mut domain = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        match words.next() {
            Some("opset") => {}
            Some("set") => {
                let mut set = TypeSet::default();
                let good =
                    words.next() == Some(&table.sets.len().to_string()) && words.all(|word| set.insert(word));
                table.sets.push(set);
                good.then_some(()).ok_or(line)?;
            }
            Some("domain") => domain = words.next().unwrap_or(""),
            Some(op) => {
                let since = words.next().and_then(since).ok_or(line)?;
                let row = Row { since_version: since, line, schema: OnceLock::new() };
                table.operators.entry(domain).or_default().entry(op).or_default().push(row);
            }
            None => {}
        }
    }
    Ok(table)
}

/// The opset that brought a version; a `!` behind it says that the operator is deprecated from then on, which changes
/// no type.
fn since(word: &str) -> Option<i64> {
    word.strip_suffix('!').unwrap_or(word).parse().ok()
}

/// Reads a row: `OPERATOR SINCE | TYPE=SET... | INPUT... | OUTPUT...`
fn read(line: &'static str, sets: &[TypeSet]) -> Option<OpSchema> {
    let mut parts = line.split('|').map(|part| part.split(' ').filter(|word| !word.is_empty()));
    let since_version = since(parts.next()?.nth(1)?)?;
    let mut constraints = BTreeMap::new();
    for word in parts.next()? {
        let (parameter, set) = word.split_once('=')?;
        constraints.insert(parameter, *sets.get(set.parse::<usize>().ok()?)?);
    }
    let param = |word: &'static str| {
        let (name, of) = word.split_once(':')?;
        let (of, arity) = match of.as_bytes().last()? {
            b'?' => (&of[..of.len() - 1], Arity::Optional),
            b'*' => (&of[..of.len() - 1], Arity::Variadic),
            b'~' => (&of[..of.len() - 1], Arity::Heterogeneous),
            _ => (of, Arity::Single),
        };
        let of = if constraints.contains_key(of) {
            ParamType::Parameter(of)
        } else {
            ParamType::Fixed(fixed(of)?)
        };
        Some(Param { name, of, arity })
    };
    let inputs = parts.next()?.map(param).collect::<Option<_>>()?;
    let outputs = parts.next()?.map(param).collect::<Option<_>>()?;
    Some(OpSchema { since_version, inputs, outputs, constraints })
}

fn fixed(word: &str) -> Option<Type> {
    if let Some(inner) = word.strip_prefix("seq(").and_then(|w| w.strip_suffix(')')) {
        return fixed(inner).map(Type::sequence);
    }
    if word == "map" {
        return Some(Type::Unknown);
    }
    element_named(word).map(Type::tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::MAX_OPSET;

    #[test]
    fn the_table_is_whole() {
        assert!(TEXT.contains(&format!("\nopset {MAX_OPSET}\n")), "run tools/onnx-schema.py again");
        assert!(TEXT.len() < 200_000);
        let table = parse(TEXT).unwrap();
        assert!(table.operators[""].len() > 190 && table.operators["com.microsoft"].len() > 100);
        for rows in table.operators.values().flat_map(BTreeMap::values) {
            assert!(rows.is_sorted_by(|a, b| a.since_version < b.since_version));
            for row in rows {
                let schema = read(row.line, &table.sets).unwrap_or_else(|| damaged(row.line));
                assert_eq!(schema.since_version, row.since_version);
            }
        }
    }

    #[test]
    fn a_version_is_the_newest_that_is_not_too_new() {
        let since = |op, version| schema("", op, version).map(|schema| schema.since_version);
        assert_eq!(since("Add", 13), Some(13));
        assert_eq!(since("Add", 12), Some(7));
        assert_eq!(since("Add", 99), Some(14));
        assert_eq!(since("Gelu", 19), None);
        assert_eq!(since("Nonsense", 19), None);
        // An operator of ONNX Runtime in the default domain, until ONNX has its own.
        assert_eq!((since("LayerNormalization", 16), since("LayerNormalization", 17)), (Some(1), Some(17)));
        // One that is deprecated.
        assert_eq!(since("Scatter", 11), Some(11));
        assert!(schema("ai.onnx", "Add", 13).is_some());
        assert!(schema("elsewhere", "Add", 13).is_none());
    }

    #[test]
    fn rows_say_what_the_specification_says() {
        let bf16 = DataType::Bfloat16;
        let allows = |op, version, parameter, element| {
            schema("", op, version).is_some_and(|schema| schema.allows(parameter, element))
        };
        assert!(!allows("Conv", 21, "T", bf16) && allows("Conv", 22, "T", bf16));
        assert!(allows("MatMul", 13, "T", bf16) && !allows("MatMul", 12, "T", bf16));
        assert!(!allows("MatMul", 13, "T", DataType::Int8) && !allows("MatMul", 13, "T9", bf16));
        let split = schema("", "Split", 13).unwrap();
        assert_eq!((split.inputs[1].arity, split.outputs[0].arity), (Arity::Optional, Arity::Variadic));
        assert_eq!(split.inputs[1].of, ParamType::Fixed(Type::Tensor(DataType::Int64)));
        assert_eq!(split.output(7).unwrap().of, ParamType::Parameter("T"));
        assert_eq!(schema("", "Loop", 13).unwrap().input(9).unwrap().arity, Arity::Heterogeneous);
        assert!(schema("", "Relu", 14).unwrap().input(1).is_none());
        let construct = schema("", "SequenceConstruct", 11).unwrap();
        let floats = Type::sequence(Type::Tensor(DataType::Float));
        assert!(
            construct.constraints["S"].contains(&floats) && !construct.constraints["T"].contains(&floats)
        );
        let optional = schema("", "OptionalGetElement", 18).unwrap().constraints["O"];
        assert!(optional.contains(&Type::optional(floats.clone())) && optional.contains(&floats));
        assert_eq!(
            schema("", "Shape", 13).unwrap().constraints["T1"].single(),
            Some(Type::Tensor(DataType::Int64))
        );
        assert_eq!(schema("com.microsoft", "FusedMatMul", 1).unwrap().inputs.len(), 2);
    }

    #[test]
    fn damage_is_told() {
        assert_eq!(parse("set 0 nonsense").err(), Some("set 0 nonsense"));
        assert_eq!(parse("set 1 float").err(), Some("set 1 float"));
        assert_eq!(parse("Add one | T=0 | A:T | C:T").err(), Some("Add one | T=0 | A:T | C:T"));
        let sets = [TypeSet::default()];
        assert!(read("Add 1 | T=0 | A:T | C:T", &sets).is_some());
        for line in [
            "Add 1 | T=0 | A:T",
            "Add 1 | T=1 | A:T | C:T",
            "Add 1 | T=0 | A:U | C:T",
            "Add 1 | T=0 | A | C:T",
        ] {
            assert!(read(line, &sets).is_none(), "{line}");
        }
    }
}
