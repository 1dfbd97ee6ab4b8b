//! Element types of all values of a model: of the graph, its subgraphs, and model-local functions.
//!
//! Only what must be true is believed: declared types of the graph's inputs, initializers, attributes, and
//! the operators' schemas. `value_info` and declared types of outputs are read only for values of which nothing is
//! known (made by a custom operator, say). One that they do not tell either is [`Type::Unknown`]; what is computed
//! from it is known again as soon as an operator settles it.
//!
//! A function is inferred once for each combination of input types and attributes with which it is called.
//!
//! `walk` goes through graphs and bodies, `rules` knows the operators whose output types the schema does not
//! tell, `check` tells contradictions.

mod check;
mod rules;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

pub use check::{double_note, type_errors, unfit};

use super::element::Type;
use super::names::subgraphs;
use super::proto::tensor_proto::DataType;
use super::proto::{ModelProto, NodeProto};
use super::read::Model;

/// Names a [`Scope`] of its [`ElementTypes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopeId(usize);

/// What a scope is the scope of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Body {
    /// The graph of the model.
    Graph,
    /// A subgraph.
    Subgraph {
        /// Index of its node in the parent's nodes.
        node: usize,
        /// Which of the node's subgraphs it is, counted over all its attributes.
        ordinal: usize,
    },
    /// A model-local function, called with certain types.
    Function {
        /// Index in the model's functions.
        index: usize,
    },
}

/// The values that one graph or function defines.
#[derive(Debug)]
pub struct Scope {
    /// The scope around it, whose values it sees. None for the graph of the model and for functions.
    pub parent: Option<ScopeId>,
    /// What it is the scope of.
    pub body: Body,
    values: IndexMap<String, Type>,
    subgraphs: BTreeMap<(usize, usize), ScopeId>,
    calls: BTreeMap<usize, ScopeId>,
}

impl Scope {
    fn new(parent: Option<ScopeId>, body: Body) -> Scope {
        Scope { parent, body, values: IndexMap::new(), subgraphs: BTreeMap::new(), calls: BTreeMap::new() }
    }

    /// The values that it defines itself, with their types.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Type)> {
        self.values.iter().map(|(name, of)| (name.as_str(), of))
    }
}

/// What is declared of values that cannot be inferred.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// Types by name of value, in the graph and all its subgraphs.
    pub values: BTreeMap<String, Type>,
    /// Types of the outputs of an operator, by domain and operator.
    pub operators: BTreeMap<(String, String), Vec<Type>>,
}

/// The type of every value of a model.
#[derive(Debug)]
pub struct ElementTypes {
    scopes: Vec<Scope>,
    /// By the function they lie in, or none for the graph.
    from_value_info: BTreeMap<Option<usize>, BTreeSet<String>>,
    /// By scope and index of the node.
    conflicts: BTreeMap<(ScopeId, usize), Conflict>,
}

/// An If whose branches give different types, or a Loop or Scan in which a value gets another type as it goes round.
#[derive(Debug)]
struct Conflict {
    /// Which output of the node it is.
    output: usize,
    /// By the first and the second branch, or before and after the first round.
    types: (Type, Type),
}

/// A node that [`ElementTypes::visit`] shows.
#[derive(Clone, Copy, Debug)]
pub struct Visited<'a> {
    /// The scope that it lies in.
    pub scope: ScopeId,
    /// Its index in the nodes of its graph or function.
    pub index: usize,
    /// The node.
    pub node: &'a NodeProto,
    /// The function that it lies in, by index, if it lies in one.
    pub function: Option<usize>,
}

/// Infers the type of every value. Takes time in proportion to the model.
#[must_use]
pub fn element_types(model: &Model) -> ElementTypes {
    element_types_with(model, &Declared::default())
}

/// [`element_types`], with types declared for what cannot be inferred. What can be inferred is not overruled.
#[must_use]
pub fn element_types_with(model: &Model, declared: &Declared) -> ElementTypes {
    walk::Walk::new(model.proto(), declared).model()
}

impl ElementTypes {
    /// Values of a function (by its index), or of the graph, whose type nothing but `value_info` tells.
    pub(super) fn told_by_value_info(&self, function: Option<usize>) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.from_value_info.get(&function).unwrap_or(&NONE)
    }

    /// The scope of the model's graph.
    #[must_use]
    pub fn graph(&self) -> ScopeId {
        ScopeId(0)
    }

    /// A scope.
    #[must_use]
    pub fn scope(&self, id: ScopeId) -> &Scope {
        &self.scopes[id.0]
    }

    /// All scopes; each comes after its parent.
    pub fn scopes(&self) -> impl Iterator<Item = (ScopeId, &Scope)> {
        self.scopes.iter().enumerate().map(|(i, scope)| (ScopeId(i), scope))
    }

    /// The type of the value that is called `name` in this scope, here or around it.
    #[must_use]
    pub fn get(&self, scope: ScopeId, name: &str) -> &Type {
        lookup(&self.scopes, scope, name)
    }

    /// The scope that defines what is called `name` in this scope: itself, or one around it.
    #[must_use]
    pub fn scope_of(&self, scope: ScopeId, name: &str) -> Option<ScopeId> {
        let mut at = Some(scope);
        while let Some(id) = at {
            let scope = self.scope(id);
            if scope.values.contains_key(name) {
                return Some(id);
            }
            at = scope.parent;
        }
        None
    }

    /// The element type of a value, if it is known to be a tensor.
    #[must_use]
    pub fn element(&self, scope: ScopeId, name: &str) -> Option<DataType> {
        self.get(scope, name).element()
    }

    /// The scope of subgraph `ordinal` of node `node`. None if it was not reached: nested too deep.
    #[must_use]
    pub fn subgraph(&self, scope: ScopeId, node: usize, ordinal: usize) -> Option<ScopeId> {
        self.scope(scope).subgraphs.get(&(node, ordinal)).copied()
    }

    /// The scope of the function that node `node` calls. Calls with equal types and attributes share one.
    #[must_use]
    pub fn call(&self, scope: ScopeId, node: usize) -> Option<ScopeId> {
        self.scope(scope).calls.get(&node).copied()
    }

    /// Shows every node in every scope, in order: those of the graph, each followed by those of its subgraphs, then
    /// those of the functions that are called. A node of a function is shown once for each way it is called.
    pub fn visit<'a>(&self, model: &'a ModelProto, visit: &mut dyn FnMut(Visited<'a>)) {
        if let Some(graph) = &model.graph {
            self.visit_nodes(self.graph(), None, &graph.node, visit);
        }
        for (id, scope) in self.scopes() {
            if let Body::Function { index } = scope.body
                && let Some(function) = model.functions.get(index)
            {
                self.visit_nodes(id, Some(index), &function.node, visit);
            }
        }
    }

    fn visit_nodes<'a>(
        &self,
        scope: ScopeId,
        function: Option<usize>,
        nodes: &'a [NodeProto],
        visit: &mut dyn FnMut(Visited<'a>),
    ) {
        for (index, node) in nodes.iter().enumerate() {
            visit(Visited { scope, index, node, function });
            for (ordinal, graph) in subgraphs(node).enumerate() {
                if let Some(inner) = self.subgraph(scope, index, ordinal) {
                    self.visit_nodes(inner, function, &graph.node, visit);
                }
            }
        }
    }
}

fn lookup<'a>(scopes: &'a [Scope], mut at: ScopeId, name: &str) -> &'a Type {
    loop {
        let scope = &scopes[at.0];
        match (scope.values.get(name), scope.parent) {
            (Some(of), _) => return of,
            (None, Some(parent)) => at = parent,
            (None, None) => return Type::unknown(),
        }
    }
}

/// Version of the operators of a domain, for the nodes of the graph or of a function. A domain that is not
/// imported is taken at its newest.
fn version(model: &ModelProto, function: Option<usize>, domain: &str) -> i64 {
    let own = function.and_then(|index| model.functions.get(index)).map(|f| f.opset_import.as_slice());
    let plain = |domain: &str| domain.strip_prefix("ai.onnx").filter(|rest| rest.is_empty()).is_some();
    let same = |other: &str| {
        other == domain || (domain.is_empty() && plain(other)) || (plain(domain) && other.is_empty())
    };
    let imports = own.unwrap_or_default().iter().chain(&model.opset_import);
    imports.into_iter().find(|import| same(import.domain())).map_or(i64::MAX, |import| import.version())
}
