//! What a hundred custom kinds cost in memory.

use std::time::Duration;

use serde_json::{Value, json};

use super::Figures;
use super::server::Server;

const COUNT: usize = 100;
const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition as operators bring them: some levels deep, some hundred fields.
fn definition(number: usize) -> String {
    let leaf = |i: usize| json!({"type": "string", "description": format!("What field {i} is for."), "maxLength": 253});
    let fields = |from: usize| -> Value {
        let all = (from..from + 12).map(|i| (format!("field{i}"), leaf(i)));
        Value::Object(all.collect())
    };
    let groups = (0..8).map(|i| {
        let items = json!({"type": "object", "properties": fields(i * 12)});
        (
            format!("group{i}"),
            json!({"type": "array", "items": items}),
        )
    });
    let spec = json!({"type": "object", "properties": Value::Object(groups.collect())});
    let plural = format!("things{number}");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.bench.example.com")},
        "spec": {
            "group": "bench.example.com", "scope": "Namespaced",
            "names": {"plural": plural, "singular": format!("thing{number}"), "kind": format!("Thing{number}"), "listKind": format!("Thing{number}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": {"spec": spec}},
            }, "subresources": {"status": {}}}],
        },
    })
    .to_string()
}

pub(super) async fn run(server: &Server, figures: &mut Figures) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = server.memory_mib();
    for number in 0..COUNT {
        server.send("POST", PATH, Some(&definition(number))).await?;
    }
    // The last of them is served as soon as it is established.
    let last = format!("/apis/bench.example.com/v1/things{}", COUNT - 1);
    while server.send("GET", &last, None).await.is_err() {
        // A server that never serves it runs out of the scenario's time.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = server.memory_mib() - before;
    figures.add(format!("{COUNT} custom kinds: memory (PSS)"), more, "MiB");
    Ok(())
}
