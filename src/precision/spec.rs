//! What is asked: the precision of a model and its rules, resolved, as data that can be sent and hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::float::FloatType;
use super::std_fp16;
use crate::diagnostic::Origin;
use crate::digest::{Digest, Value};
use crate::manifest::{Engine, Fuse, IoType, Precision, Rule, Selector};

/// Everything that decides the typed form of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Does the model keep its types, whatever else is asked?
    #[serde(default)]
    pub as_is: bool,
    /// What is fused before anything is typed.
    #[serde(default)]
    pub fuse: BTreeSet<Fuse>,
    /// The type of nodes that no rule is about.
    pub base: FloatType,
    /// The rules in order; later ones win.
    pub rules: Vec<RuleSpec>,
    /// What the toolchain is known to do.
    pub capabilities: Capabilities,
    /// Inputs and outputs of the model that get another type, and which.
    #[serde(default)]
    pub io: BTreeMap<String, IoType>,
    /// Types of the outputs of custom operators, by `DOMAIN::OP`.
    #[serde(default)]
    pub operators: BTreeMap<String, Vec<IoType>>,
    /// Are types asked of layers by their names, and not written into the model? Then what is known of the names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weak: Option<Weak>,
}

/// What is known of the layers that a weakly typed TensorRT makes of operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weak {
    /// Operators that become one layer, called as their node.
    pub one: Vec<String>,
    /// Operators of which no layer is called as their node.
    pub automatic: Vec<String>,
}

impl Spec {
    /// Nodes of one type, but for rules; nothing is fused, and inputs and outputs keep their types.
    #[must_use]
    pub fn new(base: FloatType, rules: Vec<RuleSpec>, capabilities: Capabilities) -> Spec {
        Spec {
            as_is: false,
            fuse: BTreeSet::new(),
            base,
            rules,
            capabilities,
            io: BTreeMap::new(),
            operators: BTreeMap::new(),
            weak: None,
        }
    }
}

/// What a toolchain does with typed models, as data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Is an FP32 matrix product that stands alone between Casts computed with half weights?
    pub demotes_lone_gemm: bool,
    /// Operators that it does not run in a type, whatever ONNX says.
    pub without: Vec<(String, FloatType)>,
    /// The newest opset that it reads, if that is known.
    #[serde(default)]
    pub max_opset: Option<i64>,
}

/// A rule without its place in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// What people call it. Decides nothing.
    pub name: String,
    /// The rule set that it belongs to; none for a model's own rule.
    pub set: Option<String>,
    /// Which nodes it is about.
    pub select: Select,
    /// Their type.
    pub precision: FloatType,
    /// Have products of 16 bits FP32 accumulators?
    pub accumulate: bool,
    /// How many instances it must select, if pinned.
    pub expect: Option<u64>,
    /// May it select nothing?
    pub optional: bool,
}

/// Which nodes a rule is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Select {
    /// As manifests say it.
    Written(Box<Selector>),
    /// Chains of Exp, Log and Pow: see [`std_fp16`].
    ExponentialChains,
    /// What lies between a square or a large sum and its root: see [`std_fp16`].
    Roots,
    /// BatchNormalization with statistics that FP16 cannot hold.
    LargeStatistics,
}

/// A rule of an engine, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedRule {
    /// The rule.
    pub spec: RuleSpec,
    /// Where it was declared; none for built-in rules.
    pub origin: Option<Origin>,
}

/// All rules of an engine in order, the built-in sets put in their places.
#[must_use]
pub fn resolve(engine: &Engine) -> Vec<ResolvedRule> {
    let mut resolved = Vec::new();
    for set in &engine.rule_sets {
        if set == std_fp16::NAME {
            resolved.extend(std_fp16::rules().into_iter().map(|spec| ResolvedRule { spec, origin: None }));
        } else {
            resolved.extend(engine.rules.iter().filter(|r| r.set.as_ref() == Some(set)).map(of_rule));
        }
    }
    resolved.extend(engine.rules.iter().filter(|r| r.set.is_none()).map(of_rule));
    resolved
}

fn of_rule(rule: &Rule) -> ResolvedRule {
    let spec = RuleSpec {
        name: rule.name.clone(),
        set: rule.set.clone(),
        select: Select::Written(Box::new(rule.select.clone())),
        // The manifest has no rule with `as-is`.
        precision: FloatType::of(rule.precision).unwrap_or(FloatType::Fp32),
        accumulate: rule.accumulate == Some(Precision::Fp32),
        expect: rule.expect,
        optional: rule.optional,
    };
    ResolvedRule { spec, origin: rule.origin.clone() }
}

/// What decides the prepared form of an engine's model; none for `as-is` with nothing to fuse, which changes nothing. In a
/// weakly typed engine, the types that are in the file must be known even then.
#[must_use]
pub fn spec(engine: &Engine, capabilities: Capabilities, weak: Option<Weak>) -> Option<Spec> {
    let base = FloatType::of(engine.precision);
    if base.is_none() && engine.fuse.is_empty() && weak.is_none() {
        return None;
    }
    Some(Spec {
        as_is: base.is_none(),
        fuse: engine.fuse.clone(),
        base: base.unwrap_or(FloatType::Fp32),
        rules: resolve(engine).into_iter().map(|rule| rule.spec).collect(),
        capabilities,
        io: engine.io.clone(),
        operators: engine.operators.clone(),
        weak,
    })
}

impl FloatType {
    /// The type of a precision; none for `as-is`.
    #[must_use]
    pub fn of(precision: Precision) -> Option<FloatType> {
        match precision {
            Precision::AsIs => None,
            Precision::Fp32 => Some(FloatType::Fp32),
            Precision::Fp16 => Some(FloatType::Fp16),
            Precision::Bf16 => Some(FloatType::Bf16),
        }
    }
}

impl Spec {
    /// The rules as fields of a key: what they select and give, in order, and nothing of what they are called.
    #[must_use]
    pub fn rule_fields(&self) -> BTreeMap<String, Value> {
        let mut fields = BTreeMap::new();
        if self.rules.iter().any(|r| r.set.as_deref() == Some(std_fp16::NAME)) {
            fields.insert(std_fp16::NAME.to_owned(), Value::Int(std_fp16::VERSION));
        }
        for (i, rule) in self.rules.iter().enumerate() {
            fields.insert(format!("{:03}", i + 1), Value::from(rule.text()));
        }
        fields
    }

    /// What is fused, as a field of a key.
    #[must_use]
    pub fn fuse_field(&self) -> Value {
        Value::List(self.fuse.iter().map(|fuse| Value::from(fuse.name())).collect())
    }

    /// The types of inputs and outputs, as a field of a key.
    #[must_use]
    pub fn io_field(&self) -> Value {
        Value::Map(self.io.iter().map(|(name, of)| (name.clone(), Value::from(of.name()))).collect())
    }

    /// The types of custom operators, as a field of a key.
    #[must_use]
    pub fn operator_field(&self) -> Value {
        let types =
            |of: &[IoType]| Value::from(of.iter().map(|of| Value::from(of.name())).collect::<Vec<_>>());
        Value::Map(self.operators.iter().map(|(name, of)| (name.clone(), types(of))).collect())
    }

    /// What is known of the names of layers, as a field of a key.
    #[must_use]
    pub fn weak_field(&self) -> Option<Value> {
        let Weak { one, automatic } = self.weak.as_ref()?;
        // The lists are long, and nobody wrote them: a digest says if they changed.
        let digest = |ops: &[String]| Value::from(&Digest::of(ops.join(" ").as_bytes()));
        let fields = [("automatic", digest(automatic)), ("one", digest(one))];
        Some(Value::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }

    /// What the toolchain is known to do, as a field of a key.
    #[must_use]
    pub fn capability_field(&self) -> Value {
        let Capabilities { demotes_lone_gemm, without, max_opset } = &self.capabilities;
        let without: Vec<Value> =
            without.iter().map(|(op, of)| Value::from(format!("{op} {}", of.name()))).collect();
        Value::Map(BTreeMap::from([
            ("demotes-lone-gemm".to_owned(), Value::from(*demotes_lone_gemm)),
            ("max-opset".to_owned(), Value::from(*max_opset)),
            ("without".to_owned(), Value::from(without)),
        ]))
    }
}

impl RuleSpec {
    /// Everything of it that decides, such as `node = "/head/*" -> fp32`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} -> {}", self.select, self.precision.name());
        if self.accumulate {
            text += ", accumulate = fp32";
        }
        if let Some(expect) = self.expect {
            let _ = write!(text, ", expect = {expect}");
        }
        // A rule of a set may select nothing, as long as it matches another model; and it is not what the model itself
        // says, which masks obey.
        if self.set.is_some() {
            text += ", of a set";
        } else if self.optional {
            text += ", optional";
        }
        text
    }
}

impl std::fmt::Display for Select {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Select::Written(selector) => f.write_str(&written(selector)),
            Select::ExponentialChains => f.write_str("chains of Exp, Log and Pow"),
            Select::Roots => f.write_str("ways from squares and sums to roots"),
            Select::LargeStatistics => f.write_str("BatchNormalization with statistics beyond fp16"),
        }
    }
}

/// A selector, as TOML would have it without its braces. Equal texts are equal selectors.
fn written(selector: &Selector) -> String {
    // Destructured, so that a new condition cannot be forgotten here.
    let Selector { op, node, regex, pattern, tensor, between, consumers_of, producers_of, subgraph, not } =
        selector;
    let mut parts = Vec::new();
    let lists = [
        ("op", op),
        ("node", node),
        ("regex", regex),
        ("pattern", pattern),
        ("tensor", tensor),
        ("consumers-of", consumers_of),
        ("producers-of", producers_of),
        ("subgraph", subgraph),
    ];
    for (key, values) in lists {
        match values.as_slice() {
            [] => {}
            [one] => parts.push(format!("{key} = {one:?}")),
            many => parts.push(format!("{key} = {many:?}")),
        }
    }
    if let Some((from, to)) = between {
        parts.push(format!("between = [{from:?}, {to:?}]"));
    }
    if let Some(not) = not {
        parts.push(format!("not = {{ {} }}", written(not)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_rule_says_what_decides() {
        let select = Selector {
            op: vec!["Add".into(), "Mul".into()],
            between: Some(("a".into(), "b".into())),
            not: Some(Box::new(Selector { node: vec!["/x/*".into()], ..Selector::default() })),
            ..Selector::default()
        };
        let rule = RuleSpec {
            name: "a name".into(),
            set: None,
            select: Select::Written(Box::new(select)),
            precision: FloatType::Fp32,
            accumulate: false,
            expect: Some(3),
            optional: false,
        };
        assert_eq!(
            rule.text(),
            r#"op = ["Add", "Mul"], between = ["a", "b"], not = { node = "/x/*" } -> fp32, expect = 3"#
        );
        let renamed = RuleSpec { name: "another".into(), ..rule.clone() };
        assert_eq!(rule.text(), renamed.text());
    }
}
