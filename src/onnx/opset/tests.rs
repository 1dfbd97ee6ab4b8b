use super::*;
use crate::onnx::proto::tensor_proto::DataType;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::testing::{self, WithAttribute, floats, node, value};

fn read(nodes: Vec<NodeProto>, opset: i64) -> Model {
    let graph = GraphProto {
        input: vec![value("x", DataType::Float, &["n".into(), 3.into(), 4.into()])],
        output: vec![value("y", DataType::Float, &[])],
        initializer: vec![floats("b", &[3], &[1.0, 2.0, 3.0])],
        node: nodes,
        ..GraphProto::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    testing::save(&testing::model(opset, graph), &path).unwrap();
    crate::onnx::read(&path).unwrap().model
}

fn ops(model: &Model) -> Vec<String> {
    model.graph().node.iter().map(|node| format!("{} {}", node.name(), node.op_type())).collect()
}

#[test]
fn only_as_far_as_asked() {
    let model = read(vec![node("soft", "Softmax", &["x"], &["y"]).int("axis", 2)], 9);
    let raised = upgrade(&model, 12).unwrap();
    assert_eq!((own_opset(&raised.proto), raised.graph()), (12, model.graph()));
    // What has it already is not touched.
    assert_eq!(upgrade(&raised, 9).unwrap().proto, raised.proto);
    let raised = upgrade(&model, 13).unwrap();
    assert_eq!(ops(&raised), ["soft Softmax"]);
}

#[test]
fn new_nodes_are_called_after_the_old_one_and_share_its_label() {
    let mut soft = node("soft", "Softmax", &["x"], &["y"]);
    soft.doc_string = Some("label".into());
    let raised = upgrade(&read(vec![soft], 9), 13).unwrap();
    assert_eq!(
        ops(&raised),
        ["soft/Shape Shape", "soft/Flatten Flatten", "soft Softmax", "soft/Reshape Reshape"]
    );
    assert!(raised.graph().node.iter().all(|node| node.doc_string() == "label"));
    assert_eq!(raised.graph().node[3].output, ["y"]);
}

#[test]
fn what_cannot_be_known_is_refused_by_node() {
    let nodes = vec![
        node("sum", "Add", &["x", "b"], &["s"]).int("broadcast", 1).int("axis", 1),
        node("drop", "Dropout", &["s"], &["d"]),
        node("crop", "Crop", &["d"], &["y"]),
    ];
    let refused = upgrade(&read(nodes, 6), 17).unwrap_err();
    let told: Vec<(&str, i64)> = refused.iter().map(|r| (r.node.as_deref().unwrap(), r.opset)).collect();
    assert_eq!(told, [("drop", 7), ("crop", 7)]);
    assert!(refused[0].why.contains("is_test"));
    assert!(upgrade(&read(vec![node("r", "Relu", &["x"], &["y"])], 3), 17).unwrap_err()[0].node.is_none());
    // A plugin does not depend on the opset.
    let plugin = vec![node("nms", "EfficientNMS_TRT", &["x"], &["y"])];
    assert_eq!(ops(&upgrade(&read(plugin, 6), 17).unwrap()), ["nms EfficientNMS_TRT"]);
}

#[test]
fn a_mask_of_dropout_that_is_read_is_refused() {
    let nodes = |read: &str| {
        vec![node("drop", "Dropout", &["x"], &["d", "mask"]), node("end", "Identity", &[read], &["y"])]
    };
    assert!(upgrade(&read(nodes("d"), 10), 12).is_ok());
    let refused = upgrade(&read(nodes("mask"), 10), 12).unwrap_err();
    assert_eq!((refused[0].node.as_deref(), refused[0].opset), (Some("drop"), 12));
}

#[test]
fn a_type_that_is_taken_no_more_is_refused() {
    let nodes = vec![
        node("to", "Cast", &["x"], &["i"]).int("to", 7),
        node("erf", "Erf", &["i"], &["e"]),
        node("back", "Cast", &["e"], &["y"]).int("to", 1),
    ];
    let model = read(nodes, 9);
    let narrower = crate::onnx::schema("", "Erf", 13).is_some_and(|s| !s.allows("T", DataType::Int64));
    assert_eq!(upgrade(&model, 13).is_err(), narrower);
}
