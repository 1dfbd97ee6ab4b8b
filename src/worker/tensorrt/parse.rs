//! ONNX into the network, and every error of the parser.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int, c_void};
use std::pin::Pin;

use trtx_sys::nvinfer1::INetworkDefinition;
use trtx_sys::nvonnxparser::IParser;

use super::super::protocol::{MAX_PARSER_ERRORS, ParserError, Refusal};
use super::builder::{Builder, header_version};
use super::explain::quote;
use super::library::Libraries;
use super::log::Log;
use super::nodes::Nodes;
use super::{MODEL, Result, refuse, text};
use crate::onnx::schema;

/// Parses the model into the builder's network. `model` is the content of [`MODEL`].
#[expect(unsafe_code, reason = "TensorRT's entry point is a C function")]
pub(super) fn parse(
    builder: &mut Builder,
    libraries: &Libraries,
    log: &'static Log,
    model: &[u8],
) -> Result<()> {
    type Create = unsafe extern "C" fn(*mut INetworkDefinition, *mut c_void, i32) -> *mut IParser;
    // SAFETY: the function's type in the headers of the binding, which gave the version; network
    // and logger live for ever.
    let parser = unsafe {
        let create = libraries.parser_function::<Create>("createNvOnnxParser_INTERNAL")?;
        let network: *mut INetworkDefinition = builder.network().get_unchecked_mut();
        create(network, log.interface(), header_version(trtx_sys::get_nvonnxparser_version()))
    };
    if parser.is_null() {
        return refuse("load", "parser-refused", "the library made no parser");
    }
    // SAFETY: the parser is not null and never destroyed; bytes and path live during the call. The
    // path is given because external data is looked for beside it.
    let parsed = unsafe {
        Pin::new_unchecked(&mut *parser).parse(
            model.as_ptr().cast::<autocxx::c_void>(),
            model.len(),
            MODEL.as_ptr(),
        )
    };
    // Errors beside a success are warnings about nodes that were left out; none is known.
    if parsed {
        return Ok(());
    }
    let nodes = Nodes::of(model);
    let (mut errors, count) = errors(parser);
    errors.iter_mut().for_each(|(error, function)| nodes.locate(error, function));
    let errors = errors.into_iter().map(|(error, _)| error).collect();
    Err(Box::new(refusal(errors, count, &nodes)))
}

/// The first errors, each with the parser's function that tells it, and how many there are.
#[expect(unsafe_code, reason = "the binding has no type for parser errors")]
fn errors(parser: *mut IParser) -> (Vec<(ParserError, String)>, u64) {
    // SAFETY: the parser lives; indices are below the count.
    unsafe {
        let count = trtx_sys::parser_get_nb_errors(parser.cast());
        let errors = (0..count.min(c_int::try_from(MAX_PARSER_ERRORS).unwrap_or(c_int::MAX)))
            .map(|index| trtx_sys::parser_get_error(parser.cast(), index))
            .filter(|error| !error.is_null())
            .map(|error| read(error))
            .collect();
        (errors, u64::try_from(count).unwrap_or(0))
    }
}

/// Reads one `IParserError`, and the function that tells it.
///
/// The binding knows only its description. The interface is abstract: a pointer to a table of
/// functions in the order of the header, which is the same in 1.5, 1.6 and 1.7 (and versions beyond
/// are refused): code, desc, file, line, func, node, nodeName, nodeOperator.
///
/// # Safety
/// `error` is a live `IParserError` of such a version.
#[expect(unsafe_code, reason = "calling virtual functions")]
unsafe fn read(error: *mut c_void) -> (ParserError, String) {
    const CODE: usize = 0;
    const DESC: usize = 1;
    const FUNC: usize = 4;
    const NODE: usize = 5;
    const NODE_NAME: usize = 6;
    const NODE_OPERATOR: usize = 7;
    // SAFETY: a C++ object with virtual functions starts with a pointer to their table.
    let table = unsafe { *error.cast::<*const *const c_void>() };
    let number = |slot: usize| -> i32 {
        // SAFETY: this function takes the object and returns an int or an enum of that size.
        unsafe {
            let call: unsafe extern "C" fn(*mut c_void) -> c_int = std::mem::transmute(*table.add(slot));
            call(error)
        }
    };
    let words = |slot: usize| -> String {
        // SAFETY: this function takes the object and returns a C string that the object owns.
        unsafe {
            let call: unsafe extern "C" fn(*mut c_void) -> *const c_char =
                std::mem::transmute(*table.add(slot));
            text(call(error))
        }
    };
    let node = number(NODE);
    let error = ParserError {
        code: number(CODE),
        node: (node >= 0).then_some(node),
        name: words(NODE_NAME),
        op: words(NODE_OPERATOR),
        text: words(DESC),
    };
    (error, words(FUNC))
}

/// Error codes of the parser.
mod code {
    pub(super) const MEMORY: i32 = 2;
    pub(super) const DESERIALIZE: i32 = 3;
    /// Unsupported graph, node, attribute, input, type, dynamic shape, shape.
    pub(super) const UNSUPPORTED: std::ops::RangeInclusive<i32> = 7..=13;
}

/// Is a node of an operator that this TensorRT does not have? One that it does not know at all it takes for a plugin.
fn is_unsupported(error: &ParserError) -> bool {
    code::UNSUPPORTED.contains(&error.code) || is_unknown(error)
}

fn is_unknown(error: &ParserError) -> bool {
    error.text.contains("Plugin not found")
}

fn is_of_onnx_runtime(error: &ParserError) -> bool {
    let is_of = |domain| schema(domain, &error.op, i64::MAX).is_some();
    is_unknown(error) && is_of("com.microsoft") && !is_of("")
}

fn refusal(errors: Vec<ParserError>, count: u64, of: &Nodes) -> Refusal {
    let is = |wanted: i32| errors.iter().any(|error| error.code == wanted);
    let mut refusal = if errors.is_empty() {
        Refusal::new("parse", "parse-failed", "the parser refuses the model without a reason")
    } else if is(code::DESERIALIZE) {
        Refusal::new("parse", "model-unreadable", "the parser cannot read the model")
    } else if is(code::MEMORY) {
        Refusal::new("parse", "out-of-memory", "the parser ran out of memory")
    } else if errors.iter().any(|error| is_unsupported(error) && is_of_a_node(error)) {
        let message = format!(
            "the model has {} that TensorRT-RTX does not support: {}",
            nodes(&errors, count),
            list(&errors, of)
        );
        let refusal = Refusal::new("parse", "unsupported-operator", message);
        match errors.iter().find(|error| is_of_onnx_runtime(error)) {
            Some(error) => refusal.help(format!(
                "`{}` is an operator of ONNX Runtime, which its optimizer writes: give the model as it was exported",
                error.op
            )),
            None => {
                refusal.help("change the export, or build for this target with a toolchain that supports them")
            }
        }
    } else {
        let message = match list(&errors, of) {
            known if known.is_empty() => format!("TensorRT-RTX refuses the model: {}", first_reason(&errors)),
            known => format!(
                "TensorRT-RTX refuses {} of the model, {known}: {}",
                nodes(&errors, count),
                first_reason(&errors)
            ),
        };
        Refusal::new("parse", "parse-failed", message)
    };
    refusal.parser_errors = errors;
    refusal.parser_error_count = count;
    refusal
}

/// Others are about the model as a whole.
pub(super) fn is_of_a_node(error: &ParserError) -> bool {
    !error.op.is_empty() || !error.name.is_empty()
}

/// How many nodes are at fault. Of some, the parser tells more than one error.
fn nodes(errors: &[ParserError], count: u64) -> String {
    let of_nodes = errors.iter().filter(|error| is_of_a_node(error));
    let known: BTreeSet<_> = of_nodes.map(|error| (error.node, &error.name, &error.op)).collect();
    let count = if errors.len() as u64 == count { known.len() as u64 } else { count };
    if count == 1 { "a node".to_owned() } else { format!("{count} nodes") }
}

/// The first few nodes, for a message; all of them stand in the list.
fn list(errors: &[ParserError], of: &Nodes) -> String {
    const SHOWN: usize = 4;
    let of_nodes = errors.iter().filter(|error| is_of_a_node(error));
    let mut words: Vec<String> = of_nodes.map(|error| of.text(error)).collect();
    words.dedup();
    let more = words.len() > SHOWN;
    words.truncate(SHOWN);
    words.join(", ") + if more { ", …" } else { "" }
}

/// The first line of the first error that says something new.
fn first_reason(errors: &[ParserError]) -> String {
    let Some(error) = errors.first() else {
        return "no reason is given".to_owned();
    };
    let mut lines = error.text.lines().map(str::trim);
    let said = lines.find(|line| !line.is_empty() && !line.starts_with("Invalid Node - "));
    quote(said.unwrap_or(&error.text))
}

#[cfg(test)]
mod tests {
    use super::super::nodes::tests::{nodes_of, scatter};
    use super::*;
    use crate::onnx::testing::node;

    fn error(code: i32, name: &str, op: &str) -> ParserError {
        ParserError { code, node: Some(3), name: name.into(), op: op.into(), text: "why".into() }
    }

    #[test]
    fn unsupported_nodes_are_listed() {
        let errors = vec![error(8, "/q/DQL", "DynamicQuantizeLinear"), error(9, "", "NonZero")];
        let refusal = refusal(errors, 300, &Nodes::default());
        assert_eq!(refusal.code, "unsupported-operator");
        assert_eq!(
            refusal.message,
            "the model has 300 nodes that TensorRT-RTX does not support: `DynamicQuantizeLinear` at `/q/DQL`, `NonZero`"
        );
        assert_eq!((refusal.parser_errors.len(), refusal.parser_error_count), (2, 300));
    }

    #[test]
    fn a_node_counts_once_and_what_is_of_no_node_is_told_by_its_reason() {
        let twice = refusal(vec![error(8, "n", "Loop"), error(9, "n", "Loop")], 2, &Nodes::default());
        assert_eq!(twice.message, "the model has a node that TensorRT-RTX does not support: `Loop` at `n`");
        let whole = refusal(
            vec![ParserError { text: "Pre-opset 7 is unsupported".into(), ..error(8, "", "") }],
            1,
            &Nodes::default(),
        );
        assert_eq!(
            (whole.code.as_str(), whole.message.as_str()),
            ("parse-failed", "TensorRT-RTX refuses the model: Pre-opset 7 is unsupported")
        );
    }

    #[test]
    fn codes_by_kind() {
        let code = |errors: Vec<ParserError>| refusal(errors, 1, &Nodes::default()).code;
        assert_eq!(code(vec![]), "parse-failed");
        assert_eq!(code(vec![error(3, "", "")]), "model-unreadable");
        assert_eq!(code(vec![error(2, "", "")]), "out-of-memory");
        assert_eq!(code(vec![error(6, "m", "MatMul")]), "parse-failed");
    }

    #[test]
    fn operators_of_onnx_runtime_are_told() {
        let text = "creator && \"Plugin not found, are the plugin name, version, and namespace correct?\"";
        let of = |op: &str| ParserError { text: text.into(), ..error(6, "n", op) };
        let ours = refusal(vec![of("Mine"), of("FusedMatMul")], 2, &Nodes::default());
        assert_eq!(ours.code, "unsupported-operator");
        assert!(ours.help[0].starts_with("`FusedMatMul` is an operator of ONNX Runtime"), "{ours:?}");
        let custom = refusal(vec![of("Mine")], 1, &Nodes::default());
        assert!(custom.help[0].starts_with("change the export"), "{custom:?}");
    }

    #[test]
    fn other_errors_are_quoted() {
        let mut bad = error(6, "mx", "MatMul");
        bad.text = "Invalid Node - mx\nmust have same input types.\nCuda Runtime".into();
        assert_eq!(
            refusal(vec![bad], 1, &Nodes::default()).message,
            "TensorRT-RTX refuses a node of the model, `MatMul` at `mx`: must have same input types."
        );
        assert_eq!(
            refusal(vec![error(5, "", "")], 1, &Nodes::default()).message,
            "TensorRT-RTX refuses the model: why"
        );
    }

    #[test]
    fn an_error_of_no_node_is_placed_by_the_function_that_tells_it() {
        let two = nodes_of(vec![scatter("/a"), node("/r", "Relu", &["x"], &["y"]), scatter("/b")]);
        let told = |of: &Nodes, node: Option<i32>, function: &str| {
            let mut found =
                ParserError { node, text: "Unsupported reduction type".into(), ..error(9, "", "") };
            of.locate(&mut found, function);
            let refusal = refusal(vec![found], 1, of);
            (refusal.code, refusal.message)
        };
        let unsupported = |which: &str| {
            let message =
                format!("the model has a node that TensorRT-RTX does not support: `ScatterElements`{which}");
            ("unsupported-operator".to_owned(), message)
        };
        let function = "importScatterElements";
        assert_eq!(told(&two, None, function), unsupported(" at `/a` or one of 1 more"));
        assert_eq!(told(&two, Some(2), function), unsupported(" at `/b`"));
        assert_eq!(told(&two, Some(1), function), unsupported(" at `/a` or one of 1 more"));
        assert_eq!(told(&nodes_of(vec![scatter("/a")]), None, function), unsupported(" at `/a`"));
        let whole = (
            "parse-failed".to_owned(),
            "TensorRT-RTX refuses the model: Unsupported reduction type".to_owned(),
        );
        assert_eq!(told(&two, None, "importModel"), whole);
    }
}
