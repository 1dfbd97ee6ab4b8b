//! A file becomes a [`Model`]: decoded without a copy of its weights, checked, its nodes sorted, its
//! tensors folded into raw data and external data at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::error::{Error, Problems};
use super::external::{self, ExternalData, Mapped};
use super::names::{self, domain_words};
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};
use super::wire::{self, WireError};
use super::{MAX_FILE, MAX_IR_VERSION, MAX_OPSET, graph, interface, node_name, sniff, structure, tensor};
use crate::diagnostic::Diagnostic;
use crate::fs;

/// A model that was read and is valid.
///
/// Invariants: names are unique in their graph, every value that a node reads is defined, nodes are in
/// topological order, all tensors but strings have exactly their elements in `raw_data`, none is external.
#[derive(Debug, Clone)]
pub struct Model {
    pub(super) path: PathBuf,
    pub(super) proto: ModelProto,
}

impl Model {
    /// The protobuf.
    #[must_use]
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The graph.
    ///
    /// # Panics
    /// Never: a model without a graph is not read.
    #[must_use]
    pub fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("reading checks that there is a graph")
    }

    /// The opset of ONNX's own operators; none for a model that has none of these.
    pub(crate) fn opset(&self) -> Option<i64> {
        self.proto.opset_import.iter().find(|o| o.domain().is_empty()).map(|o| o.version())
    }

    /// The same model around another graph. The caller keeps the invariants.
    pub(crate) fn with_graph(&self, graph: GraphProto) -> Model {
        Model { path: self.path.clone(), proto: ModelProto { graph: Some(graph), ..self.around() } }
    }

    /// The same model, said to be of this IR version if it says a newer one.
    pub(crate) fn of_ir_version(mut self, newest: i64) -> Model {
        self.proto.ir_version = Some(self.proto.ir_version().min(newest));
        self
    }

    /// The same model with a name of its own for each node that has one.
    pub(crate) fn with_unique_names(mut self) -> Model {
        let graph = self.proto.graph.iter_mut().map(|graph| &mut graph.node);
        let functions = self.proto.functions.iter_mut().map(|function| &mut function.node);
        graph.chain(functions).for_each(|nodes| graph::make_unique(nodes));
        self
    }

    /// All but the graph.
    fn around(&self) -> ModelProto {
        // Written out, since a clone of the whole would hold the graph twice for a moment.
        let ModelProto {
            ir_version,
            opset_import,
            producer_name,
            producer_version,
            domain,
            model_version,
            doc_string,
            graph: _,
            metadata_props,
            training_info,
            functions,
            configuration,
        } = &self.proto;
        ModelProto {
            ir_version: *ir_version,
            opset_import: opset_import.clone(),
            producer_name: producer_name.clone(),
            producer_version: producer_version.clone(),
            domain: domain.clone(),
            model_version: *model_version,
            doc_string: doc_string.clone(),
            graph: None,
            metadata_props: metadata_props.clone(),
            training_info: training_info.clone(),
            functions: functions.clone(),
            configuration: configuration.clone(),
        }
    }

    /// The file, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A model, and what reading it showed.
#[derive(Debug)]
pub struct Source {
    /// The model.
    pub model: Model,
    /// Every file that was read: the model, then external data by path.
    pub(super) files: Vec<Mapped>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Reads and checks a model and its external data. Maps files of the user: call it in a worker.
///
/// # Errors
/// The file cannot be read, or is not a valid model: as many diagnostics as can be told at once.
pub fn read(path: &Path) -> Result<Source, Error> {
    if fs::is_dir(path) {
        let error =
            Diagnostic::error("is-a-folder", format!("`{}` is a folder, not a model", path.display()));
        return Err(error.help("name the `.onnx` file inside it").in_file(path).into());
    }
    let file = Mapped::open(path).map_err(|e| {
        if !e.is_missing() {
            return Error::Fs(e);
        }
        let error = Diagnostic::error("missing-file", format!("there is no file `{}`", path.display()));
        error.in_file(path).into()
    })?;
    let mut external = ExternalData::beside(path);
    let (model, notes) = decode(path, file.bytes.clone(), &mut external)?;
    let files = std::iter::once(file).chain(external.files()).collect();
    Ok(Source { model, files, notes })
}

/// Fails if a file is no longer what it was when its facts were taken.
pub(super) fn unchanged(files: &[Mapped]) -> Result<(), Error> {
    for Mapped { path, stat, .. } in files {
        if fs::stat(path).ok().as_ref() != Some(stat) {
            let message = format!("`{}` changed while it was read", path.display());
            let error = Diagnostic::error("source-changed", message).in_file(path);
            return Err(error.help("run again when nothing writes to it").into());
        }
    }
    Ok(())
}

/// What is told of files that cannot be read: that one has changed, if so.
pub(super) fn changed_or(files: &[Mapped], error: fs::Error) -> Error {
    unchanged(files).err().unwrap_or(error.into())
}

/// Reads back what [`super::canonicalize`] wrote.
///
/// # Errors
/// The bytes are not a valid model.
pub fn read_canonical(model: Bytes, weights: Option<Bytes>) -> Result<Model, Error> {
    let mut external = ExternalData::Weights(weights.unwrap_or_default());
    decode(Path::new(super::MODEL_FILE), model, &mut external).map(|(model, _)| model)
}

fn decode(path: &Path, bytes: Bytes, external: &mut ExternalData) -> Result<(Model, Vec<String>), Error> {
    // Not before: a model may hold any bytes, those that other formats begin with among them.
    let sniffed = |error| sniff::not_onnx(&bytes, path).map_or(error, Error::from);
    let mut proto = parse(path, bytes.clone()).map_err(sniffed)?;
    let mut notes = Vec::new();
    if !proto.training_info.is_empty() {
        // Only the inference graph is built; the training graphs may hold copies of all weights.
        proto.training_info.clear();
        notes.push("training information is left out".to_owned());
    }
    // First: other messages show names.
    names::check(&proto, path)?;
    header(&mut proto, path)?;
    let mut problems = Problems::new(path);
    interface::check(&proto, &mut problems);
    Tensors { external, problems: &mut problems, notes: &mut notes }.model(&mut proto);
    structure::check(&mut proto, &mut problems, &mut notes);
    problems.finish()?;
    Ok((Model { path: path.to_owned(), proto }, notes))
}

fn parse(path: &Path, bytes: Bytes) -> Result<ModelProto, Error> {
    let (name, size) = (path.display(), bytes.len() as u64);
    if size > MAX_FILE {
        let message = format!("`{name}` has {size} bytes; a protobuf file has at most 2 GiB");
        let help = "save the model with external data: `onnx.save_model(..., save_as_external_data=True)`";
        return Err(Diagnostic::error("too-large", message).help(help).in_file(path).into());
    }
    wire::scan(&bytes).map_err(|e| wire_error(e, path, size))?;
    let proto = ModelProto::decode(bytes).map_err(|e| decode_error(&e, path))?;
    if proto.graph.is_none() {
        let error = Diagnostic::error("no-graph", format!("`{name}` holds no graph")).in_file(path);
        return Err(error.note("it may be another kind of protobuf file").into());
    }
    Ok(proto)
}

fn wire_error(e: WireError, path: &Path, size: u64) -> Error {
    let name = path.display();
    let error = match e {
        WireError::NotAModel => Diagnostic::error("not-onnx", format!("`{name}` is not an ONNX model"))
            .note("its bytes are not a protobuf message with an IR version"),
        WireError::Truncated { needed } => Diagnostic::error(
            "truncated",
            format!("`{name}` is cut off: it has {size} bytes and needs at least {needed}"),
        )
        .help("the download or copy did not finish: fetch the file again"),
        WireError::Malformed { offset } => Diagnostic::error(
            "malformed",
            format!("`{name}` is damaged: its bytes make no sense at offset {offset} of {size}"),
        )
        .help("fetch or export the file again"),
        WireError::TooDeep => {
            Diagnostic::error("nesting-too-deep", format!("`{name}` nests messages more than 100 deep"))
                .note("a subgraph in a subgraph takes three levels")
        }
        WireError::TooMany => {
            let message = format!("`{name}` holds more than {} messages and strings", super::MAX_ITEMS);
            Diagnostic::error("too-many-items", message)
        }
    };
    error.in_file(path).into()
}

fn decode_error(e: &prost::DecodeError, path: &Path) -> Error {
    let name = path.display();
    let text = e.to_string();
    let detail = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    let error = if text.contains("UTF-8") {
        Diagnostic::error("not-utf8", format!("`{name}` holds a name or text that is not UTF-8")).note(detail)
    } else if text.contains("recursion limit") {
        Diagnostic::error("nesting-too-deep", format!("`{name}` nests messages more than 100 deep"))
    } else {
        Diagnostic::error("not-onnx", format!("`{name}` is a protobuf message, but not an ONNX model"))
            .note(detail)
    };
    error.in_file(path).into()
}

/// Checks what everything else rests on, and writes the default domain in one way.
fn header(proto: &mut ModelProto, path: &Path) -> Result<(), Error> {
    let name = path.display();
    let fail = |error: Diagnostic| Err(Error::from(error.in_file(path)));
    let ir = proto.ir_version();
    if !(1..=MAX_IR_VERSION).contains(&ir) {
        let message = if proto.ir_version.is_none() {
            format!("`{name}` has no IR version")
        } else {
            format!("`{name}` has IR version {ir}; versions 1 to {MAX_IR_VERSION} are known")
        };
        return fail(
            Diagnostic::error("ir-version", message).help("export the model with an older IR version"),
        );
    }
    let mut versions = BTreeMap::new();
    for import in &mut proto.opset_import {
        // Both names mean the operators of ONNX itself.
        if import.domain() == "ai.onnx" {
            import.domain = None;
        }
        let (domain, version) = (import.domain().to_owned(), import.version());
        let of = domain_words(&domain);
        if version < 1 {
            let message = format!("`{name}` imports version {version} of the operators of {of}");
            return fail(Diagnostic::error("opset-version", message));
        }
        if let Some(other) = versions.insert(domain, version).filter(|other| *other != version) {
            let message = format!("`{name}` imports both opset {other} and opset {version} of {of}");
            return fail(Diagnostic::error("opset-version", message));
        }
    }
    match versions.get("") {
        Some(version) if *version > MAX_OPSET => {
            let message = format!("`{name}` uses opset {version}; opsets up to {MAX_OPSET} are known");
            let note = "TensorRT reads newer opsets without a word and may misunderstand them";
            let help = format!("export the model with opset {MAX_OPSET} or lower");
            fail(Diagnostic::error("opset-version", message).note(note).help(help))
        }
        None if versions.is_empty()
            || proto.graph.iter().any(|g| g.node.iter().any(|n| n.domain().is_empty())) =>
        {
            let message = format!("`{name}` does not say which opset it uses");
            fail(
                Diagnostic::error("opset-missing", message)
                    .help("export the model again with an `opset_import`"),
            )
        }
        _ => Ok(()),
    }
}

/// Folds every tensor of a model.
struct Tensors<'a> {
    external: &'a mut ExternalData,
    problems: &'a mut Problems,
    notes: &'a mut Vec<String>,
}

impl Tensors<'_> {
    fn model(&mut self, proto: &mut ModelProto) {
        if let Some(graph) = &mut proto.graph {
            self.graph(graph);
        }
        for FunctionProto { node, attribute_proto, name, .. } in &mut proto.functions {
            node.iter_mut().for_each(|node| self.node(node));
            let function = name.as_deref().unwrap_or_default();
            attribute_proto.iter_mut().for_each(|a| self.attribute(a, &format!("of function `{function}`")));
        }
    }

    fn graph(&mut self, graph: &mut GraphProto) {
        for tensor in &mut graph.initializer {
            let what = format!("initializer `{}`", tensor.name());
            self.tensor(tensor, &what);
        }
        for sparse in &mut graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| values.name());
            let what = format!("sparse initializer `{name}`");
            self.sparse(sparse, &what);
        }
        graph.node.iter_mut().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &mut NodeProto) {
        let mut attributes = std::mem::take(&mut node.attribute);
        for attribute in &mut attributes {
            let holds = attribute.t.is_some() || attribute.g.is_some() || attribute.sparse_tensor.is_some();
            let many = attribute.tensors.len() + attribute.graphs.len() + attribute.sparse_tensors.len();
            if holds || many > 0 {
                self.attribute(attribute, &format!("of node `{}`", node_name(node)));
            }
        }
        node.attribute = attributes;
    }

    fn attribute(&mut self, attribute: &mut AttributeProto, owner: &str) {
        let what = format!("attribute `{}` {owner}", attribute.name());
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(|t| self.tensor(t, &what));
        attribute
            .sparse_tensor
            .iter_mut()
            .chain(&mut attribute.sparse_tensors)
            .for_each(|t| self.sparse(t, &what));
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(|graph| self.graph(graph));
    }

    fn sparse(&mut self, sparse: &mut SparseTensorProto, what: &str) {
        let (Some(values), Some(indices)) = (&mut sparse.values, &mut sparse.indices) else {
            self.problems.push(Diagnostic::error("bad-tensor", format!("{what} lacks values or indices")));
            return;
        };
        self.tensor(values, what);
        self.tensor(indices, &format!("indices of {what}"));
        if let Err(why) = tensor::element_count(&sparse.dims) {
            self.problems.push(Diagnostic::error("bad-tensor", format!("{what} {why}")));
        }
        if values.dims.len() != 1 || indices.dims.first() != values.dims.first() {
            let message = format!(
                "{what} has values of shape {:?} and indices of shape {:?}",
                values.dims, indices.dims
            );
            self.problems.push(Diagnostic::error("bad-tensor", message));
        }
    }

    fn tensor(&mut self, tensor: &mut TensorProto, what: &str) {
        let bad = |why: &str| Diagnostic::error("bad-tensor", format!("{what} {why}"));
        let mut external = None;
        if tensor::is_external(tensor) {
            match tensor::byte_size(tensor) {
                Err(why) => return self.problems.push(bad(&why)),
                Ok(None) => {
                    return self
                        .problems
                        .push(bad("holds strings in another file, which ONNX does not allow"));
                }
                Ok(Some(size)) => match self.external.data(tensor, size) {
                    Ok(data) => external = Some(data),
                    Err(mut error) => {
                        error.message = format!("{what} {}", error.message);
                        return self.problems.push(*error);
                    }
                },
            }
            if external.as_ref().is_some_and(|data| external::misaligned(tensor, data)) {
                self.notes
                    .push(format!("{what} lies at an offset that is no multiple of its element's size"));
            }
        }
        if let Err(why) = tensor::fold(tensor, external) {
            self.problems.push(bad(&why));
        }
    }
}
