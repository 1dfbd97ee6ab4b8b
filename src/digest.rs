//! Digests and keys: BLAKE3, 256 bits, never shortened in a key.
//!
//! A key is the digest of a [`Preimage`]: the named inputs of one action, held as data. One walk
//! makes the preimage; the hasher and the explanation ("why was this rebuilt?") both read it, so
//! they cannot disagree. Every value is framed with a tag and a length, and fields are sorted by
//! name, so that two different preimages never hash the same bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A BLAKE3 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// The digest as raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hex digits, for people. Never used in a key or a file name.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Digest(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest: 64 lower-case hex digits are expected")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseDigestError(text.chars().take(80).collect());
        if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad());
        }
        Ok(blake3::Hash::from_hex(text).map_err(|_| bad())?.into())
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A file in the content-addressed store, and its name in the world outside (SHA-256).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// BLAKE3 digest: the name of the file in the store.
    pub b3: Digest,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hex. Computed for engines, in the pass that writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Bytes in lower-case hex digits, as digests are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A value in a [`Preimage`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Absent: an option without a value.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text; digests are written as their hex digits.
    Text(String),
    /// Values whose order means something.
    List(Vec<Value>),
    /// Named values, sorted.
    Map(BTreeMap<String, Value>),
}

impl Value {
    fn hash_into(&self, hasher: &mut blake3::Hasher) {
        // One tag byte, then a length or a fixed-size payload: no value is a prefix of another.
        match self {
            Value::Null => {
                hasher.update(b"n");
            }
            Value::Bool(value) => {
                hasher.update(&[b'b', u8::from(*value)]);
            }
            Value::Int(value) => {
                hasher.update(b"i").update(&value.to_le_bytes());
            }
            Value::Text(text) => {
                hasher.update(b"t").update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
            }
            Value::List(items) => {
                hasher.update(b"l").update(&(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.hash_into(hasher));
            }
            Value::Map(fields) => {
                hasher.update(b"m").update(&(fields.len() as u64).to_le_bytes());
                for (name, value) in fields {
                    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
                    value.hash_into(hasher);
                }
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("none"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            // A digest is shortened for reading; everything else is shown whole.
            Value::Text(text) if text.parse::<Digest>().is_ok() => write!(f, "{}", &text[..12]),
            Value::Text(text) => f.write_str(text),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Value::Map(fields) => {
                f.write_str("{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{name} = {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

// By hand: trying one kind after the other, as `untagged` does, takes most of the time that a record takes to read.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> serde::de::Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing, a truth value, a whole number, text, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        let too_large = |_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self);
        i64::try_from(value).map(Value::Int).map_err(too_large)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, value)) = fields.next_entry()? {
            map.insert(name, value);
        }
        Ok(Value::Map(map))
    }
}

macro_rules! value_from {
    ($($from:ty => |$x:ident| $to:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from($x: $from) -> Value { $to }
        })*
    };
}
value_from! {
    bool => |x| Value::Bool(x),
    i64 => |x| Value::Int(x),
    u32 => |x| Value::Int(i64::from(x)),
    &str => |x| Value::Text(x.to_owned()),
    String => |x| Value::Text(x),
    Digest => |x| Value::Text(x.to_string()),
    &Digest => |x| Value::Text(x.to_string()),
    Vec<Value> => |x| Value::List(x),
    BTreeMap<String, Value> => |x| Value::Map(x),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(option: Option<T>) -> Value {
        option.map_or(Value::Null, Into::into)
    }
}

/// The named inputs of one action: what its key is the digest of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preimage {
    /// The kind of action: `prepare`, `build`, …
    pub action: String,
    /// Its inputs by name.
    pub fields: BTreeMap<String, Value>,
}

impl Preimage {
    /// An action without inputs yet.
    #[must_use]
    pub fn new(action: &str) -> Preimage {
        Preimage { action: action.to_owned(), fields: BTreeMap::new() }
    }

    /// Adds one input.
    ///
    /// # Panics
    /// When the name was used before: two inputs would share one place in the key.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Preimage {
        let before = self.fields.insert(name.to_owned(), value.into());
        assert!(before.is_none(), "the key field `{name}` is set twice");
        self
    }

    /// The action key.
    #[must_use]
    pub fn key(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        Value::Text(self.action.clone()).hash_into(&mut hasher);
        Value::Map(self.fields.clone()).hash_into(&mut hasher);
        hasher.finalize().into()
    }

    /// The fields that differ from `old`, down to the innermost name, in order of their names.
    #[must_use]
    pub fn changes_since(&self, old: &Preimage) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        diff_maps("", &old.fields, &self.fields, &mut changes);
        changes
    }
}

/// One difference between two preimages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Dotted path of the field, such as `options.workspace`.
    pub field: String,
    /// What it was; none if the field is new.
    pub old: Option<Value>,
    /// What it is; none if the field is gone.
    pub new: Option<Value>,
}

fn diff_maps(
    path: &str,
    old: &BTreeMap<String, Value>,
    new: &BTreeMap<String, Value>,
    changes: &mut Vec<FieldChange>,
) {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (old.get(name), new.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => diff_values(&field, a, b, changes),
            (a, b) => changes.push(FieldChange { field, old: a.cloned(), new: b.cloned() }),
        }
    }
}

fn diff_values(field: &str, old: &Value, new: &Value, changes: &mut Vec<FieldChange>) {
    match (old, new) {
        (Value::Map(a), Value::Map(b)) => diff_maps(field, a, b, changes),
        (Value::List(a), Value::List(b))
            if a.len() == b.len() && a.iter().chain(b).all(|v| matches!(v, Value::Map(_))) =>
        {
            for (i, (a, b)) in a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b) {
                diff_values(&format!("{field}[{i}]"), a, b, changes);
            }
        }
        _ => changes.push(FieldChange {
            field: field.to_owned(),
            old: Some(old.clone()),
            new: Some(new.clone()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_depend_on_the_order_of_fields() {
        let a = Preimage::new("build").with("x", 1i64).with("y", "z");
        let b = Preimage::new("build").with("y", "z").with("x", 1i64);
        assert_eq!(a.key(), b.key());
    }

    #[test]
    fn framing_keeps_neighbours_apart() {
        let key = |items: &[&str]| {
            Preimage::new("build").with("x", items.iter().map(|s| Value::from(*s)).collect::<Vec<_>>()).key()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab"]), key(&["a", "b"]));
        assert_ne!(Preimage::new("x").with("a", true).key(), Preimage::new("x").with("a", 1i64).key());
        assert_ne!(Preimage::new("x").with("a", "1").key(), Preimage::new("x").with("a", 1i64).key());
        assert_ne!(Preimage::new("x").with("a", Value::Null).key(), Preimage::new("x").key());
    }

    #[test]
    fn the_key_of_a_fixed_action_never_changes() {
        let key = Preimage::new("build").with("sm", vec![Value::from(86i64)]).with("tf32", false).key();
        assert_eq!(key.to_string(), "7c450d3b5c38d4805079747cfe78252826565c963c163b1a299f53f702eda224");
    }

    #[test]
    fn changes_name_the_innermost_field() {
        let options = |n: i64| BTreeMap::from([("workspace".to_owned(), Value::Int(n))]);
        let old = Preimage::new("build").with("options", options(1)).with("gone", "x");
        let new = Preimage::new("build").with("options", options(2)).with("here", "y");
        let fields: Vec<_> = new.changes_since(&old).into_iter().map(|c| c.field).collect();
        assert_eq!(fields, ["gone", "here", "options.workspace"]);
    }

    #[test]
    fn preimages_survive_json() {
        let map = BTreeMap::from([("x".to_owned(), Value::Int(-7)), ("y".to_owned(), Value::Null)]);
        let p = Preimage::new("build")
            .with("a", Value::Null)
            .with("b", vec![Value::Int(1), Value::Bool(true)])
            .with("c", map)
            .with("d", "text");
        let back: Preimage = serde_json::from_str(&serde_json::to_string(&p).unwrap()).unwrap();
        assert_eq!((back.key(), &back), (p.key(), &p));
        let through_value: Preimage = serde_json::from_value(serde_json::to_value(&p).unwrap()).unwrap();
        assert_eq!(through_value, p);
        assert!(serde_json::from_str::<Value>("1.5").is_err());
        assert!(serde_json::from_str::<Value>("18446744073709551615").is_err());
    }
}
